"""One writer at a time: an advisory lock that lasts as long as its connection."""

import re
import time
from datetime import UTC, datetime

import adbc_driver_manager as adbc

from forecaster.errors import LockedError
from forecaster.postgres.connection import Connection, client_name, commit, query, roll_back
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
_SET = """
    SELECT set_config(name, value, false)
    FROM (VALUES {}) AS wanted (name, value) JOIN pg_catalog.pg_settings USING (name)"""
# A lock has two numbers: our class, and that of the table. The application name is set first, so that it
# names the holder as soon as the lock is taken.
_TRY = """
    SELECT CASE WHEN set_config('application_name', $3, false) IS NOT NULL
                THEN pg_try_advisory_lock($1::int4, $2::regclass::oid::int8::bit(32)::int4) END"""
_HOLDER = """
    SELECT a.pid, a.application_name
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND l.classid::int8 = $1::int8 AND l.objid = $2::regclass::oid"""
_NAMED = re.compile(r"forecaster (?P<host>\S+) (?P<pid>\d+) (?P<since>\d{8}T\d{6}Z)")


def take_lock(
    connection: Connection, tables: Tables, *, table: str = FORECAST_TABLE, wait: float = 0.0
) -> str:
    """Lock a table against other runs that write to it, until the connection ends, however that happens.

    Returns the application name that the connection has from now on.

    Raises `LockedError`, which names the holder, if the lock is not free within `wait` seconds.
    """
    name_of_table = tables.name(table)
    deadline = time.monotonic() + wait
    _tie_to_this_process(connection)
    said = False
    while not _try(connection, name_of_table, name := _holders_name()):
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


def _tie_to_this_process(connection: Connection) -> None:
    """Have the server end the session when this process ends, but not earlier."""
    settings = [f"('{name}', '{value}')" for name, value in _LIFETIME.items()]
    if not _set(connection, ", ".join(settings)):  # its operating system does not support all of them
        for setting in settings:
            _set(connection, setting)


def _set(connection: Connection, settings: str) -> bool:
    """Change the settings that the server knows; return whether it accepts them."""
    try:
        query(connection, _SET.format(settings))
    except adbc.Error:
        roll_back(connection)
        return False
    commit(connection)
    return True


def _holders_name() -> str:
    return f"{client_name()} {datetime.now(UTC).strftime(_INSTANT)}"


def _try(connection: Connection, table: str, name: str) -> bool:
    taken = query(connection, _TRY, (_LOCK_CLASS, table, name)).item()
    commit(connection)
    return bool(taken)
