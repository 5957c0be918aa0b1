"""The command that scores the forecasts of past runs."""

import json
import re
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.conftest import Cli
from tests.scored_nights import NEWEST, NIGHTS, STREAMS

RUN = "backtest_forecast_run"
HISTORY = "backtest_track_streams_forecast_history"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run", "1", "--cutoff", "2024-01-01"), "--run and --runs contradict --cutoff"),
        (("--runs", "2024-01-01..2024-01-02", "--cutoff", "2024-01-01"), "contradict --cutoff"),
        (("--runs", "2024-01-02"), "'2024-01-02' is not a range of dates like 2024-01-01..2024-01-31."),
        (("--runs", "2024-01-02..2024-01-01"), "ends before it begins"),
        (("--run", "first"), "'first' is not a valid integer"),
    ],
)
def test_options_that_are_refused(called: Cli, arguments: tuple[str, ...], said: str) -> None:
    result = called("evaluate", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def copied(dsn: Dsn, number: int) -> None:
    """So many more runs that said what the first one did, a day later each."""
    sql.run(
        dsn,
        f"INSERT INTO {RUN} (log_id, started_at, program, model, horizon, outcome, host) "
        f"SELECT n, started_at + n * interval '1 day' + interval '1 hour', program, model, horizon, outcome, "
        f"host FROM {RUN}, generate_series(1, {number}) n WHERE id = 1",
    )
    sql.run(
        dsn,
        f"INSERT INTO {HISTORY} SELECT r.id, cm_track_id, as_of, last_date, mldr, reason, months "
        f"FROM {HISTORY} h, {RUN} r WHERE h.run_id = 1 AND r.id > {len(NIGHTS)}",
    )


def test_the_command_prints_the_newest_runs_and_writes_all(
    called: Cli, nights_embedded: Dsn, tmp_path: Path
) -> None:
    copied(nights_embedded, 25)
    env = {"DATABASE_URL": nights_embedded.uri}
    files = ("--out", "scores.csv", "--page", "page.html")
    result = called("evaluate", "--by", "run", "--by", "age", *files, env=env, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("warning")) == (0, 0), result.stderr
    [table] = [part.splitlines() for part in result.stdout.split("\n\n") if " began " in part]
    assert table[0].split()[:5] == ["run", "began", "tracks", "months", "WAPE"]
    assert [line.split()[0] for line in table[1:-1]] == [f"{run}" for run in range(10, 30)]
    assert table[1].split()[1] == f"{NIGHTS[0] + timedelta(days=6)}"
    assert table[-1] == "the newest 20 of 29 runs; --json and --out have all"
    assert "\nage in months " in result.stdout
    assert re.search(r"^as of +2023-12-31 to 2024-02-29 .history.$", result.stdout, re.MULTILINE)
    assert re.search("^runs +29$", result.stdout, re.MULTILINE)
    assert re.search("^tracks and runs +[0-9]+$", result.stdout, re.MULTILINE)
    scores = pl.read_csv(tmp_path / "scores.csv", infer_schema_length=None)
    assert scores.filter(group="run")["key"].to_list() == [*range(1, 30)]
    assert "month ahead" in (tmp_path / "page.html").read_text()

    as_json = json.loads(called("evaluate", "--json", env=env).stdout)
    assert [row["run"] for row in as_json["by_run"]] == [*range(1, 30)]
    assert as_json["by_run"][0]["started"] == f"{NIGHTS[0]}"
    assert as_json["by_run"][0]["wape"] == pytest.approx(as_json["by_run"][9]["wape"])
    assert {"age", "wape", "skill"} <= as_json["by_age"][0].keys()
    assert as_json["as_of"]["known"] == "history"
    assert as_json["series"][0]["run"] is not None


def test_one_run_against_a_file(called: Cli, nights_embedded: Dsn, tmp_path: Path) -> None:
    """The days after the night are gone from the table; a file has them."""
    env = {"DATABASE_URL": nights_embedded.uri}
    arguments = ("evaluate", "--run", "1", "--horizon", "2", "--json")
    expected = json.loads(called(*arguments, env=env).stdout)
    sql.run(nights_embedded, f"DELETE FROM backtest_track_daily_training_data WHERE date >= '{NIGHTS[0]}'")
    nothing = called(*arguments, env=env)
    assert nothing.returncode == 1
    assert "; the first month is over once there are streams up to 2024-01-30; as of" in nothing.stderr
    STREAMS.filter(pl.col("date").is_between(NIGHTS[0], NEWEST)).write_parquet(tmp_path / "later.parquet")
    of_file = called(*arguments, "--actuals", "later.parquet", env=env, cwd=tmp_path)
    assert json.loads(of_file.stdout) | {"actuals_left_out": {}} == expected
    assert [row["run"] for row in expected["by_run"]] == [1]
    assert [row["month"] for row in expected["by_month"]] == [1, 2]


def test_a_night_that_is_not_over(called: Cli, nights_embedded: Dsn) -> None:
    sql.run(
        nights_embedded,
        f"DELETE FROM backtest_track_daily_training_data WHERE date >= '{NIGHTS[3]}'",
    )
    result = called("evaluate", "--by", "run", env={"DATABASE_URL": nights_embedded.uri})
    assert result.returncode == 0, result.stderr
    assert re.search("^runs +4 .2 without a month that counts.$", result.stdout, re.MULTILINE)
    assert [line.split()[0] for line in result.stdout.splitlines() if re.match(" +[0-9] 20", line)] == [
        "1",
        "2",
    ]
