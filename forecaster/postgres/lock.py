"""One writer at a time: an advisory lock for as long as a connection lives."""

import re
import time
from datetime import UTC, datetime

from adbc_driver_manager.dbapi import Connection

from forecaster.errors import LockedError
from forecaster.postgres.connection import client_name, query
from forecaster.postgres.tables import FORECAST_TABLE, Tables

_LOCK_CLASS = 0x666F7265  # "fore": keeps clear of other programs' locks on the same table's number
_POLL = 0.25  # seconds between two tries
_INSTANT = "%Y%m%dT%H%M%SZ"

# A lock has two numbers: ours, and that of the table.
_TABLE_NUMBER = "$2::regclass::oid::int8::bit(32)::int4"
_TRY = f"SELECT pg_try_advisory_lock($1::int4, {_TABLE_NUMBER})"
_HOLDER = """
    SELECT a.pid, a.application_name
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND l.classid::int8 = $1::int8 AND l.objid = $2::regclass::oid"""
_NAMED = re.compile(r"forecaster (?P<host>\S+) (?P<pid>\d+) (?P<since>\d{8}T\d{6}Z)")


def take_lock(connection: Connection, tables: Tables, *, wait: float = 0.0) -> None:
    """Lock the forecast table against other runs until the connection ends, however it ends.

    Raises `LockedError`, which says who holds it, if it is not free within `wait` seconds.
    """
    table = tables.name(FORECAST_TABLE)
    deadline = time.monotonic() + wait
    while not _try(connection, table):
        left = deadline - time.monotonic()
        if left <= 0:
            raise LockedError(
                f"another run is writing to {table}: {_holder(connection, table)}",
                hint="let it finish; --wait SECONDS waits for it",
            )
        time.sleep(min(_POLL, left))
    # So that the next one can say it.
    name = f"{client_name()} {datetime.now(UTC).strftime(_INSTANT)}"
    query(connection, "SELECT set_config('application_name', $1, false)", (name,))
    connection.commit()


def _try(connection: Connection, table: str) -> bool:
    taken = query(connection, _TRY, (_LOCK_CLASS, table)).item()
    connection.commit()
    return bool(taken)


def _holder(connection: Connection, table: str) -> str:
    found = query(connection, _HOLDER, (_LOCK_CLASS, table))
    connection.commit()
    if found.is_empty():
        return "it has just ended"
    backend, name = found.row(0)
    known = _NAMED.fullmatch(name or "")
    if known is None:
        return f"server process {backend} ({name or 'without a name'})"
    since = datetime.strptime(known["since"], _INSTANT).replace(tzinfo=UTC)
    return f"process {known['pid']} on host {known['host']}, since {since:%Y-%m-%d %H:%M:%S} UTC"
