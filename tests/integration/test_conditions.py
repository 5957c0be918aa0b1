"""Conditions of the server are told by their codes and by the state of sessions, in whatever language."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import adbc_driver_manager as adbc
import pytest
from polars.testing import assert_frame_equal

from forecaster.doctor import examine
from forecaster.errors import ConnectionLostError, DatabaseError, TurnedAwayError
from forecaster.model.parameters import Parameters
from forecaster.postgres import embedded
from forecaster.postgres.catalogue import Source, export_snapshot
from forecaster.postgres.connection import connect, query, severity_of_errors
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import Tables
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from tests import sql
from tests.conftest import BINARIES, SETTINGS, ServerNamed, new_database, short_directory
from tests.faults import STREAMS, as_observer, blocked, fill, locked, sessions, terminate, until
from tests.forecasts import stored
from tests.tables import initialise

GERMAN = Path("/usr/share/locale/de/LC_MESSAGES/postgres-15.mo")
PG15 = BINARIES["postgresql-15"]


@pytest.fixture(scope="module")
def german_server() -> Iterator[Dsn]:
    """A server that speaks German, without a German locale."""
    if not (GERMAN.exists() and PG15 and PG15.is_dir()):
        pytest.skip("takes PostgreSQL 15 with its translations")
    with pytest.MonkeyPatch.context() as patch, short_directory() as directory:
        patch.setattr(embedded, "_ENVIRONMENT", {**embedded._ENVIRONMENT, "LANGUAGE": "de"})
        settings = SETTINGS | {"lc_messages": "C.UTF-8"}
        with embedded.running_server(directory, binaries=PG15, settings=settings) as server:
            yield server


@pytest.fixture(params=["English", "German"])
def database(request: pytest.FixtureRequest, server_named: ServerNamed) -> Iterator[Dsn]:
    of = request.getfixturevalue("german_server") if request.param == "German" else server_named("embedded")
    with new_database(of) as dsn:
        yield dsn


@contextmanager
def source_of(dsn: Dsn, *options: str) -> Iterator[Source]:
    """One whose reads have these settings."""
    limited = replace(dsn, parameters=(("options", " ".join(f"-c {option}" for option in options)),))
    with connect(dsn, repeatable_read=True) as reader:
        yield Source(limited, Tables("public", {}, ()), export_snapshot(reader))


def reading(dsn: Dsn) -> list[int]:
    """The sessions that read, by way of connectorx."""
    return [s.pid for s in sessions(dsn) if s.state == "active" and "pg_sleep" in s.query]


@contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """In another thread."""
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join()


class TestWhileReading:
    def test_the_language_is_found_out(self, database: Dsn, request: pytest.FixtureRequest) -> None:
        with connect(database) as connection:
            assert severity_of_errors(connection) == ("FEHLER" if "German" in request.node.name else "ERROR")
            assert query(connection, "SELECT 1 AS one").item() == 1

    def test_a_session_that_is_ended_is_lost(self, database: Dsn) -> None:
        """While it is planned, when the server still says so, and while its rows come."""
        dsn = database
        expected = fill(dsn)
        with ThreadPoolExecutor(1) as thread, locked(dsn, STREAMS):
            going = thread.submit(run, Database(dsn))
            until(lambda: blocked(dsn) or going.done())
            for session in blocked(dsn):
                terminate(dsn, session.pid)
            until(lambda: not blocked(dsn))
            until(lambda: blocked(dsn) or going.done())
            assert not going.done()
        # The lock is gone here.
        report = going.result()
        assert any(warning.startswith("connected again after: reading from ") for warning in report.warnings)
        assert_frame_equal(stored(dsn), expected)

    @pytest.mark.parametrize(
        ("option", "statement", "said", "hint"),
        [
            (
                "statement_timeout=1s",
                "SELECT pg_sleep(30)::text AS s",
                "57014",
                "PGOPTIONS='-c statement_timeout=0'",
            ),
            ("lock_timeout=1s", "SELECT a FROM locked", "55P03", "lock_timeout"),
            (
                "temp_file_limit=0",
                "SELECT repeat('g', 1000) AS g FROM generate_series(1, 100000) g ORDER BY random()",
                "53400",
                "temp_file_limit",
            ),
            ("work_mem=4MB", "SELECT (1 / (3 - g))::bigint AS g FROM generate_series(1, 9) g", "22012", None),
            ("work_mem=4MB", "SELECT nothing", "42703", None),
        ],
    )
    def test_what_a_statement_fails_at_has_its_code_and_its_fix(
        self, database: Dsn, option: str, statement: str, said: str, hint: str | None
    ) -> None:
        sql.run(database, "CREATE TABLE locked (a bigint)")
        with (
            source_of(database, option) as source,
            locked(database, "locked"),
            pytest.raises(
                DatabaseError, match=rf"^reading from .* failed: [^\n]* \(SQLSTATE {said}\)$"
            ) as caught,
        ):
            source.read(["SELECT 1::bigint AS g", statement] if hint is None else statement)
        assert not isinstance(caught.value, ConnectionLostError)
        assert hint in (caught.value.hint or "") if hint else caught.value.hint is None
        assert "SELECT" not in str(caught.value)

    def test_a_statement_that_somebody_cancels(self, database: Dsn) -> None:
        """Nothing is lost, and it would go well the next time; but whoever did it meant it."""

        def cancel() -> None:
            until(lambda: reading(database))
            sql.run(as_observer(database), "SELECT pg_cancel_backend($1::int)", reading(database)[0])

        with source_of(database) as source, meanwhile(cancel), pytest.raises(DatabaseError) as caught:
            source.read("SELECT pg_sleep(2)::text AS s")
        assert not isinstance(caught.value, ConnectionLostError)
        assert "somebody cancelled it" in (caught.value.hint or "")

    def test_the_session_that_holds_the_snapshot_is_lost(self, database: Dsn) -> None:
        with connect(database, repeatable_read=True) as reader:
            source = Source(database, Tables("public", {}, ()), export_snapshot(reader))
        with pytest.raises(ConnectionLostError):
            source.read("SELECT 1::bigint AS one")

    def test_ctrl_c_is_no_failure_of_the_statement(self, embedded_database: Dsn) -> None:
        dsn = embedded_database

        def interrupt() -> None:
            until(lambda: reading(dsn))
            os.kill(os.getpid(), signal.SIGINT)

        with meanwhile(interrupt), pytest.raises(KeyboardInterrupt), source_of(dsn) as source:
            source.read("SELECT pg_sleep(30)::text AS s")


def ask_after_the_end(dsn: Dsn, *, again: bool) -> None:
    """On a connection that the server has ended while it was idle; or once more after that."""
    ours = "SELECT 1 AS page,\n 2 AS of,\n 3 AS ours"
    with connect(dsn) as connection:
        terminate(dsn, query(connection, "SELECT pg_backend_pid()").item())
        until(lambda: not sessions(dsn))
        if again:
            with suppress(adbc.Error):
                query(connection, ours)
        query(connection, ours)


class TestOnTheOtherConnections:
    @pytest.mark.parametrize("again", [False, True])
    def test_one_that_was_ended_while_idle(self, database: Dsn, again: bool) -> None:  # noqa: FBT001
        """Its next statement says so, in one line, and none of our statements is in it."""
        with pytest.raises(ConnectionLostError) as caught:
            ask_after_the_end(database, again=again)
        said = str(caught.value)
        assert "\n" not in said
        assert not any(word in said for word in ("SELECT", "ours", "Query", "probably", "IO:"))
        assert "server" in said

    def test_a_server_that_turns_away_is_there(self, embedded_database: Dsn) -> None:
        dsn = embedded_database
        user = f"few_{dsn.dbname}"
        sql.run(dsn, f"CREATE ROLE {user} LOGIN CONNECTION LIMIT 0")
        try:
            with (
                pytest.raises(TurnedAwayError, match="too many connections for role"),
                connect(replace(dsn, user=user)),
            ):
                pass
        finally:
            sql.run(dsn, f"DROP ROLE {user}")

    def test_while_a_statement_goes_on(self, database: Dsn) -> None:
        def end() -> None:
            until(lambda: reading(database))
            terminate(database, reading(database)[0])

        with (
            meanwhile(end),
            # What the server said is kept, in either language.
            pytest.raises(ConnectionLostError, match=r"[Aa]dministrator") as caught,
            connect(database) as connection,
        ):
            query(connection, "SELECT pg_sleep(30)::text AS s")
        assert "somebody ended the session" in (caught.value.hint or "")

    @pytest.mark.parametrize(
        ("option", "statement", "state", "hint"),
        [
            ("statement_timeout=1s", "SELECT pg_sleep(30)::text", "57014", "statement_timeout"),
            ("lock_timeout=1s", "SELECT * FROM locked", "55P03", "lock_timeout"),
            ("default_transaction_read_only=on", "CREATE TABLE t ()", "25006", "standby"),
        ],
    )
    def test_each_has_its_fix(
        self, embedded_database: Dsn, option: str, statement: str, state: str, hint: str
    ) -> None:
        sql.run(embedded_database, "CREATE TABLE locked (a bigint)")
        limited = replace(embedded_database, parameters=(("options", f"-c {option}"),))
        with (
            locked(embedded_database, "locked"),
            pytest.raises(DatabaseError, match=rf"\(SQLSTATE {state}\)$") as caught,
            connect(limited) as connection,
        ):
            query(connection, statement)
        assert hint in (caught.value.hint or "")

    def test_a_transaction_may_be_as_long_as_a_run(self, embedded_database: Dsn) -> None:
        """Where the server knows such a limit."""
        limits = "-c transaction_timeout=1s -c idle_in_transaction_session_timeout=1s"
        limited = replace(embedded_database, parameters=(("options", limits),))
        with connect(limited, repeatable_read=True) as reader:
            export_snapshot(reader)
            with connect(embedded_database) as other:
                query(other, "SELECT pg_sleep(1.5)::text")
            assert query(reader, "SELECT 1 AS one").item() == 1


def test_doctor_blames_the_limit(embedded_database: Dsn) -> None:
    """And no right that is lacking."""
    initialise(embedded_database)
    limited = replace(embedded_database, parameters=(("options", "-c lock_timeout=1s"),))
    with locked(embedded_database, "backtest_track_streams_forecast"):
        findings = examine(limited, "public", Parameters()).findings
    [finding] = [f for f in findings if f.about == "stored forecasts"]
    assert (finding.level, "lock_timeout" in (finding.fix or "")) == ("error", True)
