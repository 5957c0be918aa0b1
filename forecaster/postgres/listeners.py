"""Read monthly listeners, and which artists have an MLDR, from PostgreSQL."""

from dataclasses import dataclass

import polars as pl

from forecaster.postgres.catalogue import Source, slices
from forecaster.postgres.connection import integer_array
from forecaster.postgres.readers import CONNECTIONS
from forecaster.postgres.statements import epoch_day
from forecaster.tables import LISTENERS_TABLE


@dataclass(frozen=True)
class Listeners:
    """Records of some artists, and the number of rows left out."""

    records: pl.LazyFrame
    """One row per artist and date: cm_artist_id, date, monthly_listeners. In no order."""
    row_ids: pl.DataFrame
    """One row per artist: cm_artist_id, row_id (the id of its earliest record)."""
    duplicates: int
    """Rows left out because a newer row has the same artist and date."""


def artists(source: Source) -> pl.Series:
    """Find the artists that have a row of listeners, in ascending order."""
    listeners = source.tables.name(LISTENERS_TABLE)
    sql = f"SELECT DISTINCT s.cm_artist_id::bigint AS id FROM {listeners} s WHERE s.cm_artist_id IS NOT NULL"
    return source.read(sql)["id"].cast(pl.Int64).sort()


def rated(source: Source) -> pl.Series:
    """Find the artists whose newest MLDR is a finite number, in ascending order."""
    rates = source.mldr().filter(pl.col("mldr").is_not_null()).select("cm_artist_id").collect()
    return rates["cm_artist_id"].sort()


def unusable_rows(source: Source, artist_ids: pl.Series, *, without_artist: bool) -> int:
    """Count the rows of these artists that are not records; `without_artist`: also rows without an artist."""
    table = source.tables.name(LISTENERS_TABLE)
    or_no_artist = " OR s.cm_artist_id IS NULL" if without_artist else ""
    sql = f"""
        SELECT count(*)::bigint AS n FROM {table} s
        WHERE (s.cm_artist_id = ANY ({integer_array(artist_ids)})
               AND {source.tables.unusable(LISTENERS_TABLE)}) {or_no_artist}"""
    return int(source.read(sql)["n"][0])


def read_listeners(source: Source, artist_ids: pl.Series) -> Listeners:
    """Read, in parallel, all records of the artists."""
    batches = slices(artist_ids, max(1, -(-len(artist_ids) // CONNECTIONS)))
    wire = source.read([_records(source, integer_array(ids)) for ids in batches])
    earliest = source.read(_earliest(source, integer_array(artist_ids)))
    duplicates = 0
    if not source.tables.has_day_key(LISTENERS_TABLE):
        duplicates = int(source.read(_usable(source, integer_array(artist_ids)))["n"][0]) - len(wire)
    records = wire.lazy().select(
        "cm_artist_id", pl.col("day").cast(pl.Int32).cast(pl.Date).alias("date"), "monthly_listeners"
    )
    return Listeners(records, earliest, duplicates)


def _records(source: Source, artist_ids: str) -> str:
    tables = source.tables
    one = "" if tables.has_day_key(LISTENERS_TABLE) else "DISTINCT ON (1, 2) "
    newest = f"ORDER BY 1, 2, {tables.newest_first(LISTENERS_TABLE)}" if one else ""
    return f"""
        SELECT {one}s.cm_artist_id::bigint AS cm_artist_id,
               {epoch_day(tables.day(LISTENERS_TABLE))} AS day,
               {tables.as_float(LISTENERS_TABLE, "monthly_listeners")} AS monthly_listeners
        FROM {tables.name(LISTENERS_TABLE)} s
        WHERE s.cm_artist_id = ANY ({artist_ids}) AND NOT {tables.unusable(LISTENERS_TABLE)} {newest}"""


def _usable(source: Source, artist_ids: str) -> str:
    return (
        f"SELECT count(*)::bigint AS n FROM {source.tables.name(LISTENERS_TABLE)} s "
        f"WHERE s.cm_artist_id = ANY ({artist_ids}) AND NOT {source.tables.unusable(LISTENERS_TABLE)}"
    )


def _earliest(source: Source, artist_ids: str) -> str:
    tables = source.tables
    as_text = "text" if tables.type(LISTENERS_TABLE, "id") == "uuid" else "bigint"
    return f"""
        SELECT t.id AS cm_artist_id, r.row_id
        FROM unnest({artist_ids}) AS t (id)
        CROSS JOIN LATERAL (
            SELECT s.id::{as_text} AS row_id FROM {tables.name(LISTENERS_TABLE)} s
            WHERE s.cm_artist_id = t.id AND NOT {tables.unusable(LISTENERS_TABLE)}
            ORDER BY s.date, {tables.newest_first(LISTENERS_TABLE)} LIMIT 1) r"""
