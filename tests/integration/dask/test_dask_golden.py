"""The golden forecasts of the calibrated model over Dask: calibrated and forecast by its workers."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from forecaster.parquet.calibrate import calibrate as of_files
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.session import Files
from forecaster.postgres.calibrate import calibrate as of_tables
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.calibrating import CALIBRATION, Calibrating
from forecaster.run.engines.dask import Dask
from forecaster.run.report import Report
from tests.calibrated_golden import CUTOFFS, TRACKS, Case, calibration_at
from tests.cluster import Cluster, run_over
from tests.conftest import ServerNamed, new_database
from tests.forecasts import stored
from tests.parquet import in_sink
from tests.tables import load_golden

CASE = Case(CUTOFFS[2], TRACKS)
ASKED = Calibrating(CASE.cutoff - timedelta(1), origins=0)


@pytest.fixture
def filled(server_named: ServerNamed) -> Iterator[Dsn]:
    with new_database(server_named("embedded")) as dsn:
        load_golden(dsn)
        yield dsn


def test_in_tables(cluster: Cluster, filled: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forecaster.postgres.calibrate.BATCH", 70)
    monkeypatch.setattr("forecaster.postgres.tracks.BATCH", 40)
    with Dask(cluster.address) as workers:
        one, _ = of_tables(filled, "public", ASKED, Report(CALIBRATION), workers=workers)
    assert one.rates == calibration_at(CASE.cutoff).rates
    run_over(cluster.address, Database(filled), replace(CASE.config, calibration=one))
    CASE.check(stored(filled))


def test_in_files(cluster: Cluster, catalogue: Path, tmp_path: Path) -> None:
    with Dask(cluster.address) as workers:
        one = of_files(find_catalogue(f"{catalogue}"), ASKED, Report(CALIBRATION), workers=workers)
    assert one.rates == calibration_at(CASE.cutoff).rates
    sink = tmp_path / "sink"
    run_over(cluster.address, Files(f"{catalogue}", sink), replace(CASE.config, calibration=one))
    CASE.check(in_sink(sink))
