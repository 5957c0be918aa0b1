"""The floor: the time that PostgreSQL needs only to send and receive the bytes."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
from psycopg import sql

from benchmarks.catalogue import Catalogue
from forecaster.tables import FORECAST_TABLE, STREAMS_TABLE

Connection = psycopg.Connection[tuple[object, ...]]

_STORED = (
    "month, forecasted_value, segment_used, time_used, cm_track_id, cm_artist_id, training_data_id, "
    "created_at"
)


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


def stored_rows(catalogue: Catalogue) -> bytes:
    """Read the forecast rows of a finished run in the binary format of COPY."""
    with psycopg.connect(catalogue.dsn.uri) as connection, connection.cursor() as cursor:
        query = f"SELECT {_STORED} FROM {catalogue.table(FORECAST_TABLE)} ORDER BY id"
        with cursor.copy(sql.SQL(f"COPY ({query}) TO STDOUT (FORMAT binary)")) as copy:
            return b"".join(copy)


def measure(catalogue: Catalogue, result: bytes, *, connections: int = 1) -> Floor:
    """Copy the input of the model out and the result in, on open connections, and do nothing else.

    The input is per track an array of its last 365 values, its first id, its artist, its first and last date.
    """
    ids = range(1, catalogue.tracks + 1)
    slices = [
        (ids[i * len(ids) // connections], ids[(i + 1) * len(ids) // connections - 1])
        for i in range(connections)
    ]
    opened = [psycopg.connect(catalogue.dsn.uri) for _ in slices]
    try:
        start = time.perf_counter()
        with ThreadPoolExecutor(connections) as pool:
            sizes = list(pool.map(lambda c, s: _copy_out(c, catalogue, *s), opened, slices))
        middle = time.perf_counter()
        _copy_in(opened[0], catalogue, result)
        return Floor(middle - start, time.perf_counter() - middle, sum(sizes), len(result))
    finally:
        for connection in opened:
            connection.close()


def _copy_out(connection: Connection, catalogue: Catalogue, first: int, last: int) -> int:
    streams = catalogue.table(STREAMS_TABLE)
    statement = f"""
        COPY (
            WITH RECURSIVE track (id) AS (
                (SELECT cm_track_id FROM {streams} WHERE cm_track_id >= {first} ORDER BY cm_track_id LIMIT 1)
                UNION ALL
                SELECT (SELECT cm_track_id FROM {streams} s WHERE s.cm_track_id > track.id
                        ORDER BY cm_track_id LIMIT 1)
                FROM track WHERE track.id < {last})
            SELECT track.id, recent.*, newest.*, earliest.*
            FROM track
            CROSS JOIN LATERAL (
                SELECT array_agg(r.daily_streams) FROM (
                    SELECT daily_streams FROM {streams} s WHERE s.cm_track_id = track.id
                    ORDER BY date DESC LIMIT 365) r) recent
            CROSS JOIN LATERAL (
                SELECT cm_artist_id, date FROM {streams} s WHERE s.cm_track_id = track.id
                ORDER BY date DESC LIMIT 1) newest
            CROSS JOIN LATERAL (
                SELECT id, date FROM {streams} s WHERE s.cm_track_id = track.id
                ORDER BY date LIMIT 1) earliest
        ) TO STDOUT (FORMAT binary)"""
    with connection.cursor() as cursor, cursor.copy(sql.SQL(statement)) as copy:
        return sum(map(len, copy))


def _copy_in(connection: Connection, catalogue: Catalogue, result: bytes) -> None:
    statement = f"COPY {catalogue.table(FORECAST_TABLE)} ({_STORED}) FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(sql.SQL(statement)) as copy:
        copy.write(result)
    connection.commit()
