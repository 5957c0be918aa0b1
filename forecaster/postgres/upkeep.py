"""Make the server take note of many new rows at once."""

import logging
from contextlib import suppress

import adbc_driver_manager as adbc

from forecaster.errors import ForecasterError
from forecaster.postgres.connection import connect, execute, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import Tables

_log = logging.getLogger("forecaster")

_MANY = 10_000
"""From this number on, it matters how rows are read."""
_MANY_TO_WAIT_FOR = 1_000_000
"""From this number on, a vacuum takes a second or more."""

# The share is that at which the server gathers statistics by itself. Only the owner of a table may vacuum it.
_OWNED_AND_NEW = """
    SELECT pg_has_role(c.relowner, 'USAGE') AND $3::float8 >= c.reltuples / 10
           AND NOT pg_is_in_recovery() AS is_due
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')"""


def vacuum(dsn: Dsn, tables: Tables, table: str, rows: int) -> None:
    """Vacuum a table if many rows for its size were stored; the next run then reads its index alone.

    The server does so by itself, but a minute later or more. What this user may not do is left to it.
    """
    if rows < _MANY:
        return
    with suppress(ForecasterError, adbc.Error), connect(dsn, begun=False) as connection:
        names = (tables.schema, tables.title(table), f"{rows}")
        if (True,) in query(connection, _OWNED_AND_NEW, names).rows():
            if rows >= _MANY_TO_WAIT_FOR:
                _log.info("vacuuming %s, so that runs read it fast", tables.title(table))
            execute(connection, f"VACUUM (ANALYZE, SKIP_LOCKED) {tables.name(table)}")
