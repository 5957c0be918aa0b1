"""Read the catalogue from PostgreSQL, in one snapshot."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

import polars as pl

from forecaster.frames.schemas import NEWEST_MLDR, RECORDS, RECORDS_WITH_DAYS, TRACK_FACTS
from forecaster.postgres import statements
from forecaster.postgres.connection import (
    Connection,
    connect,
    query,
)
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.look import look
from forecaster.postgres.pooling import check_sessions
from forecaster.postgres.readers import CONNECTIONS, READ_LONG, Readers
from forecaster.postgres.rights import check_rights, warnings_of_hidden_rows
from forecaster.postgres.stall import hang_up
from forecaster.postgres.stored import stored_months
from forecaster.postgres.tables import Tables
from forecaster.postgres.whole_rows import WholeRows
from forecaster.postgres.wire import packed_ids, unpacked, unpacked_ids
from forecaster.process.signals import Cancel, both
from forecaster.tables import (
    FORECAST_TABLE,
    HISTORY,
    RUNS,
    STORED_FORECASTS,
    STREAMS_TABLE,
    TO_FORECAST,
    TRACK_DAYS,
)

AT_ONCE = 10_000
"""Tracks that are read at once where nothing is stored."""

_log = logging.getLogger("forecaster")

_SOME = 200  # tracks whose last days tell which days a scan has to keep
_RECORDED = {
    RUNS.name: ("id", "started_at", "outcome"),
    HISTORY.name: ("run_id", "cm_track_id", "as_of", "months"),
}
_LAST = (date.max - date(1970, 1, 1)).days  # the last day that Python knows


def export_snapshot(connection: Connection, *, first: int | None = None) -> str:
    """Export the snapshot of a repeatable-read transaction. Its name is valid until the transaction ends.

    Raises `PooledError` if the connection was served by another server process, `first`, before.
    """
    sql = f"""
        SELECT pg_export_snapshot() AS name, pg_backend_pid() AS pid, {READ_LONG}"""
    name, pid, _ = query(connection, sql).row(0)
    check_sessions(first or pid, None, pid)
    return str(name)


@contextmanager
def open_source(dsn: Dsn, schema: str, *, needed: Sequence[str] = TO_FORECAST) -> "Iterator[Source]":
    """Open the tables of a schema, as they are now, for reading only.

    Raises `SchemaMismatchError` if the `needed` tables do not fit, `DatabaseError` if the user may not read
    them.
    """
    rights = dict.fromkeys(needed, ("SELECT",))
    with connect(dsn, repeatable_read=True) as connection:
        seen = look(connection, schema, rights)
        tables = seen.tables
        tables.check(*needed, to_write=())
        check_rights(connection, tables, rights, seen.lacking)
        warn_of_hidden_rows(tables, *needed)
        with Source(dsn, tables, export_snapshot(connection)).connected(connection) as source:
            yield source


def warn_of_hidden_rows(tables: Tables, *read: str) -> None:
    """Log a warning if this user may not see all rows of the tables to read."""
    for warning in warnings_of_hidden_rows(tables, *read):
        _log.warning("%s", warning)


@dataclass(frozen=True)
class History:
    """Input of the model: `RECORDS` and `TRACK_FACTS` of some tracks, and the number of rows left out."""

    records: pl.LazyFrame
    facts: pl.LazyFrame
    duplicates: int
    """Rows left out because a newer row has the same track and date."""


@dataclass(frozen=True)
class Source:
    """The three tables in one exported snapshot, read on several connections."""

    dsn: Dsn
    tables: Tables
    snapshot: str
    """From `export_snapshot`."""
    readers: Readers | None = field(default=None, repr=False, compare=False)
    """The connections that are kept; None: each read has its own."""

    @contextmanager
    def connected(
        self, exporter: Connection | None = None, *, spare: Callable[[], Connection] | None = None
    ) -> "Iterator[Source]":
        """Keep the connections that read until the end of the block.

        `exporter`: the one that exported the snapshot, to be one of them; `spare`: waits for another one that
        is being opened, which gets the snapshot while the caller goes on.
        """
        with Readers(self.dsn, self.snapshot, exporter, spare=spare) as readers:
            if spare:
                readers.open_ahead()
            yield replace(self, readers=readers)

    @property
    def cancel(self) -> Cancel:
        """Return how to end the reads in progress on the connections that are kept."""
        if self.readers is None:
            return Cancel([], partial(hang_up, self.dsn))
        return Cancel([self.readers.cancel], self.readers.cut)

    def tracks(self, track_ids: Sequence[int] | pl.Series | None = None) -> pl.Series:
        """Find the tracks that have a row of streams, in ascending order; only `track_ids`, if given."""
        layout = self.tables.layout
        if track_ids is not None:
            found = [statements.tracks_among(self.tables, track_ids)]
        elif self.reads_by_index and (layout is None or layout.costs_of_ids().favour_index):
            found = statements.all_tracks_by_index(self.tables)
        else:
            found = [statements.all_tracks(self.tables)]
        ids = [f"SELECT {packed_ids('t.id')} FROM ({sql}) AS t" for sql in found]
        return unpacked_ids(self.read(ids)).sort()

    def stored(self, track_ids: Sequence[int] | pl.Series | None = None) -> pl.DataFrame:
        """Describe the stored forecasts: one row per track that has some, with columns of `stored_months`."""
        among = statements.among(self.tables, FORECAST_TABLE, track_ids)
        return self.read(f"{stored_months(self.tables)} AND {among} GROUP BY 1")

    def rows_without_track(self) -> int:
        """Count the rows of streams that name no track, and so are in no forecast."""
        if self.tables.columns[STREAMS_TABLE]["cm_track_id"].not_null:
            return 0
        return int(self.read(statements.rows_without_track(self.tables))["n"][0])

    def mldr(self, *, until: date | None = None) -> pl.LazyFrame:
        """Read each artist's newest MLDR: `NEWEST_MLDR`. A value that is not a finite number becomes NULL.

        `until`: as if none had been created after that day.
        """
        condition = statements.rated_up_to(self.tables, until)
        newest = self.read(statements.newest_rates(self.tables, condition=condition))
        return newest.lazy().select(NEWEST_MLDR)

    def every_mldr(self) -> pl.LazyFrame:
        """Read all MLDRs of artists, also older ones: `ARTIST_MLDR`. One that is not finite becomes NULL."""
        every = self.read(statements.all_rates(self.tables))
        return every.with_columns(pl.col("created_at").cast(pl.Datetime("us", "UTC"))).lazy()

    def unusable_rows(self, track_ids: pl.Series) -> int:
        """Count the rows of these tracks that are not records, such as those with NULL streams."""
        sql = statements.unusable_rows(self.tables, track_ids)
        return int(self.read(sql)["n"][0])

    def history(self, track_ids: pl.Series, *, with_days: bool = False, until: date | None = None) -> History:
        """Read, in parallel, the last 365 records of each track as one array, and its facts.

        `with_days`: also the days of the records; `until`: as if no later day existed.
        """
        statement: Callable[..., str] = statements.history_by_index
        if not self.reads_by_index:
            statement = statements.history_in_one_pass
        elif (after := self.scanned_after(track_ids, until)) is not None:
            layout = self.tables.layout
            whole = (
                layout is not None and not layout.costs_of_first(len(track_ids) / CONNECTIONS).favour_index
            )
            statement = partial(statements.history_by_scan, after=after, whole=whole)
        if with_days or until:
            statement = partial(statement, with_days=with_days, until=until)
        wire = self.read(self._of(statement, track_ids))
        return History(_records(unpacked(wire)), _facts(wire), duplicates=int(wire["duplicates"].sum()))

    def last_day(self) -> date | None:
        """Find the last day on which any track has a record; None if none has."""
        layout = self.tables.layout
        by_index = self.reads_by_index and (layout is None or layout.costs_of_ids().favour_index)
        found = self.read(
            statements.last_day_by_index(self.tables)
            if by_index
            else statements.last_day_in_one_pass(self.tables)
        )
        day = pl.col("day").max().clip(upper_bound=_LAST)
        last: date | None = found.select(day.cast(pl.Int32).cast(pl.Date)).item()
        return last

    def ends(self, track_ids: pl.Series) -> pl.DataFrame:
        """Group the tracks by the day of their last record: day (since 1970-01-01), number, first (ids)."""
        by_index = self.reads_by_index
        statement = statements.ends_by_index if by_index else statements.ends_in_one_pass
        return self.read(statement(self.tables, track_ids))

    def daily(self, track_id: int) -> pl.DataFrame:
        """Read the days on which a track has a record: date, daily_streams; one row per day, in order."""
        days = self.read(statements.days_of_one(self.tables, track_id))
        return days.select(pl.col("day").cast(pl.Int32).cast(pl.Date).alias("date"), "daily_streams")

    def days(self, track_ids: pl.Series) -> pl.DataFrame:
        """Read, in parallel, every record of the tracks: `TRACK_DAYS`, in no order."""
        by_index = not self.scans(len(track_ids), whole=True)
        statement = statements.days_by_index if by_index else statements.days_in_one_pass
        wire = self.read_rows(self._of(statement, track_ids))
        if by_index:  # rows sent as arrays take half the time
            wire = wire.filter(pl.col("date").is_not_null()).explode(
                [name for name in TRACK_DAYS if name != "cm_track_id"]
            )
        return wire.with_columns(pl.col("date").cast(pl.Int32).cast(pl.Date)).select(TRACK_DAYS)

    def packed_records(self, track_ids: pl.Series, until: date) -> pl.DataFrame | None:
        """Read, in parallel, the records of the tracks up to a day; one row per track that has some.

        Columns: see `statements.records_by_index`. None where an index would not find them quickly.
        """
        if self.scans(len(track_ids), whole=True):
            return None
        return self.read(self._of(partial(statements.records_by_index, until=until), track_ids))

    def rows(self, track_ids: pl.Series) -> pl.DataFrame:
        """Read, in parallel, the tracks' rows as they are stored, in the types of `DAILY_STREAMS`.

        A value that is not a finite number, or not a date of the calendar, is NULL. Ordered by track and
        date.
        """
        wire = self.read_rows(self._of(statements.rows, track_ids))
        return wire.select(
            pl.col("training_data_id").alias("id"),
            "cm_track_id",
            "cm_artist_id",
            pl.col("date").cast(pl.Int32, strict=False).cast(pl.Date),
            "daily_streams",
            "days_from_release",
            pl.col("created_at").cast(pl.Datetime("us", "UTC")),
        ).sort("cm_track_id", "date")

    def forecasts(self, track_ids: Sequence[int] | pl.Series | None = None) -> pl.DataFrame:
        """Read the stored rows that name a track and a month, ordered by both: `STORED_FORECASTS`."""
        return self.read_rows(statements.forecasts(self.tables, track_ids)).select(
            *(name for name in STORED_FORECASTS if name != "created_at"),
            pl.col("created_at").cast(pl.Datetime("us", "UTC")),
        )

    def cutoffs(self, track_ids: Sequence[int] | pl.Series) -> pl.DataFrame:
        """Find the last day that the stored forecast of each track can have known: one row per track.

        cm_track_id; cutoff: the last date among the rows that existed when the forecast was stored, or
        among all rows if none did; is_known: whether one did.
        """
        by_index = self.reads_by_index
        statement = statements.cutoffs_by_index if by_index else statements.cutoffs_in_one_pass
        days = self.read(statement(self.tables, track_ids))
        return days.select(
            "cm_track_id",
            cutoff=pl.coalesce("known_day", "last_day").cast(pl.Int32).cast(pl.Date),
            is_known=pl.col("known_day").is_not_null(),
        )

    def recorded_days(self, track_ids: Sequence[int] | pl.Series) -> pl.DataFrame:
        """Read the as-of day of stored forecasts from the history: cm_track_id and as_of (Date).

        Without the forecasts that no run recorded, and without any if this user cannot read the history.
        """
        if not self.tables.shows(_RECORDED):
            return pl.DataFrame(schema={"cm_track_id": pl.Int64, "as_of": pl.Date})
        days = self.read(statements.recorded_days(self.tables, track_ids))
        return days.select("cm_track_id", as_of=pl.col("day").cast(pl.Int32).cast(pl.Date))

    @property
    def reads_by_index(self) -> bool:
        """Whether streams have one row per track and day, and an index that finds a track's newest rows."""
        return self.tables.has_day_key(STREAMS_TABLE)

    def scans(self, tracks: int, *, whole: bool = False) -> bool:
        """Whether the last records of so many tracks are read by a scan; `whole`: all their records."""
        layout = self.tables.layout
        if not self.reads_by_index or layout is None:
            return not self.reads_by_index
        costs = layout.costs(tracks, scans=CONNECTIONS, whole=whole)
        way = "by index" if costs.favour_index else "by a scan"
        _log.debug(
            "%d tracks are read %s: by index %.3f s, by a scan %.3f s", tracks, way, costs.index, costs.scan
        )
        return not costs.favour_index

    def scanned_after(self, track_ids: pl.Series, until: date | None = None) -> int | None:
        """Find the day after which a scan keeps the last records of tracks, if it costs less than lookups.

        A track of which these records are not all that counts is looked up as well.
        """
        layout = self.tables.layout
        if layout is None or not self.scans(len(track_ids)):
            return None
        some = track_ids.gather_every(-(-len(track_ids) // _SOME))
        day, share = self.read(statements.newest_day(self.tables, some, until)).row(0)
        costs = layout.costs(len(track_ids), scans=CONNECTIONS)
        _log.debug("a scan reads %s of the tracks", "none" if day is None else f"{share or 0:.0%}")
        return int(day) if costs.index * (share or 0) > costs.scan else None

    def read(self, sql: str | Sequence[str]) -> pl.DataFrame:
        """Read what a statement selects on the snapshot; two run at the same time, into one frame.

        Raises `ConnectionLostError`, `StalledError` or `DatabaseUnreachableError` if the server is gone,
        `DatabaseError` for a statement that it refuses.
        """
        if self.readers is None:
            with self.connected() as source:
                return source.read(sql)
        read = self.readers.read
        if isinstance(sql, str) or len(sql) == 1:
            return read(sql if isinstance(sql, str) else sql[0])
        first, second = sql
        return pl.concat(both(partial(read, first), partial(read, second), cancel=self.cancel))

    def read_rows(self, sql: str | list[str]) -> pl.DataFrame:
        """Read many whole rows like `read`, which connectorx decodes in parallel. It opens connections."""
        return WholeRows(self.dsn, self.tables.schema, self.snapshot).read(sql)

    def _of(self, statement: Callable[[Tables, pl.Series], str], track_ids: pl.Series) -> list[str]:
        """Return a statement for each connection, which select their parts of the tracks."""
        size = max(1, -(-len(track_ids) // CONNECTIONS))
        return [statement(self.tables, ids) for ids in slices(track_ids, size)]


def _records(wire: pl.DataFrame) -> pl.LazyFrame:
    """Select the streams of the tracks that have a record: `RECORDS`, or with their days.

    The arrays that came begin with the newest.
    """
    has_some = pl.col("streams").list.len() > 0
    names = RECORDS_WITH_DAYS if "days" in wire.columns else RECORDS
    return wire.lazy().filter(has_some).with_columns(pl.col(names[1:]).list.reverse()).select(names)


def _facts(wire: pl.DataFrame) -> pl.LazyFrame:
    return (
        wire.lazy()
        .with_columns(
            first_date=pl.col("first_day").cast(pl.Int32).cast(pl.Date),
            last_date=pl.col("last_day").cast(pl.Int32).cast(pl.Date),
            days_from_release=pl.col("days_from_release").cast(pl.Int64),
            has_several_artists=pl.col("has_several_artists").fill_null(value=False),
        )
        .select(TRACK_FACTS)
    )


def slices(ids: pl.Series, size: int) -> list[pl.Series]:
    """Split the ids into batches of at most `size`; one empty batch if there are none."""
    return [ids.slice(start, size) for start in range(0, max(1, len(ids)), size)]
