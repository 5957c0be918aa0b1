"""Daily streams, decay rates and listeners -> the source tables, all rows or none."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from forecaster.dsn import Dsn
from forecaster.errors import StalledError, WriteRefusedError
from forecaster.postgres.connection import Connection, commit, connect, integer_array, not_again, query
from forecaster.postgres.sink import ingest
from forecaster.postgres.tables import (
    LISTENERS_TABLE,
    MLDR_TABLE,
    STREAMS_TABLE,
    Tables,
    check_rights,
    read_tables,
)

# Of whom there may be one row per day.
_OF_WHOM: Mapping[str, tuple[str, str]] = {
    STREAMS_TABLE: ("cm_track_id", "track"),
    LISTENERS_TABLE: ("cm_artist_id", "artist"),
}


@dataclass(frozen=True)
class Loaded:
    """Rows stored in each of the tables."""

    streams: int = 0
    mldr: int = 0
    listeners: int = 0


def load(
    dsn: Dsn,
    schema: str,
    *,
    streams: pl.DataFrame | None = None,
    mldr: pl.DataFrame | None = None,
    listeners: pl.DataFrame | None = None,
) -> Loaded:
    """Store rows as `forecaster.intake` returns them, in one transaction.

    Raises `WriteRefusedError` if a day of them is in the table already, or a value does not fit its column;
    `SchemaMismatchError`, `DatabaseUnreachableError`, `DatabaseError`.
    """
    created_at = datetime.now(UTC)
    given = {
        table: rows
        for table, rows in ((STREAMS_TABLE, streams), (MLDR_TABLE, mldr), (LISTENERS_TABLE, listeners))
        if rows is not None
    }
    with connect(dsn) as connection:
        tables = read_tables(connection, schema)
        tables.check(*given, to_write=given)
        rights = {table: ("SELECT", "INSERT") if table in _OF_WHOM else ("INSERT",) for table in given}
        check_rights(connection, tables, rights)
        for table in given.keys() & _OF_WHOM.keys():
            _refuse_known_days(connection, tables, table, given[table])
        stored = {
            table: ingest(connection, tables, table, rows.with_columns(created_at=created_at))
            for table, rows in given.items()
        }
        try:
            commit(connection)
        except StalledError as error:
            raise not_again(error, "all rows are stored or none: look before you load them again") from None
    return Loaded(*(stored.get(table, 0) for table in (STREAMS_TABLE, MLDR_TABLE, LISTENERS_TABLE)))


def _refuse_known_days(connection: Connection, tables: Tables, table: str, rows: pl.DataFrame) -> None:
    """The key on who and date would refuse them as well, but not every table out there has it."""
    (who, noun), day = _OF_WHOM[table], tables.day(table)
    known = query(
        connection,
        f"SELECT s.{who}::bigint AS {who}, {day} AS date FROM {tables.name(table)} s "
        f"WHERE s.{who} = ANY ({integer_array(rows[who].unique())}) "
        f"AND isfinite(s.date) AND {day} BETWEEN $1 AND $2",
        (rows["date"].min(), rows["date"].max()),
    )
    again = rows.join(known, on=[who, "date"], how="semi").sort(who, "date")
    if len(again):
        raise WriteRefusedError(
            f"{len(again)} of {len(rows)} rows are in {table} already, the first for "
            f"{noun} {again[who][0]} on {again['date'][0]}; nothing was stored",
            hint="load only the days that are new",
        )
