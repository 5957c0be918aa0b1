"""Build the seeded catalogue in a database, once, and the same rows in other tables."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import adbc_driver_manager as adbc
import adbc_driver_postgresql.dbapi as driver
import polars as pl

from forecaster.postgres.connection import quote_identifier
from forecaster.postgres.dsn import Dsn
from forecaster.setup.init import initialise
from forecaster.setup.load import load
from forecaster.setup.sample import sample_batches, sample_mldr
from forecaster.tables import FORECAST_TABLE, MLDR_TABLE, STREAMS_TABLE

TRACKS = 8_459

Say = Callable[[str], None]


@dataclass(frozen=True)
class Catalogue:
    """A schema with the three tables, filled with the sample catalogue."""

    dsn: Dsn
    schema: str
    tracks: int
    rows: int

    def table(self, name: str) -> str:
        """The quoted name of a table in its schema."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(name)}"

    def empty_forecasts(self) -> None:
        """Empty the forecast table as before a first run, and leave the server no background writes."""
        execute(self.dsn, f"TRUNCATE {self.table(FORECAST_TABLE)}")
        with suppress(
            adbc.ProgrammingError
        ):  # needs a right: without it a checkpoint of the server may fall into a run
            execute(self.dsn, "CHECKPOINT")


def execute(dsn: Dsn, sql: str) -> None:
    """Run a statement outside a transaction."""
    with driver.connect(dsn.uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)


def rows(dsn: Dsn, sql: str) -> pl.DataFrame:
    """Read the rows of a statement."""
    with driver.connect(dsn.uri) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        frame: pl.DataFrame = cursor.fetch_polars()
        return frame


def prepare(dsn: Dsn, schema: str, tracks: int, *, days: int | None = None, say: Say) -> Catalogue:
    """Build the sample catalogue in tables as `init` creates them, or reuse an existing one."""
    *_, catalogue = growing(dsn, schema, [tracks], days=days, say=say)
    return catalogue


def growing(
    dsn: Dsn, schema: str, sizes: list[int], *, days: int | None = None, say: Say
) -> Iterator[Catalogue]:
    """Yield one catalogue that grows to each size in turn; one that is already larger is rebuilt."""
    name = quote_identifier(schema)
    initialise(dsn, schema)
    there = _tracks(dsn, schema)
    if there > sizes[0]:
        execute(dsn, f"DROP SCHEMA {name} CASCADE")
        initialise(dsn, schema)
        there = 0
    batches = sample_batches(sizes[-1], days=days)
    waiting: list[pl.DataFrame] = []
    for size in sizes:
        while there < size:
            batch = waiting.pop() if waiting else next(batches)
            wanted = batch.filter(pl.col("cm_track_id").is_between(there + 1, size))
            if len(later := batch.filter(pl.col("cm_track_id") > size)):
                waiting.append(later)
            if len(wanted):
                load(dsn, schema, streams=wanted, mldr=None)
                there = int(wanted["cm_track_id"][-1])
                say(f"{schema}: {there:,} of {sizes[-1]:,} tracks loaded")
        catalogue = Catalogue(dsn, schema, size, 0)
        execute(dsn, f"TRUNCATE {catalogue.table(MLDR_TABLE)}")
        load(dsn, schema, streams=None, mldr=sample_mldr(sizes[-1]))
        for table in (STREAMS_TABLE, MLDR_TABLE):
            execute(dsn, f"VACUUM (ANALYZE) {catalogue.table(table)}")
        count = rows(dsn, f"SELECT count(*) FROM {catalogue.table(STREAMS_TABLE)}").item()
        yield replace(catalogue, rows=count)


def with_other_tables(original: Catalogue, schema: str, *, row_id: str, key: bool, say: Say) -> Catalogue:
    """Copy the rows into tables with another type of row id, or without key (and index) on track and date."""
    catalogue = replace(original, schema=schema)
    if _tracks(original.dsn, schema) == original.tracks:
        return catalogue
    say(f"{schema}: copying {original.rows:,} rows")
    execute(original.dsn, f"DROP SCHEMA IF EXISTS {quote_identifier(schema)} CASCADE")
    initialise(original.dsn, schema)
    streams = catalogue.table(STREAMS_TABLE)
    rest = "cm_track_id, cm_artist_id, date, daily_streams, days_from_release"
    execute(original.dsn, f"DROP TABLE {streams}")
    execute(
        original.dsn,
        f"CREATE TABLE {streams} (id {row_id}, cm_track_id bigint, cm_artist_id bigint, date date, "
        "daily_streams bigint, days_from_release integer, created_at timestamptz DEFAULT now()"
        f"{', UNIQUE (cm_track_id, date)' if key else ''})",
    )
    execute(
        original.dsn,
        f"INSERT INTO {streams} ({rest}) SELECT {rest} FROM {original.table(STREAMS_TABLE)} "
        "ORDER BY cm_track_id, date",
    )
    execute(
        original.dsn,
        f"INSERT INTO {catalogue.table(MLDR_TABLE)} (cm_artist_id, mldr) "
        f"SELECT cm_artist_id, mldr FROM {original.table(MLDR_TABLE)}",
    )
    if "uuid" in row_id:
        forecasts = catalogue.table(FORECAST_TABLE)
        execute(
            original.dsn,
            f"ALTER TABLE {forecasts} DROP training_data_id, DROP id, "
            f"ADD training_data_id uuid NOT NULL, ADD id {row_id} PRIMARY KEY",
        )
    for table in (STREAMS_TABLE, MLDR_TABLE):
        execute(original.dsn, f"VACUUM (ANALYZE) {catalogue.table(table)}")
    return catalogue


def _tracks(dsn: Dsn, schema: str) -> int:
    table = f"{quote_identifier(schema)}.{quote_identifier(STREAMS_TABLE)}"
    if rows(dsn, f"SELECT to_regclass('{table}') IS NOT NULL").item():
        return int(rows(dsn, f"SELECT coalesce(max(cm_track_id), 0)::bigint FROM {table}").item())
    return 0
