"""Daily streams and decay rates -> the two source tables, all rows or none."""

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from forecaster.dsn import Dsn
from forecaster.errors import WriteRefusedError
from forecaster.postgres.connection import Connection, commit, connect, integer_array, query
from forecaster.postgres.sink import ingest
from forecaster.postgres.tables import MLDR_TABLE, STREAMS_TABLE, Tables, check_rights, read_tables

_RIGHTS = {STREAMS_TABLE: ("SELECT", "INSERT"), MLDR_TABLE: ("INSERT",)}


@dataclass(frozen=True)
class Loaded:
    """Rows stored in each of the two tables."""

    streams: int = 0
    mldr: int = 0


def load(dsn: Dsn, schema: str, *, streams: pl.DataFrame | None, mldr: pl.DataFrame | None) -> Loaded:
    """Store rows as `forecaster.intake` returns them, in one transaction.

    Raises `WriteRefusedError` if a track and day of them is in the table already, or a value does not fit
    its column; `SchemaMismatchError`, `DatabaseUnreachableError`, `DatabaseError`.
    """
    created_at = datetime.now(UTC)
    given = {STREAMS_TABLE: streams, MLDR_TABLE: mldr}
    with connect(dsn) as connection:
        tables = read_tables(connection, schema)
        tables.check(*(table for table, rows in given.items() if rows is not None), to_write=True)
        check_rights(connection, tables, {t: _RIGHTS[t] for t, rows in given.items() if rows is not None})
        if streams is not None:
            _refuse_known_days(connection, tables, streams)
        stored = {
            table: ingest(connection, tables, table, rows.with_columns(created_at=created_at))
            for table, rows in given.items()
            if rows is not None
        }
        commit(connection)
    return Loaded(stored.get(STREAMS_TABLE, 0), stored.get(MLDR_TABLE, 0))


def _refuse_known_days(connection: Connection, tables: Tables, streams: pl.DataFrame) -> None:
    """The key on track and date would refuse them as well, but not every table out there has it."""
    day = tables.day_of_streams()
    known = query(
        connection,
        f"SELECT s.cm_track_id::bigint AS cm_track_id, {day} AS date FROM {tables.name(STREAMS_TABLE)} s "
        f"WHERE s.cm_track_id = ANY ({integer_array(streams['cm_track_id'].unique())}) "
        f"AND isfinite(s.date) AND {day} BETWEEN $1 AND $2",
        (streams["date"].min(), streams["date"].max()),
    )
    again = streams.join(known, on=["cm_track_id", "date"], how="semi").sort("cm_track_id", "date")
    if len(again):
        raise WriteRefusedError(
            f"{len(again)} of {len(streams)} rows are in {STREAMS_TABLE} already, the first for "
            f"track {again['cm_track_id'][0]} on {again['date'][0]}; nothing was stored",
            hint="load only the days that are new",
        )
