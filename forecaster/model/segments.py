"""Lifecycle segments: their boundaries, the base decay rates, and sums of a rate over months.

Source of every number: the production model's tables (docs/model.md).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

Table = npt.NDArray[np.float64]

# First month (since release) of each of the twelve lifecycle segments; the last one has no end.
SEGMENT_STARTS: tuple[int, ...] = (1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 36, 48)
# In the forecast itself a segment begins one month before the table's boundary.
FORECAST_SEGMENT_STARTS: tuple[int, ...] = (1, *(start - 1 for start in SEGMENT_STARTS[1:]))

FITTED_RATES: tuple[float, ...] = (
    0.06741191851584262,
    0.03291507714354558,
    0.03334620907608441,
    0.021404012549575913,
    0.02461834982301452,
    0.03183160108111365,
    0.029059156192761115,
    0.02577913683190864,
    0.017941231431835854,
    0.009790878919164516,
    0.016324033736761206,
    0.0092302,
)

# Influence = streams in the last 30 records x 10, at most 5 million; a range begins at its lower edge.
INFLUENCE_PER_STREAM = 10
INFLUENCE_MAX = 5_000_000
INFLUENCE_EDGES: tuple[int, ...] = (
    0, 10_000, 30_000, 50_000, 75_000, 110_000, 160_000, 250_000, 410_000, 950_000,
)  # fmt: skip

# Rows: influence ranges. Columns: lifecycle segments.
REACH_RATES: tuple[tuple[float, ...], ...] = (
    (.094000, .064033, .060000, .050000, .035000, .030000, .030000, .030000, .030000, .015000, .015000, .02),
    (.089111, .061430, .055739, .044959, .031111, .026667, .026667, .026877, .026667, .013990, .013333, .02),
    (.084222, .058826, .051478, .039918, .027222, .023333, .023333, .023754, .023333, .012980, .011667, .02),
    (.079333, .056222, .047218, .034877, .023333, .020000, .020000, .020631, .020000, .011971, .010000, .02),
    (.074444, .053619, .042957, .029836, .019444, .016667, .016667, .017508, .016667, .010961, .008333, .02),
    (.069556, .051015, .038696, .024795, .015556, .013333, .013333, .014385, .013333, .009951, .006667, .02),
    (.064667, .048411, .034435, .019754, .011667, .010000, .010000, .011262, .010000, .008941, .005000, .02),
    (.059778, .045808, .030174, .014713, .007778, .006667, .006667, .008138, .006667, .007931, .003333, .02),
    (.054889, .043204, .025913, .009672, .003889, .003333, .003333, .005015, .003333, .006921, .001667, .02),
    (.050000, .040600, .021653, .004631, .010000, .010000, .010000, .001892, .010000, .005912, .010000, .02),
)  # fmt: skip

FITTED_WEIGHT = 0.67
REACH_WEIGHT = 0.33

# (10 ranges, 12 segments), decay per month.
BASE_RATES: Table = FITTED_WEIGHT * np.array(FITTED_RATES) + REACH_WEIGHT * np.array(REACH_RATES)


def influence_range(influence: pl.Expr) -> pl.Expr:
    """Number (0 to 9) of the range that an influence lies in."""
    return _steps(INFLUENCE_EDGES).search_sorted(influence, side="right").cast(pl.Int64) - 1


def segment(month: pl.Expr, starts: Sequence[int], /) -> pl.Expr:
    """Number (1 to 12) of the segment that a month since release (>= 1) lies in."""
    return _steps(starts).search_sorted(month, side="right").cast(pl.Int64)


def summed_before(
    month: pl.Expr, influence_range: pl.Expr, /, *, values: Table, starts: Sequence[int]
) -> pl.Expr:
    """Sum of `values[range, segment(t)]` over all whole months 1 <= t < `month`.

    `values` is (10 ranges, 12 segments). The sum is piecewise linear in the month, so it needs one look-up
    of the segment's first sum and slope however far away the month is; the sum over the months a <= t < b
    is the difference of two of these.
    """
    lengths = np.diff(np.array(starts))
    at_start = np.concatenate(
        [np.zeros((len(values), 1)), np.cumsum(values[:, :-1] * lengths, axis=1)], axis=1
    )
    lies_in = segment(month, starts) - 1
    cell = influence_range * len(starts) + lies_in
    return _look_up(at_start, cell) + _look_up(values, cell) * (month - _look_up(np.array(starts), lies_in))


def base_rate(influence_range: pl.Expr, segment: int, /) -> pl.Expr:
    """Base decay rate per month of one segment (1 to 12)."""
    return _look_up(BASE_RATES[:, segment - 1], influence_range)


def _steps(edges: Sequence[int]) -> pl.Expr:
    return pl.lit(pl.Series(edges))


def _look_up(table: npt.NDArray[np.float64] | npt.NDArray[np.int64], index: pl.Expr) -> pl.Expr:
    return pl.lit(pl.Series(table.ravel())).gather(index)
