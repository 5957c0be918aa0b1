"""`history`: the runs, and one track's forecasts over time beside the streams that came."""

import json
import re
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.ledger import _OF_TRACK, open_ledger
from forecaster.postgres.runs import named
from tests import sql
from tests.conftest import Cli
from tests.nights import HISTORY, RUNS, Nights, streams_on

SIX = range(1, 7)
STREAMS = "backtest_track_daily_training_data"


@pytest.fixture
def nights(usual_database: Dsn) -> Nights:
    return Nights(usual_database).begin()


def cells(text: str) -> list[list[str]]:
    """The cells of each line; there are two blanks between columns, at least."""
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


def test_runs_are_listed_newest_first_with_the_change_of_the_total(nights: Nights, called: Cli) -> None:
    nights.add_days(10, [1])
    report = nights.night()
    sql.run(nights.dsn, f"UPDATE {RUNS} SET outcome = 'failed', error = E'disk\\nfull' WHERE id = 1")
    printed = called("history", "--database-url", nights.dsn.uri)
    assert printed.returncode == 0, printed.stderr
    common, headings, last, first, error, end = cells(printed.stdout)
    assert common[0].startswith("forecaster 0.1.0, model production, 24 months, host ")
    assert headings == [
        *("run", "started", "seconds", "outcome", "as of", "tracks", "total", "change", "skipped")
    ]
    assert report.total is not None
    assert report.total_before is not None
    percent = f"{(report.total - report.total_before) / report.total_before * 100:+.1f} %"
    assert [last[0], *last[3:6]] == ["2", "done", "2024-04-29 to 05-09", "6"]
    assert last[6:] == [f"{report.total / 1e6:.3g} M", percent, "1 (no_mldr 1)"]
    assert [first[0], *first[3:5]] == ["1", "failed", "2024-04-29"]
    assert error == ["disk full"]
    assert end[0].startswith("runs=2 more=0 ")


def test_the_last_runs_are_shown_and_the_others_counted(nights: Nights, called: Cli, tmp_path: Path) -> None:
    nights.night()
    nights.night(1, horizon=6)
    where, out = ("--database-url", nights.dsn.uri), tmp_path / "runs.parquet"
    printed = called("history", *where, "--last", "2", "--out", f"{out}").stdout
    assert "and 1 earlier; --last N shows more\n" in printed
    assert cells(printed)[1][-2:] == ["horizon", "skipped"]
    document = json.loads(called("history", *where, "--json").stdout)
    assert [run["id"] for run in document["runs"]] == [3, 2, 1]
    assert document["runs"][0]["parameters"]["track_ids"] == [1]
    assert document["runs"][2]["skipped"] == {"no_mldr": 1}
    stored = sql.rows(nights.dsn, f"SELECT id, log_id, total FROM {RUNS} WHERE id > 1 ORDER BY id DESC")
    assert pl.read_parquet(out).select("id", "log_id", "total").rows() == stored
    assert document["runs"][1]["total_before"] == document["runs"][2]["total"]
    assert document["runs"][0]["run_before"] is None  # the others have another horizon


def test_a_track_is_shown_beside_the_streams_that_came(nights: Nights, called: Cli, tmp_path: Path) -> None:
    nights.add_days(35, [1])
    nights.night()
    nights.add_days(30, [1])
    where, out = ("--database-url", nights.dsn.uri, "--track-id", "1"), tmp_path / "track.csv"
    printed = called("history", *where, "--out", f"{out}")
    assert printed.returncode == 0, printed.stderr
    document = json.loads(called("history", *where, "--json").stdout)
    assert [run["run"] for run in document["runs"]] == [2, 1]
    for run in document["runs"]:
        expected = nights.months(1, run["run"])
        assert [month["forecast"] for month in run["months"]] == expected
        first = {1: 120, 2: 155}[run["run"]]
        assert run["as_of"] == f"{date(2024, 1, 1) + timedelta(days=first - 1)}"
        assert run["mldr"] == 0.02
        for month in run["months"]:
            days = range(first + 30 * (month["month"] - 1), first + 30 * month["month"])
            over = days[-1] < nights.days[1]
            came = sum(streams_on(1, day) for day in days) if over else None
            assert month["actual"] == came
            assert month["left_out"] == (None if over else "not_over")
            error = (month["forecast"] - came) / came if came else None
            assert month["error"] == (None if error is None else pytest.approx(error))
    written = pl.read_csv(out)
    assert len(written) == 48
    assert written["actual"].count() == 3
    headings, second, first_run, _ = cells(printed.stdout)
    assert headings == [
        *("run", "started", "as of", "MLDR", "total", "month 1", "came", "error", "month 2", "came", "error")
    ]
    assert [second[0], *second[9:11]] == ["2", "-", "-"]
    month = document["runs"][1]["months"][1]
    assert first_run[10] == f"{month['error'] * 100:+,.1f} %"


def test_a_run_that_skipped_the_track_says_why(nights: Nights, called: Cli) -> None:
    nights.rate({30: 0.05})
    nights.night()
    printed = called("history", "--database-url", nights.dsn.uri, "--track-id", "7")
    headings, forecast, skipped, end = cells(printed.stdout)
    assert headings[-1] == "skipped"
    assert len(forecast) == len(headings) - 1
    assert [skipped[0], skipped[-1]] == ["1", "no_mldr"]
    assert end[0].startswith("track=7 runs=2 more=0 forecasts=1 months_over=0 ")


def test_a_month_with_a_missing_day_has_gaps(nights: Nights, called: Cli) -> None:
    nights.add_days(30, [1])
    nights.night()
    nights.add_days(30, [1])
    sql.run(nights.dsn, f"DELETE FROM {STREAMS} WHERE cm_track_id = 1 AND date = '2024-05-10'")
    printed = called("history", "--database-url", nights.dsn.uri, "--track-id", "1")
    headings, second, first, _ = cells(printed.stdout)
    came = headings.index("month 1") + 1
    assert first[came : came + 2] == ["gaps", "-"]
    assert second[came] not in ("gaps", "-")


def test_an_unknown_track_is_an_error(nights: Nights, called: Cli) -> None:
    ended = called("history", "--database-url", nights.dsn.uri, "--track-id", "99")
    assert (ended.returncode, "track 99 has no row in the history" in ended.stderr) == (1, True)


def test_without_the_tables_the_error_names_them(embedded_database: Dsn, called: Cli) -> None:
    Nights(embedded_database)
    sql.run(embedded_database, f"DROP TABLE {RUNS}")
    for command in ("history", "compare"):
        ended = called(command, "--database-url", embedded_database.uri)
        assert ended.returncode == 4
        assert f"{RUNS}: the table is missing" in ended.stderr
        assert "forecaster init" in ended.stderr


def test_without_runs_the_list_is_empty(embedded_database: Dsn, called: Cli) -> None:
    Nights(embedded_database)
    printed = called("history", "--database-url", embedded_database.uri)
    assert (printed.returncode, printed.stdout.partition(" seconds")[0]) == (0, "runs=0 more=0")


def test_the_end_of_a_run_says_its_total(nights: Nights, called: Cli) -> None:
    where = ("--database-url", nights.dsn.uri)
    nights.add_days(30, [1])
    printed = called("run", "--replace", *where).stdout
    before, after = (sum(nights.totals(run).values()) for run in (1, 2))
    [line] = re.findall(r"^24-month total +(.*)$", printed, re.MULTILINE)
    assert line == f"{after / 1e6:.3g} M, {(after - before) / before * 100:+.1f} % against the run before"
    assert "24-month total" not in called("run", "--replace", "--dry-run", *where).stdout
    assert len(called("run", "--replace", "-q", *where).stdout.splitlines()) == 1
    sql.run(nights.dsn, f"DROP TABLE {RUNS}")
    assert "total" not in called("run", "--replace", *where).stdout


def test_the_rows_of_one_track_are_found_by_the_key(nights: Nights) -> None:
    sql.run(
        nights.dsn,
        f"""INSERT INTO {RUNS} (log_id, started_at, program, model, horizon, outcome, host)
            SELECT 'x', now() + n * interval '1 day', 'x', 'x', 24, 'done', 'x'
            FROM generate_series(1, 60) n""",
    )
    sql.run(
        nights.dsn,
        f"""INSERT INTO {HISTORY} (run_id, cm_track_id, reason)
            SELECT r.id, track, 'x' FROM {RUNS} r, generate_series(100, 1000) track""",
    )
    sql.run(nights.dsn, f"ANALYZE {HISTORY}")
    sql.run(nights.dsn, f"ANALYZE {RUNS}")
    with open_ledger(nights.dsn, "public") as ledger:
        assert len(ledger.track(500)) == 61
        statement = named(_OF_TRACK, ledger.tables).replace("$1", "500")
    plan = "\n".join(line for (line,) in sql.rows(nights.dsn, f"EXPLAIN {statement}"))
    assert f"Seq Scan on {HISTORY}" not in plan
    assert "Index Cond: ((run_id = r.id) AND (cm_track_id = 500))" in plan
