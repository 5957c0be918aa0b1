"""`--report` and `--skipped`: the whole run, for whoever looks at it in the morning."""

import json
from pathlib import Path

import polars as pl

from forecaster.dsn import Dsn
from tests import sql
from tests.conftest import Cli
from tests.tables import GOLDEN, create_tables, golden_mldr, golden_streams, initialise


def test_everything_is_in_the_report(cli: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    env = {"DATABASE_URL": embedded_database.uri.replace("postgres@", "postgres:s3cr%40t@", 1)}
    files = (str(GOLDEN / "tracks.parquet"), "--mldr", str(GOLDEN / "mldr.parquet"))
    assert cli("load", *files, env=env).returncode == 0
    sql.run(
        embedded_database,
        "UPDATE backtest_track_daily_training_data SET daily_streams = NULL "
        "WHERE cm_track_id = 1 AND date = (SELECT max(date) FROM backtest_track_daily_training_data "
        "WHERE cm_track_id = 1)",
    )
    arguments = ("--age-from", "first-date", "--as-of", "2025-06-01", "--horizon", "12")
    result = cli("run", *arguments, "--report", "r.json", "--skipped", "s.csv", env=env, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "r.json").read_text()
    report = json.loads(text)
    assert report["parameters"] == {
        "horizon": 12,
        "age_from": "first-date",
        "as_of": "2025-06-01",
        "influence": None,
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
    assert report["warnings"] == []
    assert "s3cr" not in text
    skipped = pl.read_csv(tmp_path / "s.csv")
    assert skipped.to_dicts() == report["skipped"]
    stored = sql.rows(embedded_database, "SELECT DISTINCT created_at FROM backtest_track_streams_forecast")
    assert [instant.isoformat() for (instant,) in stored] == [report["started_at"]]


def test_a_run_that_refuses_a_track_says_so_everywhere(
    cli: Cli, embedded_database: Dsn, tmp_path: Path
) -> None:
    create_tables(embedded_database, value="integer")
    env = {"DATABASE_URL": embedded_database.uri}
    streams = golden_streams().filter(pl.col("cm_track_id") <= 5)
    huge = streams.filter(cm_track_id=5).with_columns(daily_streams=pl.lit(10**9, dtype=pl.Int64))
    pl.concat([streams.filter(pl.col("cm_track_id") < 5), huge]).write_parquet(tmp_path / "streams.parquet")
    golden_mldr().write_parquet(tmp_path / "mldr.parquet")
    cli("load", "streams.parquet", "--mldr", "mldr.parquet", env=env, cwd=tmp_path)

    result = cli("run", "--report", "r.json", env=env, cwd=tmp_path)

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


def test_a_run_that_fails_leaves_a_report_of_why(cli: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    env = {"DATABASE_URL": embedded_database.uri}
    result = cli("run", "--report", "r.json", "--skipped", "s.parquet", env=env, cwd=tmp_path)
    assert result.returncode == 4
    report = json.loads((tmp_path / "r.json").read_text())
    assert "the table is missing" in report["error"]
    assert pl.read_parquet(tmp_path / "s.parquet").is_empty()
