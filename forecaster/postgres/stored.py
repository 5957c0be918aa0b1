"""What is wrong with the forecasts that a table holds already, and what that means."""

from collections.abc import Iterator

import polars as pl

from forecaster.postgres.tables import FORECAST_TABLE, Tables


def stored_months(tables: Tables) -> str:
    """SELECT without its GROUP BY 1: per track its rows, months (distinct ones), first and last month."""
    # Where the key rules doubles out, there is nothing to sort for.
    distinct = "" if _has_key(tables) else "DISTINCT "
    return f"""
        SELECT cm_track_id::bigint AS cm_track_id, count(*)::bigint AS rows,
               count({distinct}month)::bigint AS months, min(month)::bigint AS first,
               max(month)::bigint AS last
        FROM {tables.name(FORECAST_TABLE)} WHERE cm_track_id IS NOT NULL"""


def missing_key(tables: Tables) -> Iterator[str]:
    """What is not guaranteed if nothing keeps a track's month from being stored twice."""
    if not _has_key(tables):
        yield (
            f"{FORECAST_TABLE} has no unique key on (cm_track_id, month): runs keep out of each other's way "
            "by their lock, but nothing keeps another program from storing a month twice. "
            "`forecaster init` creates the key where the data and the user's rights allow it"
        )


def describe_irregular(stored: pl.DataFrame, *, horizon: int | None = None) -> Iterator[str]:
    """A sentence each on tracks with a month twice, and on tracks with some of their months only.

    `stored` is what `stored_months` selects. Months are missing if they are not 1 to n, or if n is less
    than the horizon and less than most other tracks have.
    """
    usual = max(stored["months"].mode().to_list(), default=0)
    complete = usual if horizon is None else min(usual, horizon)
    doubled = stored.filter(pl.col("rows") > pl.col("months"))
    holes = (pl.col("first") != 1) | (pl.col("last") != pl.col("months"))
    partial = stored.filter(holes | (pl.col("months") < complete))
    for tracks, what in ((doubled, "a month more than once"), (partial, "only a part of their months")):
        if len(tracks):
            first = tracks["cm_track_id"].sort()[0]
            yield (
                f"{FORECAST_TABLE} holds {len(tracks):,} tracks with {what}, the first is {first}. They are "
                f"left as they are; `forecaster run --replace --track-id {first}` mends one"
            )


def _has_key(tables: Tables) -> bool:
    return tables.is_unique(FORECAST_TABLE, "cm_track_id", "month")
