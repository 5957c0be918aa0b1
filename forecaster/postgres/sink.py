"""Storing rows in PostgreSQL: the only module that ingests."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import adbc_driver_manager as adbc
import numpy as np
import polars as pl
import pyarrow as pa
from adbc_driver_manager.dbapi import Connection

from forecaster.errors import WriteRefusedError
from forecaster.postgres.connection import copy_in, execute, integer_array, query, quote_identifier
from forecaster.postgres.tables import FORECAST_TABLE, ColumnInfo, Tables
from forecaster.schema import Dtype

# What a column of each type takes. The driver copies bits without looking: a frame of another type would be
# stored as other numbers, without an error.
_INGESTED_AS: Mapping[str, Dtype] = {
    "smallint": pl.Int16,
    "integer": pl.Int32,
    "bigint": pl.Int64,
    "real": pl.Float32,
    "double precision": pl.Float64,
    "numeric": pl.Decimal(38, 0),
    "uuid": pl.Binary,
    "date": pl.Date,
    "timestamp with time zone": pl.Datetime("us", "UTC"),
    "timestamp without time zone": pl.Datetime("us"),
}

_UNIQUE_VIOLATION = "23505"
_STAGE = "forecaster_stage"


def uuid_bytes(text: pl.Expr) -> pl.Expr:
    """The 16 bytes of UUIDs written as text."""
    return text.str.replace_all("-", "", literal=True).str.decode("hex")


@dataclass(frozen=True)
class Fitted:
    """Rows as a table's columns take them."""

    rows: pl.DataFrame
    problems: Mapping[str, pl.Series]
    """What keeps rows from being stored, and which: "column: reason" -> a mask over the rows."""

    def by_track(self) -> dict[int, str]:
        """For each track with a row that cannot be stored, the first reason."""
        reasons: dict[int, str] = {}
        for reason, mask in self.problems.items():
            tracks = self.rows["cm_track_id"].filter(mask).unique().sort()
            reasons |= dict.fromkeys(tracks.to_list(), reason) | reasons
        return reasons


def fit(rows: pl.DataFrame, tables: Tables, table: str) -> Fitted:
    """Bring rows into the types of a table's columns, by name; numbers are narrowed or widened.

    A value that a column cannot hold (NULL, too large, a fraction) is a problem of its row. Raises
    `WriteRefusedError` for a column of another kind than the table's.
    """
    fitted = rows.select(
        _converted(pl.col(column), dtype, tables.type(table, column)) for column, dtype in rows.schema.items()
    )
    wrong = [
        f"{column}: {dtype} cannot be stored as {tables.type(table, column)}"
        for column, dtype in rows.schema.items()
        if not _same_kind(dtype, fitted.schema[column])
    ]
    if wrong:
        raise WriteRefusedError(f"{table}: " + "; ".join(wrong))
    problems: dict[str, pl.Series] = {}
    for column in rows.columns:
        problems |= _problems(rows[column], fitted[column], tables.columns[table][column])
    return Fitted(fitted, problems)


def ingest(connection: Connection, tables: Tables, table: str, rows: pl.DataFrame) -> int:
    """Append rows to a table, all or, with a `WriteRefusedError`, none. The caller commits."""
    fitted = fit(rows, tables, table)
    if fitted.problems:
        described = "\n  ".join(
            f"{problem} in {mask.sum()} of {len(rows)} rows, the first {_described(rows.filter(mask))}"
            for problem, mask in fitted.problems.items()
        )
        raise WriteRefusedError(f"{table}: the rows do not fit, and none was stored:\n  {described}")
    return _append(connection, tables, table, fitted.rows)


@dataclass(frozen=True)
class Stored:
    """What became of forecasts that were to be stored."""

    rows: int
    taken: list[int]
    """Tracks that got a forecast from another writer meanwhile, and none from us."""


def store_forecasts(
    connection: Connection, tables: Tables, forecasts: Fitted, /, *, horizon: int, replace: bool
) -> Stored:
    """Store forecasts of whole tracks in one transaction, and commit it.

    With `replace` the tracks' present forecasts are deleted in the same transaction. Raises
    `WriteRefusedError`, with nothing stored, if afterwards a track has not just its `horizon` rows.
    """
    rows = forecasts.rows
    tracks = rows["cm_track_id"].unique().sort()
    try:
        return _attempt(connection, tables, rows, tracks, horizon=horizon, replace=replace)
    except _ForeignRowsError:
        connection.rollback()
    # Another program, which knows nothing of our lock, has stored forecasts of the same tracks since we
    # looked. By way of a temporary table we can keep clear of them.
    return _attempt_around(connection, tables, rows, tracks, horizon=horizon, replace=replace)


class _ForeignRowsError(Exception):
    """There are rows of another writer where ours should be."""


def _attempt(
    connection: Connection,
    tables: Tables,
    rows: pl.DataFrame,
    tracks: pl.Series,
    *,
    horizon: int,
    replace: bool,
) -> Stored:
    if replace:
        _delete(connection, tables, tracks)
    try:
        stored = _append(connection, tables, FORECAST_TABLE, rows)
    except adbc.Error as error:
        if error.sqlstate == _UNIQUE_VIOLATION:
            raise _ForeignRowsError from None
        raise
    if _with_other_numbers_of_rows(connection, tables, tracks, horizon):
        raise _ForeignRowsError
    connection.commit()
    return Stored(stored, [])


def _attempt_around(
    connection: Connection,
    tables: Tables,
    rows: pl.DataFrame,
    tracks: pl.Series,
    *,
    horizon: int,
    replace: bool,
) -> Stored:
    target = tables.name(FORECAST_TABLE)
    rows = _with_ids(rows, tables, FORECAST_TABLE)
    columns = ", ".join(map(quote_identifier, rows.columns))
    execute(
        connection,
        f"CREATE TEMPORARY TABLE {_STAGE} ON COMMIT DROP AS SELECT {columns} FROM {target} WITH NO DATA",
    )
    copy_in(connection, rows, _STAGE, schema=None, temporary=True)
    if replace:
        _delete(connection, tables, tracks)
    # In the order of the key: two writers that insert in different orders would block each other.
    inserted = query(
        connection,
        f"WITH inserted AS (INSERT INTO {target} ({columns}) SELECT {columns} FROM pg_temp.{_STAGE} s "
        f"WHERE NOT EXISTS (SELECT FROM {target} f WHERE f.cm_track_id = s.cm_track_id) "
        "ORDER BY cm_track_id, month ON CONFLICT DO NOTHING RETURNING cm_track_id) "
        "SELECT DISTINCT cm_track_id::bigint AS cm_track_id FROM inserted ORDER BY 1",
    )["cm_track_id"]
    if wrong := _with_other_numbers_of_rows(connection, tables, inserted, horizon):
        connection.rollback()
        raise WriteRefusedError(
            f"{FORECAST_TABLE}: another program writes forecasts of the same tracks at the same time, the "
            f"first {wrong[0]}; nothing of this chunk was stored",
            hint="run again once it is done",
        )
    connection.commit()
    taken = tracks.filter(~tracks.is_in(inserted.implode())).to_list()
    return Stored(len(inserted) * horizon, taken)


def _delete(connection: Connection, tables: Tables, tracks: pl.Series) -> None:
    target = tables.name(FORECAST_TABLE)
    execute(connection, f"DELETE FROM {target} WHERE cm_track_id = ANY ({integer_array(tracks)})")


def _with_other_numbers_of_rows(
    connection: Connection, tables: Tables, tracks: pl.Series, horizon: int
) -> list[int]:
    """Tracks of which there are more or fewer rows than their months, as the server has them now."""
    counts = query(
        connection,
        f"SELECT t.id AS cm_track_id FROM unnest({integer_array(tracks)}) AS t (id) "
        f"LEFT JOIN {tables.name(FORECAST_TABLE)} f ON f.cm_track_id = t.id "
        "GROUP BY t.id HAVING count(f.month) <> $1 ORDER BY 1",
        (horizon,),
    )
    return counts["cm_track_id"].to_list()


def _append(connection: Connection, tables: Tables, table: str, rows: pl.DataFrame) -> int:
    stored = copy_in(connection, _with_ids(rows, tables, table), table, schema=tables.schema)
    if stored != len(rows):
        raise WriteRefusedError(f"{table}: {stored} of {len(rows)} rows were stored; nothing is kept")
    return stored


def _with_ids(rows: pl.DataFrame, tables: Tables, table: str) -> pl.DataFrame:
    """Ids for databases whose application makes them."""
    info = tables.columns[table]["id"]
    makes_its_own = info.type != "uuid" or not info.not_null or info.has_default
    return rows if makes_its_own else rows.with_columns(id=_random_uuids(len(rows)))


def _converted(column: pl.Expr, dtype: pl.DataType, type_: str) -> pl.Expr:
    """The column as the type takes it; a value that it cannot hold becomes NULL."""
    target = _INGESTED_AS[type_]
    if dtype.is_float() and type_ == "numeric":
        # By way of its digits: straight from the bits, the last of 17 would differ.
        return column.cast(pl.String).cast(pl.Decimal(38, 22), strict=False)
    if dtype == pl.Date and isinstance(target, pl.Datetime):
        return column.cast(pl.Datetime("us")).dt.replace_time_zone(target.time_zone)
    if isinstance(dtype, pl.Datetime) and target == pl.Datetime("us"):
        return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return column.cast(target, strict=False)


def _problems(values: pl.Series, fitted: pl.Series, info: ColumnInfo) -> dict[str, pl.Series]:
    lost = fitted.is_null() & values.is_not_null()
    if values.dtype.is_float() and fitted.dtype.is_integer():
        lost |= (fitted.cast(values.dtype) != values).fill_null(value=False)
    found = {f"{values.name}: a value that does not fit {info.type}": lost}
    if info.not_null:
        found[f"{values.name}: NULL, and the column is NOT NULL"] = values.is_null()
    return {problem: mask for problem, mask in found.items() if mask.any()}


def _same_kind(dtype: pl.DataType, target: pl.DataType) -> bool:
    return (
        (dtype.is_numeric() and target.is_numeric())
        or (dtype.is_temporal() and target.is_temporal())
        or dtype in (target, pl.Null)
    )


def _described(rows: pl.DataFrame) -> str:
    return ", ".join(f"{column} {value}" for column, value in rows.row(0, named=True).items())


def _random_uuids(number: int) -> pl.Series:
    """Version 4 UUIDs as 16 bytes each."""
    octets = np.frombuffer(os.urandom(16 * number), dtype=np.uint8).reshape(number, 16).copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    array = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), number, [None, pa.py_buffer(octets.tobytes())]
    )
    return pl.Series(pl.from_arrow(array.cast(pa.binary())))
