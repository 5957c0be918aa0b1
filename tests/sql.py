"""Statements run by the tests themselves, one at a time, each on a connection of its own."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import adbc_driver_manager as adbc
import adbc_driver_postgresql.dbapi as driver
import psycopg
from psycopg.types.string import TextLoader

from forecaster.postgres.dsn import Dsn


def run(dsn: Dsn, sql: str, *parameters: Any) -> None:
    """Execute one statement outside of any transaction block, so that CREATE DATABASE works as well."""
    if not parameters:
        with _executed(dsn, sql):
            return
    with driver.connect(dsn.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def rows(dsn: Dsn, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of one statement, which is committed."""
    if parameters:
        return adbc_rows(dsn, sql, *parameters)
    with _executed(dsn, sql) as cursor:
        return cursor.fetchall()


def adbc_rows(dsn: Dsn, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The same over the driver that `forecaster` writes with."""
    with driver.connect(dsn.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())


@contextmanager
def _executed(dsn: Dsn, sql: str) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
    """By Psycopg, which has no list of all types to read first: a tenth of ADBC's processor time.

    What it returns and raises is what ADBC does.
    """
    try:
        with psycopg.connect(dsn.uri, autocommit=True, client_encoding="UTF8") as connection:
            for name in ("numeric", "json", "jsonb"):
                connection.adapters.register_loader(name, TextLoader)
            yield connection.execute(sql)
    except psycopg.Error as error:
        raise adbc.OperationalError(str(error), status_code=adbc.AdbcStatusCode.IO) from error


def statements_of(dsn: Dsn, action: Callable[[], object]) -> list[str]:
    """About the data, as the server logs them."""
    log = Path(dsn.host).parent / "server.log"
    run(dsn, f"ALTER DATABASE {dsn.dbname} SET log_statement = 'all'")
    start = log.stat().st_size
    action()
    # Other tests have the server write names in other encodings.
    lines = log.read_bytes()[start:].decode(errors="replace")
    statements = re.findall(r"(?:statement|execute \S+): (.*(?:\n\t.*)*)", lines)
    return [s for s in statements if "backtest_" in s and "pg_catalog" not in s]
