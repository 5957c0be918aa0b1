"""Statements run by the tests themselves, one at a time, each on a connection of its own."""

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
