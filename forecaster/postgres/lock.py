"""One writer at a time: an advisory lock that lasts as long as its connection."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import adbc_driver_manager as adbc

from forecaster.errors import LockedError
from forecaster.postgres.conditions import OF_A_POOLER
from forecaster.postgres.connection import Connection, each_committed, query
from forecaster.postgres.early import client_name
from forecaster.postgres.pooling import check_sessions
from forecaster.postgres.tables import Tables
from forecaster.process.logs import log
from forecaster.tables import FORECAST_TABLE

ENDS_WITHIN = 1.0
"""Seconds that the server needs to end a lost connection."""

_LOCK_CLASS = 0x666F7265  # "fore": avoids other programs' locks on the number of the same table
_POLL = 0.25  # seconds between two attempts
_INSTANT = "%Y%m%dT%H%M%SZ"

_OF_SESSION = {
    "default_transaction_isolation": "read committed",
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
"""Have the server end the session when this process ends, but not earlier."""
# Changes nothing in a session that the pooler has given to another of our connections, $5, or that is not the
# one of the attempt before, $4. A lock has two numbers: our class, and that of the table. The application
# name is set first, so that it names the holder as soon as the lock is taken.
_TRY = """
    SELECT pg_backend_pid() AS pid,
           CASE WHEN pg_backend_pid() <> $5::int4 AND $4::int4 IN (0, pg_backend_pid()) THEN
               CASE WHEN (SELECT count(set_config(name, value, false))
                          FROM (VALUES ('application_name', $3){settings}) AS wanted (name, value)
                          JOIN pg_catalog.pg_settings USING (name)) > 0
                    THEN pg_try_advisory_lock($1::int4, $2::regclass::oid::int8::bit(32)::int4) END
           END AS taken"""
_SET = "SELECT set_config(name, $2, false) FROM pg_catalog.pg_settings WHERE name = $1"
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
    with each_committed(connection):
        attempts = _Attempts(connection, tables.name(table), besides or 0)
        return attempts.until(time.monotonic() + wait)


def release_lock(connection: Connection, tables: Tables, *, table: str) -> None:
    """Release the lock of a connection that does not end its session, because a pooler keeps it."""
    with each_committed(connection):
        query(connection, _RELEASE, (_LOCK_CLASS, tables.name(table)))


def holder(connection: Connection, table: str) -> str | None:
    """Describe the holder of the lock on a table, given by its quoted name; None if it is free."""
    found = query(connection, _HOLDER, (_LOCK_CLASS, table))
    if found.is_empty():
        return None
    backend, name = found.row(0)
    known = _NAMED.fullmatch(name or "")
    if known is None:
        return f"server process {backend} ({name or 'without a name'})"
    since = datetime.strptime(known["since"], _INSTANT).replace(tzinfo=UTC)
    return f"process {known['pid']} on host {known['host']}, since {since:%Y-%m-%d %H:%M:%S} UTC"


@dataclass
class _Attempts:
    """Attempts to lock a table, given by its quoted name, in one session."""

    connection: Connection
    table: str
    besides: int
    """The server process of another connection; 0: none."""
    pid: int = 0
    """The server process of the session; 0: not known yet."""

    def until(self, deadline: float) -> str:
        """Take the lock; return the name of its holder."""
        is_taken, name = self._first()
        said = False
        while not is_taken:
            left = deadline - time.monotonic()
            by = holder(self.connection, self.table) if left <= 0 or not said else None
            if left <= 0:
                raise LockedError(
                    f"another run is writing to {self.table}: {by or 'it has just ended'}",
                    hint="let it finish, or wait for it with --wait SECONDS",
                )
            if by:
                log.info("waiting for %s, which writes to %s", by, self.table)
                said = True
            time.sleep(min(_POLL, left))
            is_taken, name = self._next()
        return name

    def _first(self) -> tuple[bool, str]:
        try:
            return self._next("".join(f", ('{name}', '{value}')" for name, value in _OF_SESSION.items()))
        except adbc.Error as error:
            if error.sqlstate in OF_A_POOLER:
                raise
        for setting in _OF_SESSION.items():  # the server's operating system does not support all of them
            with suppress(adbc.Error):
                query(self.connection, _SET, setting)
        return self._next()

    def _next(self, settings: str = "") -> tuple[bool, str]:
        name = f"{client_name()} {datetime.now(UTC).strftime(_INSTANT)}"
        values = (_LOCK_CLASS, self.table, name, self.pid, self.besides)
        now, is_taken = query(self.connection, _TRY.format(settings=settings), values).row(0)
        check_sessions(self.pid or now, self.besides, now)
        self.pid = now
        return bool(is_taken), name
