"""Runs as processes of their own, what it takes to disturb them, and what must hold afterwards."""

import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import adbc_driver_manager as adbc
import adbc_driver_postgresql.dbapi as driver
import polars as pl
import pytest

from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.embedded import running_server
from forecaster.postgres.migrations import migrate, pending
from forecaster.setup.load import load
from forecaster.tables import HISTORY, RUNS
from tests import sql
from tests.conftest import SETTINGS, bare_environment, short_directory
from tests.forecasts import in_frames
from tests.logs import unmarked
from tests.tables import create_tables, golden_mldr, golden_streams, made_once

FORECAST = "backtest_track_streams_forecast"
STREAMS = "backtest_track_daily_training_data"
HORIZON = 24
LONG = (pytest.mark.slow, pytest.mark.timeout(3600))
"""Marks of the long form of a test."""

SEED = 20261124

_PATIENCE = 60  # seconds for something that comes about by itself; for how long it takes is not tested here


def in_chunks_of(tracks: int) -> str:
    """For `started`: so few tracks in each transaction, as nearby, however late a busy machine answers."""
    return (
        f"import forecaster.postgres.tracks; forecaster.postgres.tracks.BATCH = {tracks}\n"
        "import forecaster.postgres.connection; forecaster.postgres.connection._FAR = float('inf')"
    )


@contextmanager
def started(
    dsn: Dsn | None,
    *arguments: str,
    before: str = "",
    command: str = "run",
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """The command line as a process of its own, which first does what `before` says."""
    code = f"{before}\nfrom forecaster.__main__ import start\nstart()"
    environment = bare_environment() | {"HOME": "/nonexistent"} | dict(env or {})
    with subprocess.Popen(
        [sys.executable, "-c", code, command, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | ({"DATABASE_URL": dsn.uri} if dsn else {}),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Ended(NamedTuple):
    """What is left of a process."""

    code: int
    stdout: str
    stderr: str


def end_of(process: subprocess.Popen[str]) -> Ended:
    """Wait for the end of a process. What it logged comes without the id of its run."""
    stdout, stderr = process.communicate(timeout=_PATIENCE)
    return Ended(process.returncode, stdout, unmarked(stderr))


def until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for what comes about by itself, in this process if one is named."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert process is None or process.poll() is None, f"it ended: {end_of(process)}"
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def as_observer(dsn: Dsn) -> Dsn:
    """The database by another name of the client, so that `sessions` does not show it, and with patience."""
    options = "-c idle_in_transaction_session_timeout=0"
    return replace(dsn, parameters=(("application_name", "observer"), ("options", options)))


class Session(NamedTuple):
    """A client's session as the server shows it."""

    pid: int
    name: str
    state: str
    waits_for: str
    query: str


def sessions(dsn: Dsn) -> list[Session]:
    """Whoever else is connected to the database."""
    rows = sql.rows(
        as_observer(dsn),
        "SELECT pid, application_name, state, concat(wait_event_type, ' ', wait_event), query "
        "FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'observer' "
        "AND backend_type = 'client backend'",
    )
    return [Session(*row) for row in rows]


def blocked(dsn: Dsn) -> list[Session]:
    """Who waits for a lock."""
    return [session for session in sessions(dsn) if session.waits_for.startswith("Lock ")]


@contextmanager
def locked(dsn: Dsn, table: str, mode: str = "ACCESS EXCLUSIVE") -> Iterator[None]:
    """Another session holds a lock on the table meanwhile."""
    with driver.connect(as_observer(dsn).uri) as connection, connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN {mode} MODE")
        yield
        connection.rollback()


def terminate(dsn: Dsn, pid: int) -> None:
    sql.run(as_observer(dsn), "SELECT pg_terminate_backend($1::integer)", pid)


def answers(dsn: Dsn) -> bool:
    try:
        return sql.rows(as_observer(dsn), "SELECT 1") == [(1,)]
    except adbc.Error:
        return False


# Tracks whose forecast of a run is stored, but not its history, or the other way round, or not equally.
APART = f"""
    WITH stored AS (
        SELECT r.id AS run_id, f.cm_track_id, array_agg(f.forecasted_value::float8 ORDER BY f.month) AS months
        FROM {FORECAST} f JOIN {RUNS.name} r ON r.started_at = f.created_at GROUP BY 1, 2
    ), said AS (
        SELECT DISTINCT ON (cm_track_id) run_id, cm_track_id, months FROM {HISTORY.name}
        WHERE months IS NOT NULL ORDER BY cm_track_id, run_id DESC)
    SELECT * FROM stored FULL JOIN said USING (run_id, cm_track_id)
    WHERE stored.months IS DISTINCT FROM said.months"""


def fill(dsn: Dsn) -> pl.DataFrame:
    """The golden catalogue in tables that would take a row twice; returns what a run has to store."""

    def make(new: Dsn) -> None:
        create_tables(new, streams_key="UNIQUE (cm_track_id, date)", forecast_key="")
        with connect(new) as connection:
            migrate(connection, "public", pending(connection, "public"))
            connection.commit()
        load(new, "public", streams=golden_streams(), mldr=golden_mldr())

    made_once(dsn, "golden_without_key", make)
    return golden_forecasts()


@cache
def golden_forecasts() -> pl.DataFrame:
    return in_frames(golden_streams(), golden_mldr())


def clear(dsn: Dsn) -> None:
    there = (
        f"SELECT tablename FROM pg_tables WHERE tablename IN ('{FORECAST}', '{RUNS.name}', '{HISTORY.name}')"
    )
    tables = ", ".join(table for (table,) in sql.rows(as_observer(dsn), there))
    sql.run(as_observer(dsn), f"TRUNCATE {tables} RESTART IDENTITY")


def whole_tracks(dsn: Dsn) -> int:
    """Number of tracks that are stored; fails if one of them has not each of its months once.

    Or if one has a forecast without its row in the history, or a row without its forecast.
    """
    wrong = sql.rows(
        as_observer(dsn),
        f"SELECT cm_track_id, count(*), count(DISTINCT month), max(month) FROM {FORECAST} GROUP BY 1 "
        f"HAVING (count(*), count(DISTINCT month), max(month)) <> ({HORIZON}, {HORIZON}, {HORIZON})",
    )
    assert wrong == []
    assert sql.rows(as_observer(dsn), APART) == []
    [(tracks,)] = sql.rows(as_observer(dsn), f"SELECT count(DISTINCT cm_track_id) FROM {FORECAST}")
    return int(tracks)


PASSWORD_MARKS = ("Sup3rS3cret", "T4ilOfIt")
PASSWORD = f" {PASSWORD_MARKS[0]}{string.punctuation}ä密🔑 %41 %2B{PASSWORD_MARKS[1]} "
"""In whatever way it is encoded: where it is, one of its marks is."""


@contextmanager
def guarded_by_password() -> Iterator[Dsn]:
    """A server of its own that asks for a password, on its socket and 127.0.0.1; the `Dsn` of the former.

    What is said to it, and by whom, is in its log.
    """
    with short_directory() as directory:
        with running_server(directory) as local:
            literal = PASSWORD.replace("'", "''")
            sql.run(local, f"CREATE ROLE guarded LOGIN SUPERUSER PASSWORD '{literal}'")
            sql.run(local, "CREATE DATABASE music")
            Path(local.host, "pg_hba.conf").write_text(
                "local all postgres trust\nlocal all all scram-sha-256\n"
            )
        with running_server(directory, settings=SETTINGS | {"log_connections": "on", "log_statement": "all"}):
            yield replace(local, user="guarded", dbname="music", password=PASSWORD)
