"""A calibration over Dask: the same record bit by bit, whoever sums up the parts, and whatever is killed."""

import json
import pickle
import random
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from forecaster.errors import BadFileError, EngineError, InvalidOptionError
from forecaster.model.calibrated.calibration import Calibration
from forecaster.parquet.calibrate import calibrate as of_files
from forecaster.parquet.catalogue import Catalogue, find_catalogue
from forecaster.parquet.prepare import prepare_files
from forecaster.postgres.calibrate import calibrate as of_tables
from forecaster.postgres.dsn import Dsn
from forecaster.run.calibrating import CALIBRATION, Calibrating
from forecaster.run.engines.dask import Dask
from forecaster.run.report import Report
from tests.cluster import BUCKETS, Cluster, killing
from tests.conftest import Cli, ServerNamed, new_database
from tests.faults import SEED
from tests.parquet import write_catalogue
from tests.tables import load_golden

ASKED = Calibrating(rows="shipped", origins=4)


@pytest.fixture(scope="module")
def filled(server_named: ServerNamed) -> Iterator[Dsn]:
    with new_database(server_named("embedded")) as dsn:
        load_golden(dsn)
        yield dsn


@pytest.fixture(scope="module")
def of_one_process(catalogue: Path) -> Calibration:
    return of_files(find_catalogue(f"{catalogue}"), ASKED, Report(CALIBRATION))


def over(address: str | None, catalogue: Catalogue, report: Report | None = None) -> Calibration:
    with Dask(address) as workers:
        return of_files(catalogue, ASKED, report or Report(CALIBRATION), workers=workers)


def test_of_files(cluster: Cluster, catalogue: Path, of_one_process: Calibration) -> None:
    report = Report(CALIBRATION)
    with killing(cluster, random.Random(SEED)) as killed:
        found = over(cluster.address, find_catalogue(f"{catalogue}"), report)
    assert killed
    assert found.to_json() == of_one_process.to_json()
    assert len(found.origins) == ASKED.origins
    assert (report.to_process, report.stages.done["read"], report.stages.done["origins"]) == (BUCKETS,) * 3


def test_of_tables(
    cluster: Cluster, filled: Dsn, of_one_process: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forecaster.postgres.calibrate.BATCH", 40)
    report = Report(CALIBRATION)
    with Dask(cluster.address) as workers, killing(cluster, random.Random(SEED)) as killed:
        found, is_new = of_tables(filled, "public", ASKED, report, workers=workers)
    assert killed
    assert found.to_json() == of_tables(filled, "public", ASKED, Report(CALIBRATION))[0].to_json()
    assert found.rates == of_one_process.rates
    assert is_new
    assert (report.pending, report.stages.done["origins"]) == (250, 250)


def test_only_names_travel(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    def results(_: Dask, task: object, items: list[object], **__: object) -> Iterator[None]:
        sent.append(len(pickle.dumps((task, items[0]))))
        yield from ()

    monkeypatch.setattr(Dask, "results", results)
    with pytest.raises(Exception, match="there is no record"):
        over("tcp://nowhere:1", find_catalogue(f"{catalogue}"))
    assert max(sent) < 2_000


def test_a_secret_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Catalogue, "check", lambda _: None)
    signed = Catalogue("https://host/streams?X-Amz-Signature=abc", "https://host/mldr", 2)
    asked = Calibrating(as_of=date(2023, 1, 1))
    with Dask("tcp://127.0.0.1:1") as workers, pytest.raises(InvalidOptionError, match="unencrypted"):
        of_files(signed, asked, Report(CALIBRATION), workers=workers)


def test_a_bucket_that_cannot_be_read(cluster: Cluster, tmp_path: Path) -> None:
    prepare_files(find_catalogue(f"{write_catalogue(tmp_path / 'files')}"), 3, tmp_path / "own")
    [file] = (tmp_path / "own" / "streams" / "bucket=1").iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:4] + bytes(len(data) // 2) + data[4 + len(data) // 2 :])
    with pytest.raises(BadFileError, match="bucket=1"):
        over(cluster.address, find_catalogue(f"{tmp_path / 'own'}"))


def test_a_scheduler_that_is_lost_says_nothing_of_batches(
    catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> Iterator[None]:
        raise EngineError("lost", hint="run again once the scheduler is back; finished batches stay done")
        yield

    monkeypatch.setattr("forecaster.run.engines.dask.each", lost)
    monkeypatch.setattr(Dask, "_connected", lambda *_: None)
    with pytest.raises(EngineError) as caught:
        over("tcp://127.0.0.1:1", find_catalogue(f"{catalogue}"))
    assert caught.value.hint == "run again once the scheduler is back"


def test_the_command(cluster: Cluster, catalogue: Path, called: Cli, tmp_path: Path) -> None:
    files = ("calibrate", "--source", f"{catalogue}", "--rows", "shipped", "--as-of", "2000-01-01")
    dask = ("--engine", "dask", "--scheduler", cluster.address)
    alone = called(*files, "--export", f"{tmp_path / 'a.json'}")
    ended = called(*files, "--export", f"{tmp_path / 'b.json'}", *dask)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[:-1] == alone.stdout.splitlines()[:-1]
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()
    assert json.loads((tmp_path / "b.json").read_text("utf-8"))["as_of"] == "2000-01-01"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheduler", "tcp://127.0.0.1:1"), "--scheduler needs --engine dask"),
        (("--list", "--engine", "dask"), "--engine and --list contradict each other"),
    ],
)
def test_options_that_contradict_each_other(called: Cli, options: tuple[str, ...], message: str) -> None:
    ended = called("calibrate", *options)
    assert ended.returncode == 2
    assert message in ended.stderr
