"""Boundaries, base rates and sums over months, against the published tables and plain loops."""

import math
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forecaster.model.segments import (
    BASE_RATES,
    FORECAST_SEGMENT_STARTS,
    SEGMENT_STARTS,
    base_rate,
    influence_range,
    segment,
    summed_before,
)
from tests import reference

RANGES = range(1, 11)
SEGMENTS = range(1, 13)
# Every month of the table, and months far beyond its last boundary.
MONTHS = [*range(1, 130), 99_998, 99_999, 100_000, 100_001, 71_582_788]


def of_months(expression: pl.Expr, months: list[int]) -> list[float]:
    return pl.DataFrame({"t": months}).select(expression).to_series().to_list()


def test_base_rates_are_the_published_ones() -> None:
    assert [len(rates) for rates in BASE_RATES] == [12] * 10
    for r in RANGES:
        for j in SEGMENTS:
            assert BASE_RATES[r - 1][j - 1] == pytest.approx(reference.base_rate(r, j), rel=1e-15, abs=0)


def test_a_rate_is_looked_up_by_range_and_segment() -> None:
    ranges = pl.DataFrame({"r": [9, 0, 4, None]})
    for j in SEGMENTS:
        assert ranges.select(base_rate(pl.col("r"), j)).to_series().to_list() == [
            BASE_RATES[9][j - 1],
            BASE_RATES[0][j - 1],
            BASE_RATES[4][j - 1],
            None,
        ]


def test_segments_of_the_table() -> None:
    assert of_months(segment(pl.col("t"), SEGMENT_STARTS), MONTHS) == [reference.segment(t) for t in MONTHS]


def test_segments_of_the_forecast_begin_a_month_earlier() -> None:
    expected = [reference.forecast_segment(t) for t in MONTHS]
    assert of_months(segment(pl.col("t"), FORECAST_SEGMENT_STARTS), MONTHS) == expected
    # Said once more without the twin: the months in which the segment turns over.
    turns = [later for (_, j), (later, next_j) in pairwise(zip(MONTHS, expected, strict=True)) if j != next_j]
    assert turns == [2, 5, 8, 11, 14, 17, 20, 23, 26, 35, 47]


def test_influence_ranges_begin_at_their_lower_edge() -> None:
    values = [
        max(edge + step, 0.0)
        for edge in (*reference.INFLUENCE_FROM, 5_000_000)
        for step in (-1.0, -0.5, -1e-9, 0.0, 1e-9, 0.5, 1.0)
    ]
    got = pl.DataFrame({"influence": values}).select(influence_range(pl.col("influence"))).to_series()
    assert got.to_list() == [reference.influence_range(value) - 1 for value in values]


@pytest.mark.parametrize("starts", [SEGMENT_STARTS, FORECAST_SEGMENT_STARTS])
def test_sums_are_those_of_a_loop_over_the_months(starts: tuple[int, ...]) -> None:
    lies_in = reference.segment if starts is SEGMENT_STARTS else reference.forecast_segment
    months = pl.DataFrame({"t": range(1, 130)})
    for r in RANGES:
        got = months.select(
            summed_before(pl.col("t"), pl.lit(r - 1), values=BASE_RATES, starts=starts)
        ).to_series()
        expected = [
            math.fsum(reference.base_rate(r, lies_in(t)) for t in range(1, before)) for before in months["t"]
        ]
        assert got.to_list() == pytest.approx(expected, rel=1e-13, abs=0)


@given(
    spans=st.lists(st.tuples(st.integers(1, 600), st.integers(0, 500), st.sampled_from(RANGES)), min_size=1)
)
@example(spans=[(1, 0, 1)])  # no month at all
@example(spans=[(2, 1, 3), (3, 1, 3)])  # one month on either side of the first boundary
@example(spans=[(47, 1, 10), (48, 1, 10)])  # and of the last
@example(spans=[(1, 500, 10), (600, 400, 1)])  # over every boundary, and beyond them all
@settings(max_examples=100, deadline=None)
def test_a_difference_of_two_sums_is_the_sum_over_the_span(spans: list[tuple[int, int, int]]) -> None:
    frame = pl.DataFrame(spans, schema=["first", "length", "r"], orient="row")
    reciprocals = [[1 / rate for rate in rates] for rates in BASE_RATES]

    def before(month: pl.Expr) -> pl.Expr:
        return summed_before(month, pl.col("r") - 1, values=reciprocals, starts=SEGMENT_STARTS)

    first, length = pl.col("first"), pl.col("length")
    got = frame.select(before(first + length) - before(first)).to_series()
    expected = [
        math.fsum(1 / reference.base_rate(r, reference.segment(t)) for t in range(start, start + count))
        for start, count, r in spans
    ]
    assert got.to_list() == pytest.approx(expected, rel=1e-10, abs=1e-9)
