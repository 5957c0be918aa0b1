"""Every row of the golden file of the calibrated model, from tables and from files, however they are cut."""

from pathlib import Path

import pytest

import forecaster.postgres.tracks as tables
from forecaster.parquet.session import Files
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from tests.calibrated_golden import CASES, Case
from tests.forecasts import stored
from tests.parquet import in_sink, write_catalogue
from tests.tables import load_golden


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalogue(tmp_path_factory.mktemp("source") / "catalogue")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_tables(embedded_database: Dsn, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    load_golden(embedded_database)
    monkeypatch.setattr(tables, "BATCH", case.size)
    report = run(Database(embedded_database), case.config)
    case.check(stored(embedded_database))
    assert report.skipped_by_reason.keys() <= {"no_days"}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_files(source: Path, tmp_path: Path, case: Case) -> None:
    report = run(Files(f"{source}", tmp_path / "sink", buckets=case.buckets), case.config)
    case.check(in_sink(tmp_path / "sink"))
    assert report.skipped_by_reason.keys() <= {"no_days"}
