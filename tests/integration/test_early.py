"""The first connection, opened while modules are imported: used if it is good, else as if it had not been."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from forecaster.errors import DatabaseUnreachableError, ForecasterError, UnsafeSocketError
from forecaster.postgres import early as module
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.early import Early, begun
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from tests.conftest import Cli
from tests.faults import fill, sessions, until
from tests.proxy import Proxy


@pytest.fixture
def silent() -> Iterator[tuple[socket.socket, str]]:
    """A server that takes a connection and says nothing, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        yield listener, f"postgresql://me:guessed99@127.0.0.1:{listener.getsockname()[1]}/music"


def error_of(dsn: Dsn, early: Early | None) -> ForecasterError:
    with pytest.raises(ForecasterError) as caught, connect(dsn, begun=False, early=early):
        pass
    return caught.value


class TestTaken:
    def test_nothing_else_is_opened(self, embedded_database: Dsn) -> None:
        with Proxy(embedded_database) as proxy:
            early = Early(proxy.dsn)
            with connect(proxy.dsn, begun=False, early=early) as connection:
                assert query(connection, "SELECT 1 AS one").item() == 1
                assert len(proxy.here) == 2  # the driver looks types up on one of its own
                with connect(proxy.dsn, like=connection) as writer:
                    assert query(writer, "SELECT 2 AS two").item() == 2
                assert len(proxy.here) == 3
            until(lambda: not sessions(embedded_database))

    def test_by_the_first_only(self, embedded_database: Dsn) -> None:
        early = Early(embedded_database)
        with (
            connect(embedded_database, begun=False, early=early) as first,
            connect(embedded_database, begun=False, early=early) as second,
        ):
            pids = [query(each, "SELECT pg_backend_pid() AS pid").item() for each in (first, second)]
        assert pids[0] != pids[1]

    def test_each_statement_is_its_own_transaction(self, embedded_database: Dsn) -> None:
        with connect(embedded_database, begun=False, early=Early(embedded_database)) as connection:
            xids = [query(connection, "SELECT pg_current_xact_id()::text AS x").item() for _ in "12"]
        assert xids[0] != xids[1]

    def test_a_run_uses_it(self, embedded_database: Dsn) -> None:
        fill(embedded_database)
        with Proxy(embedded_database) as proxy:
            early = Early(proxy.dsn)
            until(lambda: early.was_reached)
            opened = len(proxy.here)
            run(Database(proxy.dsn, early=early), RunConfig(ids=(1,), dry_run=True))
            assert early.take() is None
            with_it = len(proxy.here)
            run(Database(proxy.dsn), RunConfig(ids=(1,), dry_run=True))
            assert (opened, len(proxy.here) - with_it) == (2, with_it)


class TestNotTaken:
    def test_it_is_closed(self, embedded_database: Dsn) -> None:
        early = Early(embedded_database)
        until(lambda: early.was_reached)
        early.close()
        until(lambda: not sessions(embedded_database))
        assert early.take() is None

    def test_it_is_closed_as_soon_as_it_is_open(self, embedded_database: Dsn) -> None:
        early = Early(embedded_database)
        early.close()
        until(lambda: early.was_reached)
        until(lambda: not sessions(embedded_database))

    def test_after_an_error_of_the_command(self, embedded_database: Dsn, called: Cli) -> None:
        ended = called("run", "--scheduler", "x", env={"DATABASE_URL": embedded_database.uri})
        assert ended.returncode == 2
        assert ended.stderr.startswith("Error: --scheduler needs --engine dask [")
        until(lambda: not sessions(embedded_database))


class TestTheErrorIsTheSame:
    def test_where_nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        dsn = Dsn("127.0.0.1", "music", "me", "guessed99", port)
        with_it, without = error_of(dsn, Early(dsn)), error_of(dsn, None)
        assert isinstance(with_it, DatabaseUnreachableError)
        assert (str(with_it), with_it.hint) == (str(without), without.hint)
        assert "guessed99" not in str(with_it)

    def test_where_the_user_is_refused(self, embedded_database: Dsn) -> None:
        dsn = replace(embedded_database, user="nobody_here")
        with_it, without = error_of(dsn, Early(dsn)), error_of(dsn, None)
        assert (str(with_it), type(with_it)) == (str(without), type(without))

    def test_where_nobody_answers(
        self, silent: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("forecaster.postgres.connection.CONNECT_TIMEOUT", 0.7)
        with begun(silent[1]) as early:
            assert early
            assert "no answer from 127.0.0.1" in str(error_of(early.dsn, early))

    def test_where_the_socket_is_not_safe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unsafe(_dsn: Dsn) -> None:
            raise UnsafeSocketError("the socket is not safe")

        monkeypatch.setattr(Dsn, "check_socket", unsafe)
        monkeypatch.setattr(module, "opened", None)  # would fail in another way
        dsn = Dsn("/nowhere", "music", "me")
        assert isinstance(error_of(dsn, Early(dsn)), UnsafeSocketError)


def test_a_run_goes_on_if_it_is_lost(embedded_database: Dsn) -> None:
    fill(embedded_database)
    report = Report()
    with Proxy(embedded_database) as proxy:
        early = Early(proxy.dsn)
        until(lambda: early.was_reached)
        proxy.cut()
        run(Database(proxy.dsn, early=early), RunConfig(ids=(1,), dry_run=True), report=report)
    assert report.is_done
    assert any(warning.startswith("connected again after: ") for warning in report.warnings)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--help"),
        ("run", "--horizon", "0"),
        ("run", "--source", "nowhere", "--sink", "out"),
        ("dump", "--help"),
        ("--version",),
    ],
)
def test_nothing_is_connected_without_need(
    silent: tuple[socket.socket, str], called: Cli, arguments: tuple[str, ...]
) -> None:
    listener, url = silent
    called(*arguments, env={"DATABASE_URL": url})
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("url", [None, "", "mysql://me@host/db", "postgresql://me@host:0/db"])
def test_a_wrong_address_is_left_to_the_command(url: str | None) -> None:
    with begun(url) as early:
        assert early is None


def test_by_variables_of_libpq(embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "PGHOST": embedded_database.host,
        "PGPORT": f"{embedded_database.port}",
        "PGUSER": embedded_database.user,
        "PGDATABASE": embedded_database.dbname,
        "PGCLIENTENCODING": "LATIN1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with begun(None) as early:
        assert early
        assert not given.keys() & os.environ  # while others read it
        with connect(early.dsn, begun=False, early=early) as connection:
            assert query(connection, "SHOW client_encoding").item() == "UTF8"
            with connect(early.dsn, like=connection):
                pass
            assert not given.keys() & os.environ
    assert given.items() <= os.environ.items()
