"""A run reads on connections that it keeps: few of them, with few turns and bytes, in each thread."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest

from forecaster.errors import ConnectionLostError, DatabaseError
from forecaster.postgres.catalogue import Source, export_snapshot
from forecaster.postgres.connection import Connection, connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.readers import CONNECTIONS, Readers
from forecaster.postgres.tables import Tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from tests import sql
from tests.faults import as_observer, sessions, terminate, until
from tests.proxy import Proxy
from tests.tables import golden_streams, load_golden

DRIVERS_OWN = 1  # on which ADBC looks the types up
WRITER = 1
PROCESS = "SELECT pg_backend_pid() AS pid, pg_sleep(0.1)::text AS slept"


@contextmanager
def reading(dsn: Dsn) -> Iterator[Readers]:
    """On others than the connection that exported the snapshot."""
    with (
        connect(dsn, repeatable_read=True) as exporter,
        Readers(dsn, export_snapshot(exporter), like=exporter) as readers,
    ):
        yield readers


@pytest.fixture
def golden(embedded_database: Dsn) -> Dsn:
    load_golden(embedded_database)
    return embedded_database


def test_connections_of_a_run(golden: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many for ten batches as for one, and one turn per read; each number of a track takes four bytes."""
    turns, received = [], []
    for batch in (25, 250):
        monkeypatch.setattr("forecaster.postgres.tracks.BATCH", batch)
        with Proxy(golden) as proxy:
            report = run(Database(proxy.dsn), RunConfig(dry_run=True))
        assert report.results == 247
        assert len(proxy.here) == DRIVERS_OWN + CONNECTIONS
        turns.append(len(proxy.turns))
        received.append(proxy.received)
    assert turns[0] - turns[1] == 9 * CONNECTIONS  # of nine more batches, each read in two parts
    numbers = golden_streams().group_by("cm_track_id").len()["len"].clip(upper_bound=365).sum()
    assert 4 * numbers < received[1] < 8 * numbers


def test_one_that_stores_has_one_more(golden: Dsn) -> None:
    with Proxy(golden) as proxy:
        assert run(Database(proxy.dsn)).results == 247
    assert len(proxy.here) == DRIVERS_OWN + CONNECTIONS + WRITER


def test_threads_share_them(embedded_database: Dsn) -> None:
    """More threads than connections wait for each other; the one that exported the snapshot reads, too."""
    with connect(embedded_database, repeatable_read=True) as exporter:
        own = query(exporter, PROCESS)["pid"].item()
        with (
            Readers(embedded_database, export_snapshot(exporter), exporter) as readers,
            ThreadPoolExecutor(6) as threads,
        ):
            readers.open_ahead()
            pids = [frame["pid"].item() for frame in threads.map(readers.read, [PROCESS] * 12)]
        assert len(set(pids)) == CONNECTIONS
        assert own in pids
        until(lambda: [session.pid for session in sessions(embedded_database)] == [own])


def test_what_is_read_is_the_snapshot(embedded_database: Dsn) -> None:
    sql.run(embedded_database, "CREATE TABLE things AS SELECT 1::bigint AS thing")
    with connect(embedded_database, repeatable_read=True) as exporter:
        source = Source(embedded_database, Tables("public", {}, ()), export_snapshot(exporter))
        with source.connected(exporter) as source:
            sql.run(embedded_database, "INSERT INTO things VALUES (2)")
            both = source.read(["SELECT thing FROM things", "SELECT thing FROM things"])
            assert both["thing"].to_list() == [1, 1]


def test_after_an_error_another_one_is_opened(embedded_database: Dsn) -> None:
    """The transaction of the failed statement is of no more use, the snapshot is."""
    with reading(embedded_database) as readers:
        for _ in range(2 * CONNECTIONS):
            with pytest.raises(DatabaseError, match=r"^reading from .* \(SQLSTATE 22012\)$"):
                readers.read("SELECT 1 / 0")
            assert readers.read("SELECT 1::bigint AS one").item() == 1


def test_no_read_waits_after_a_cancel(embedded_database: Dsn) -> None:
    """Of more reads than there are connections."""
    with (
        connect(embedded_database, repeatable_read=True) as exporter,
        ThreadPoolExecutor(5) as threads,
        Readers(embedded_database, export_snapshot(exporter), like=exporter) as readers,
    ):
        going = [threads.submit(readers.read, "SELECT pg_sleep(20)::text AS slept") for _ in range(5)]
        until(lambda: sum(one.waits_for == "Timeout PgSleep" for one in sessions(embedded_database)) == 2)
        readers.cancel()
        done, waiting = wait(going, timeout=10)
        readers.cut()  # what waits nevertheless
    assert not waiting
    assert all(isinstance(one.exception(), DatabaseError | ConnectionLostError) for one in done)


def test_a_spare_that_fails_is_closed(embedded_database: Dsn) -> None:
    with (
        connect(embedded_database, begun=False) as spare,
        Readers(embedded_database, "no snapshot", spare=lambda: spare) as readers,
    ):
        with pytest.raises(ConnectionLostError, match="the session that holds the snapshot is over"):
            readers.read(PROCESS)
        until(lambda: not sessions(embedded_database))


def test_one_that_is_opened_too_late_is_closed(embedded_database: Dsn) -> None:
    """The reads are cancelled meanwhile."""
    with (
        connect(embedded_database, repeatable_read=True) as exporter,
        connect(embedded_database, like=exporter, begun=False) as spare,
        Readers(embedded_database, export_snapshot(exporter)) as readers,
    ):

        def late() -> Connection:
            readers.cancel()
            return spare

        readers.spare = late
        with pytest.raises(ConnectionLostError, match="the reads were cancelled"):
            readers.read(PROCESS)
        until(lambda: len(sessions(embedded_database)) == 1)  # the one with the snapshot


def test_one_that_ends_while_idle(embedded_database: Dsn) -> None:
    with reading(embedded_database) as readers:
        terminate(embedded_database, readers.read(PROCESS)["pid"].item())
        with pytest.raises(ConnectionLostError, match=r"^reading from "):
            readers.read(PROCESS)


def test_timeouts_of_idle_transactions_are_lifted(embedded_database: Dsn) -> None:
    limits = "idle_in_transaction_session_timeout"
    sql.run(as_observer(embedded_database), f"ALTER DATABASE {embedded_database.dbname} SET {limits} = '1s'")
    with reading(embedded_database) as readers:
        readers.read("SELECT 1 AS one")
        sql.run(as_observer(embedded_database), "SELECT pg_sleep(1.5)")
        assert readers.read("SELECT 1::bigint AS one").item() == 1


def test_what_is_cancelled_says_why(embedded_database: Dsn) -> None:
    """Not that it was cancelled: it may be the first whose error is seen."""
    with reading(embedded_database) as readers, ThreadPoolExecutor(2) as threads:
        slow = threads.submit(readers.read, "SELECT pg_sleep(60)::text AS slept")
        until(lambda: [s for s in sessions(embedded_database) if s.waits_for == "Timeout PgSleep"])
        with pytest.raises(DatabaseError, match="division by zero"):
            readers.read("SELECT 1 / 0 AS nothing")
        readers.cancel()
        with pytest.raises(DatabaseError, match="division by zero"):
            slow.result()
        with pytest.raises(DatabaseError, match="division by zero"):
            readers.read("SELECT 1 AS one")
