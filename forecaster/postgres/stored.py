"""What is wrong with the forecasts that a table holds already, and what that means."""

import shlex
from collections.abc import Iterator
from datetime import datetime

import polars as pl

from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import Connection, integer_array, query
from forecaster.postgres.tables import Tables
from forecaster.tables import FORECAST_TABLE, FORECASTS

NOT_GUARANTEED = (
    "runs keep out of each other's way by their lock, but nothing keeps another program from storing a month "
    "twice"
)


def stored_months(tables: Tables) -> str:
    """SELECT ending in its WHERE, without GROUP BY 1: per track rows, distinct months, first and last month.

    Rows that name no track are those of a track NULL.
    """
    # Where the key rules doubles out, there is nothing to sort for.
    distinct = "" if has_key(tables) else "DISTINCT "
    return f"""
        SELECT cm_track_id::bigint AS cm_track_id, count(*)::bigint AS rows,
               count({distinct}month)::bigint AS months, min(month)::bigint AS first,
               max(month)::bigint AS last
        FROM {tables.name(FORECAST_TABLE)} WHERE true"""


def stored_at(
    connection: Connection, tables: Tables, track_ids: pl.Series, created_at: datetime, horizon: int
) -> pl.Series:
    """Those of the tracks that have all months of a forecast of just that instant, which names a run."""
    found = query(
        connection,
        f"SELECT s.cm_track_id::bigint AS cm_track_id FROM {tables.name(FORECAST_TABLE)} s "
        f"WHERE s.cm_track_id = ANY ({integer_array(track_ids)}) "
        f"AND {tables.instant(FORECAST_TABLE)} = $1 GROUP BY 1 HAVING count(*) = {int(horizon)}",
        (created_at,),
    )
    return found["cm_track_id"].sort()


def missing_key(tables: Tables) -> Iterator[str]:
    """What is not guaranteed if nothing keeps a track's month from being stored twice."""
    if FORECAST_TABLE in tables.with_children:
        yield (
            f"other tables inherit from {FORECAST_TABLE}, and no unique key of it covers their rows: "
            f"{NOT_GUARANTEED}. Partitions in their place are covered"
        )
    elif not has_key(tables):
        yield (
            f"{FORECAST_TABLE} has no unique key on (cm_track_id, month): {NOT_GUARANTEED}. "
            "`forecaster init` creates the key where the data and the user's rights allow it"
        )


def describe_irregular(stored: pl.DataFrame, schema: str, *, horizon: int | None = None) -> Iterator[str]:
    """A sentence each on rows of no track, tracks with a month twice, and tracks with some months only.

    `stored` is what `stored_months` selects in that schema. Months are missing if they are not 1 to n, or
    if n is less than the `horizon`; without one, less than most tracks have, or 24 where no two agree.
    """
    tracks = stored.filter(pl.col("cm_track_id").is_not_null())
    without_track = stored.filter(pl.col("cm_track_id").is_null())["rows"].sum()
    if without_track:
        yield f"rows in {FORECAST_TABLE} that name no track: {without_track:,}; they are left as they are"
    shared = tracks["months"].filter(tracks["months"].is_duplicated())
    complete = horizon or max(shared.mode(), default=Parameters().horizon)
    doubled = pl.col("rows") > pl.col("months")
    holes = (pl.col("first") != 1) | (pl.col("last") != pl.col("months"))
    mend = "forecaster run --replace"
    if schema != "public":
        mend += f" --schema {shlex.quote(schema)}"
    if complete != Parameters().horizon:
        mend += f" --horizon {complete}"
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
                f"they are left as they are, and `{mend} --track-id {first}` mends one"
            )


def has_key(tables: Tables) -> bool:
    """Whether the server lets no track have a month twice."""
    return tables.is_unique(FORECAST_TABLE, *FORECASTS.key)
