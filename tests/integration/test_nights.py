"""A month of nights: days come in, tracks are added, a feed stops, a day is restated, a run is killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from forecaster.postgres.dsn import Dsn
from forecaster.tables import HISTORY
from tests import sql
from tests.conftest import ServerNamed, new_database
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
NEW_TRACK, STOPPED, QUIET, NEW_RATE, KILLED, WITHOUT_RATE = 4, 8, 12, 16, 20, 24
"""Nights on which something happens: a track comes, a feed stops, nothing but a restated day comes, ..."""


def new_days(dsn: Dsn, night: int, *, but: tuple[int, ...]) -> list[int]:
    """Every track that was there the day before gets a day, but for some; returns which."""
    day = FIRST + timedelta(days=night)
    sql.run(
        dsn,
        f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date, daily_streams, days_from_release) "
        f"SELECT cm_track_id, cm_artist_id, '{day}', 900 + cm_track_id * 10 + {night * 37 % 11}, "
        f"days_from_release + ('{day}' - date) FROM {STREAMS} s "
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
            assert report.stale == {} or sum(report.stale.values()) >= len(expected) - 1

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
