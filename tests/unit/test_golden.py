"""The production algorithm's own outputs: we agree with them, or our fit is the better one."""

from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from forecaster import build_forecasts
from forecaster.frames.schemas import conform
from forecaster.model import build_tracks
from forecaster.model.features import clean, last_streams, track_facts
from forecaster.model.mldr import newest_mldr
from forecaster.model.parameters import Parameters
from forecaster.tables import ARTIST_MLDR, DAILY_STREAMS
from tests import reference

GOLDEN = Path(__file__).parents[1] / "golden"


class Run(NamedTuple):
    """One golden run: our options for it, and how many tracks' forecasts may disagree."""

    options: dict[str, Any]
    disagreeing: int


# Ages of two months and large counts, where the production optimiser stopped early. After 400 months a
# difference in k has grown; on the fixed day every track is older than that.
RUNS = {
    "forecast_24": Run({"horizon": 24}, 5),
    "forecast_400": Run({"horizon": 400}, 6),
    "forecast_400_influence_1000": Run({"horizon": 400, "influence": 1000}, 6),
    "forecast_24_as_of_2025-04-15": Run({"horizon": 24, "as_of": date(2025, 4, 15)}, 0),
}

K_NEAR = 1e-5
FORECAST_NEAR = 1e-4


def golden(name: str) -> pl.DataFrame:
    return pl.read_parquet(GOLDEN / f"{name}.parquet").with_columns(pl.col(pl.Int32).cast(pl.Int64))


def shuffled(name: str) -> pl.LazyFrame:
    return pl.read_parquet(GOLDEN / f"{name}.parquet").sample(fraction=1, shuffle=True, seed=7).lazy()


def tracks(**options: Any) -> pl.DataFrame:
    """Everything that is computed per track, with the options of one of the golden runs."""
    daily = clean(conform(shuffled("tracks"), DAILY_STREAMS, name="daily_streams"))
    mldr = newest_mldr(conform(shuffled("mldr"), ARTIST_MLDR, name="artist_mldr"))
    parameters = Parameters(age_from="first-date", **options)
    return build_tracks(last_streams(daily), track_facts(daily), mldr, parameters).collect()


def forecast(**options: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    built = build_forecasts(shuffled("tracks"), shuffled("mldr"), age_from="first-date", **options)
    forecasts, skipped = pl.collect_all([built.forecasts, built.skipped])
    return forecasts, skipped


def test_the_golden_files_hold_what_these_tests_are_about() -> None:
    statuses = dict(golden("track_metrics")["status"].value_counts().iter_rows())
    assert statuses == {"ok": 238, "no_mldr": 3, "optimiser_failed": 9}
    assert [golden(name).height for name in RUNS] == [238 * run.options["horizon"] for run in RUNS.values()]


def test_features_and_points_are_equal() -> None:
    metrics = golden("track_metrics").filter(pl.col("status") == "ok").sort("cm_track_id")
    ours = tracks().rename({"y0": "y_4to12", "y1": "y_2to3"})
    ours = ours.join(metrics, on="cm_track_id", how="semi").sort("cm_track_id")
    for column in ("cm_track_id", "streams_30", "streams_90", "streams_365", "months_since_release", "mldr"):
        assert ours[column].to_list() == metrics[column].to_list()
    for column in ("y_4to12", "y_2to3"):
        assert ours[column].to_list() == pytest.approx(metrics[column].to_list(), rel=1e-15)


def test_k_agrees_or_its_sse_is_no_higher() -> None:
    both = tracks_with_golden_k()
    assert both.height == 238
    # Relative, or absolute below 1e-3.
    near = K_NEAR * pl.when(pl.col("golden_k") < 1e-3).then(1).otherwise("golden_k")
    disagreeing = both.filter((pl.col("k") - pl.col("golden_k")).abs() > near)
    assert_ours_fit_better(disagreeing, strictly=False)
    # The dead, the reborn and the youngest.
    assert disagreeing.height <= 39


@pytest.mark.parametrize("name", RUNS)
def test_forecasts_agree_or_our_sse_is_lower(name: str) -> None:
    expected, (ours, _) = golden(name), forecast(**RUNS[name].options)
    both = ours.join(expected, on=["cm_track_id", "month"], suffix="_golden", validate="1:1")
    assert both.height == expected.height
    assert both["segment_used"].equals(both["segment_used_golden"], null_equal=False)
    assert both["time_used"].equals(both["time_used_golden"], null_equal=False)
    theirs = pl.col("forecasted_value_golden")
    far = both.filter((pl.col("forecasted_value") - theirs).abs() > FORECAST_NEAR * theirs)
    disagreeing = tracks_with_golden_k().join(far, on="cm_track_id", how="semi")
    assert far["cm_track_id"].n_unique() == disagreeing.height <= RUNS[name].disagreeing
    assert_ours_fit_better(disagreeing, strictly=True)


@pytest.mark.parametrize("name", RUNS)
def test_every_track_with_a_decay_rate_gets_a_forecast(name: str) -> None:
    forecasts, skipped = forecast(**RUNS[name].options)
    metrics = golden("track_metrics")
    without_rate = metrics.filter(pl.col("status") == "no_mldr")["cm_track_id"].sort().to_list()
    assert skipped.select("cm_track_id", "reason").rows() == [(track, "no_mldr") for track in without_rate]
    failed = metrics.filter(pl.col("status") == "optimiser_failed")
    rescued = forecasts.join(failed, on="cm_track_id", how="semi")
    assert rescued.height == failed.height * RUNS[name].options["horizon"]
    assert rescued["forecasted_value"].is_finite().all()


def test_where_the_production_optimiser_failed_our_fit_is_the_best_there_is() -> None:
    failed = golden("track_metrics").filter(pl.col("status") == "optimiser_failed")
    ours = tracks().join(failed, on="cm_track_id", how="semi")
    assert ours.height == 9
    for track in ours.iter_rows(named=True):
        x, y = points(track)
        best = reference.sse(reference.best_rate(x, y), x, y)
        rounding = 1e-30 * sum(value * value for value in y)
        assert reference.sse(track["k"], x, y) <= best * (1 + 1e-9) + rounding


def tracks_with_golden_k() -> pl.DataFrame:
    metrics = golden("track_metrics").filter(pl.col("status") == "ok").select("cm_track_id", golden_k="k")
    return tracks().join(metrics, on="cm_track_id", validate="1:1")


def points(track: dict[str, Any]) -> tuple[reference.Point3, reference.Point3]:
    return (track["x0"], track["x1"], track["x2"]), (track["y0"], track["y1"], track["y2"])


def assert_ours_fit_better(tracks: pl.DataFrame, *, strictly: bool) -> None:
    for track in tracks.iter_rows(named=True):
        ours, theirs = (reference.sse(track[k], *points(track)) for k in ("k", "golden_k"))
        assert ours < theirs or (ours == theirs and not strictly), track
