"""Forecasts of runs as frames: what they were made from, batches, and the scores by run and by age."""

from collections.abc import Iterable
from datetime import date, timedelta

import click
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.cli.options import DAYS
from forecaster.model import build_forecasts
from forecaster.model.parameters import AgeFrom
from forecaster.scoring import GROUPS, RUN_GROUPS, evaluate, evaluate_batches
from forecaster.scoring.past_runs import forecast_months, releases
from forecaster.setup.sample import sample_catalogue
from tests.evaluations import ORIGIN, forecast, frames, monthly, random_catalogue, row

STREAMS, RATES = sample_catalogue(25)


@pytest.mark.parametrize("age_from", ["release", "first-date"])
def test_age_and_segment_are_those_that_the_run_computed(age_from: AgeFrom) -> None:
    """Also where a track's day of release was corrected, or became unknown, in the meantime."""
    changed = pl.col("cm_track_id") % 3 == pl.lit(0)
    later = pl.col("date") >= date(2024, 3, 1)
    streams = STREAMS.with_columns(
        days_from_release=pl.when(changed & later)
        .then(pl.col("days_from_release") + 400)
        .when((pl.col("cm_track_id") % 3 == 1) & later)
        .then(None)
        .otherwise("days_from_release")
    ).sort("cm_track_id", "date")
    known = releases(streams)
    assert len(known) < 2 * STREAMS["cm_track_id"].n_unique() + 2
    for cutoff, stated in ((date(2024, 2, 1), None), (date(2024, 5, 1), None), (date(2024, 5, 1), ORIGIN)):
        before = streams.filter(pl.col("date") < cutoff)
        made = build_forecasts(
            before.lazy(), RATES.lazy(), horizon=5, age_from=age_from, as_of=stated
        ).forecasts.collect()
        last = before.group_by("cm_track_id").agg(last_date=pl.col("date").max())
        said = (
            made.group_by("cm_track_id", maintain_order=True)
            .agg(months="forecasted_value")
            .join(last, on="cm_track_id")
            .with_columns(run=pl.lit(7, pl.Int64), as_of=pl.lit(stated) if stated else pl.col("last_date"))
        )
        found = forecast_months(said, known, from_first_date=[7] if age_from == "first-date" else [])
        columns = ("cm_track_id", "month", "forecasted_value", "time_used", "segment_used")
        assert_frame_equal(found.sort("cm_track_id", "month").select(columns), made.select(columns))


def of_run(run: int, months: pl.DataFrame) -> pl.DataFrame:
    return months.with_columns(run=pl.lit(run, pl.Int64), cutoff=pl.lit(None, pl.Date))


def three_runs(seed: int) -> tuple[list[pl.DataFrame], pl.DataFrame]:
    months, daily = random_catalogue(seed)
    parts = months.partition_by("as_of", maintain_order=True)
    return [of_run(run, part) for run, part in enumerate(parts, start=4)], daily


def test_batches_give_the_scores_of_all_at_once() -> None:
    runs, daily = three_runs(3)
    once = evaluate(pl.concat(runs), daily)

    def batches() -> Iterable[pl.DataFrame]:
        yield runs[2]
        yield pl.concat(runs[:2]).sample(fraction=1.0, shuffle=True, seed=1)

    found = evaluate_batches(batches(), daily)
    for name in ("overall", *GROUPS, *RUN_GROUPS):
        assert_frame_equal(getattr(found, name), getattr(once, name))
    key = ["cm_track_id", "run"]
    assert_frame_equal(found.series.sort(key), once.series.sort(key))
    assert (found.left_out, found.windows_scored) == (once.left_out, once.windows_scored)


def test_a_run_is_scored_as_if_it_were_alone() -> None:
    """Its pooled rate and its deciles are those of its own tracks."""
    runs, daily = three_runs(4)
    found = evaluate(pl.concat(runs), daily)
    for run, months in enumerate(runs, start=4):
        alone = evaluate(months, daily)
        scores = ["series", "windows", "wape", "bias", "smape", "mase", "wape_pooled_exponential"]
        assert found.by_run is not None
        assert found.by_run.filter(run=run).select(scores).rows() == [
            pytest.approx(alone.by_cutoff.select(scores).row(0))
        ]
        deciles = found.series.filter(run=run).select("cm_track_id", "volume_decile")
        assert_frame_equal(deciles, alone.series.select("cm_track_id", "volume_decile"))


def test_age_is_counted_to_the_newest_month_that_is_scored() -> None:
    """A single day in a far future adds no age: no month ends there."""
    daily = pl.concat([monthly([5, 5], [5] * 4), monthly([], [], track=2)])
    far = daily.head(1).with_columns(date=date(2062, 1, 1))
    ends = ORIGIN + timedelta(days=120)
    runs = [
        of_run(run, forecast([6.0], as_of=ends - timedelta(days=days)))
        for run, days in ((1, 120), (2, 89), (3, 31), (4, 30), (5, 29))
    ]
    found = evaluate(pl.concat(runs), pl.concat([daily, far]))
    assert found.by_age is not None
    assert found.by_run is not None
    assert found.by_age.select("age", "series").rows() == [(1, 2), (2, 1), (4, 1)]
    assert found.by_run.select("run", "windows").rows() == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 0)]
    assert found.series.columns[:3] == ["cm_track_id", "cutoff", "run"]


def test_without_runs_there_is_nothing_of_runs() -> None:
    found = evaluate(forecast([6.0]), monthly([5, 5], [5]))
    assert (found.by_run, found.by_age) == (None, None)
    assert not {"by_run", "by_age"} & found.to_dict().keys()
    assert "run" not in found.series.columns
    assert frames(found)["by_cutoff"]["windows"].to_list() == [1]


def test_months_with_days_that_the_forecast_knew_are_left_out() -> None:
    last = {1: ORIGIN, 2: ORIGIN + timedelta(days=1), 3: ORIGIN + timedelta(days=30), 4: None}
    daily = pl.concat([monthly([5, 5], [5, 5, 5], track=track) for track in last])
    months = pl.concat(
        of_run(1, forecast([6.0, 6.0], track=track)).with_columns(last_date=pl.lit(day, pl.Date))
        for track, day in last.items()
    )
    found = evaluate(months, daily)
    assert found.left_out["seen"] == 2
    assert found.series.select("cm_track_id", "months").rows() == [(1, 2), (2, 1), (3, 1), (4, 2)]
    assert row(found.by_month, month=2)["series"] == 4


def test_a_range_of_days() -> None:
    assert DAYS.convert("2024-01-31..2024-02-01", None, None) == (date(2024, 1, 31), date(2024, 2, 1))
    for given, said in (
        ("2024-01-31", "is not a range of dates like 2024-01-01..2024-01-31"),
        ("2024-01-31..", "'' is not a date"),
        ("2024-01-31..2024-01-30", "ends before it begins"),
    ):
        with pytest.raises(click.BadParameter, match=said):
            DAYS.convert(given, None, None)
