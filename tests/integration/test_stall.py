"""The network swallows all that is said: a command ends after its limit, and leaves nothing half done."""

import json
import re
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
import psutil
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import DatabaseError, DatabaseUnreachableError, InvalidOptionError
from forecaster.postgres import stall
from forecaster.postgres.catalogue import Source, export_snapshot
from forecaster.postgres.connection import _at_work, commit, connect, execute, query
from forecaster.postgres.dsn import Dsn, resolve
from forecaster.postgres.embedded import running_server
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.conftest import SETTINGS, short_directory
from tests.faults import (
    FORECAST,
    STREAMS,
    Ended,
    as_observer,
    blocked,
    end_of,
    fill,
    in_chunks_of,
    locked,
    sessions,
    started,
    until,
    whole_tracks,
)
from tests.forecasts import stored
from tests.logs import unmarked
from tests.proxy import Proxy
from tests.tables import create_tables, golden_mldr, golden_streams, initialise

LIMIT = "1"
LISTENERS = Path(__file__).parents[1] / "golden" / "artist_listeners.parquet"
CHUNK = 100  # tracks: three transactions in a run
SILENT = "no longer responds: nothing was received for 1 s"
WHOLE = "  start again: each track has all its months or none, and the next run completes the rest\n"

# What a run says, one after the other, before it is in a stage.
STAGES = {
    "the contract": [b"attnotnull"],
    "the lock": [b"pg_try_advisory_lock"],
    "the first read": [b"WITH RECURSIVE track"],
    "a chunk": [b"recent.*"],
    "a later chunk": [b"recent.*"] * 5,
    "a write": [b"FROM STDIN"],
    "a later write": [b"FROM STDIN", b"FROM STDIN"],
    "a commit": [b"FROM STDIN", b"GROUP BY 1", b"COMMIT"],
}
WRITES = ("a write", "a later write", "a commit")


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def ended_by_the_limit(proxy: Proxy, *arguments: str, command: str = "run") -> Ended:
    limit = {"FORECASTER_STALL_TIMEOUT": LIMIT}
    with started(proxy.dsn, *arguments, before=in_chunks_of(CHUNK), command=command, env=limit) as process:
        ended = end_of(process)
    assert proxy.stalled.is_set(), ended
    assert ended.code == 3, ended
    assert SILENT in ended.stderr + ended.stdout, ended  # by the doctor as a finding
    assert "Traceback" not in ended.stderr
    return ended


def assert_reported(ended: Ended, report: Path) -> None:
    assert f"Error: {json.loads(report.read_text())['error']}\n" in ended.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_on_one_connection(embedded_database: Dsn, report: Path, stage: str) -> None:
    """Over another one the server is told to end the sessions, so that the lock is free."""
    dsn = embedded_database
    expected = fill(dsn)
    with Proxy(dsn, *STAGES[stage]) as proxy:
        ended = ended_by_the_limit(proxy, "--report", str(report))
        assert_reported(ended, report)
        assert re.search(r"sessions of this process ended on the server: [1-9]", ended.stderr)
        assert ended.stderr.endswith(WHOLE) == (stage in WRITES)
        whole_tracks(dsn)
        until(lambda: not sessions(dsn))
        run(Database(dsn))
    assert_frame_equal(stored(dsn), expected)


@pytest.mark.parametrize("stage", ["the lock", "a later chunk", "a commit"])
def test_on_all_connections(embedded_database: Dsn, report: Path, stage: str) -> None:
    """New ones are not answered either. The server has yet to find out: here by the end of the proxy."""
    dsn = embedded_database
    expected = fill(dsn)
    with Proxy(dsn, *STAGES[stage], everywhere=True) as proxy:
        ended = ended_by_the_limit(proxy, "--report", str(report))
    assert_reported(ended, report)
    assert "it does not answer new connections" in ended.stderr
    whole_tracks(dsn)
    run(Database(dsn), RunConfig(wait=60))
    assert_frame_equal(stored(dsn), expected)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["the first read", "a commit"])
def test_a_signal_meanwhile(embedded_database: Dsn, report: Path, stage: str, signum: signal.Signals) -> None:
    """The report is written: the process has not to be ended by force."""
    dsn = embedded_database
    expected = fill(dsn)
    arguments = ("--report", str(report))
    with (
        Proxy(dsn, *STAGES[stage], everywhere=True) as proxy,
        started(proxy.dsn, *arguments, before=in_chunks_of(CHUNK)) as process,
    ):
        until(proxy.stalled.is_set, process)
        process.send_signal(signum)
        ended = end_of(process)
    assert ended.code == 128 + signum, ended
    assert unmarked(ended.stderr).endswith(f"Interrupted by {signum.name}: nothing is half done\n")
    assert json.loads(report.read_text())["error"] == f"interrupted by {signum.name}"
    whole_tracks(dsn)
    run(Database(dsn), RunConfig(wait=60))
    assert_frame_equal(stored(dsn), expected)


def test_a_server_that_is_stopped(report: Path) -> None:
    """All of it. Its machine takes connections, and none of them is answered."""
    with short_directory() as directory, running_server(directory, settings=SETTINGS) as dsn:
        create_tables(dsn)
        load(dsn, "public", streams=golden_streams(), mldr=golden_mldr())
        server = psutil.Process(int(Path(dsn.host, "postmaster.pid").read_text().split()[0]))
        with locked(dsn, STREAMS), started(dsn, "--stall-timeout", "1", "--report", str(report)) as process:
            until(lambda: blocked(dsn), process)
            stopped = [server, *server.children()]
            try:
                for each in stopped:
                    each.suspend()
                ended = end_of(process)
            finally:
                for each in stopped:
                    each.resume()
    assert ended.code == 3, ended
    assert f"{SILENT}, and it does not answer new connections" in ended.stderr
    assert_reported(ended, report)


@pytest.mark.parametrize("answer", [b"", b"S"])
def test_an_encryption_that_is_never_agreed_on(answer: bytes) -> None:
    """Whatever listens there lets in, says at most that it encrypts, and then nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        accepted = []

        def answers() -> None:
            accepted.append(silent.accept()[0])
            accepted[0].sendall(answer)

        threading.Thread(target=answers, daemon=True).start()
        dsn = Dsn("127.0.0.1", "db", "me", port=port, parameters=(("sslmode", "require"),))
        with pytest.raises(DatabaseUnreachableError, match="cannot connect"), connect(dsn):
            pass
        accepted[0].close()


def test_while_it_waits_for_another_run(embedded_database: Dsn, report: Path) -> None:
    dsn = embedded_database
    fill(dsn)
    with connect(dsn) as other, Proxy(dsn, *[b"pg_try_advisory_lock"] * 3) as proxy:
        take_lock(other, read_tables(other, "public"))
        ended = ended_by_the_limit(proxy, "--wait", "600", "--report", str(report))
    assert_reported(ended, report)


def test_in_each_of_the_other_commands(embedded_database: Dsn, tmp_path: Path) -> None:
    dsn = embedded_database
    fill(dsn)
    out = str(tmp_path / "out")
    commands = {
        ("load", "--listeners", str(LISTENERS)): b"FROM STDIN",
        ("doctor",): b"recent.*",
        ("prepare", "--buckets", "2", "--out", out): b"s.cm_track_id = ANY",
        ("plot", "--track-id", "1"): b"DISTINCT ON",
    }
    for (command, *arguments), last in commands.items():
        with Proxy(dsn, last) as proxy:
            ended_by_the_limit(proxy, *arguments, command=command)
    until(lambda: not sessions(dsn))
    assert sql.rows(dsn, "SELECT count(*) FROM backtest_artist_daily_training_data") == [(0,)]
    load(dsn, "public", listeners=pl.read_parquet(LISTENERS))
    for last in (b"monthly_listeners", b"FROM STDIN"):
        report = tmp_path / "report.json"
        with Proxy(dsn, last) as proxy:
            ended = ended_by_the_limit(proxy, "--report", str(report), "--replace", command="mldr")
        assert_reported(ended, report)


def test_a_load_that_loses_its_commit(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    with Proxy(embedded_database, b"FROM STDIN", b"COMMIT") as proxy, ThreadPoolExecutor(1) as threads:
        loading = threads.submit(load, proxy.dsn, "public", mldr=golden_mldr())
        until(proxy.stalled.is_set)
        proxy.cut()
        with pytest.raises(DatabaseError, match="lost while writing") as caught:
            loading.result()
    assert caught.value.hint == "check the table before you load again: it has all rows or none"


def test_of_a_worker(embedded_database: Dsn, report: Path) -> None:
    """Dask's: it has the limit, and the run ends with what it says."""
    pytest.importorskip("distributed")
    dsn = embedded_database
    initialise(dsn)
    load(dsn, "public", streams=golden_streams(), mldr=golden_mldr())
    with Proxy(dsn, b"JOIN found") as proxy:  # the check of what was written, whichever way
        ended = ended_by_the_limit(proxy, "--engine", "dask", "--report", str(report))
        assert_reported(ended, report)
        assert ended.stderr.endswith(WHOLE)
        until(lambda: not sessions(dsn))
        run(Database(dsn))
    assert whole_tracks(dsn) == 247


@contextmanager
def opened(dsn: Dsn) -> Iterator[Source]:
    with connect(dsn, repeatable_read=True) as reader:
        yield Source(dsn, read_tables(reader, "public"), export_snapshot(reader))


class TestASlowServerIsNotGivenUp:
    """For longer than the limit nothing comes from it, because it is at work."""

    @pytest.mark.parametrize("by", ["a socket", "the network"])
    def test_on_a_statement(self, embedded_database: Dsn, by: str) -> None:
        with Proxy(embedded_database) as proxy:
            dsn = replace(embedded_database if by == "a socket" else proxy.dsn, stall_timeout=1)
            with connect(dsn) as connection, opened(dsn) as source:
                execute(connection, "SELECT pg_sleep(2.5)")
                assert source.read("SELECT 1::bigint AS one FROM pg_sleep(2.5)").rows() == [(1,)]
                execute(
                    connection,
                    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                    "'BEGIN PERFORM pg_sleep(2.5); RETURN NULL; END'",
                )
                execute(connection, "CREATE TABLE deferred (n int)")
                execute(
                    connection,
                    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON deferred "
                    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()",
                )
                execute(connection, "INSERT INTO deferred VALUES (1)")
                commit(connection)

    def test_on_what_it_computes(self, embedded_database: Dsn) -> None:
        """It waits for nothing then."""
        dsn = embedded_database
        compute = "DO $$ BEGIN WHILE NOT pg_try_advisory_xact_lock(7) LOOP END LOOP; END $$"
        is_active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'DO %'"
        with ThreadPoolExecutor(1) as thread, connect(dsn) as connection:
            with connect(as_observer(dsn)) as gate:
                query(gate, "SELECT pg_advisory_xact_lock(7)::text")
                going = thread.submit(execute, connection, compute)
                until(lambda: sql.rows(as_observer(dsn), is_active) == [(1,)])
                assert _at_work(dsn)
            going.result()

    @pytest.mark.parametrize("counters_at", [stall._COUNTERS_AT, 10_000])
    def test_on_what_is_slow_to_come(
        self, embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch, counters_at: int
    ) -> None:
        """What counts is the last byte, or, where the system does not count them, that it sends."""
        monkeypatch.setattr(stall, "_COUNTERS_AT", counters_at)
        with Proxy(embedded_database) as proxy:
            dsn = replace(proxy.dsn, stall_timeout=1)
            with connect(dsn) as connection:
                assert bool(stall.bytes_passed(dsn)) == (counters_at < 10_000)
                proxy.pause = 0.2
                rows = query(connection, "SELECT repeat('x', 1000) AS x FROM generate_series(1, 2000)")
        assert len(rows) == 2000

    @pytest.mark.parametrize(("table", "mode"), [(STREAMS, "ACCESS EXCLUSIVE"), (FORECAST, "SHARE")])
    def test_on_waiting_for_a_lock(self, embedded_database: Dsn, table: str, mode: str) -> None:
        dsn = embedded_database
        expected = fill(dsn)
        asked = re.compile(r"forecaster: asks")
        with Proxy(dsn) as proxy, started(proxy.dsn, "--stall-timeout", LIMIT) as process:
            with locked(dsn, table, mode):
                until(lambda: blocked(dsn), process)
                # It was asked, and found at work, twice at least.
                for _ in range(2):
                    until(lambda: any(asked.fullmatch(one.name) for one in sessions(dsn)), process)
                    until(lambda: not any(asked.fullmatch(one.name) for one in sessions(dsn)), process)
                assert blocked(dsn)
            assert end_of(process).code == 0
        assert_frame_equal(stored(dsn), expected)


def test_connections_are_found_where_a_process_does_not_see_its_files(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(embedded_database) as proxy, connect(proxy.dsn):
        seen = stall.bytes_passed(proxy.dsn)
        monkeypatch.setattr(stall, "_OPEN_FILES", "/nonexistent")
        assert stall.bytes_passed(proxy.dsn) == seen > 0


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_limit_that_cannot_be_used(wrong: float) -> None:
    with pytest.raises(InvalidOptionError, match="stall_timeout is"):
        Dsn("host", "db", "me", stall_timeout=wrong)


class TestSignsOfLife:
    """Both drivers have the system look for them, and so has the server on the connection with the lock."""

    OPTIONS = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("", (1, 30, 10, 3, 60_000)),
            (
                "&keepalives_idle=7&keepalives_interval=6&keepalives_count=5&tcp_user_timeout=4000",
                (1, 7, 6, 5, 4000),
            ),
            ("&keepalives=0", (0,)),
        ],
    )
    def test_of_each_driver(self, embedded_database: Dsn, given: str, expected: tuple[int, ...]) -> None:
        with Proxy(embedded_database) as proxy:
            dsn = resolve(proxy.dsn.uri + given, {})
            assert dsn
            with opened(dsn) as source:
                assert self.seen(dsn) == [expected]
                with ThreadPoolExecutor(1) as threads:
                    reading = threads.submit(source.read, "SELECT 1::bigint AS one FROM pg_sleep(1)")
                    # A socket is seen before the driver has set its options.
                    until(lambda: self.seen(dsn) == [expected, expected])
                    reading.result()

    def seen(self, dsn: Dsn) -> list[tuple[int, ...]]:
        found = []
        for one in stall._sockets(dsn):
            alive = one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = [one.getsockopt(socket.IPPROTO_TCP, name) for name in self.OPTIONS]
            found.append((alive, *(options if alive else ())))
        return found

    def test_of_the_server(self, embedded_database: Dsn) -> None:
        initialise(embedded_database)
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
        with connect(embedded_database) as connection:
            take_lock(connection, read_tables(connection, "public"))
            source = "SELECT source FROM pg_settings WHERE name = ANY ($1::text::text[])"
            assert (
                query(connection, source, (f"{{{','.join(names)}}}",))["source"].to_list() == ["session"] * 4
            )

    @pytest.mark.parametrize(
        "wrong",
        [
            "keepalives=2",
            "keepalives_idle=0",
            "keepalives_count=128",
            "tcp_user_timeout=-1",
            "keepalives_idle=x",
        ],
    )
    def test_what_cannot_be_used(self, wrong: str) -> None:
        name, _, value = wrong.partition("=")
        with pytest.raises(InvalidOptionError, match=f"{name} is '{value}': expected a whole number from"):
            resolve(f"postgresql://me@host/db?{wrong}", {})
