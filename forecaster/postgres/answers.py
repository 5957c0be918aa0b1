"""Questions about the server and its catalogue: several in one statement, and so in one snapshot."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import adbc_driver_manager as adbc

from forecaster.errors import SchemaMismatchError
from forecaster.postgres.conditions import NOT_IN_ENCODING
from forecaster.postgres.connection import Connection, query

Rows = Sequence[tuple[Any, ...]]
"""Rows of an answer: texts, numbers, truth values, NULL, and lists of these."""


def answers(connection: Connection, questions: Mapping[str, str], names: tuple[str, ...]) -> dict[str, Rows]:
    """Ask several SELECTs at once, in two round trips; return the rows of each. Raises as `look_up` does."""
    # Without the names of the columns, the answer fits into what a new connection sends at once.
    values = "(SELECT json_agg(v.value) FROM json_each(row_to_json(r)) AS v)"
    each = ", ".join(
        f"(SELECT json_agg({values}) FROM ({sql}) AS r)::text AS {about}" for about, sql in questions.items()
    )
    [found] = look_up(connection, f"SELECT {each}", names)
    return {
        about: [tuple(row) for row in json.loads(text or "[]")]
        for about, text in zip(questions, found, strict=True)
    }


def look_up(connection: Connection, sql: str, names: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    """Run a statement on the server's system catalogue, with names as parameters; yield its rows.

    Raises `SchemaMismatchError` for a name that the database's encoding cannot hold.
    """
    try:
        yield from query(connection, sql, names).iter_rows()
    except adbc.Error as error:
        if error.sqlstate not in NOT_IN_ENCODING:
            raise
        raise SchemaMismatchError(
            f"the database cannot hold the name {' or '.join(repr(n) for n in names if not n.isascii())}: "
            "its encoding lacks a character",
            hint="choose another name, or use a database in UTF8",
        ) from None
