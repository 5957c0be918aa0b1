"""Runs that start at once: one works, and the others say who does or wait for it."""

import re
import socket
import subprocess
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from types import SimpleNamespace

import adbc_driver_postgresql.dbapi as driver
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import LockedError
from forecaster.postgres import lock
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from forecaster.tables import FORECAST_TABLE, MLDR_TABLE
from tests import sql
from tests.faults import (
    FORECAST,
    LONG,
    STREAMS,
    as_observer,
    blocked,
    clear,
    end_of,
    fill,
    in_chunks_of,
    locked,
    started,
    until,
    whole_tracks,
)
from tests.forecasts import stored
from tests.tables import initialise

TIMES = [1, pytest.param(20, marks=LONG)]
SAYS_WHO = (
    r'Error: another run is writing to "public"."backtest_track_streams_forecast": '
    r"process (\d+) on host (\S+), since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC"
)


@pytest.mark.parametrize("times", TIMES)
def test_of_four_at_once_one_works_and_three_say_so(embedded_database: Dsn, times: int) -> None:
    dsn = embedded_database
    expected = fill(dsn)
    for _ in range(times):
        clear(dsn)
        before = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
        with ExitStack() as stack:
            # The one that works cannot end before the others have seen it.
            with locked(dsn, FORECAST, "SHARE"):
                processes = {stack.enter_context(started(dsn)) for _ in range(4)}
                working = the_one_left_of(processes)
                seen = datetime.now(UTC).replace(tzinfo=None)
            for process in processes - {working}:
                code, _, stderr = end_of(process)
                assert code == 5, stderr
                said = re.search(SAYS_WHO, stderr)
                assert said, stderr
                assert int(said[1]) == working.pid
                assert said[2] == socket.gethostname().partition(".")[0]
                assert before <= datetime.fromisoformat(said[3]) <= seen
            assert end_of(working).code == 0
        whole_tracks(dsn)
        assert_frame_equal(stored(dsn), expected)


def the_one_left_of(processes: set[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    until(lambda: sum(process.poll() is None for process in processes) <= 1)
    [left] = [process for process in processes if process.poll() is None]
    return left


@pytest.mark.parametrize("times", TIMES)
def test_of_four_at_once_three_wait(embedded_database: Dsn, times: int) -> None:
    dsn = embedded_database
    expected = fill(dsn)
    for _ in range(times):
        clear(dsn)
        with ExitStack() as stack:
            processes = [
                stack.enter_context(started(dsn, "--wait", "600", before=in_chunks_of(60))) for _ in range(4)
            ]
            ended = [end_of(process) for process in processes]
        assert [code for code, _, _ in ended] == [0, 0, 0, 0], "\n".join(end.stderr for end in ended)
        rows = [re.search(r"rows written +([\d,]+)", stdout) for _, stdout, _ in ended]
        written = sorted(int(found[1].replace(",", "")) for found in rows if found)
        assert written == [0, 0, 0, len(expected)]
        whole_tracks(dsn)
        assert_frame_equal(stored(dsn), expected)


def test_wait_has_an_end(embedded_database: Dsn, caplog: pytest.LogCaptureFixture) -> None:
    initialise(embedded_database)
    caplog.set_level("INFO", "forecaster")
    with connect(embedded_database) as one, connect(embedded_database) as other:
        tables = read_tables(one, "public")
        take_lock(one, tables)
        start = time.monotonic()
        with pytest.raises(LockedError, match="another run is writing"):
            take_lock(other, tables, wait=0.4)
        assert time.monotonic() - start >= 0.4
        (said,) = caplog.messages
        assert re.match(r"waiting for process \d+ on host .*, which writes to .*_forecast", said)
    with connect(embedded_database) as other:
        take_lock(other, tables, wait=60)


def test_without_wait_nobody_waits(embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    initialise(embedded_database)
    waits: list[float] = []
    monkeypatch.setattr(lock, "time", SimpleNamespace(monotonic=time.monotonic, sleep=waits.append))
    with connect(embedded_database) as other:
        tables = read_tables(other, "public")
        for table in (FORECAST_TABLE, MLDR_TABLE):
            take_lock(other, tables, table=table)
        with pytest.raises(LockedError, match="another run is writing"):
            run(Database(embedded_database))
        with pytest.raises(LockedError, match="another run is writing"):
            run(ArtistRates(embedded_database))
    assert waits == []


def test_nobody_waits_longer_than_given(embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    initialise(embedded_database)
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append)
    monkeypatch.setattr(lock, "time", clock)
    with connect(embedded_database) as one, connect(embedded_database) as other:
        tables = read_tables(one, "public")
        take_lock(one, tables)
        with pytest.raises(LockedError, match="another run is writing"):
            take_lock(other, tables, wait=0.625)
    assert waits == [0.25, 0.25, 0.125]


@pytest.mark.parametrize("at", ["work", "a lock"])
def test_a_killed_run_leaves_no_lock(embedded_database: Dsn, at: str) -> None:
    """Not even where its session waits for a lock of another one, and does not look at its client."""
    dsn = embedded_database
    expected = fill(dsn)
    with ExitStack() as stack:
        if at == "a lock":
            stack.enter_context(locked(dsn, FORECAST, "SHARE"))
        with started(dsn, before=in_chunks_of(20)) as process:
            until(lambda: blocked(dsn) if at == "a lock" else whole_tracks(dsn), process)
        with connect(as_observer(dsn)) as other:
            take_lock(other, read_tables(other, "public"), wait=60)
        assert len(stored(dsn)) < len(expected)


def test_settings_that_the_server_does_not_accept(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its operating system does not know them: the others hold, and so does the lock."""
    initialise(embedded_database)
    kept = "idle_in_transaction_session_timeout"
    monkeypatch.setattr(lock, "_OF_SESSION", {"tcp_user_timeout": "of another system", kept: "0"})
    sql.run(embedded_database, f"ALTER DATABASE {embedded_database.dbname} SET {kept} = '1h'")
    with connect(embedded_database) as one, connect(embedded_database) as other:
        take_lock(one, read_tables(one, "public"))
        assert query(one, f"SELECT current_setting('{kept}')").item() == "0"
        with pytest.raises(LockedError):
            take_lock(other, read_tables(other, "public"))


def test_each_schema_and_database_has_its_own(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    initialise(embedded_database, "Other; schema")
    with connect(embedded_database) as one, connect(embedded_database) as other:
        take_lock(one, read_tables(one, "public"))
        take_lock(other, read_tables(other, "Other; schema"))


@pytest.mark.parametrize("name", ["observer", "forecaster host 1 20240101T000000Z and more"])
def test_a_holder_that_is_no_run_of_ours(embedded_database: Dsn, name: str) -> None:
    """Some other program that has come by the same lock is named by what the server knows of it."""
    initialise(embedded_database)
    number = sql.rows(embedded_database, f"SELECT '{FORECAST}'::regclass::oid::bigint")[0][0]
    with driver.connect(as_observer(embedded_database).uri) as holder, holder.cursor() as cursor:
        cursor.execute(f"SET application_name = '{name}'")
        cursor.execute(f"SELECT pg_backend_pid(), pg_advisory_lock({0x666F7265}, {number})")
        pid = cursor.fetchall()[0][0]
        with (
            connect(embedded_database) as other,
            pytest.raises(LockedError, match=rf"server process {pid} \({name}\)"),
        ):
            take_lock(other, read_tables(other, "public"))


def test_sessions_may_be_idle_for_as_long_as_a_run_takes(embedded_database: Dsn) -> None:
    """Where the server ends those that do nothing for some time."""
    dsn = embedded_database
    expected = fill(dsn)
    for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
        sql.run(dsn, f"ALTER DATABASE {dsn.dbname} SET {setting} = '1s'")
    with started(dsn) as process:
        with locked(dsn, STREAMS):
            until(lambda: blocked(dsn), process)
            time.sleep(2)
        code, _, stderr = end_of(process)
    assert (code, "connected again" in stderr) == (0, False), stderr
    assert_frame_equal(stored(dsn), expected)
