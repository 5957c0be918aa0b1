"""Build the seeded catalogue in a database, once, by track in tables as `init` makes them."""

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


def execute(dsn: Dsn, *statements: str) -> None:
    """Run statements on one connection, outside a transaction."""
    with driver.connect(dsn.uri, autocommit=True) as connection, connection.cursor() as cursor:
        for sql in statements:
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


def _tracks(dsn: Dsn, schema: str) -> int:
    table = f"{quote_identifier(schema)}.{quote_identifier(STREAMS_TABLE)}"
    if rows(dsn, f"SELECT to_regclass('{table}') IS NOT NULL").item():
        return int(rows(dsn, f"SELECT coalesce(max(cm_track_id), 0)::bigint FROM {table}").item())
    return 0
