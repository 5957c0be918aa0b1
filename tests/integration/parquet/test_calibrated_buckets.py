"""Buckets of the calibrated model: the same forecasts for any number of them, with one as-of day for all."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import InvalidOptionError
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.parameters import Parameters
from forecaster.parquet.session import Files, check
from forecaster.run.calibrations import write_file
from forecaster.run.config import RunConfig
from tests.calibrations import calibration
from tests.parquet import expected, forecast, in_sink, with_ids, write_catalogue
from tests.tables import golden_mldr, golden_streams

STREAMS = with_ids(golden_streams()).filter(pl.col("cm_track_id") <= 30)
D: date = STREAMS["date"].max()  # type: ignore[assignment]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalogue(tmp_path_factory.mktemp("source") / "catalogue", STREAMS)


def written(directory: Path, one: Calibration) -> str:
    path = directory / "calibration.json"
    write_file(one, path)
    return f"{path}"


@pytest.mark.parametrize("buckets", [1, 7, 100])
@pytest.mark.parametrize("back", [0, 45])
def test_are_the_same_however_many(source: Path, tmp_path: Path, buckets: int, back: int) -> None:
    as_of = D - timedelta(back)
    one = calibration(D - timedelta(50))
    parameters = Parameters(as_of=as_of if back else None)
    given: dict[str, Any] = {
        "model": "calibrated",
        "calibration": written(tmp_path, one),
        "parameters": parameters,
    }
    report = forecast(source, tmp_path / "sink", buckets=buckets, **given)
    assert_frame_equal(in_sink(tmp_path / "sink"), expected(STREAMS, golden_mldr(), model=one, as_of=as_of))
    asked = report.to_dict()["parameters"]
    assert (asked["model"], asked["calibration"]) == ("calibrated", one.id)
    assert len(report.warnings) == (back == 0) + (buckets > 1)  # an old calibration; no layout


def test_another_calibration_makes_them_anew(source: Path, tmp_path: Path) -> None:
    config = RunConfig(model="calibrated", calibration=written(tmp_path, calibration(D - timedelta(3))))
    sink = tmp_path / "sink"
    forecast(source, sink, model="calibrated", calibration=config.calibration)
    files = Files(f"{source}", sink)
    assert check(files, config).failed == {}
    assert [*check(files).failed.values()] == ["made from other parameters"]
    written(tmp_path, calibration(D - timedelta(2)))
    assert [*check(files, config).failed.values()] == ["made from other parameters"]


@pytest.mark.parametrize("named", [None, "2024-01-01-0123456789"])
def test_needs_a_file(source: Path, tmp_path: Path, named: str | None) -> None:
    with pytest.raises(InvalidOptionError, match="needs a file with a calibration"):
        forecast(source, tmp_path / "sink", model="calibrated", calibration=named)
