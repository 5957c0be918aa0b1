"""Implausible data is said by `run`, `shard` and `doctor`, and with `--strict` the exit code is 6."""

import json
import re
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.setup.load import load
from tests import sql
from tests.conftest import Cli
from tests.logs import unmarked
from tests.parquet import in_sink, write_catalogue
from tests.plausible import TODAY, rates, steady, track
from tests.tables import create_tables, initialise

TRACKS = 30
OLD = TODAY - timedelta(days=35)
STREAMS = "backtest_track_daily_training_data"


def bad_catalogue() -> tuple[pl.DataFrame, pl.DataFrame]:
    """A feed that ended five weeks ago, in five zeros; a day in 2204, an MLDR of 50, and a spike.

    One track ended twenty days before the others, and one was taken down long ago.
    """
    month = 11e6 / 30
    tracks = [
        *(track(number, [50.0] * 90 + [0.0] * 5, end=OLD) for number in range(1, TRACKS - 3)),
        track(TRACKS - 3, [50.0] * 90, end=OLD - timedelta(days=100)),
        track(TRACKS - 2, [month] * 335 + [month] * 29 + [173e6], end=OLD),
        track(TRACKS - 1, [50.0] * 90, end=OLD),
        track(TRACKS - 1, [50.0], end=date(2204, 3, 1)),
        track(TRACKS, [50.0] * 90, end=OLD - timedelta(days=20)),
    ]
    return stored(tracks), rates(TRACKS, a3=50.0)


def stored(tracks: list[pl.DataFrame]) -> pl.DataFrame:
    """As the tables have it."""
    unknown = pl.lit(None, dtype=pl.Int64)
    return pl.concat(tracks).cast({"daily_streams": pl.Int64}).with_columns(days_from_release=unknown)


FOUND = {"age": 1, "ended": 1, "future": 1, "zeros": TRACKS - 4, "rates": 1, "spike": 1}


@pytest.fixture(params=["by index", "in one pass"])
def bad(request: pytest.FixtureRequest, embedded_database: Dsn) -> Dsn:
    if request.param == "by index":
        initialise(embedded_database)
    else:
        create_tables(embedded_database)
    streams, mldr = bad_catalogue()
    load(embedded_database, "public", streams=streams, mldr=mldr)
    return embedded_database


def test_a_run_says_it_and_stores(called: Cli, bad: Dsn) -> None:
    env = {"DATABASE_URL": bad.uri}
    first, again = (called("run", "--json", *more, env=env) for more in ((), ("--strict",)))
    assert (first.returncode, again.returncode) == (0, 6)
    for result, checks in ((first, FOUND), (again, {"age": 1, "ended": 1, "future": 1})):
        report = json.loads(result.stdout)
        assert {name: number for name, number in report["checks"].items() if number} == checks
        said = [warning for warning in report["warnings"] if warning.startswith("implausible (")]
        assert len(said) == len(checks)
        assert all(f"Warning: {warning}" in result.stderr for warning in said)
    # In the second run nothing is pending, and a dead feed is seen all the same.
    assert json.loads(again.stdout)["counts"]["pending"] == 0
    assert json.loads(again.stdout)["error"] == "implausible, and --strict: age, ended, future"
    assert "the forecasts are stored" not in again.stderr
    assert sql.rows(bad, "SELECT count(*) FROM backtest_track_streams_forecast") == [(TRACKS * 24,)]


def test_tracks_with_and_without_a_stored_forecast_are_seen_once(called: Cli, bad: Dsn) -> None:
    env = {"DATABASE_URL": bad.uri}
    assert called("run", "-q", "--track-id", f"{TRACKS}", env=env).returncode == 0
    report = json.loads(called("run", "--json", "--limit", "5", env=env).stdout)
    # The early end is that of the stored forecast, the day in 2204 that of a track beyond the limit.
    checks = {name: number for name, number in report["checks"].items() if number and name != "total"}
    assert checks == {"age": 1, "ended": 1, "future": 1, "rates": 1}


def test_strict_stores_before_it_fails(called: Cli, bad: Dsn) -> None:
    result = called("run", "-q", "--strict", "zeros", "--strict", "tracks", env={"DATABASE_URL": bad.uri})
    assert (result.returncode, unmarked(result.stderr).splitlines()[-2:]) == (
        6,
        [
            "Error: implausible, and --strict: zeros",
            "  the forecasts are stored; correct the data, or change --threshold or --strict",
        ],
    )
    assert sql.rows(bad, "SELECT count(*) FROM backtest_track_streams_forecast") == [(TRACKS * 24,)]


def test_thresholds_and_strictness_come_from_variables(called: Cli, bad: Dsn) -> None:
    off = "age=40 ended=off future=100000 zeros=100 rates=50 spike=17"
    env = {"DATABASE_URL": bad.uri, "FORECASTER_STRICT": "all", "FORECASTER_THRESHOLD": off}
    assert called("run", "-q", "--dry-run", "--threshold", "age=40", env=env).returncode == 6
    for command in (("run", "-q", "--dry-run"), ("doctor",)):
        result = called(*command, env=env)
        assert (result.returncode, "implausible" in result.stderr) == (0, False), result.stderr
    env["FORECASTER_STRICT"] = "spike rates"
    assert called("run", "-q", "--threshold", "spike=16", env=env).returncode == 6


@pytest.mark.parametrize(
    "arguments",
    [("--threshold", "agee=3"), ("--threshold", "age"), ("--threshold", "age=-1"), ("--strict", "agee")],
)
def test_what_is_no_check_is_a_wrong_call(called: Cli, arguments: tuple[str, ...]) -> None:
    for command in ("run", "doctor", "shard"):
        result = called(command, *arguments)
        assert (result.returncode, "age" in result.stderr) == (2, True), result.stderr
        assert f"Invalid value for '{arguments[0]}'" in result.stderr


def test_the_doctor_says_what_a_run_would(called: Cli, bad: Dsn) -> None:
    env = {"DATABASE_URL": bad.uri}
    for _ in range(2):  # also of tracks that have their forecast
        result = called("doctor", "--json", "--strict", "future", env=env)
        findings = [one for one in json.loads(result.stdout)["findings"] if one["about"] == "plausibility"]
        *warnings, error = findings
        assert (result.returncode, json.loads(result.stdout)["exit_code"]) == (6, 6)
        assert [one["found"].partition(":")[0] for one in warnings] == [*FOUND]
        assert {one["level"] for one in warnings} == {"warning"}
        assert (error["level"], error["found"]) == ("error", "implausible, and --strict: future")
        run = json.loads(called("run", "--json", "--replace", env=env).stdout)
        said = {
            f"implausible ({name}): {one['found'].partition(': ')[2]}; {one['fix']}"
            for name, one in zip(FOUND, warnings, strict=True)
        }
        assert said == {warning for warning in run["warnings"] if warning.startswith("implausible (")}


def test_the_doctor_says_that_all_is_plausible(called: Cli, embedded_database: Dsn) -> None:
    initialise(embedded_database)
    load(embedded_database, "public", streams=stored(steady(3)), mldr=rates(3))
    result = called("doctor", "--strict", env={"DATABASE_URL": embedded_database.uri})
    assert result.returncode == 0, result.stdout
    assert "ok      plausibility: 3 tracks: age, ended, future, zeros, rates, spike" in result.stdout


def test_an_empty_catalogue_fails_only_where_it_is_strict(called: Cli, embedded_database: Dsn) -> None:
    initialise(embedded_database)
    env = {"DATABASE_URL": embedded_database.uri}
    result = called("run", "-q", env=env)
    said = "Warning: implausible (tracks): tracks with streams: 0, fewer than 1; check what was loaded\n"
    assert (result.returncode, said in unmarked(result.stderr)) == (0, True)
    assert called("run", "-q", "--strict", env=env).returncode == 6


def test_in_parquet_files(called: Cli, tmp_path: Path) -> None:
    streams, mldr = bad_catalogue()
    source = write_catalogue(tmp_path / "catalogue", streams.with_row_index("id", offset=1), mldr)
    where = ("--source", str(source), "--sink", str(tmp_path / "sink"))
    # In the second run every bucket is complete already.
    for strict, code in (((), 0), (("--strict",), 6)):
        result = called("run", "--json", *where, *strict)
        report = json.loads(result.stdout)
        assert result.returncode == code, result.stderr
        assert {name: number for name, number in report["checks"].items() if number} == FOUND
    assert len(in_sink(tmp_path / "sink")) == TRACKS * 24
    shard = called("shard", "0/1", *where, "--strict", "rates", "--strict", "age")
    assert (shard.returncode, "Error: implausible, and --strict: age, rates" in shard.stderr) == (6, True)


def test_a_limit_on_a_growing_catalogue_moves_no_total(called: Cli, embedded_database: Dsn) -> None:
    env = {"DATABASE_URL": embedded_database.uri}
    assert called("init", env=env).returncode == 0
    load(embedded_database, "public", streams=stored(steady(6)), mldr=rates(6))
    for _ in range(3):
        result = called("run", "--limit", "2", "--strict", "total", env=env)
        assert (result.returncode, "(total)" in result.stderr) == (0, False), result.stderr
    sql.run(embedded_database, f"UPDATE {STREAMS} SET daily_streams = daily_streams * 20")
    result = called("run", "-q", "--replace", env=env)
    [moved] = re.findall(r"the total moved by (\S+ %) since the run before, over 10 %", result.stderr)
    assert moved.startswith("+2,0")
    assert f" {moved} " in called("history", "--last", "1", env=env).stdout


def test_a_total_that_moved(called: Cli, embedded_database: Dsn) -> None:
    env = {"DATABASE_URL": embedded_database.uri}
    assert called("init", env=env).returncode == 0
    load(embedded_database, "public", streams=stored(steady(3)), mldr=rates(3))
    assert called("run", "--strict", env=env).returncode == 0
    sql.run(embedded_database, f"UPDATE {STREAMS} SET daily_streams = daily_streams * 0.8")
    result = called("run", "-q", "--replace", "--strict", "total", env=env)
    assert result.returncode == 6
    moved = "the total moved by -20.0 % since the run before"
    assert f"implausible (total): {moved}" in result.stderr
    doctor = called("doctor", "--strict", "total", env=env)
    assert (doctor.returncode, f"total: {moved}" in doctor.stdout) == (6, True)
    assert called("run", "-q", "--replace", "--limit", "2", env=env).returncode == 0
    assert "total: " not in called("doctor", env=env).stdout  # of a part, none is judged
