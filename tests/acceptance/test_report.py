"""`--report` and `--skipped`: files that describe the whole run."""

import json
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.early import client_name
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from forecaster.setup.load import load
from tests import sql
from tests.conftest import Cli, bare_environment
from tests.tables import GOLDEN, create_tables, golden_mldr, golden_streams, initialise


def test_everything_is_in_the_report(called: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    env = {"DATABASE_URL": embedded_database.uri.replace("postgres@", "postgres:s3cr%40t@", 1)}
    files = (str(GOLDEN / "tracks.parquet"), "--mldr", str(GOLDEN / "mldr.parquet"))
    assert called("load", *files, env=env).returncode == 0
    sql.run(
        embedded_database,
        "UPDATE backtest_track_daily_training_data SET daily_streams = NULL "
        "WHERE cm_track_id = 1 AND date = (SELECT max(date) FROM backtest_track_daily_training_data "
        "WHERE cm_track_id = 1)",
    )
    arguments = ("--age-from", "first-date", "--as-of", "2025-06-01", "--horizon", "12")
    result = called("run", *arguments, "--report", "r.json", "--skipped", "s.csv", env=env, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "r.json").read_text()
    report = json.loads(text)
    assert report["parameters"] == {
        "horizon": 12,
        "age_from": "first-date",
        "as_of": "2025-06-01",
        "influence": None,
        "level": 30,
    }
    counts = report["counts"]
    assert counts["pending"] == 250
    assert (counts["forecast"], counts["skipped"], counts["rows"]) == (247, 3, 247 * 12)
    assert (counts["unusable_rows"], counts["duplicate_rows"]) == (1, 0)
    assert report["skipped_by_reason"] == {"no_mldr": 3}
    assert {s["reason"] for s in report["skipped"]} == {"no_mldr"}
    assert set(report["stages"]) == {"connect", "read", "features", "fit", "projection", "write"}
    assert report["seconds"] >= max(report["stages"].values())
    assert {"forecaster", "python", "postgresql", "polars", "connectorx"} <= report["versions"].keys()
    assert report["error"] is None
    # The tables of the test leave no history, and the days end two years before --as-of.
    assert [said.partition(":")[0] for said in report["warnings"] if "no history" not in said] == [
        "implausible (age)"
    ]
    assert [name for name, number in report["checks"].items() if number] == ["age"]
    assert "s3cr" not in text
    skipped = pl.read_csv(tmp_path / "s.csv")
    assert skipped.to_dicts() == report["skipped"]
    stored = sql.rows(embedded_database, "SELECT DISTINCT created_at FROM backtest_track_streams_forecast")
    assert [instant.isoformat() for (instant,) in stored] == [report["started_at"]]


def test_a_run_that_refuses_a_track_says_so_everywhere(
    called: Cli, embedded_database: Dsn, tmp_path: Path
) -> None:
    create_tables(embedded_database, value="integer")
    env = {"DATABASE_URL": embedded_database.uri}
    streams = golden_streams().filter(pl.col("cm_track_id") <= 5)
    huge = streams.filter(cm_track_id=5).with_columns(daily_streams=pl.lit(10**9, dtype=pl.Int64))
    pl.concat([streams.filter(pl.col("cm_track_id") < 5), huge]).write_parquet(tmp_path / "streams.parquet")
    golden_mldr().write_parquet(tmp_path / "mldr.parquet")
    called("load", "streams.parquet", "--mldr", "mldr.parquet", env=env, cwd=tmp_path)

    result = called("run", "--report", "r.json", env=env, cwd=tmp_path)

    assert result.returncode == 1
    assert "the first is 5" in result.stderr
    assert "those of the other tracks are stored" in result.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert [r["cm_track_id"] for r in report["refused"]] == [5]
    assert report["counts"]["forecast"] == 4
    assert "the first is 5" in report["error"]
    assert sql.rows(
        embedded_database, "SELECT DISTINCT cm_track_id::int FROM backtest_track_streams_forecast ORDER BY 1"
    ) == [(1,), (2,), (3,), (4,)]


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_a_run_for_some_tracks(
    called: Cli, embedded_database: Dsn, tmp_path: Path, dry_run: tuple[str, ...]
) -> None:
    create_tables(embedded_database, value="integer")
    streams = golden_streams().filter(pl.col("cm_track_id") <= 3)
    huge = streams.filter(cm_track_id=3).with_columns(daily_streams=pl.lit(10**9, dtype=pl.Int64))
    load(
        embedded_database,
        "public",
        streams=pl.concat([streams.filter(pl.col("cm_track_id") < 3), huge]),
        mldr=golden_mldr(),
    )
    chosen = ("--track-id", "3", "--track-id", "1", "--limit", "7", "--replace", "--report", "r.json")
    result = called("run", *chosen, *dry_run, env={"DATABASE_URL": embedded_database.uri}, cwd=tmp_path)

    # Also a run that stores nothing says what could not be stored.
    assert result.returncode == 1
    assert ("those of the other tracks are stored" in result.stderr) == (not dry_run)
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["track_ids"], report["limit"], report["replace"]) == ([3, 1], 7, True)
    assert report["dry_run"] == bool(dry_run)
    assert report["refused"] == [
        {"cm_track_id": 3, "reason": "forecasted_value: a value that does not fit integer"}
    ]
    counts = report["counts"]
    assert (counts["pending"], counts["forecast"], counts["rows"]) == (2, 1, 0 if dry_run else 24)
    # The tables are those of another system.
    assert [warning for warning in report["warnings"] if "leaves no history" not in warning] == []


def test_a_run_that_fails_in_the_middle_tells_what_it_did_until_then(
    called: Cli, embedded_database: Dsn, tmp_path: Path
) -> None:
    create_tables(embedded_database, forecast_key="CHECK (month < 20)")
    load(embedded_database, "public", streams=golden_streams(), mldr=golden_mldr())
    sql.run(
        embedded_database,
        "UPDATE backtest_track_daily_training_data SET daily_streams = NULL WHERE cm_track_id = 1",
    )
    arguments = ("--age-from", "first-date", "--report", "r.json", "--skipped", "s.parquet")
    result = called("run", *arguments, env={"DATABASE_URL": embedded_database.uri}, cwd=tmp_path)
    assert result.returncode == 1
    report = json.loads((tmp_path / "r.json").read_text())
    assert "violates check constraint" in report["error"]
    assert report["parameters"]["age_from"] == "first-date"
    assert (report["counts"]["pending"], report["counts"]["rows"]) == (250, 0)
    assert report["counts"]["unusable_rows"] == golden_streams().filter(cm_track_id=1).height
    assert report["seconds"] > 0
    assert {"connect", "read", "write"} <= report["stages"].keys()
    assert "no unique key" in "".join(report["warnings"])
    assert "INSERT" not in result.stderr + report["error"]  # the statement is the driver's addition
    assert "Failed to" not in result.stderr + report["error"]
    assert set(pl.read_parquet(tmp_path / "s.parquet")["cm_track_id"]) == {
        skipped["cm_track_id"] for skipped in report["skipped"]
    }
    assert report["counts"]["skipped"] == len(report["skipped"]) == 4


def test_a_database_that_cannot_be_reached_is_in_the_report_without_its_password(
    called: Cli, tmp_path: Path
) -> None:
    url = "postgresql://someone:S3cr%2Ft@127.0.0.1:1/music"
    arguments = ("run", "--horizon", "36", "--schema", "it's", "--report", "r.json")
    result = called(*arguments, env={"DATABASE_URL": url}, cwd=tmp_path)
    assert result.returncode == 3
    text = (tmp_path / "r.json").read_text()
    report = json.loads(text)
    assert "cannot connect to postgresql://someone:***@127.0.0.1:1/music" in report["error"]
    assert (report["parameters"]["horizon"], report["schema"]) == (36, "it's")
    assert "S3cr" not in text + result.stdout + result.stderr


def test_a_failure_leaves_no_report_behind_that_says_otherwise(called: Cli, tmp_path: Path) -> None:
    """Also where the run did not get as far as a database."""
    (tmp_path / "r.json").write_text("of yesterday")
    result = called("run", "--report", "r.json", env={"DATABASE_URL": "nonsense"}, cwd=tmp_path)
    assert result.returncode == 2
    assert json.loads((tmp_path / "r.json").read_text())["error"] in result.stderr


def test_a_run_that_is_ended_says_so(embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND starts_with(application_name, $2)"
    command = [sys.executable, "-m", "forecaster", "run", "--wait", "600", "--report", "r.json"]
    env = {**bare_environment(), "HOME": str(tmp_path), "DATABASE_URL": embedded_database.uri}
    with connect(embedded_database) as other:
        take_lock(other, read_tables(other, "public"))
        with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as process:
            mine = f"{client_name().rpartition(' ')[0]} {process.pid} "
            while sql.rows(embedded_database, waiting, embedded_database.dbname, mine) == [(0,)]:
                assert process.poll() is None
                time.sleep(0.01)
            process.terminate()
    assert process.returncode == 143
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["error"] == "interrupted by SIGTERM"
    assert report["versions"]["postgresql"]


@pytest.mark.parametrize("option", ["--report", "--skipped"])
def test_a_place_that_cannot_be_written_to_is_found_before_the_work(
    called: Cli, embedded_database: Dsn, tmp_path: Path, option: str
) -> None:
    initialise(embedded_database)
    load(embedded_database, "public", streams=golden_streams().filter(cm_track_id=1), mldr=golden_mldr())
    env = {"DATABASE_URL": embedded_database.uri}
    result = called("run", option, "missing/file.csv", env=env, cwd=tmp_path)
    assert result.returncode == 1
    assert "does not exist" in result.stderr
    assert sql.rows(embedded_database, "SELECT count(*) FROM backtest_track_streams_forecast") == [(0,)]


def test_a_run_that_fails_leaves_a_report_of_why(called: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    env = {"DATABASE_URL": embedded_database.uri}
    result = called("run", "--report", "r.json", "--skipped", "s.parquet", env=env, cwd=tmp_path)
    assert result.returncode == 4
    report = json.loads((tmp_path / "r.json").read_text())
    assert "the table is missing" in report["error"]
    assert pl.read_parquet(tmp_path / "s.parquet").is_empty()
