"""`--metrics`: a file for node_exporter, however the run ends."""

import json
import os
import signal
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from forecaster.setup.load import load
from tests import prometheus, sql
from tests.conftest import Cli
from tests.faults import end_of, started
from tests.interrupts import HEAVY, computes
from tests.logs import unmarked
from tests.parquet import write_catalogue
from tests.prometheus import Samples
from tests.tables import (
    create_tables,
    golden_listeners,
    golden_mldr,
    golden_streams,
    initialise,
    load_golden,
)

NOWHERE = {"DATABASE_URL": "postgresql://someone:S3cr@127.0.0.1:1/music"}


def outcome(got: Samples) -> str:
    [one] = [label for (name, label), value in got.items() if name == "forecaster_run_outcome" and value]
    return one


def last_success(got: Samples) -> float | None:
    return got.get(("forecaster_run_last_success_timestamp_seconds", ""))


def test_a_run_that_is_done(called: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    load_golden(embedded_database)
    before = time.time()
    called("run", "--metrics", "m.prom", env={"DATABASE_URL": embedded_database.uri}, cwd=tmp_path)
    got = prometheus.read(tmp_path / "m.prom")
    assert (outcome(got), got["forecaster_run_exit_code", ""]) == ("done", 0)
    start, end = (got[f"forecaster_run_{when}_timestamp_seconds", ""] for when in ("start", "end"))
    assert before <= start < end <= time.time()
    assert last_success(got) == end
    assert got["forecaster_run_tracks", "forecast"] == 247
    assert got["forecaster_run_tracks_skipped", "no_mldr"] == got["forecaster_run_tracks", "skipped"] == 3
    assert got["forecaster_run_stored_rows", ""] == 5928
    assert got["forecaster_run_stage_seconds", "write"] > 0
    newest = datetime.combine(max(golden_streams()["date"]), datetime.min.time(), UTC)
    assert got["forecaster_run_newest_date_timestamp_seconds", ""] == newest.timestamp()
    assert got["forecaster_run_implausible_tracks", "age"] == 1  # they are of last year
    assert got["forecaster_run_total_streams", ""] > 0
    text = (tmp_path / "m.prom").read_text()
    assert text.count('{command="run",file="m"') == len(got)
    assert [path.name for path in tmp_path.iterdir()] == ["m.prom"]


def test_a_failed_run_keeps_the_last_success(called: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    load_golden(embedded_database)
    env = {"DATABASE_URL": embedded_database.uri, "FORECASTER_RUN_METRICS": "m.prom"}
    called("run", "--dry-run", env=env, cwd=tmp_path)
    assert last_success(prometheus.read(tmp_path / "m.prom")) is None
    called("run", env=env, cwd=tmp_path)
    success = last_success(prometheus.read(tmp_path / "m.prom"))
    assert success
    for more, code in (NOWHERE, 3), ({"FORECASTER_SCHEMA": "nowhere"}, 4), (NOWHERE, 3):
        assert called("run", env=env | more, cwd=tmp_path).returncode == code
        got = prometheus.read(tmp_path / "m.prom")
        assert (outcome(got), got["forecaster_run_exit_code", ""]) == ("failed", code)
        assert last_success(got) == success < got["forecaster_run_start_timestamp_seconds", ""]
    assert "S3cr" not in (tmp_path / "m.prom").read_text()
    called("run", "--dry-run", env=env, cwd=tmp_path)
    got = prometheus.read(tmp_path / "m.prom")
    assert (outcome(got), last_success(got)) == ("done", success)
    called("run", env=env, cwd=tmp_path)
    assert (last_success(prometheus.read(tmp_path / "m.prom")) or 0) > success


def test_what_is_refused_is_counted_and_the_run_is_done(
    called: Cli, embedded_database: Dsn, tmp_path: Path
) -> None:
    create_tables(embedded_database, value="integer")
    streams = golden_streams().filter(pl.col("cm_track_id") <= 5)
    huge = pl.when(cm_track_id=5).then(10**9).otherwise("daily_streams").alias("daily_streams")
    load(embedded_database, "public", streams=streams.with_columns(huge), mldr=golden_mldr())
    env = {"DATABASE_URL": embedded_database.uri}
    called("init", env=env)
    options = ("--metrics", "m.prom", "--report", "r.json")
    assert called("run", *options, env=env, cwd=tmp_path).returncode == 1
    got = prometheus.read(tmp_path / "m.prom")
    [run] = json.loads(called("history", "--json", env=env).stdout)["runs"]
    assert outcome(got) == run["outcome"] == "done"
    assert got["forecaster_run_exit_code", ""] == 1
    assert last_success(got) == got["forecaster_run_end_timestamp_seconds", ""]
    checks = {label: number for (name, label), number in got.items() if name.endswith("implausible_tracks")}
    assert checks == json.loads((tmp_path / "r.json").read_text())["checks"]
    assert checks["age"] == 1
    assert got["forecaster_run_tracks", "refused"] == 1
    assert got["forecaster_run_tracks", "forecast"] == 4


def test_a_report_that_cannot_be_written_is_a_failure(called: Cli, tmp_path: Path) -> None:
    result = called("run", "--report", "missing/r.json", "--metrics", "m.prom", env=NOWHERE, cwd=tmp_path)
    assert result.returncode == 1
    got = prometheus.read(tmp_path / "m.prom")
    assert (outcome(got), got["forecaster_run_exit_code", ""]) == ("failed", 1)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("m.txt", 2, "does not end in .prom"), ("", 2, "is empty")],
)
def test_a_name_of_no_use_is_refused_before_the_work(
    called: Cli, tmp_path: Path, name: str, code: int, said: str
) -> None:
    result = called("run", "--metrics", name, env=NOWHERE, cwd=tmp_path)
    assert (result.returncode, said in result.stderr) == (code, True), result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--metrics", "--report", "--skipped"])
def test_a_directory_that_is_missing_is_named_alike(called: Cli, tmp_path: Path, option: str) -> None:
    name = {"--metrics": "x.prom", "--report": "x.json", "--skipped": "x.csv"}[option]
    result = called("run", option, f"missing/{name}", env=NOWHERE, cwd=tmp_path)
    said = f"Error: missing/{name}: the directory {tmp_path}/missing does not exist\n  create it first\n"
    assert (result.returncode, unmarked(result.stderr)) == (1, said)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_interrupted(embedded_database: Dsn, tmp_path: Path) -> None:
    load_golden(embedded_database)
    file = tmp_path / "m.prom"
    with connect(embedded_database) as other:
        take_lock(other, read_tables(other, "public"))
        with started(embedded_database, "--wait", "600", "--metrics", str(file)) as process:
            assert process.stderr
            while "connect" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert end_of(process).code == 143
    got = prometheus.read(file)
    assert (outcome(got), got["forecaster_run_exit_code", ""]) == ("interrupted", 143)


def test_a_run_that_is_ended_by_force(embedded_database: Dsn, tmp_path: Path) -> None:
    load_golden(embedded_database)
    file = tmp_path / "m.prom"
    by_force = "import forecaster.process.signals; forecaster.process.signals.GRACE = 0"
    before = f"{HEAVY}\nforecaster.run.made_with.project = heavy\n{by_force}"
    with started(embedded_database, "--metrics", str(file), before=before) as process:
        computes(process)
        process.send_signal(signal.SIGINT)
        assert end_of(process).code == 130
    got = prometheus.read(file)
    assert (outcome(got), got["forecaster_run_exit_code", ""]) == ("interrupted", 130)
    assert got["forecaster_run_tracks_pending", ""] == 250


def test_others_may_read_it_as_far_as_the_umask_says(called: Cli, tmp_path: Path) -> None:
    file = tmp_path / "m.prom"
    before = os.umask(0o022)
    try:
        called("run", "--metrics", "m.prom", env=NOWHERE, cwd=tmp_path)
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        file.unlink()
        os.umask(0o077)
        called("run", "--metrics", "m.prom", env=NOWHERE, cwd=tmp_path)
        file.chmod(0o644)
        called("run", "--metrics", "m.prom", env=NOWHERE, cwd=tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644  # a mode that was given stays


@pytest.mark.parametrize("before", [b"\xff\x00", b"forecaster_run_last_success_timestamp_seconds{", b""])
def test_a_file_of_something_else_is_replaced(called: Cli, tmp_path: Path, before: bytes) -> None:
    (tmp_path / "m.prom").write_bytes(before)
    called("run", "--metrics", "m.prom", env=NOWHERE, cwd=tmp_path)
    got = prometheus.read(tmp_path / "m.prom")
    assert (outcome(got), last_success(got)) == ("failed", None)


def test_any_name_of_a_file_keeps_the_last_success(
    called: Cli, embedded_database: Dsn, tmp_path: Path
) -> None:
    initialise(embedded_database)
    file = tmp_path / 'a "night"\\of\r\N{LINE SEPARATOR}runs.prom'
    done = called("run", "--metrics", str(file), env={"DATABASE_URL": embedded_database.uri})
    assert done.returncode == 0, done.stderr
    success = last_success(prometheus.samples(file.read_bytes().decode()))
    called("run", "--metrics", str(file), env=NOWHERE)
    got = prometheus.samples(file.read_bytes().decode())
    assert success
    assert (outcome(got), last_success(got)) == ("failed", success)


def test_rates(called: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    load(embedded_database, "public", listeners=golden_listeners())
    env = {"DATABASE_URL": embedded_database.uri}
    called("mldr", "--metrics", "m.prom", env=env, cwd=tmp_path)
    got = prometheus.read(tmp_path / "m.prom")
    rated, skipped = (got["forecaster_run_artists", of] for of in ("rated", "skipped"))
    assert (outcome(got), rated + skipped) == ("done", got["forecaster_run_artists_pending", ""])
    assert rated == sql.rows(embedded_database, "SELECT count(*) FROM backtest_artist_mldr")[0][0] > 0
    assert 'command="mldr"' in (tmp_path / "m.prom").read_text()


def test_buckets(called: Cli, tmp_path: Path) -> None:
    write_catalogue(tmp_path / "source")
    arguments = ("--source", "source", "--sink", "sink", "--metrics", "m.prom")
    called("shard", "0/2", *arguments, cwd=tmp_path)
    half = prometheus.read(tmp_path / "m.prom")
    assert 0 < half["forecaster_run_tracks", "forecast"] < 247
    called("run", *arguments, cwd=tmp_path)
    got = prometheus.read(tmp_path / "m.prom")
    assert got["forecaster_run_tracks", "forecast"] == 247
    assert got["forecaster_run_failed_buckets", ""] == 0
