"""Buckets of the calibrated model: the same forecasts for any number of them, with one as-of day for all."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import InvalidOptionError
from forecaster.model import build_forecasts
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.uncertainty import with_quantiles
from forecaster.model.parameters import Parameters
from forecaster.parquet.session import Files, check
from forecaster.parquet.sink import Sink
from forecaster.run.config import RunConfig
from forecaster.tables import QUANTILES
from tests.calibrations import calibration
from tests.parquet import expected, forecast, in_sink, intervals_in_sink, states, with_ids, write_catalogue
from tests.tables import golden_mldr, golden_streams

STREAMS = with_ids(golden_streams()).filter(pl.col("cm_track_id") <= 30)
D: date = STREAMS["date"].max()  # type: ignore[assignment]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalogue(tmp_path_factory.mktemp("source") / "catalogue", STREAMS)


def quantiles(one: Calibration, weight: float, level: int, **of_model: object) -> pl.DataFrame:
    """The intervals of all tracks at once."""
    forecasts = build_forecasts(STREAMS.lazy(), golden_mldr().lazy(), **of_model).forecasts  # type: ignore[arg-type]
    bounds = with_quantiles(forecasts, one.errors_of(weight, level), horizon=24).sort("cm_track_id", "month")
    lists = [pl.col(name).cast(pl.Float32) for name in QUANTILES]
    by_track = bounds.group_by("cm_track_id", maintain_order=True).agg(lists)
    return by_track.select("cm_track_id", pl.lit(one.id).alias("calibration"), *QUANTILES).collect()


@pytest.mark.parametrize("buckets", [1, 7, 100])
@pytest.mark.parametrize("back", [0, 45])
def test_are_the_same_however_many(source: Path, tmp_path: Path, buckets: int, back: int) -> None:
    as_of = D - timedelta(back)
    one = calibration(D - timedelta(50))
    parameters = Parameters(as_of=as_of if back else None)
    given: dict[str, Any] = {"calibration": one, "parameters": parameters}
    report = forecast(source, tmp_path / "sink", buckets=buckets, model="calibrated", **given)
    assert_frame_equal(in_sink(tmp_path / "sink"), expected(STREAMS, golden_mldr(), model=one, as_of=as_of))
    bounds = quantiles(one, 1.0, 7, model=one, as_of=as_of)
    assert_frame_equal(intervals_in_sink(tmp_path / "sink"), bounds)
    asked = report.to_dict()["parameters"]
    assert (asked["model"], asked["calibration"]) == ("calibrated", one.id)
    assert len(report.warnings) == (back == 0) + (buckets > 1)  # an old calibration; no layout


def test_another_calibration_or_model_makes_them_anew(source: Path, tmp_path: Path) -> None:
    config = RunConfig(model="calibrated", calibration=calibration(D - timedelta(3)))
    sink = tmp_path / "sink"
    forecast(source, sink, model="calibrated", calibration=config.calibration)
    files = Files(f"{source}", sink)
    assert check(files, config).failed == {}
    [manifest] = (json.loads(path.read_text()) for path in (sink / "manifests").rglob("*.json"))
    assert manifest["asked"]["calibration"] == calibration(D - timedelta(3)).id
    assert manifest["asked"]["model"] == "calibrated"
    assert forecast(source, sink, model="calibrated", calibration=config.calibration).left_alone == 1

    [why] = check(files).failed.values()
    assert why == "made from other calibration, intervals, level, model, parameters, weight"
    newer = RunConfig(model="calibrated", calibration=calibration(D - timedelta(2)))
    assert [*check(files, newer).failed.values()] == ["made from other calibration, intervals"]
    assert forecast(source, sink, model="calibrated", calibration=newer.calibration).left_alone == 0
    assert intervals_in_sink(sink)["calibration"].unique().to_list() == [calibration(D - timedelta(2)).id]
    assert check(files, newer).failed == {}


def test_the_production_model_has_intervals_of_a_calibration(source: Path, tmp_path: Path) -> None:
    one = calibration(D)
    plain, sink = tmp_path / "plain", tmp_path / "sink"
    forecast(source, plain)
    report = forecast(source, sink, calibration=one)
    assert report.to_dict()["intervals"] == one.id
    assert in_sink(sink).equals(in_sink(plain))
    assert_frame_equal(intervals_in_sink(sink), quantiles(one, 0.0, 30))
    assert [*check(Files(f"{source}", sink)).failed.values()] == ["made from other intervals"]


def test_the_production_model_from_the_last_week(source: Path, tmp_path: Path) -> None:
    forecast(source, tmp_path / "sink", level_days=7)
    assert_frame_equal(in_sink(tmp_path / "sink"), expected(STREAMS, golden_mldr(), level=7))
    assert [*check(Files(f"{source}", tmp_path / "sink")).failed.values()] == ["made from other parameters"]


def test_without_intervals_none_are_left(source: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"model": "calibrated", "calibration": calibration(D)}
    plain, sink = tmp_path / "plain", tmp_path / "sink"
    forecast(source, plain)
    assert not (plain / "intervals").exists()  # the production model writes nothing else
    forecast(source, sink, buckets=2, **given)
    assert len([*(sink / "intervals").rglob("*.parquet")]) == 2
    before = in_sink(sink)
    forecast(source, sink, buckets=2, intervals=False, **given)
    assert [*(sink / "intervals").rglob("*.parquet")] == []
    assert in_sink(sink).equals(before)
    files = Files(f"{source}", sink)
    assert [*check(files, RunConfig(**given)).failed.values()] == ["made from other intervals"] * 2


@pytest.mark.parametrize("fault", ["gone", "cut off", "one bit"])
def test_spoilt_intervals_are_made_anew(source: Path, tmp_path: Path, fault: str) -> None:
    given: dict[str, Any] = {"model": "calibrated", "calibration": calibration(D)}
    forecast(source, tmp_path / "sink", buckets=2, **given)
    before = intervals_in_sink(tmp_path / "sink")
    file = tmp_path / "sink" / "intervals" / "bucket=1" / "intervals.parquet"
    data = file.read_bytes()
    if fault == "gone":
        file.unlink()
    elif fault == "cut off":
        file.write_bytes(data[:-1])
    else:
        file.write_bytes(data[:99] + bytes([data[99] ^ 1]) + data[100:])
    files = Files(f"{source}", tmp_path / "sink")
    assert [*check(files, RunConfig(**given)).failed] == [1]
    assert forecast(source, tmp_path / "sink", buckets=2, **given).left_alone == 1
    assert_frame_equal(intervals_in_sink(tmp_path / "sink"), before)


def test_intervals_of_no_bucket_are_stray(source: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"model": "calibrated", "calibration": calibration(D)}
    forecast(source, tmp_path / "sink", **given)
    stray = tmp_path / "sink" / "intervals" / "bucket=7" / "intervals.parquet"
    stray.parent.mkdir()
    stray.write_bytes(b"")
    assert Sink(tmp_path / "sink").stray(1) == [f"{stray}"]


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path) -> None:
    one = calibration(D)
    before = states(tmp_path)
    assert forecast(source, tmp_path / "sink", model="calibrated", calibration=one, dry_run=True).results > 0
    assert states(tmp_path) == before


@pytest.mark.parametrize("named", [None, "2024-01-01-0123456789"])
def test_needs_a_file(source: Path, tmp_path: Path, named: str | None) -> None:
    with pytest.raises(InvalidOptionError, match="needs a file with a calibration"):
        forecast(source, tmp_path / "sink", model="calibrated", calibration=named)
