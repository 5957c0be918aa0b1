"""A month of nights: days come in, tracks are added, a feed stops, a day is restated, a run is killed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from forecaster.postgres.dsn import Dsn
from forecaster.tables import HISTORY
from tests import sql
from tests.conftest import Cli, ServerNamed, new_database
from tests.faults import APART, in_chunks_of, started, until
from tests.forecasts import stored
from tests.stale import (
    FORECASTS,
    NEW_MLDR,
    RESTATED_DAY,
    RUNS,
    STREAMS,
    add_tracks,
    change,
    fill,
    recomputed,
    refreshed,
)

FIRST = date(2026, 3, 1)
NIGHTS = 36
"""A little more than a month, so that the first month of the first forecasts is over."""
SAID = "run_id, cm_track_id, as_of, months"
NEW_TRACK, STOPPED, QUIET, NEW_RATE, KILLED, WITHOUT_RATE = 4, 8, 12, 16, 20, 24
"""Nights on which something happens: a track comes, a feed stops, only a restated day comes as the feeds are
late, and so on."""


def new_days(dsn: Dsn, night: int, *, but: tuple[int, ...]) -> list[int]:
    """Every track gets the days until this night, but for some; returns which got any."""
    day = FIRST + timedelta(days=night)
    sql.run(
        dsn,
        f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date, daily_streams, days_from_release) "
        f"SELECT cm_track_id, cm_artist_id, d::date, 900 + cm_track_id * 10 + extract(day FROM d)::int % 7, "
        f"days_from_release + (d::date - date) "
        f"FROM {STREAMS} s, generate_series(date + 1, '{day}', '1 day') d "
        f"WHERE date = (SELECT max(date) FROM {STREAMS} l WHERE l.cm_track_id = s.cm_track_id) "
        f"AND NOT cm_track_id = ANY ('{{{','.join(map(str, but))}}}')",
    )
    return [track for (track,) in sql.rows(dsn, f"SELECT cm_track_id FROM {STREAMS} WHERE date = '{day}'")]


def last_run(dsn: Dsn) -> tuple[Any, ...]:
    columns = "id, outcome, tracks, skipped"
    [row] = sql.rows(dsn, f"SELECT {columns} FROM {RUNS} ORDER BY id DESC LIMIT 1")
    return row


@contextmanager
def slow_writes(dsn: Dsn) -> Iterator[None]:
    """Each row of the history takes a while, so that a run can be killed between two batches."""
    sql.run(
        dsn,
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END $$",
    )
    sql.run(dsn, f"CREATE TRIGGER slow BEFORE INSERT ON {HISTORY.name} FOR EACH ROW EXECUTE FUNCTION slow()")
    yield
    sql.run(dsn, f"DROP TRIGGER slow ON {HISTORY.name}")


def killed_half_way(dsn: Dsn) -> list[int]:
    """Start a run and kill it once some of its tracks are stored; return these."""
    [(before,)] = sql.rows(dsn, f"SELECT max(created_at) FROM {FORECASTS}")
    ours = (
        f"SELECT DISTINCT cm_track_id FROM {FORECASTS} WHERE created_at > '{before.isoformat()}' ORDER BY 1"
    )
    with slow_writes(dsn), started(dsn, "--refresh", "-q", before=in_chunks_of(2)) as process:
        until(lambda: sql.rows(dsn, ours), process)
        process.kill()
        process.wait()
        until(lambda: sql.rows(dsn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)])
    return [track for (track,) in sql.rows(dsn, ours)]


class Month:
    """The nights, one after the other; each is checked as it passes."""

    def __init__(self, dsn: Dsn) -> None:
        self.dsn = dsn
        self.silent: tuple[int, ...] = ()
        fill(dsn, 10)
        touched, _ = refreshed(dsn)
        assert touched == [*range(1, 11)]

    def pass_by(self) -> None:
        for night in range(1, NIGHTS + 1):
            expected = self.happens(night)
            touched, report = refreshed(self.dsn)
            assert touched == expected, f"night {night}"
            assert_frame_equal(stored(self.dsn), recomputed(self.dsn))
            assert sql.rows(self.dsn, APART) == []
            skipped = '{"no_mldr": 1}' if night >= WITHOUT_RATE else "{}"
            assert last_run(self.dsn) == (report.run, "done", len(expected), skipped)
            assert sum((report.stale or {}).values()) >= len(expected) - 1

    def happens(self, night: int) -> list[int]:
        """Change the tables before a night; return the tracks that its run has to forecast."""
        dsn, more = self.dsn, []
        if night == NEW_TRACK:
            add_tracks(dsn, 11, 11)
            more = [11]
        elif night == STOPPED:
            self.silent = (3,)
        elif night == QUIET:
            change(dsn, RESTATED_DAY, 5)
            return [5]
        elif night == NEW_RATE:
            change(dsn, NEW_MLDR, 3)
            more = [3]
        elif night == WITHOUT_RATE:
            add_tracks(dsn, 13, 13, rated_from=14)
        days = new_days(dsn, night, but=(*self.silent, *(more if night == NEW_TRACK else [])))
        if night == KILLED:
            half = killed_half_way(dsn)
            assert 0 < len(half) < len(days)
            assert sql.rows(dsn, APART) == []
            assert last_run(dsn)[1] == "running"
            return sorted({*days} - {*half})
        return sorted({*days, *more} - {13})


@pytest.fixture(scope="module")
def month(server_named: ServerNamed) -> Iterator[Dsn]:
    with new_database(server_named("embedded")) as dsn:
        Month(dsn).pass_by()
        yield dsn


def test_the_killed_run_is_the_only_one_that_did_not_end(month: Dsn) -> None:
    outcomes = sql.rows(month, f"SELECT outcome, count(*) FROM {RUNS} GROUP BY 1 ORDER BY 1")
    assert outcomes == [("done", NIGHTS + 1), ("killed", 1)]


def printed(called: Cli, dsn: Dsn, *arguments: str) -> Any:
    result = called(*arguments, "--json", env={"DATABASE_URL": dsn.uri})
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def naive_months(dsn: Dsn) -> list[tuple[int, int, float, float]]:
    """Each recorded month that is over: run, track, forecast, actual streams."""
    rows = sql.rows(dsn, f"SELECT cm_track_id, date, daily_streams FROM {STREAMS}")
    days = {(track, day): float(streams) for track, day, streams in rows}
    found = []
    for run, track, as_of, months in sql.rows(
        dsn, f"SELECT {SAID} FROM {HISTORY.name} WHERE months <> '{{}}'"
    ):
        for number, forecast in enumerate(months):
            month = [as_of + timedelta(days=30 * number + day) for day in range(1, 31)]
            if all((track, day) in days for day in month):
                found.append((run, track, forecast, sum(days[track, day] for day in month)))
    return found


def wape(months: list[tuple[int, int, float, float]]) -> float:
    errors = sum(abs(forecast - actual) for *_, forecast, actual in months)
    return errors / sum(actual for *_, actual in months)


def test_evaluate_scores_each_forecast_whose_month_is_over(month: Dsn, called: Cli) -> None:
    scores = printed(called, month, "evaluate")
    months = naive_months(month)
    assert len({run for run, *_ in months}) == 7  # those of the first nights
    assert scores["windows_scored"] == len(months)
    [ours] = [row for row in scores["overall"] if row["model"] == "forecaster"]
    assert ours["wape"] == pytest.approx(wape(months))
    by_run = {row["run"]: row for row in scores["by_run"]}
    assert {run for run, row in by_run.items() if row["windows"]} == {run for run, *_ in months}
    for run in {run for run, *_ in months}:
        of_run = [row for row in months if row[0] == run]
        assert (by_run[run]["windows"], by_run[run]["wape"]) == (len(of_run), pytest.approx(wape(of_run)))


def test_history_lists_each_night(month: Dsn, called: Cli) -> None:
    runs = printed(called, month, "history", "--last", "100")["runs"]
    assert [run["id"] for run in runs] == [*range(NIGHTS + 2, 0, -1)]
    for run in runs:
        rows = f"SELECT count(*) FROM {HISTORY.name} WHERE run_id = {run['id']} AND months IS NOT NULL"
        if run["outcome"] == "done":
            assert sql.rows(month, rows) == [(run["tracks"],)]
    assert runs[0]["total"] == sql.rows(month, f"SELECT sum(forecasted_value)::float8 FROM {FORECASTS}")[0][0]
    of_track = printed(called, month, "history", "--track-id", "3", "--last", "100")
    # Each night until its feed stopped, and once more with the new rate.
    assert [run["run"] for run in of_track["runs"]] == [NEW_RATE + 1, *range(STOPPED, 0, -1)]
    one = {run["run"]: run["months"][0] for run in of_track["runs"]}
    over = {run: (forecast, actual) for run, track, forecast, actual in naive_months(month) if track == 3}
    assert {run: (m["forecast"], m["actual"]) for run, m in one.items() if m["actual"] is not None} == over


def test_compare_tells_the_month_apart(month: Dsn, called: Cli) -> None:
    found = printed(called, month, "compare", "1", f"{NIGHTS + 2}")
    rows = sql.rows(month, f"SELECT run_id, cm_track_id, months FROM {HISTORY.name} WHERE months <> '{{}}'")
    newest = {track: sum(months) for _, track, months in sorted(rows)}
    first = {track: sum(months) for run, track, months in rows if run == 1}
    assert found["difference"] == sum(newest.values()) - sum(first.values())
    moved = {track: streams - first.get(track, 0) for track, streams in newest.items()}
    why = {
        name: (cause["tracks"], cause["streams"]) for name, cause in found["why"].items() if cause["tracks"]
    }
    both = (3, 4)  # of the artist whose rate changed
    assert why == {
        "new": (1, moved[11]),
        "streams_and_mldr": (2, sum(moved[track] for track in both)),
        "streams": (8, sum(moved[track] for track in moved if track not in (*both, 11))),
    }


def test_the_new_track_without_a_rate_is_looked_at_each_night(month: Dsn) -> None:
    skipped = f"SELECT count(*), min(reason) FROM {HISTORY.name} WHERE cm_track_id = 13"
    assert sql.rows(month, skipped) == [(NIGHTS + 1 - WITHOUT_RATE, "no_mldr")]
