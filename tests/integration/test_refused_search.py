"""The search for refused tracks: what it costs, and what is left when it is cut off."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import adbc_driver_postgresql.dbapi as driver
import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.tables import HISTORY, RUNS
from tests import sql
from tests.faults import (
    FORECAST,
    LONG,
    as_observer,
    blocked,
    clear,
    end_of,
    in_chunks_of,
    sessions,
    started,
    terminate,
    until,
    whole_tracks,
)
from tests.refusals import catalogue, require_known

LOG = logging.getLogger(__name__)  # the figures of the long forms: --log-cli-level=INFO
CATALOGUE = 8_459
TRANSACTIONS = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
"""Each attempt at a range is a transaction of its own."""


def evenly(bad: int, tracks: int) -> list[int]:
    return [1 + number * tracks // bad for number in range(bad)]


@pytest.mark.parametrize(
    ("tracks", "bad"),
    [
        (200, 1),
        (200, 3),
        (200, 50),
        *(pytest.param(CATALOGUE, n, marks=LONG) for n in (1, 3, 500, CATALOGUE)),
    ],
)
def test_it_grows_with_the_number_of_refused_tracks(embedded_database: Dsn, tracks: int, bad: int) -> None:
    dsn = embedded_database
    catalogue(dsn, tracks)
    refused = evenly(bad, tracks)
    require_known(dsn, unknown=refused)
    for replace in (False, True):
        [(before,)] = sql.rows(dsn, TRANSACTIONS)
        start = time.monotonic()
        report = run(Database(dsn), RunConfig(replace=replace))
        seconds = time.monotonic() - start
        [(after,)] = sql.rows(dsn, TRANSACTIONS)
        LOG.info("%d of %d, replace %s: %.1f s, %d attempts", bad, tracks, replace, seconds, after - before)
        assert [*report.refused] == refused
        assert (report.results, report.taken) == (tracks - bad, [])
        assert whole_tracks(dsn) == tracks - bad
        assert after - before <= 40 + bad * (2 * math.log2(tracks) + 2)
    sql.run(dsn, "TRUNCATE known CASCADE")


@pytest.mark.parametrize("bad", [1, 50])
def test_it_is_one_statement(embedded_database: Dsn, bad: int) -> None:
    catalogue(embedded_database, 200)
    require_known(embedded_database, unknown=evenly(bad, 200))
    statements = sql.statements_of(embedded_database, lambda: run(Database(embedded_database)))
    assert len([s for s in statements if s.startswith("DO ")]) == 1
    assert len([s for s in statements if FORECAST in s]) <= 8


def test_no_attempt_is_compiled(database: Dsn) -> None:
    """By default a server compiles plans of this cost, for longer than they take."""
    catalogue(database, 20)
    for setting in ("jit = on", "jit_above_cost = 0"):
        sql.run(database, f"ALTER DATABASE {database.dbname} SET {setting}")
    sql.run(database, "CREATE TABLE seen (track bigint, jit text)")
    sql.run(
        database,
        "CREATE FUNCTION sees() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO seen VALUES (NEW.cm_track_id, current_setting('jit')); RETURN NEW; END $$",
    )
    sql.run(database, f"CREATE TRIGGER sees BEFORE INSERT ON {FORECAST} FOR EACH ROW EXECUTE FUNCTION sees()")
    sql.run(database, f"ALTER TABLE {FORECAST} ADD CHECK (cm_track_id <> 5)")
    assert [*run(Database(database)).refused] == [5]
    assert sql.rows(database, "SELECT DISTINCT jit FROM seen") == [("off",)]
    assert sql.rows(database, "SHOW jit") == [("on",)]  # until the search is over


@contextmanager
def stopped_at(dsn: Dsn, track: int) -> Iterator[None]:
    """Whoever stores this track waits meanwhile."""
    sql.run(
        dsn,
        "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.cm_track_id = {track} THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; "
        "RETURN NEW; END $$",
    )
    sql.run(dsn, f"CREATE TRIGGER waits BEFORE INSERT ON {FORECAST} FOR EACH ROW EXECUTE FUNCTION waits()")
    with driver.connect(as_observer(dsn).uri) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(1)")
        yield
        connection.rollback()


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("how", ["the session is ended", "the program is killed"])
def test_cut_off_in_the_middle(embedded_database: Dsn, how: str, *, replace: bool) -> None:
    """Tracks 5 and 33 are refused; in the second batch, the search has come to track 35."""
    dsn = embedded_database
    catalogue(dsn, 40)
    if replace:
        run(Database(dsn))
        sql.run(dsn, f"UPDATE {FORECAST} SET forecasted_value = 7")
        sql.run(dsn, f"TRUNCATE {RUNS.name}, {HISTORY.name}")  # these forecasts have no history
    sql.run(dsn, f"ALTER TABLE {FORECAST} ADD CHECK (cm_track_id NOT IN (5, 33)) NOT VALID")
    options = ["--replace"] * replace
    with stopped_at(dsn, 35), started(dsn, *options, before=in_chunks_of(20)) as process:
        # The plain way fails at track 33, before it comes to this one.
        until(lambda: [s for s in blocked(dsn) if s.query.startswith("DO ")], process)
        if how == "the session is ended":
            [session] = blocked(dsn)
            terminate(dsn, session.pid)
            code, _, stderr = end_of(process)
            assert (code, "lost while writing" in stderr) == (1, True)
        else:
            process.kill()
            process.wait()
        until(lambda: not blocked(dsn))
    # The first batch is stored, the second is not.
    old = f"SELECT count(*) FROM {FORECAST} WHERE forecasted_value = 7"
    assert whole_tracks(dsn) == (40 if replace else 19)
    assert sql.rows(dsn, old) == [(24 * 21 if replace else 0,)]

    report = run(Database(dsn), RunConfig(wait=60, replace=replace))

    assert [*report.refused] == [5, 33]
    assert whole_tracks(dsn) == (40 if replace else 38)
    assert sql.rows(dsn, old) == [(24 * 2 if replace else 0,)]


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=LONG)])
def test_killed_at_moments_over_the_whole_run(embedded_database: Dsn, kills: int) -> None:
    dsn = embedded_database
    catalogue(dsn, 200)
    require_known(dsn, unknown=evenly(20, 200))
    for kill in range(kills):
        clear(dsn)
        with started(dsn, before=in_chunks_of(50)) as process:
            until(lambda: sessions(dsn), process)
            time.sleep(1.5 * kill / kills)
            process.kill()
            process.wait()
        assert whole_tracks(dsn) % 45 == 0
        report = run(Database(dsn), RunConfig(wait=60))
        assert [*report.refused] == evenly(20, 200)
        assert whole_tracks(dsn) == 180
