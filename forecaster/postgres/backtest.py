"""What a backtest reads in addition to the catalogue: MLDR as stored before a day, and later streams."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import polars as pl

from forecaster.frames.schemas import NEWEST_MLDR
from forecaster.postgres import statements
from forecaster.postgres.catalogue import Source, export_snapshot, warn_of_hidden_rows
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.look import look
from forecaster.postgres.rights import check_rights
from forecaster.tables import MLDR_TABLE, STREAMS_TABLE


def rates_before(source: Source, day: date) -> pl.DataFrame:
    """Read each artist's newest MLDR among those stored before the day (in UTC): `NEWEST_MLDR`.

    An artist is left out if that MLDR is not a finite number.
    """
    made = source.tables.instant(MLDR_TABLE)
    condition = f"{made} < '{day} 00:00+00'::timestamptz"
    frame = source.read(statements.newest_rates(source.tables, condition=condition))
    return frame.select(NEWEST_MLDR).drop_nulls()


@dataclass(frozen=True)
class LaterDays:
    """Later streams of some tracks, and the number of rows left out."""

    days: pl.DataFrame
    """One row per track and date: cm_track_id, date, daily_streams. In no order."""
    left_out: Mapping[str, int]
    """Rows by reason: other_tracks (not among the tracks asked for), duplicates (a newer row has the same
    track and date), unusable (no track, no date, or streams that are not a finite number)."""


@contextmanager
def open_actuals(dsn: Dsn, schema: str, table: str) -> Iterator[Source]:
    """Open a table of later streams, for `later_days` to read.

    Raises `SchemaMismatchError` if it is missing or lacks a column, `DatabaseError` if the user may not
    read it.
    """
    rights = {STREAMS_TABLE: ("SELECT",)}
    with connect(dsn, repeatable_read=True) as connection:
        seen = look(connection, schema, rights, streams=table)
        tables = seen.tables
        tables.check_actuals()
        check_rights(connection, tables, rights, seen.lacking)
        warn_of_hidden_rows(tables, STREAMS_TABLE)
        with Source(dsn, tables, export_snapshot(connection)).connected(connection) as source:
            yield source


def later_days(source: Source, track_ids: pl.Series) -> LaterDays:
    """Read the days of the tracks. Of several rows for a day, the newest counts, if columns tell which."""
    days = source.read_rows(statements.later_days(source.tables, track_ids))
    counts = source.read(statements.counts_of_later_rows(source.tables, track_ids))
    other_tracks, not_usable, usable = counts.row(0)
    return LaterDays(
        days.with_columns(pl.col("date").cast(pl.Int32).cast(pl.Date)),
        {"other_tracks": other_tracks, "duplicates": usable - len(days), "unusable": not_usable},
    )
