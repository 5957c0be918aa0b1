"""Real servers, an empty database for every test, and the command line as a user runs it."""

import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner

from forecaster.cli import main
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.embedded import running_server
from tests import sql
from tests.needs import OPENSSL, need, need_program

# Where each server's programs are; None is the embedded server, which brings its own. POSTGRESQL_BIN puts
# another version in the place of 15.
BINARIES = {
    "embedded": None,
    "postgresql-15": Path(os.environ.get("POSTGRESQL_BIN", "/usr/lib/postgresql/15/bin")),
}
SERVERS = [*BINARIES]

# Nothing in a test server has to survive a power cut, and nothing in it should run by itself.
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}

ServerNamed = Callable[[str], Dsn]


class Cli(Protocol):
    """Runs `python -m forecaster ARGUMENTS`."""

    def __call__(
        self, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]: ...


def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: most tests wait for servers and other processes."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_developer() -> Iterator[None]:
    """No database that the person running the tests has set up is ever found, or written to."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name in ("DATABASE_URL", "NO_COLOR") or name.startswith(("PG", "FORECASTER_")):
                patch.delenv(name)
        patch.setenv("PGPASSFILE", "/nonexistent/pgpass")
        yield


@pytest.fixture(scope="session", autouse=True)
def _the_server_is_near() -> Iterator[None]:
    """How long a busy machine takes to answer does not decide the size of the batches in a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("forecaster.postgres.connection._FAR", math.inf)
        yield


@pytest.fixture(scope="session")
def server_named() -> Iterator[ServerNamed]:
    """The superuser's `Dsn` on the server of that name, started when it is first asked for."""
    running: dict[str, Dsn] = {}
    with ExitStack() as stack:

        def start(name: str) -> Dsn:
            need_server(name)
            if name not in running:
                data_dir = stack.enter_context(short_directory())
                running[name] = stack.enter_context(
                    running_server(data_dir, binaries=BINARIES[name], settings=SETTINGS)
                )
            return running[name]

        yield start


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, server_named: ServerNamed) -> Dsn:
    """Each server in turn; shared, so that a test must not change it."""
    return server_named(request.param)


@pytest.fixture
def database(server: Dsn) -> Iterator[Dsn]:
    """A new and empty database, on each server in turn."""
    with new_database(server) as dsn:
        yield dsn


@pytest.fixture(params=["embedded", pytest.param("postgresql-15", marks=pytest.mark.slow)])
def usual_database(request: pytest.FixtureRequest, server_named: ServerNamed) -> Iterator[Dsn]:
    """A new and empty database; only the long form of a test is about the other server as well."""
    with new_database(server_named(request.param)) as dsn:
        yield dsn


@pytest.fixture
def embedded_database(server_named: ServerNamed) -> Iterator[Dsn]:
    """A new and empty database, on the embedded server only."""
    with new_database(server_named("embedded")) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def _what_tls_needs() -> None:
    """The embedded server is built without it."""
    need_program("openssl", OPENSSL)
    need_server("postgresql-15")


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory of its own with a path short enough for a socket, which pytest's `tmp_path` is not."""
    with short_directory() as path:
        yield path


@pytest.fixture
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Runs the command line in an empty home and directory, with no variables but those given."""
    home = tmp_path_factory.mktemp("home")

    def run(
        *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "forecaster", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            cwd=cwd or home,
            env=bare_environment() | {"HOME": str(home), "LC_ALL": "C.UTF-8"} | dict(env or {}),
        )

    return run


@pytest.fixture
def called(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """The same within this process, where the process is not the point: it saves what its start takes."""
    home = tmp_path_factory.mktemp("home")

    def run(
        *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        with chdir(cwd or home), environment(bare_environment() | {"HOME": str(home)} | dict(env or {})):
            ended = CliRunner().invoke(main, arguments, input=stdin, prog_name="forecaster")
        if not isinstance(ended.exception, SystemExit | None):
            raise ended.exception
        return subprocess.CompletedProcess(arguments, ended.exit_code, ended.stdout, ended.stderr)

    yield run
    logging.getLogger("forecaster").handlers.clear()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables and no others, whatever is done to them meanwhile."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def need_server(name: str) -> None:
    binaries = BINARIES[name]
    need(binaries is None or binaries.is_dir(), f"{binaries}: install {name}")


def bare_environment() -> dict[str, str]:
    """No variables of whoever runs the tests, but those that tell coverage to go on in a process."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": os.environ["PATH"], **kept}


def with_command() -> dict[str, str]:
    """Variables with which the command `forecaster` is found."""
    return bare_environment() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@cache
def strategy(server: Dsn) -> str:
    """How a database is made fastest. Before version 15 there was no other way."""
    [[version]] = sql.rows(server, "SHOW server_version_num")
    return "STRATEGY file_copy" if int(version) >= 15_00_00 else ""


@contextmanager
def new_database(server: Dsn) -> Iterator[Dsn]:
    """A database of template0, which holds nothing, dropped with whatever is still connected to it."""
    name = f"test_{uuid.uuid4().hex}"
    sql.run(server, f"CREATE DATABASE {name} TEMPLATE template0 {strategy(server)}")
    try:
        yield replace(server, dbname=name)
    finally:
        sql.run(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def short_directory() -> Iterator[Path]:
    """Open to the server's own user, who is not the one that runs the tests when that is root."""
    path = Path(tempfile.mkdtemp(prefix="fc", dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        while path.exists():
            with suppress(FileNotFoundError):  # a server that is stopping removes files as well
                shutil.rmtree(path)
