"""Statements run by the tests themselves, one at a time, each on a connection of its own."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as driver

from forecaster.dsn import Dsn


def run(dsn: Dsn, sql: str, *parameters: Any) -> None:
    """Execute one statement outside of any transaction block, so that CREATE DATABASE works as well."""
    with driver.connect(dsn.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)


def rows(dsn: Dsn, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of one statement, which is committed."""
    with driver.connect(dsn.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())


def statements_of(dsn: Dsn, action: Callable[[], object]) -> list[str]:
    """About the data, as the server logs them."""
    log = Path(dsn.host).parent / "server.log"
    run(dsn, f"ALTER DATABASE {dsn.dbname} SET log_statement = 'all'")
    start = log.stat().st_size
    action()
    statements = re.findall(r"(?:statement|execute \S+): (.*(?:\n\t.*)*)", log.read_text()[start:])
    return [s for s in statements if "backtest_" in s and "pg_catalog" not in s]
