"""Rows to be stored in a table: converted to its types, given ids, and counted by the server."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import adbc_driver_manager as adbc
import polars as pl

from forecaster.errors import WriteRefusedError
from forecaster.frames import casting
from forecaster.frames.casting import Fitted, described
from forecaster.postgres.conditions import INSUFFICIENT_PRIVILEGE
from forecaster.postgres.connection import Connection, copy_in, execute, query, quote_identifier
from forecaster.postgres.tables import Tables
from forecaster.process.numbers import counted
from forecaster.tables import TABLES

_STAGE = "forecaster_rows"


@dataclass(frozen=True)
class Stored:
    """The result of a write."""

    rows: int
    taken: list[int]
    """Tracks or artists that got a result from another writer in the meantime, and none from us."""
    refused: Mapping[int, str] = field(default_factory=dict)
    """Tracks or artists whose rows the server refuses, with its reason."""


def uuid_bytes(text: pl.Expr) -> pl.Expr:
    """The 16 bytes of UUIDs that are text."""
    return text.str.replace_all("-", "", literal=True).str.decode("hex")


def fit(rows: pl.DataFrame, tables: Tables, table: str) -> Fitted:
    """Convert rows to the types of a table's columns, as `forecaster.frames.casting.fit` does."""
    may_be_null = TABLES[table].may_be_null if table in TABLES else frozenset()
    try:
        return casting.fit(rows, tables.columns[table], may_be_null=may_be_null)
    except WriteRefusedError as error:
        raise WriteRefusedError(f"{table}: {error}") from None


def fit_or_refuse(
    rows: pl.DataFrame, tables: Tables, table: str, *, by: str
) -> tuple[Fitted, dict[int, str]]:
    """Convert the rows of tracks or artists whose rows all fit; also return why the others do not."""
    return casting.fit_or_refuse(rows, lambda some: fit(some, tables, table), by=by)


def ingest(connection: Connection, tables: Tables, table: str, rows: pl.DataFrame) -> int:
    """Append rows to a table; return their number. The caller commits.

    Raises `WriteRefusedError` if a row does not fit, or the server stores another number of rows.
    """
    fitted = fit(rows, tables, table)
    if fitted.problems:
        problems = "\n  ".join(
            f"{problem} in {mask.sum()} of {counted(len(rows), 'row')}, "
            f"the first {described(rows.filter(mask))}"
            for problem, mask in fitted.problems.items()
        )
        raise WriteRefusedError(f"{table}: rows do not fit the columns; no row was stored:\n  {problems}")
    before = _inserted_so_far(connection, tables, table)
    append(connection, tables, table, fitted.rows)
    if before is not None:
        stored = (_inserted_so_far(connection, tables, table) or 0) - before
        if stored != len(rows):
            raise WriteRefusedError(
                f"{table}: the server stored {counted(stored, 'row')} instead of {len(rows):,}; all were "
                "rolled back",
                hint="look for a trigger or rule on the table that changes what is written",
            )
    return len(rows)


def append(connection: Connection, tables: Tables, table: str, rows: pl.DataFrame) -> None:
    """Append fitted rows to a table. The caller commits.

    Raises `WriteRefusedError` for a row that row security does not allow.
    """
    rows = with_ids(rows, tables, table)
    if table in tables.filtered:
        _append_as_allowed(connection, tables, table, rows)
    else:
        copy_in(connection, rows, table, schema=tables.schema)


def _append_as_allowed(connection: Connection, tables: Tables, table: str, rows: pl.DataFrame) -> None:
    """Append rows through a temporary table: the server refuses COPY into a table that has policies."""
    columns = ", ".join(map(quote_identifier, rows.columns))
    name = tables.name(table)
    execute(connection, f"CREATE TEMPORARY TABLE {_STAGE} AS SELECT {columns} FROM {name} WITH NO DATA")
    copy_in(connection, rows, _STAGE, schema=None, temporary=True)
    try:
        execute(connection, f"INSERT INTO {name} ({columns}) SELECT {columns} FROM pg_temp.{_STAGE}")
    except adbc.Error as error:
        if error.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        raise WriteRefusedError(
            f"{table}: row security does not allow this user to store all of {counted(len(rows), 'row')}; "
            "none of them was stored",
            hint="compute only what the policies of the table allow, or have its owner change them",
        ) from None
    execute(connection, f"DROP TABLE pg_temp.{_STAGE}")


def _inserted_so_far(connection: Connection, tables: Tables, table: str) -> int | None:
    """Count the rows that this transaction has inserted; None if the server does not count them.

    The driver only counts the rows that it sent.
    """
    count: int | None = query(
        connection,
        "SELECT sum(pg_stat_get_xact_tuples_inserted(relid))::bigint AS n FROM "
        "(SELECT $1::regclass AS relid UNION SELECT relid FROM pg_partition_tree($1::regclass)) AS part "
        "WHERE current_setting('track_counts')::boolean",
        (tables.name(table),),
    ).item()
    return count


def with_ids(rows: pl.DataFrame, tables: Tables, table: str) -> pl.DataFrame:
    """Add ids where the column needs them from us."""
    return rows.with_columns(id=_random_uuids(len(rows))) if needs_ids(tables, table) else rows


def needs_ids(tables: Tables, table: str) -> bool:
    """Whether the column of the ids needs UUIDs that, until now, an application has generated."""
    info = tables.columns[table]["id"]
    return info.type == "uuid" and info.not_null and not info.has_default


def _random_uuids(number: int) -> pl.Series:
    """Generate version 4 UUIDs, of 16 bytes each."""
    import pyarrow as pa  # noqa: PLC0415

    from forecaster.frames.arrays import np  # noqa: PLC0415 - few tables need it

    octets = np.frombuffer(os.urandom(16 * number), dtype=np.uint8).reshape(number, 16).copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    array = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), number, [None, pa.py_buffer(octets.tobytes())]
    )
    return pl.Series(pl.from_arrow(array.cast(pa.binary())))
