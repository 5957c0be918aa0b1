"""`run --limit`: tracks that were looked at and skipped do not keep others from their turn."""

from dataclasses import replace

import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.init import initialise
from tests import sql, stale
from tests.stale import by_track, change, refreshed

TEN = RunConfig(limit=10)
FRONT = 10
"""Tracks at the front whose artists have no MLDR."""


@pytest.fixture
def hundred(embedded_database: Dsn) -> Dsn:
    initialise(embedded_database, "public")
    stale.add_tracks(embedded_database, 1, 100, rated_from=FRONT + 1)
    return embedded_database


def nights(dsn: Dsn, number: int) -> list[Report]:
    return [run(Database(dsn), TEN) for _ in range(number)]


def test_those_without_an_mldr_do_not_starve_the_others(hundred: Dsn) -> None:
    first, *others = nights(hundred, 10)
    assert first.skipped_by_reason == {"no_mldr": FRONT}
    assert [report.results for report in others] == [10] * 9
    assert [*by_track(hundred)] == [*range(FRONT + 1, 101)]

    sql.run(hundred, f"INSERT INTO {stale.RATES} (cm_artist_id, mldr) VALUES (3, 0.05)")

    assert nights(hundred, 1)[0].results == 2
    assert {5, 6} <= by_track(hundred).keys()


def test_those_looked_at_longest_ago_come_first(hundred: Dsn) -> None:
    """Each of them has its turn, so that one whose MLDR arrives is found."""
    sql.run(hundred, f"DELETE FROM {stale.RATES}")
    looked_at = [report.skipped["cm_track_id"].to_list() for report in nights(hundred, 11)]
    assert sorted(track for tracks in looked_at[:10] for track in tracks) == [*range(1, 101)]
    assert looked_at[10] == looked_at[0]
    stale.add_tracks(hundred, 200, 203, rated_from=200)
    [report] = nights(hundred, 1)
    assert report.results == 4
    assert report.skipped["cm_track_id"].to_list() == looked_at[1][:6]


def test_stale_ones_take_turns_as_well(embedded_database: Dsn) -> None:
    stale.fill(embedded_database)
    run(Database(embedded_database))
    change(embedded_database, stale.NEW_DAY, *range(1, 8))
    two = replace(stale.REFRESH, limit=2)
    turns = [refreshed(embedded_database, two) for _ in range(5)]
    assert [found for found, _ in turns] == [[1, 2], [3, 4], [5, 6], [7], []]
    assert [report.stale and report.stale["tracks"] for _, report in turns] == [7, 5, 3, 1, 0]


def test_without_a_history_the_ids_decide(hundred: Dsn) -> None:
    stale.forget(hundred)
    assert [report.skipped_by_reason for report in nights(hundred, 2)] == [{"no_mldr": FRONT}] * 2


@pytest.mark.parametrize(("limit", "number"), [(None, 0), (FRONT, 0), (FRONT - 1, 1)])
def test_one_statement_more_if_the_limit_leaves_out_some(
    hundred: Dsn, limit: int | None, number: int
) -> None:
    run(Database(hundred))
    said = sql.statements_of(hundred, lambda: run(Database(hundred), RunConfig(limit=limit)))
    assert len([s for s in said if "AS look" in s]) == number


def test_refused_ones_do_not_starve_the_others(embedded_database: Dsn) -> None:
    """By the server (1 and 2), or because the column cannot hold what was computed (3)."""
    initialise(embedded_database, "public")
    stale.add_tracks(embedded_database, 1, 9)
    sql.run(embedded_database, f"ALTER TABLE {stale.FORECASTS} ADD CHECK (cm_track_id > 2)")
    sql.run(embedded_database, f"UPDATE {stale.STREAMS} SET daily_streams = 1e18 WHERE cm_track_id = 3")
    three = RunConfig(limit=3)
    reports = [run(Database(embedded_database), three) for _ in range(4)]
    assert [[*report.refused] for report in reports] == [[3, 1, 2], [], [], [3, 1, 2]]
    assert [report.results for report in reports] == [0, 3, 3, 0]
    reasons = f"SELECT DISTINCT cm_track_id, reason FROM {stale.HISTORY} WHERE months IS NULL ORDER BY 1"
    assert sql.rows(embedded_database, reasons) == [(1, "refused"), (2, "refused"), (3, "refused")]
