"""ADBC connections: opened, queried, and their errors turned into ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import adbc_driver_manager as adbc
import adbc_driver_postgresql.dbapi as driver
import polars as pl
from adbc_driver_manager.dbapi import Connection

from forecaster.dsn import Dsn
from forecaster.errors import DatabaseError, DatabaseUnreachableError, SchemaMismatchError

_REPEATABLE_READ = {
    "adbc.connection.transaction.isolation_level": "adbc.connection.transaction.isolation.repeatable_read"
}
_INSUFFICIENT_PRIVILEGE = "42501"


@contextmanager
def connect(dsn: Dsn, *, repeatable_read: bool = False) -> Iterator[Connection]:
    """A connection with one open transaction; whatever was not committed at the end is rolled back.

    Raises `DatabaseUnreachableError` if there is none to be had, `DatabaseError` for a statement that the
    server refuses.
    """
    try:
        connection = driver.connect(dsn.uri, conn_kwargs=_REPEATABLE_READ if repeatable_read else {})
    except adbc.Error as error:
        raise DatabaseUnreachableError(
            f"cannot connect to {dsn}: {_reason(dsn.redact(str(error)))}",
            hint="check the URL, that the server runs, and that it lets this user in",
        ) from None
    try:
        with statement_errors(dsn):
            yield connection
    finally:
        connection.close()


@contextmanager
def statement_errors(dsn: Dsn) -> Iterator[None]:
    """Turn what the driver raises into a `DatabaseError` without secrets in it."""
    try:
        yield
    except adbc.Error as error:
        message = _reason(dsn.redact(str(error)))
        state = error.sqlstate
        if state == _INSUFFICIENT_PRIVILEGE:
            raise DatabaseError(message, hint='grant it to this user (README, "Privileges")') from None
        raise DatabaseError(f"{message}{f' (SQLSTATE {state})' if state else ''}") from None


def query(connection: Connection, sql: str, parameters: tuple[Any, ...] = ()) -> pl.DataFrame:
    """The rows of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        frame: pl.DataFrame = cursor.fetch_polars()
        return frame


def execute(connection: Connection, sql: str) -> None:
    """Run one statement for its effect."""
    with connection.cursor() as cursor:
        cursor.execute(sql)


def quote_identifier(name: str) -> str:
    """`name` as an SQL identifier, whatever characters it has."""
    if not name or "\0" in name:
        raise SchemaMismatchError(f"{name!r} cannot be the name of a schema or table")
    return '"' + name.replace('"', '""') + '"'


def _reason(text: str) -> str:
    """The server's own words, on one line, without the driver's prefix."""
    for prefix in ("[libpq] Failed to connect: ", "Query: ", "[libpq] "):
        text = text.rpartition(prefix)[2] if prefix in text else text
    return " ".join(text.split())
