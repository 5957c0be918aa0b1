"""Processes and sessions are killed, hosts do not answer: what is stored is whole, what is said clear."""

import logging
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import DatabaseUnreachableError
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.embedded import running_server
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from tests import sql
from tests.conftest import SETTINGS, new_database, short_directory
from tests.faults import (
    FORECAST,
    LONG,
    SEED,
    STREAMS,
    answers,
    as_observer,
    blocked,
    clear,
    end_of,
    fill,
    guarded_by_password,
    in_chunks_of,
    locked,
    sessions,
    started,
    terminate,
    until,
    whole_tracks,
)
from tests.forecasts import stored
from tests.logs import MARK
from tests.proxy import Proxy

CHUNK = 20  # tracks: 13 transactions in a run

LOG = logging.getLogger(__name__)  # the figures of the long forms: --log-cli-level=INFO


@pytest.fixture(scope="module")
def own_server() -> Iterator[Dsn]:
    """A server that may be crashed: nobody else is on it."""
    settings = {**SETTINGS, "synchronous_commit": "on"}
    with short_directory() as directory, running_server(directory, settings=settings) as server:
        yield server


@pytest.fixture(scope="module")
def guarded_server() -> Iterator[Dsn]:
    with guarded_by_password() as dsn:
        yield dsn


def moments(number: int, seconds: float) -> list[float]:
    """So many random moments, spread evenly."""
    chance = random.Random(SEED)
    return [seconds * (step + chance.random()) / number for step in range(number)]


def length_of_a_run(dsn: Dsn) -> tuple[float, float]:
    """Seconds from its start, and from its first session on the server, to its end."""
    start = time.monotonic()
    with started(dsn, before=in_chunks_of(CHUNK)) as process:
        until(lambda: sessions(dsn), process)
        connected = time.monotonic()
        assert end_of(process).code == 0
    return time.monotonic() - start, time.monotonic() - connected


def assert_the_next_run_completes(dsn: Dsn, expected: pl.DataFrame) -> None:
    run(Database(dsn), RunConfig(wait=60))
    assert_frame_equal(stored(dsn), expected)


class TestKillOfTheProcess:
    @pytest.mark.parametrize("kills", [4, pytest.param(100, marks=LONG)])
    def test_at_moments_over_its_whole_run(self, embedded_database: Dsn, kills: int) -> None:
        dsn = embedded_database
        expected = fill(dsn)
        seconds, _ = length_of_a_run(dsn)
        found: list[str] = []
        for moment in moments(kills, seconds):
            clear(dsn)
            with started(dsn, before=in_chunks_of(CHUNK)) as process, suppress(subprocess.TimeoutExpired):
                process.wait(moment)

            tracks = whole_tracks(dsn)
            found.append(state(dsn, tracks, of=expected["cm_track_id"].n_unique()))
            assert_the_next_run_completes(dsn, expected)
        LOG.info("%d kills in runs of %.2f s: %s", kills, seconds, Counter(found))
        # Or else they came too early or too late to prove anything.
        if kills == 100:
            assert found.count("some stored") > 10
            assert "some stored, more on the way" in found

    @pytest.mark.parametrize("progress", [0.1, 0.4, 0.7])
    def test_half_way(self, embedded_database: Dsn, progress: float) -> None:
        dsn = embedded_database
        expected = fill(dsn)
        total = expected["cm_track_id"].n_unique()
        with started(dsn, before=in_chunks_of(CHUNK)) as process:
            until(lambda: whole_tracks(dsn) > progress * total, process)

        assert progress * total < whole_tracks(dsn) < total
        assert_the_next_run_completes(dsn, expected)


def state(dsn: Dsn, tracks: int, *, of: int) -> str:
    """What a killed run has left. Row ids that no row has are those of a transaction that was cut off."""
    [(rows, ids)] = sql.rows(
        as_observer(dsn),
        f"SELECT (SELECT count(*) FROM {FORECAST}), (SELECT CASE WHEN is_called THEN last_value ELSE 0 END "
        f"FROM {FORECAST}_id_seq)",
    )
    what = {0: "none stored", of: "all stored"}.get(tracks, "some stored")
    return f"{what}, more on the way" if ids > rows else what


class TestKillOfASession:
    @pytest.mark.parametrize("kills", [1, pytest.param(25, marks=LONG)])
    @pytest.mark.parametrize("how", ["terminated", "killed"])
    def test_at_moments_over_the_whole_run(self, own_server: Dsn, how: str, kills: int) -> None:
        """A session that is killed takes the whole server down with it, for a moment."""
        chance = random.Random(SEED)
        found: list[str] = []
        with new_database(own_server) as dsn:
            expected = fill(dsn)
            _, seconds = length_of_a_run(dsn)
            while len(found) < kills:
                clear(dsn)
                with started(dsn, before=in_chunks_of(CHUNK)) as process:
                    until(lambda: sessions(dsn), process)
                    time.sleep(chance.uniform(0, seconds))
                    victims = sessions(dsn)
                    if victims and how == "terminated":
                        terminate(dsn, chance.choice(victims).pid)
                    elif victims:
                        with suppress(ProcessLookupError):
                            os.kill(chance.choice(victims).pid, signal.SIGKILL)
                    code, _, stderr = end_of(process)
                until(lambda: answers(dsn))

                tracks = whole_tracks(dsn)
                assert code in {0, 1, 3}, stderr
                assert code != 0 or tracks == expected["cm_track_id"].n_unique()
                assert "Traceback" not in stderr
                assert_the_next_run_completes(dsn, expected)
                if victims:
                    found.append(f"exit {code}, {'some' if tracks else 'none'} stored")
        LOG.info("%d sessions %s: %s", kills, how, Counter(found))


class TestLostWhileReading:
    def test_for_a_moment(self, embedded_database: Dsn) -> None:
        dsn = embedded_database
        expected = fill(dsn)
        with started(dsn) as process:
            with locked(dsn, STREAMS):
                until(lambda: blocked(dsn), process)
                for session in blocked(dsn):
                    terminate(dsn, session.pid)
                # It is there again before the lock is gone: not what was lost has gone on.
                until(lambda: not blocked(dsn), process)
                until(lambda: blocked(dsn), process)
            code, stdout, stderr = end_of(process)
        assert code == 0, stderr
        assert re.search(r"Warning: connected again after: reading from .* failed: ", stderr)
        assert re.search(rf"rows written +{len(expected):,}", stdout)
        assert_frame_equal(stored(dsn), expected)

    def test_for_good(self, embedded_database: Dsn) -> None:
        dsn = embedded_database
        fill(dsn)
        lost: set[int] = set()
        at_once = "import forecaster.run.retry; forecaster.run.retry._PAUSES = (0.1, 0.1, 0.1)"
        with locked(dsn, STREAMS), started(dsn, before=at_once) as process:
            while process.poll() is None:
                for session in blocked(dsn):
                    terminate(dsn, session.pid)
                    lost.add(session.pid)
                time.sleep(0.02)
            code, _, stderr = end_of(process)
        assert code == 1, stderr
        assert re.search(r"^Error: reading from .* failed: ", stderr, re.MULTILINE)
        assert 4 <= len(lost) <= 8
        assert whole_tracks(dsn) == 0

    def test_on_a_network_that_tells_the_server_nothing(self, embedded_database: Dsn) -> None:
        """There the lost session goes on, and has the lock."""
        dsn = embedded_database
        expected = fill(dsn)
        with Proxy(dsn) as proxy, started(proxy.dsn) as process:
            with locked(dsn, STREAMS):
                until(lambda: blocked(dsn), process)
                of_before = {session.pid for session in sessions(dsn)}
                proxy.cut()
                until(lambda: {session.pid for session in blocked(dsn)} - of_before, process)
            code, _, stderr = end_of(process)
        assert code == 0, stderr
        assert "connected again" in stderr
        assert_frame_equal(stored(dsn), expected)


class TestLostWhileWriting:
    @pytest.mark.parametrize("replace", [False, True])
    def test_it_is_not_tried_again(self, own_server: Dsn, replace: bool) -> None:  # noqa: FBT001
        log = Path(own_server.host).parent / "server.log"
        with new_database(own_server) as dsn:
            expected = fill(dsn)
            if replace:
                run(Database(dsn))
            before = stored(dsn)
            sql.run(dsn, f"ALTER DATABASE {dsn.dbname} SET log_statement = 'all'")
            start = log.stat().st_size
            as_one = in_chunks_of(10_000)
            with (
                locked(dsn, FORECAST, "SHARE"),
                started(dsn, *(["--replace"] * replace), before=as_one) as process,
            ):
                until(lambda: blocked(dsn), process)
                [session] = blocked(dsn)
                terminate(dsn, session.pid)
                code, _, stderr = end_of(process)
                assert not blocked(dsn)
            assert code == 1
            assert re.search(r"^Error: the connection was lost while writing: ", stderr, re.MULTILINE)
            assert stderr.endswith(
                "  start again: each track has all its months or none, and the next run completes the rest\n"
            )
            assert_frame_equal(stored(dsn), before)
            statement = (
                rf'(?:statement|execute \S+): (COPY|DELETE FROM|INSERT INTO) "public" ?. ?"{FORECAST}"'
            )
            # A DELETE waits for the lock before it is executed, and so before it is in the log.
            assert re.findall(statement, log.read_text()[start:]) == ([] if replace else ["COPY"])
            sql.run(dsn, f"ALTER DATABASE {dsn.dbname} RESET log_statement")
            assert_the_next_run_completes(dsn, expected)


@pytest.mark.parametrize(("table", "mode"), [(STREAMS, "ACCESS EXCLUSIVE"), (FORECAST, "SHARE")])
def test_no_longer_for_a_lock_than_one_wants(embedded_database: Dsn, table: str, mode: str) -> None:
    """As the manual says, with libpq's variables: while reading and while writing."""
    dsn = embedded_database
    expected = fill(dsn)
    there = {"PGHOST": dsn.host, "PGPORT": str(dsn.port), "PGUSER": dsn.user, "PGDATABASE": dsn.dbname}
    with (
        locked(dsn, table, mode),
        started(None, env=there | {"PGOPTIONS": "-c lock_timeout=300ms"}) as process,
    ):
        code, _, stderr = end_of(process)
    assert code == 1
    assert "canceling statement due to lock timeout" in stderr
    assert_the_next_run_completes(dsn, expected)


class TestNoConnection:
    """Each is said in one line and a hint, with exit code 3."""

    @pytest.mark.parametrize("timed", [False, pytest.param(True, marks=LONG)])
    @pytest.mark.parametrize("why", ["silent", "refused", "password", "database", "name", "socket"])
    def test_it_says_why(self, guarded_server: Dsn, why: str, timed: bool) -> None:  # noqa: FBT001
        there = guarded_server
        start = time.monotonic()
        with socket.create_server(("127.0.0.1", 0)) as silent, free_port() as free:
            dsn, said = {
                "silent": (replace(there, host="127.0.0.1", port=silent.getsockname()[1]), "timeout expired"),
                "refused": (replace(there, host="127.0.0.1", port=free), "Connection refused"),
                "password": (replace(there, password="wrong"), "password authentication failed for user"),
                "database": (replace(there, dbname="none"), 'database "none" does not exist'),
                "name": (replace(there, host="no-such-host.invalid"), "could not translate host name"),
                "socket": (replace(there, host="/no/where"), "No such file or directory"),
            }[why]
            with started(dsn) as process:
                code, stdout, stderr = end_of(process)
        seconds = time.monotonic() - start
        assert (code, stdout) == (3, "")
        database, stage, error, hint = MARK.sub("", stderr).splitlines()
        assert stage == "stage: connect"
        assert database.startswith("database: postgresql://")
        assert error.startswith(f"Error: cannot connect to {dsn}: ")
        assert said in error
        assert hint.startswith("  check ")
        LOG.info("%s: %.2f s", why, seconds)
        assert not timed or seconds < 5

    @pytest.mark.parametrize("given", ["0", pytest.param("5", marks=LONG)])
    def test_a_limit_of_ones_own(self, embedded_database: Dsn, given: str) -> None:
        """For libpq 0 is no limit at all."""
        start = time.monotonic()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            there = replace(embedded_database, host="127.0.0.1", port=silent.getsockname()[1])
            there = replace(there, parameters=(("connect_timeout", given),))
            with pytest.raises(DatabaseUnreachableError) as caught, connect(there):
                pass
        assert time.monotonic() - start >= int(given)
        assert (f"port {there.port}, within 3 seconds" in str(caught.value)) == (given == "0")


@contextmanager
def free_port() -> Iterator[int]:
    """A port that is taken, so that nobody else gets it, but not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
