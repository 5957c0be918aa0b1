"""Reading the catalogue out of PostgreSQL: the only module that imports connectorx."""

import logging
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import adbc_driver_manager as adbc
import polars as pl

from forecaster.errors import ConnectionLostError, DatabaseError, DatabaseUnreachableError, StalledError
from forecaster.frames.schemas import NEWEST_MLDR, RECORDS, TRACK_FACTS
from forecaster.model.features import WINDOW
from forecaster.postgres.conditions import QUERY_CANCELED, hint_for
from forecaster.postgres.connection import (
    Connection,
    client_name,
    connect,
    end_connections,
    execute,
    integer_array,
    query,
    severity_of_errors,
    watch,
)
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rights import check_rights, warnings_of_hidden_rows
from forecaster.postgres.stall import hang_up
from forecaster.postgres.stored import stored_months
from forecaster.postgres.tables import Tables, read_tables
from forecaster.process.secrets import brief
from forecaster.process.signals import Cancel, Interrupted, interruptible
from forecaster.tables import (
    FORECAST_TABLE,
    MLDR_TABLE,
    STORED_FORECASTS,
    STREAMS_TABLE,
    TO_FORECAST,
    TRACK_DAYS,
)

os.environ.setdefault("RUST_LOG", "off")  # else its connection pool writes to stderr
import connectorx as cx

_log = logging.getLogger("forecaster")

CONNECTIONS = 2
"""Connections that read at once. Measured on two cores: a third and fourth gain nothing."""

# As in the model's own schema, more than 2^31 days are no age and count as unknown.
_DAYS_FROM_RELEASE = (
    f"CASE WHEN s.days_from_release BETWEEN {-(2**31)} AND {2**31 - 1} "
    "THEN trunc(s.days_from_release)::bigint END AS days_from_release"
)

# connectorx has no SQLSTATE. What the server says, in its language, comes after these words of the driver;
# all else are the driver's own words.
_SERVER_SAYS = re.compile(r"db error: (?P<severity>[^:]+): ")
_LOST = re.compile(
    r"connection closed|connection reset|broken pipe|communicating with the server|connecting to server|"
    r"timed out in bb8|timed out waiting|connection refused|unexpected(?:ly)? (?:EOF|closed)|end of file",
    re.IGNORECASE,
)
# Each of these ends a transaction that should hold the session open: nobody else's work waits for it.
_FOR_AS_LONG_AS_IT_TAKES = ("idle_in_transaction_session_timeout", "transaction_timeout")


def export_snapshot(connection: Connection) -> str:
    """Name of what a repeatable-read transaction sees; it is good for as long as that is open."""
    # The transaction is idle while others read: where such ones are ended after a time, this one is not.
    limits = ", ".join(f"'{name}'" for name in _FOR_AS_LONG_AS_IT_TAKES)
    sql = f"""
        SELECT pg_export_snapshot() AS name, count(set_config(s.name, '0', true)) AS lifted
        FROM pg_catalog.pg_settings s WHERE s.name IN ({limits})"""
    return str(query(connection, sql)["name"].item())


@contextmanager
def open_source(dsn: Dsn, schema: str, *, needed: Sequence[str] = TO_FORECAST) -> "Iterator[Source]":
    """The tables of a schema as they are now, to be read and not written.

    Raises `SchemaMismatchError` if those `needed` do not fit, `DatabaseError` where the user may not read
    them.
    """
    with connect(dsn, repeatable_read=True) as connection:
        tables = read_tables(connection, schema)
        tables.check(*needed, to_write=())
        check_rights(connection, tables, dict.fromkeys(needed, ("SELECT",)))
        warn_of_hidden_rows(tables, *needed)
        yield Source(dsn, tables, export_snapshot(connection))


def warn_of_hidden_rows(tables: Tables, *read: str) -> None:
    """Say so where this user may not see all rows of what is read."""
    for warning in warnings_of_hidden_rows(tables, *read):
        _log.warning("%s", warning)


@dataclass(frozen=True)
class History:
    """What the model starts from: `RECORDS` and `TRACK_FACTS` of some tracks, and what was left out."""

    records: pl.LazyFrame
    facts: pl.LazyFrame
    duplicates: int
    """Rows left out because a newer row has the same track and date."""


@dataclass(frozen=True)
class Source:
    """The three tables as one exported snapshot shows them, on any number of connections."""

    dsn: Dsn
    tables: Tables
    snapshot: str
    """From `export_snapshot`."""
    name: str = field(default_factory=lambda: f"{client_name()} {secrets.token_hex(4)}")
    """What its connections call themselves, so that they can be found and ended."""

    @property
    def cancel(self) -> Cancel:
        """Ends whatever is being read."""
        return Cancel([partial(end_connections, self.dsn, self.name)], partial(hang_up, self.dsn))

    def tracks(self, track_ids: Sequence[int] | pl.Series | None = None) -> pl.Series:
        """The tracks that have a row of streams, in order; only those among `track_ids`, if given."""
        streams = self.tables.name(STREAMS_TABLE)
        if track_ids is not None:
            tracks = (
                f"SELECT DISTINCT id FROM unnest({integer_array(track_ids)}) AS t (id) "
                f"WHERE EXISTS (SELECT FROM {streams} s WHERE s.cm_track_id = t.id)"
            )
        elif self.reads_by_index:
            return self.read(_loose_index_scans(streams))["id"].cast(pl.Int64).sort()
        else:
            tracks = f"SELECT DISTINCT cm_track_id AS id FROM {streams} WHERE cm_track_id IS NOT NULL"
        return self.read(f"SELECT t.id::bigint AS id FROM ({tracks}) AS t")["id"].cast(pl.Int64).sort()

    def stored(self, track_ids: Sequence[int] | pl.Series | None = None) -> pl.DataFrame:
        """One row per track that has forecasts, with the columns of `stored_months`."""
        among = "true" if track_ids is None else f"cm_track_id = ANY ({integer_array(track_ids)})"
        return self.read(f"{stored_months(self.tables)} AND {among} GROUP BY 1")

    def rows_without_track(self) -> int:
        """How many rows name no track, so that they are in no forecast."""
        if self.tables.columns[STREAMS_TABLE]["cm_track_id"].not_null:
            return 0
        streams = self.tables.name(STREAMS_TABLE)
        return int(
            self.read(f"SELECT count(*)::bigint AS n FROM {streams} WHERE cm_track_id IS NULL")["n"][0]
        )

    def mldr(self) -> pl.LazyFrame:
        """Each artist's newest decay rate: `NEWEST_MLDR`. What is no finite number becomes NULL."""
        frame = self.read(f"""
            SELECT DISTINCT ON (cm_artist_id) s.cm_artist_id::bigint AS cm_artist_id,
                   {self.tables.finite(MLDR_TABLE, "mldr")} AS mldr
            FROM {self.tables.name(MLDR_TABLE)} s
            WHERE s.cm_artist_id IS NOT NULL
            ORDER BY 1, {self.tables.newest_first(MLDR_TABLE)}""")
        return frame.lazy().select(NEWEST_MLDR)

    def unusable_rows(self, track_ids: pl.Series) -> int:
        """How many rows of these tracks are no record and left out, such as those with NULL streams."""
        # Not by "= ANY (array)": among the few rows that the partial index holds, a join is at once done.
        sql = f"""
            SELECT count(*)::bigint AS n
            FROM (SELECT cm_track_id FROM {self.tables.name(STREAMS_TABLE)}
                  WHERE {self.tables.unusable(STREAMS_TABLE)}) s
            JOIN unnest({integer_array(track_ids)}) AS t (id) ON t.id = s.cm_track_id"""
        return int(self.read(sql)["n"][0])

    def history(self, track_ids: pl.Series) -> History:
        """The last 365 records of each track as one array, and the facts about it; read in parallel."""
        query = self._history_by_index if self.reads_by_index else self._history_in_one_pass
        size = max(1, -(-len(track_ids) // CONNECTIONS))
        wire = self.read([query(integer_array(part)) for part in slices(track_ids, size)])
        return History(_records(wire), _facts(wire), duplicates=int(wire["duplicates"].sum()))

    def daily(self, track_id: int) -> pl.DataFrame:
        """One row per day on which a track has a record, in order: date, daily_streams."""
        days = self.read(f"""
            SELECT DISTINCT ON (1) {epoch_day(self.tables.day(STREAMS_TABLE))} AS day,
                   {self._streams} AS daily_streams
            FROM {self.tables.name(STREAMS_TABLE)} s
            WHERE s.cm_track_id = {int(track_id)} AND NOT {self._unusable}
            ORDER BY 1, {self.tables.newest_first(STREAMS_TABLE)}""")
        return days.select(pl.col("day").cast(pl.Int32).cast(pl.Date).alias("date"), "daily_streams")

    def days(self, track_ids: pl.Series) -> pl.DataFrame:
        """Every record of the tracks: `TRACK_DAYS`, in no order; read in parallel."""
        size = max(1, -(-len(track_ids) // CONNECTIONS))
        query = self._days_by_index if self.reads_by_index else self._days_in_one_pass
        wire = self.read([query(integer_array(part)) for part in slices(track_ids, size)])
        if self.reads_by_index:  # as arrays the rows take half the time
            wire = wire.filter(pl.col("date").is_not_null()).explode(
                [name for name in TRACK_DAYS if name != "cm_track_id"]
            )
        return wire.with_columns(pl.col("date").cast(pl.Int32).cast(pl.Date)).select(TRACK_DAYS)

    def _days_by_index(self, track_ids: str) -> str:
        return f"""
            SELECT t.id AS cm_track_id, a.*
            FROM unnest({track_ids}) AS t (id)
            CROSS JOIN LATERAL (
                SELECT array_agg(r.date) AS date, array_agg(r.cm_artist_id) AS cm_artist_id,
                       array_agg(r.daily_streams) AS daily_streams,
                       array_agg(r.days_from_release) AS days_from_release
                FROM ({self._day_rows("s.cm_track_id = t.id")}) r) a"""

    def _days_in_one_pass(self, track_ids: str) -> str:
        rows = self._day_rows(f"s.cm_track_id = ANY ({track_ids})", one="DISTINCT ON (1, 3) ")
        return f"""{rows}
            ORDER BY 1, 3, {self.tables.newest_first(STREAMS_TABLE)}"""

    def _day_rows(self, condition: str, *, one: str = "") -> str:
        return f"""
            SELECT {one}s.cm_track_id::bigint AS cm_track_id, s.cm_artist_id::bigint AS cm_artist_id,
                   {epoch_day(self.tables.day(STREAMS_TABLE))} AS date, {self._streams} AS daily_streams,
                   {_DAYS_FROM_RELEASE}
            FROM {self.tables.name(STREAMS_TABLE)} s WHERE {condition} AND NOT {self._unusable}"""

    def rows(self, track_ids: pl.Series) -> pl.DataFrame:
        """The tracks' rows as they are, in the types of `DAILY_STREAMS`; read in parallel.

        What is no number, or no date that the calendar has, is NULL. Ordered by track and date.
        """
        date, created_at = self.tables.day(STREAMS_TABLE), self.tables.instant(STREAMS_TABLE)
        size = max(1, -(-len(track_ids) // CONNECTIONS))
        days = f"CASE WHEN isfinite(s.date) THEN {epoch_day(date)} END"
        us = f"""CASE s.created_at WHEN 'infinity' THEN {2**62} WHEN '-infinity' THEN {-(2**62)}
                      ELSE (extract(epoch FROM {created_at}) * 1000000)::bigint END"""
        wire = self.read(
            [
                f"""SELECT {self._row_id}, s.cm_track_id::bigint AS cm_track_id,
                           s.cm_artist_id::bigint AS cm_artist_id, {days} AS date,
                           {self.tables.finite(STREAMS_TABLE, "daily_streams")} AS daily_streams,
                           {_DAYS_FROM_RELEASE}, {us} AS created_at
                    FROM {self.tables.name(STREAMS_TABLE)} s
                    WHERE s.cm_track_id = ANY ({integer_array(part)})"""
                for part in slices(track_ids, size)
            ]
        )
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
        """The stored rows that name a track and a month, ordered by both; `STORED_FORECASTS`."""
        forecasts = self.tables.name(FORECAST_TABLE)
        among = "true" if track_ids is None else f"s.cm_track_id = ANY ({integer_array(track_ids)})"
        return self.read(f"""
            SELECT s.cm_track_id::bigint AS cm_track_id, s.cm_artist_id::bigint AS cm_artist_id,
                   s.month::bigint AS month, {self.tables.as_float(FORECAST_TABLE, "forecasted_value")}
                   AS forecasted_value, s.segment_used::bigint AS segment_used,
                   s.time_used::bigint AS time_used,
                   (extract(epoch FROM {self.tables.instant(FORECAST_TABLE)}) * 1000000)::bigint AS created_at
            FROM {forecasts} s
            WHERE s.cm_track_id IS NOT NULL AND s.month IS NOT NULL AND {among}
            ORDER BY 1, 3, 7""").select(
            *(name for name in STORED_FORECASTS if name != "created_at"),
            pl.col("created_at").cast(pl.Datetime("us", "UTC")),
        )

    def cutoffs(self, track_ids: Sequence[int] | pl.Series) -> pl.DataFrame:
        """Of each track with a stored forecast, the last day that it can have known.

        cm_track_id; cutoff: the last date among the rows that were there when the forecast was stored, else
        among all; is_known: whether there was one.
        """
        day, at = self.tables.day(STREAMS_TABLE), self.tables.instant(STREAMS_TABLE)
        made = f"""(SELECT s.cm_track_id AS id, max({self.tables.instant(FORECAST_TABLE)}) AS made
                    FROM {self.tables.name(FORECAST_TABLE)} s
                    WHERE s.cm_track_id = ANY ({integer_array(track_ids)}) GROUP BY 1) f"""
        streams = f"{self.tables.name(STREAMS_TABLE)} s"
        of_track = f"s.cm_track_id = f.id AND NOT {self._unusable}"
        if self.reads_by_index:
            last = f"SELECT {epoch_day(f'max({day})')} FROM {streams} WHERE {of_track}"
            sql = f"""SELECT f.id::bigint AS cm_track_id, ({last}) AS last_day,
                             ({last} AND {at} <= f.made) AS known_day
                      FROM {made} ORDER BY 1"""
        else:  # where each of those would be a pass over all rows
            sql = f"""SELECT f.id::bigint AS cm_track_id, {epoch_day(f"max({day})")} AS last_day,
                             {epoch_day(f"(max({day}) FILTER (WHERE {at} <= f.made))")} AS known_day
                      FROM {made} LEFT JOIN {streams} ON {of_track} GROUP BY f.id ORDER BY 1"""
        days = self.read(sql)
        return days.select(
            "cm_track_id",
            cutoff=pl.coalesce("known_day", "last_day").cast(pl.Int32).cast(pl.Date),
            is_known=pl.col("known_day").is_not_null(),
        )

    @property
    def reads_by_index(self) -> bool:
        """Whether there is one row per track and day, and an index that finds a track's newest rows."""
        return self.tables.has_day_key(STREAMS_TABLE, "cm_track_id")

    def _history_by_index(self, track_ids: str) -> str:
        """Cost per track does not depend on the length of its history."""
        # The aggregate takes its rows in the order of the subquery below it: there is no plan in which
        # anything stands between a LIMIT and an ungrouped aggregate.
        record = (
            f"FROM {self.tables.name(STREAMS_TABLE)} s WHERE s.cm_track_id = t.id AND NOT {self._unusable}"
        )
        return f"""
            SELECT t.id AS cm_track_id, recent.*, newest.*, earliest.*, 0::bigint AS duplicates
            FROM unnest({track_ids}) AS t (id)
            CROSS JOIN LATERAL (
                SELECT array_agg(r.daily_streams) AS streams,
                       min(r.cm_artist_id)::bigint AS min_artist_id,
                       max(r.cm_artist_id)::bigint AS max_artist_id
                FROM (SELECT {self._streams} AS daily_streams, s.cm_artist_id {record}
                      ORDER BY s.date DESC LIMIT {WINDOW}) r) recent
            LEFT JOIN LATERAL (
                SELECT s.cm_artist_id::bigint AS cm_artist_id, {_DAYS_FROM_RELEASE},
                       {epoch_day("s.date")} AS last_day {record}
                ORDER BY s.date DESC LIMIT 1) newest ON true
            LEFT JOIN LATERAL (
                SELECT {self._row_id}, {epoch_day("s.date")} AS first_day {record}
                ORDER BY s.date LIMIT 1) earliest ON true"""

    def _history_in_one_pass(self, track_ids: str) -> str:
        """For tables without the key: every row of the tracks is sorted, and of two for a day one is kept."""
        # The row order of `v` is that of its window, which the grouped aggregates above it keep. Of two
        # rows that `created_at` and `id` cannot tell apart, the values decide, as they do in the model.
        return f"""
            SELECT t.id AS cm_track_id, g.streams[1:{WINDOW}] AS streams,
                   (SELECT min(a) FROM unnest(g.artists[1:{WINDOW}]) a)::bigint AS min_artist_id,
                   (SELECT max(a) FROM unnest(g.artists[1:{WINDOW}]) a)::bigint AS max_artist_id,
                   g.artists[1]::bigint AS cm_artist_id, g.days_from_release[1] AS days_from_release,
                   g.last_day, g.ids[cardinality(g.ids)] AS training_data_id, g.first_day,
                   coalesce(g.duplicates, 0)::bigint AS duplicates
            FROM unnest({track_ids}) AS t (id)
            LEFT JOIN (
                SELECT v.cm_track_id, max(v.day) AS last_day, min(v.day) AS first_day,
                       array_agg(v.daily_streams) FILTER (WHERE v.is_newest) AS streams,
                       array_agg(v.cm_artist_id) FILTER (WHERE v.is_newest) AS artists,
                       array_agg(v.days_from_release) FILTER (WHERE v.is_newest) AS days_from_release,
                       array_agg(v.training_data_id) FILTER (WHERE v.is_newest) AS ids,
                       count(*) FILTER (WHERE NOT v.is_newest) AS duplicates
                FROM (
                    SELECT r.*, lag(r.day) OVER (
                               PARTITION BY r.cm_track_id
                               ORDER BY r.day DESC, {self.tables.newest_first(STREAMS_TABLE, "r")}
                           ) IS DISTINCT FROM r.day AS is_newest
                    FROM (SELECT s.cm_track_id, s.cm_artist_id, {self._streams} AS daily_streams,
                                 {_DAYS_FROM_RELEASE}, s.id, {self._row_id}, s.created_at,
                                 {epoch_day(self.tables.day(STREAMS_TABLE))} AS day
                          FROM {self.tables.name(STREAMS_TABLE)} s
                          WHERE s.cm_track_id = ANY ({track_ids}) AND NOT {self._unusable}) r
                ) v
                GROUP BY v.cm_track_id
            ) g ON g.cm_track_id = t.id"""

    def read(self, sql: str | list[str]) -> pl.DataFrame:
        """What statements select on the snapshot; several are parts of one frame and read at once."""
        # The name is in the URI, because the connection that asks for the result's columns, and may wait for
        # a lock, takes no other statement.
        uri = self._named.connectorx_uri
        on_snapshot = ["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", self._set_snapshot]

        def read() -> pl.DataFrame:
            self.dsn.check_socket()
            frame: pl.DataFrame = cx.read_sql(uri, sql, return_type="polars", pre_execution_query=on_snapshot)
            return frame

        try:
            return interruptible(read, cancel=self.cancel, watch=watch(self.dsn))
        except (Interrupted, KeyboardInterrupt, DatabaseUnreachableError, StalledError):
            raise
        except BaseException as error:  # noqa: BLE001 - its panics are no Exceptions
            raise self._failure(f"{error}", [sql] if isinstance(sql, str) else sql) from None

    @property
    def _unusable(self) -> str:
        return self.tables.unusable(STREAMS_TABLE)

    @property
    def _streams(self) -> str:
        return self.tables.as_float(STREAMS_TABLE, "daily_streams")

    @property
    def _row_id(self) -> str:
        """A row's id under the name that it has in the forecasts; uuid as text, integers as bigint."""
        type_ = "text" if self.tables.type(STREAMS_TABLE, "id") == "uuid" else "bigint"
        return f"s.id::{type_} AS training_data_id"

    @property
    def _named(self) -> Dsn:
        return replace(self.dsn, parameters=(*self.dsn.parameters, ("application_name", self.name)))

    @property
    def _set_snapshot(self) -> str:
        return f"SET TRANSACTION SNAPSHOT '{self.snapshot}'"

    def _failure(self, text: str, statements: list[str]) -> DatabaseError:
        """What to raise for an error of connectorx."""
        reason = brief(self.dsn.redact(text))
        message = f"reading from {self.dsn} failed: {reason}"
        said = _SERVER_SAYS.match(reason)
        if said is None:
            kind = ConnectionLostError if _LOST.search(reason) else DatabaseError
            return kind(message)
        try:
            with connect(self._named, repeatable_read=True) as connection:
                if self._is_over(connection, said["severity"]):
                    return ConnectionLostError(message)
                for statement in statements:
                    query(connection, statement)
        except (ConnectionLostError, DatabaseUnreachableError):
            return ConnectionLostError(message)
        except DatabaseError as error:
            return DatabaseError(f"reading from {self.dsn} failed: {error}", hint=error.hint)
        return DatabaseError(message, hint=hint_for(QUERY_CANCELED))  # it was not the statement's fault

    def _is_over(self, connection: Connection, severity: str) -> bool:
        """Whether what the server said with this severity was the end of a session; else, take the snapshot.

        Or of the session that holds the snapshot.
        """
        try:
            execute(connection, self._set_snapshot)
            if severity == severity_of_errors(connection):
                execute(connection, self._set_snapshot)
                return False
        except adbc.Error:
            pass
        return True


def _records(wire: pl.DataFrame) -> pl.LazyFrame:
    """One row per track and record: `RECORDS`. The arrays begin with the newest record."""
    newest_first = pl.int_ranges(0, -pl.col("streams").list.len().cast(pl.Int64), -1, dtype=pl.Int32)
    return (
        wire.lazy()
        .filter(pl.col("streams").list.len() > 0)
        .select("cm_track_id", day=newest_first, daily_streams="streams")
        .explode("day", "daily_streams")
        .select(RECORDS)
    )


def _facts(wire: pl.DataFrame) -> pl.LazyFrame:
    return (
        wire.lazy()
        .with_columns(
            first_date=pl.col("first_day").cast(pl.Int32).cast(pl.Date),
            last_date=pl.col("last_day").cast(pl.Int32).cast(pl.Date),
            has_several_artists=(pl.col("min_artist_id") < pl.col("max_artist_id")).fill_null(value=False),
        )
        .select(TRACK_FACTS)
    )


def _loose_index_scans(streams: str) -> list[str]:
    """Each track once, by one jump in the index per track: PostgreSQL reads all rows for a DISTINCT.

    One query for the lower half of what an id may be, between the first and the last, and one for the upper.
    """
    middle = f"(SELECT min(cm_track_id)::bigint / 2 + max(cm_track_id)::bigint / 2 FROM {streams})"
    return [
        f"""
        WITH RECURSIVE track (id) AS (
            (SELECT s.cm_track_id FROM {streams} s WHERE s.cm_track_id {half} {middle}
             ORDER BY s.cm_track_id LIMIT 1)
            UNION ALL
            SELECT (SELECT s.cm_track_id FROM {streams} s WHERE s.cm_track_id > track.id
                    AND s.cm_track_id {half} {middle} ORDER BY s.cm_track_id LIMIT 1)
            FROM track WHERE track.id IS NOT NULL)
        SELECT id::bigint AS id FROM track WHERE id IS NOT NULL"""
        for half in ("<", ">=")
    ]


def slices(ids: pl.Series, size: int) -> list[pl.Series]:
    """The ids in parts of at most so many; one empty part if there are none."""
    return [ids.slice(start, size) for start in range(0, max(1, len(ids)), size)]


def epoch_day(date: str) -> str:
    """SQL expression: days since 1970-01-01. A number has no bounds that a driver could fail at."""
    return f"({date} - DATE '1970-01-01')"
