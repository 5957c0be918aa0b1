"""One writer at a time: an advisory lock that lasts as long as its connection."""

import re
import time
from datetime import UTC, datetime

import adbc_driver_manager as adbc

from forecaster.errors import LockedError
from forecaster.postgres.conditions import OF_A_POOLER
from forecaster.postgres.connection import Connection, client_name, commit, query, roll_back
from forecaster.postgres.pooling import check_sessions
from forecaster.postgres.tables import Tables
from forecaster.process.logs import log
from forecaster.tables import FORECAST_TABLE

ENDS_WITHIN = 1.0
"""Seconds that the server needs to end a lost connection."""

_LOCK_CLASS = 0x666F7265  # "fore": avoids other programs' locks on the number of the same table
_POLL = 0.25  # seconds between two attempts
_INSTANT = "%Y%m%dT%H%M%SZ"

_LIFETIME = {
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    # Even while one of our statements waits, for example for a table that another program has locked.
    "client_connection_check_interval": "1s",
    # Even if the network drops everything: within two minutes, not after the system's two hours.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "15",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "120s",
}
# Changes nothing in a session that the pooler has given to another of our connections, $1.
_SET = """
    SELECT pg_backend_pid() AS pid, count(set_config(name, value, false)) AS changed
    FROM (VALUES {}) AS wanted (name, value) JOIN pg_catalog.pg_settings USING (name)
    WHERE pg_backend_pid() <> $1::int4"""
# A lock has two numbers: our class, and that of the table. The application name is set first, so that it
# names the holder as soon as the lock is taken. No lock is left behind in another session than $4.
_TRY = """
    SELECT pg_backend_pid() AS pid,
           CASE WHEN pg_backend_pid() = $4::int4 AND set_config('application_name', $3, false) IS NOT NULL
                THEN pg_try_advisory_lock($1::int4, $2::regclass::oid::int8::bit(32)::int4) END AS taken"""
_RELEASE = "SELECT pg_advisory_unlock($1::int4, $2::regclass::oid::int8::bit(32)::int4)"
_HOLDER = """
    SELECT a.pid, a.application_name
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND l.classid::int8 = $1::int8 AND l.objid = $2::regclass::oid"""
_NAMED = re.compile(r"forecaster (?P<host>\S+) (?P<pid>\d+) (?P<since>\d{8}T\d{6}Z)")


def take_lock(
    connection: Connection,
    tables: Tables,
    *,
    table: str = FORECAST_TABLE,
    wait: float = 0.0,
    besides: int | None = None,
) -> str:
    """Lock a table against other runs that write to it, until the connection ends, however that happens.

    `besides`: the server process of another connection, which has no transaction.

    Returns the application name that the connection has from now on.

    Raises `LockedError`, which names the holder, if the lock is not free within `wait` seconds;
    `PooledError` if the connection has no session of its own.
    """
    name_of_table = tables.name(table)
    deadline = time.monotonic() + wait
    pid = _tie_to_this_process(connection, besides or 0)
    check_sessions(pid, besides, None)
    said = False
    while not _try(connection, name_of_table, name := _holders_name(), pid):
        left = deadline - time.monotonic()
        if left <= 0:
            raise LockedError(
                f"another run is writing to {name_of_table}: "
                f"{holder(connection, name_of_table) or 'it has just ended'}",
                hint="let it finish, or wait for it with --wait SECONDS",
            )
        if not said and (by := holder(connection, name_of_table)):
            log.info("waiting for %s, which writes to %s", by, name_of_table)
            said = True
        time.sleep(min(_POLL, left))
    return name


def release_lock(connection: Connection, tables: Tables, *, table: str) -> None:
    """Release the lock of a connection that does not end its session, because a pooler keeps it."""
    query(connection, _RELEASE, (_LOCK_CLASS, tables.name(table)))
    commit(connection)


def holder(connection: Connection, table: str) -> str | None:
    """Describe the holder of the lock on a table, given by its quoted name; None if it is free."""
    found = query(connection, _HOLDER, (_LOCK_CLASS, table))
    commit(connection)
    if found.is_empty():
        return None
    backend, name = found.row(0)
    known = _NAMED.fullmatch(name or "")
    if known is None:
        return f"server process {backend} ({name or 'without a name'})"
    since = datetime.strptime(known["since"], _INSTANT).replace(tzinfo=UTC)
    return f"process {known['pid']} on host {known['host']}, since {since:%Y-%m-%d %H:%M:%S} UTC"


def _tie_to_this_process(connection: Connection, besides: int) -> int:
    """Have the server end the session when this process ends, but not earlier; return its server process."""
    settings = [f"('{name}', '{value}')" for name, value in _LIFETIME.items()]
    pid = _set(connection, ", ".join(settings), besides)
    if pid is None:  # its operating system does not support all of them
        pid = max(_set(connection, setting, besides) or 0 for setting in settings)
    return pid


def _set(connection: Connection, settings: str, besides: int) -> int | None:
    """Change the settings that the server knows; return its process, or None if it does not accept them."""
    try:
        pid = query(connection, _SET.format(settings), (besides,))["pid"].item()
    except adbc.Error as error:
        if error.sqlstate in OF_A_POOLER:
            raise
        roll_back(connection)
        return None
    commit(connection)
    return int(pid)


def _holders_name() -> str:
    return f"{client_name()} {datetime.now(UTC).strftime(_INSTANT)}"


def _try(connection: Connection, table: str, name: str, pid: int) -> bool:
    now, taken = query(connection, _TRY, (_LOCK_CLASS, table, name, pid)).row(0)
    check_sessions(pid, None, now)
    commit(connection)
    return bool(taken)
