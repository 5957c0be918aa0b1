"""The floor: the time that PostgreSQL needs only to send and receive the bytes."""

import time
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from benchmarks.catalogue import Catalogue
from forecaster.tables import FORECAST_TABLE, STREAMS_TABLE

Connection = psycopg.Connection[tuple[object, ...]]

_STORED = (
    "month, forecasted_value, segment_used, time_used, cm_track_id, cm_artist_id, training_data_id, "
    "created_at"
)
# The last 365 values of a track: 12 bytes for each as an array, 4 as the bytes of an integer.
_ARRAY, _PACKED = "array_agg(daily_streams)", "string_agg(int4send(daily_streams::integer), '')"

_BY_INDEX = """
    WITH RECURSIVE track (id) AS (
        (SELECT cm_track_id FROM {streams} ORDER BY cm_track_id LIMIT 1)
        UNION ALL
        SELECT (SELECT cm_track_id FROM {streams} s WHERE s.cm_track_id > track.id
                ORDER BY cm_track_id LIMIT 1)
        FROM track WHERE track.id < {last})
    SELECT track.id, recent.*, newest.*, earliest.*
    FROM {tracks}
    CROSS JOIN LATERAL (
        SELECT {values} FROM (
            SELECT daily_streams FROM {streams} s WHERE s.cm_track_id = track.id
            ORDER BY date DESC LIMIT 365) r) recent
    CROSS JOIN LATERAL (
        SELECT cm_artist_id, date FROM {streams} s WHERE s.cm_track_id = track.id
        ORDER BY date DESC LIMIT 1) newest
    CROSS JOIN LATERAL (
        SELECT id, date FROM {streams} s WHERE s.cm_track_id = track.id
        ORDER BY date LIMIT 1) earliest"""
_ONE_ORDERED = """
    SELECT cm_track_id, substr({values}, 1, 4 * 365), max(date),
           (array_agg(cm_artist_id))[1], (array_agg(id))[count(*)], min(date)
    FROM (SELECT cm_track_id, date, daily_streams, cm_artist_id, id FROM {streams}
          {condition} ORDER BY cm_track_id, date DESC) s
    GROUP BY cm_track_id"""

STATEMENTS: dict[str, tuple[str, str]] = {
    "by index, arrays": (_BY_INDEX, _ARRAY),
    "by index, packed": (_BY_INDEX, _PACKED),
    "in one ordered pass, packed": (_ONE_ORDERED, _PACKED),
}
"""The statements that give what the model needs, with the expression for the values."""

_SETTINGS = ("SET work_mem = '1GB'", "SET jit = off")  # so that a sort needs no disk
# An ordered pass by the index would read a page for each row.
_OF_A_PASS = ("SET enable_indexscan = off", "SET enable_bitmapscan = off")


@dataclass(frozen=True)
class Floor:
    """Seconds and bytes of the two copies."""

    out_seconds: float
    in_seconds: float
    out_bytes: int
    in_bytes: int

    @property
    def seconds(self) -> float:
        """Seconds of both copies, one after the other."""
        return self.out_seconds + self.in_seconds


def stored_rows(catalogue: Catalogue, condition: str = "true") -> bytes:
    """Read the forecast rows of a finished run in the binary format of COPY."""
    query = f"SELECT {_STORED} FROM {catalogue.table(FORECAST_TABLE)} WHERE {condition} ORDER BY id"
    copied = sql.SQL(f"COPY ({query}) TO STDOUT (FORMAT binary)")
    with psycopg.connect(catalogue.dsn.uri) as connection, connection.cursor().copy(copied) as copy:
        return b"".join(copy)


def store(catalogue: Catalogue, result: bytes) -> None:
    """Copy rows into the forecast table."""
    with psycopg.connect(catalogue.dsn.uri) as connection:
        _copy_in(connection, catalogue, result)


def cheapest(catalogue: Catalogue, pending: int) -> str:
    """Name the statement that is the fastest of two times on these tables; `pending`: see `measure`."""
    best, seconds = "", 0.0
    for name in 2 * [*reversed(STATEMENTS)]:  # the pass first, because it is never very slow
        with psycopg.connect(catalogue.dsn.uri) as connection:
            if best:  # no slower one has to end
                connection.execute(sql.SQL(f"SET statement_timeout = {round(1000 * seconds) + 100}"))
            start = time.perf_counter()
            try:
                _copy_out(connection, catalogue, name, pending)
            except errors.QueryCanceled:
                continue
            if not best or time.perf_counter() - start < seconds:
                best, seconds = name, time.perf_counter() - start
    return best


def measure(catalogue: Catalogue, name: str, result: bytes, *, pending: int = 1) -> Floor:
    """Copy the input of the model out and the result in, on an open connection, and do nothing else.

    The input is per track its last 365 values, its first id, its artist, its first and last date. `name`: one
    of `STATEMENTS`. One of `pending` tracks is read: those whose id is a multiple.
    """
    with psycopg.connect(catalogue.dsn.uri) as connection:
        start = time.perf_counter()
        size = _copy_out(connection, catalogue, name, pending)
        middle = time.perf_counter()
        _copy_in(connection, catalogue, result)
        return Floor(middle - start, time.perf_counter() - middle, size, len(result))


def all_rows(catalogue: Catalogue) -> float:
    """Measure a COPY of every row, ordered by track and date, as a program has to read that needs all."""
    columns = "id, cm_track_id, cm_artist_id, date, daily_streams, days_from_release"
    query = f"SELECT {columns} FROM {catalogue.table(STREAMS_TABLE)} ORDER BY cm_track_id, date"
    start = time.perf_counter()
    with psycopg.connect(catalogue.dsn.uri) as connection:
        _received(connection, query)
    return time.perf_counter() - start


def _copy_out(connection: Connection, catalogue: Catalogue, name: str, pending: int) -> int:
    statement, values = STATEMENTS[name]
    settings = _SETTINGS + (_OF_A_PASS if statement is _ONE_ORDERED else ())
    for setting in settings:
        connection.execute(sql.SQL(setting))
    # All tracks are found by the index. Of few, the ids are known.
    some = f"generate_series({pending}, {catalogue.tracks}, {pending}) AS track (id)"
    query = statement.format(
        streams=catalogue.table(STREAMS_TABLE),
        last=catalogue.tracks,
        tracks="track" if pending == 1 else some,
        condition="" if pending == 1 else f"WHERE cm_track_id % {pending} = 0",
        values=values,
    )
    return _received(connection, query)


def _received(connection: Connection, query: str) -> int:
    copied = sql.SQL(f"COPY ({query}) TO STDOUT (FORMAT binary)")
    with connection.cursor() as cursor, cursor.copy(copied) as copy:
        return sum(map(len, copy))


def _copy_in(connection: Connection, catalogue: Catalogue, result: bytes) -> None:
    statement = f"COPY {catalogue.table(FORECAST_TABLE)} ({_STORED}) FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(sql.SQL(statement)) as copy:
        copy.write(result)
    connection.commit()
