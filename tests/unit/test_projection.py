"""The forecast rows, against a loop that goes from month to month."""

import random

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forecaster.model.projection import project
from forecaster.tables import FORECASTS
from tests import reference
from tests.reference import Step

# streams_30, months_since_release, influence range 1 to 10, multiplier
Track = tuple[float, int, int, float]


def projected(rows: list[Track], *, horizon: int) -> list[list[Step]]:
    """The steps of every track, in the order of `rows`, which go in shuffled."""
    numbered = [(number, *row) for number, row in enumerate(rows)]
    random.Random(len(rows)).shuffle(numbered)
    frame = pl.LazyFrame(
        numbered,
        schema=["cm_track_id", "streams_30", "months_since_release", "influence_range", "multiplier"],
        orient="row",
    ).with_columns(pl.col("influence_range") - 1, cm_artist_id=7, training_data_id=pl.lit("first"))
    result = project(frame, horizon=horizon).collect()
    assert tuple(result.columns) == FORECASTS.given_names
    assert result["cm_artist_id"].to_list() == [7] * len(rows) * horizon
    assert result["training_data_id"].to_list() == ["first"] * len(rows) * horizon
    # In order of track and month, each month once.
    assert result.select("cm_track_id", "month").rows() == [
        (track, month) for track in range(len(rows)) for month in range(1, horizon + 1)
    ]
    steps = [
        Step(*row)
        for row in result.select("month", "forecasted_value", "segment_used", "time_used").iter_rows()
    ]
    return [steps[start : start + horizon] for start in range(0, len(steps), horizon)]


def assert_near(got: list[Step], expected: list[Step]) -> None:
    assert [(step.month, step.segment, step.time) for step in got] == [
        (step.month, step.segment, step.time) for step in expected
    ]
    assert [step.value for step in got] == pytest.approx(
        [step.value for step in expected], rel=1e-9, abs=1e-290
    )


@given(
    rows=st.lists(
        st.tuples(st.floats(0, 2.0**62), st.integers(1, 600), st.integers(1, 10), st.floats(1, 100)),
        min_size=1,
        max_size=4,
    ),
    horizon=st.one_of(st.sampled_from([1, 24, 400]), st.integers(1, 60)),
)
@example(rows=[(1000.0, m, 5, 1.0) for m in range(1, 50)], horizon=1)  # every month that a segment begins in
@example(rows=[(1000.0, m, 5, 2.5) for m in (1, 2, 3, 46, 47, 48)], horizon=60)  # all of them in one forecast
@example(rows=[(1000.0, 1, r, 1.0) for r in range(1, 11)], horizon=60)  # every rate of the table
@example(rows=[(1000.0, 99_990, 1, 1.0)], horizon=24)  # over the table's last boundary: still the twelfth
@example(rows=[(1e6, 1, 1, 1.0)], horizon=400)
@settings(max_examples=100, deadline=None)
def test_the_forecast_is_that_of_the_loop(rows: list[Track], horizon: int) -> None:
    for got, (streams_30, m, r, factor) in zip(projected(rows, horizon=horizon), rows, strict=True):
        assert_near(got, reference.forecast(streams_30, m, r, factor, horizon=horizon))


def test_a_long_forecast_begins_with_the_short_one() -> None:
    rows: list[Track] = [(1e6, m, 3, 1.5) for m in (1, 20, 47, 300)]
    short, long = projected(rows, horizon=24), projected(rows, horizon=400)
    assert [steps[:24] for steps in long] == short


def test_nothing_is_forecast_for_a_track_without_streams() -> None:
    ((*steps,),) = projected([(0.0, 24, 1, 1e9)], horizon=400)
    assert {step.value for step in steps} == {0.0}


def test_the_fastest_decay_ends_in_zero() -> None:
    ((*steps,),) = projected([(2.0**62, 1, 1, 1e9)], horizon=24)
    assert {step.value for step in steps} == {0.0}


def test_no_track_gives_no_row() -> None:
    assert projected([], horizon=24) == []
