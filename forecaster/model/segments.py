"""Lifecycle segments: their boundaries, the base decay rates, and sums of a rate over months.

Source of every number: the production model's tables (docs/model.md).
"""

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import NamedTuple

import polars as pl

Table = Sequence[Sequence[float]]


class _Segment(NamedTuple):
    """A stretch of a track's life, up to the start of the next one. The last one has no end."""

    start: int
    """First month since release."""
    fitted_rate: float
    reach_rates: tuple[float, ...]
    """One per influence range."""


# Influence = streams in the last 30 records x 10, at most 5 million; a range begins at its lower edge.
INFLUENCE_PER_STREAM = 10
INFLUENCE_MAX = 5_000_000
INFLUENCE_EDGES: tuple[int, ...] = (
    0, 10_000, 30_000, 50_000, 75_000, 110_000, 160_000, 250_000, 410_000, 950_000,
)  # fmt: skip

# A lifecycle segment is a row. Everything that counts or lists segments uses these rows.
_SEGMENTS: tuple[_Segment, ...] = (
    _Segment(1, 0.06741191851584262, (
        .094000, .089111, .084222, .079333, .074444, .069556, .064667, .059778, .054889, .050000)),
    _Segment(3, 0.03291507714354558, (
        .064033, .061430, .058826, .056222, .053619, .051015, .048411, .045808, .043204, .040600)),
    _Segment(6, 0.03334620907608441, (
        .060000, .055739, .051478, .047218, .042957, .038696, .034435, .030174, .025913, .021653)),
    _Segment(9, 0.021404012549575913, (
        .050000, .044959, .039918, .034877, .029836, .024795, .019754, .014713, .009672, .004631)),
    _Segment(12, 0.02461834982301452, (
        .035000, .031111, .027222, .023333, .019444, .015556, .011667, .007778, .003889, .010000)),
    _Segment(15, 0.03183160108111365, (
        .030000, .026667, .023333, .020000, .016667, .013333, .010000, .006667, .003333, .010000)),
    _Segment(18, 0.029059156192761115, (
        .030000, .026667, .023333, .020000, .016667, .013333, .010000, .006667, .003333, .010000)),
    _Segment(21, 0.02577913683190864, (
        .030000, .026877, .023754, .020631, .017508, .014385, .011262, .008138, .005015, .001892)),
    _Segment(24, 0.017941231431835854, (
        .030000, .026667, .023333, .020000, .016667, .013333, .010000, .006667, .003333, .010000)),
    _Segment(27, 0.009790878919164516, (
        .015000, .013990, .012980, .011971, .010961, .009951, .008941, .007931, .006921, .005912)),
    _Segment(36, 0.016324033736761206, (
        .015000, .013333, .011667, .010000, .008333, .006667, .005000, .003333, .001667, .010000)),
    _Segment(48, 0.0092302, (
        .020000, .020000, .020000, .020000, .020000, .020000, .020000, .020000, .020000, .020000)),
)  # fmt: skip

SEGMENT_STARTS: tuple[int, ...] = tuple(segment.start for segment in _SEGMENTS)
# In the forecast itself a segment begins one month before the table's boundary.
FORECAST_SEGMENT_STARTS: tuple[int, ...] = (1, *(start - 1 for start in SEGMENT_STARTS[1:]))
FITTED_RATES: tuple[float, ...] = tuple(segment.fitted_rate for segment in _SEGMENTS)
# Rows: influence ranges. Columns: lifecycle segments.
REACH_RATES: tuple[tuple[float, ...], ...] = tuple(
    zip(*(segment.reach_rates for segment in _SEGMENTS), strict=True)
)

FITTED_WEIGHT = 0.67
REACH_WEIGHT = 0.33

# (ranges, segments), decay per month.
BASE_RATES: Table = tuple(
    tuple(
        FITTED_WEIGHT * fitted + REACH_WEIGHT * reach
        for fitted, reach in zip(FITTED_RATES, rates, strict=True)
    )
    for rates in REACH_RATES
)


def influence_range(influence: pl.Expr) -> pl.Expr:
    """Return the number (0 to 9) of the range that an influence lies in."""
    return _steps(INFLUENCE_EDGES).search_sorted(influence, side="right").cast(pl.Int64) - 1


def segment(month: pl.Expr, starts: Sequence[int], /) -> pl.Expr:
    """Return the number (from 1) of the segment that a month since release (>= 1) lies in."""
    return _steps(starts).search_sorted(month, side="right").cast(pl.Int64)


def summed_before(
    month: pl.Expr, influence_range: pl.Expr, /, *, values: Table, starts: Sequence[int]
) -> pl.Expr:
    """Sum `values[range, segment(t)]` over all whole months 1 <= t < `month`.

    `values` is (ranges, segments). The sum is piecewise linear in the month, so one look-up of the segment's
    first sum and slope suffices, however far away the month is. The sum over the months a <= t < b is the
    difference of two such sums.
    """
    lengths = [end - start for start, end in pairwise(starts)]
    at_start = [
        [0.0, *accumulate(value * length for value, length in zip(row, lengths, strict=False))]
        for row in values
    ]
    lies_in = segment(month, starts) - 1
    cell = influence_range * len(starts) + lies_in
    return _look_up(at_start, cell) + _look_up(values, cell) * (month - _look_up([starts], lies_in))


def base_rate(influence_range: pl.Expr, segment: int, /) -> pl.Expr:
    """Return the base rate per month of one segment, counted from 1."""
    return _look_up([[row[segment - 1] for row in BASE_RATES]], influence_range)


def _steps(edges: Sequence[int]) -> pl.Expr:
    return pl.lit(pl.Series(edges))


def _look_up(table: Table, index: pl.Expr) -> pl.Expr:
    return pl.lit(pl.Series([*chain.from_iterable(table)])).gather(index)
