"""Problems of the forecasts that a table already holds, and what they mean."""

import shlex
from collections.abc import Iterator
from datetime import datetime

import polars as pl

from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import Connection, integer_array, query
from forecaster.postgres.tables import Tables
from forecaster.tables import FORECAST_TABLE, FORECASTS

NOT_GUARANTEED = (
    "runs exclude each other by their lock, but nothing prevents another program from storing a month twice"
)


def stored_months(tables: Tables, *, more: str = "") -> str:
    """SQL: per track the numbers of rows and of distinct months, and the first and the last month.

    The SELECT ends with its WHERE, so that the caller can append conditions on rows `s`, and then GROUP BY 1;
    `more`: further columns, each after a comma. Rows without a track count as those of a track NULL.
    """
    # With the key, months are distinct, and nothing needs sorting.
    distinct = "" if has_key(tables) else "DISTINCT "
    return f"""
        SELECT cm_track_id::bigint AS cm_track_id, count(*)::bigint AS rows,
               count({distinct}month)::bigint AS months, min(month)::bigint AS first,
               max(month)::bigint AS last{more}
        FROM {tables.name(FORECAST_TABLE)} s WHERE true"""


def stored_at(
    connection: Connection, tables: Tables, track_ids: pl.Series, created_at: datetime, horizon: int
) -> pl.Series:
    """Find the tracks that have all months of a forecast of exactly that instant, which identifies a run."""
    found = query(
        connection,
        f"SELECT s.cm_track_id::bigint AS cm_track_id FROM {tables.name(FORECAST_TABLE)} s "
        f"WHERE s.cm_track_id = ANY ({integer_array(track_ids)}) "
        f"AND {tables.instant(FORECAST_TABLE)} = $1 GROUP BY 1 HAVING count(*) = {int(horizon)}",
        (created_at,),
    )
    return found["cm_track_id"].sort()


def missing_key(tables: Tables) -> Iterator[str]:
    """Warn of a missing key, without which a month of a track may be stored twice."""
    if FORECAST_TABLE in tables.with_children:
        yield (
            f"other tables inherit from {FORECAST_TABLE}, and a unique key of it does not cover their rows: "
            f"{NOT_GUARANTEED}. Use partitions instead, which a key covers"
        )
    elif not has_key(tables):
        yield (
            f"{FORECAST_TABLE} has no unique key on (cm_track_id, month): {NOT_GUARANTEED}. "
            "`forecaster init` creates the key if the data and the user's rights allow it"
        )


def describe_irregular(stored: pl.DataFrame, schema: str, *, horizon: int | None = None) -> Iterator[str]:
    """Describe, in one sentence each, rows without a track, and tracks with a month twice or missing.

    `stored`: the rows that `stored_months` selects in that schema. Months are missing if they are not 1 to n,
    or if n is less than the `horizon`. Without a `horizon`, it is the number of months that most tracks have,
    or 24 if no two tracks agree.
    """
    tracks = stored.filter(pl.col("cm_track_id").is_not_null())
    without_track = stored.filter(pl.col("cm_track_id").is_null())["rows"].sum()
    if without_track:
        yield f"rows in {FORECAST_TABLE} that name no track: {without_track:,}; they are left as they are"
    shared = tracks["months"].filter(tracks["months"].is_duplicated())
    complete = horizon or max(shared.mode(), default=Parameters().horizon)
    doubled = pl.col("rows") > pl.col("months")
    holes = (pl.col("first") != 1) | (pl.col("last") != pl.col("months"))
    fix = "forecaster run --replace"
    if schema != "public":
        fix += f" --schema {shlex.quote(schema)}"
    if complete != Parameters().horizon:
        fix += f" --horizon {complete}"
    for found, what in (
        (tracks.filter(doubled), "a month twice or NULL"),
        (
            tracks.filter(~doubled & (holes | (pl.col("months") < complete))),
            f"gaps or fewer than {complete} months",
        ),
    ):
        if len(found):
            first = found["cm_track_id"].sort()[0]
            yield (
                f"tracks in {FORECAST_TABLE} with {what}: {len(found):,}, the first is {first}; "
                f"they are left as they are, and `{fix} --track-id {first}` repairs one"
            )


def has_key(tables: Tables) -> bool:
    """Whether the server prevents a track from having a month twice."""
    return tables.is_unique(FORECAST_TABLE, *FORECASTS.key)
