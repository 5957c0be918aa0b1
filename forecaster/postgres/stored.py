"""What is wrong with the forecasts that a table holds already, and what that means."""

from collections.abc import Iterator

import polars as pl

from forecaster.model.parameters import Parameters
from forecaster.postgres.tables import FORECAST_TABLE, Tables

NOT_GUARANTEED = (
    "runs keep out of each other's way by their lock, but nothing keeps another program from storing a month "
    "twice"
)


def stored_months(tables: Tables) -> str:
    """SELECT without its GROUP BY 1: per track its rows, months (distinct ones), first and last month."""
    # Where the key rules doubles out, there is nothing to sort for.
    distinct = "" if has_key(tables) else "DISTINCT "
    return f"""
        SELECT cm_track_id::bigint AS cm_track_id, count(*)::bigint AS rows,
               count({distinct}month)::bigint AS months, min(month)::bigint AS first,
               max(month)::bigint AS last
        FROM {tables.name(FORECAST_TABLE)} WHERE cm_track_id IS NOT NULL"""


def missing_key(tables: Tables) -> Iterator[str]:
    """What is not guaranteed if nothing keeps a track's month from being stored twice."""
    if not has_key(tables):
        yield (
            f"{FORECAST_TABLE} has no unique key on (cm_track_id, month): {NOT_GUARANTEED}. "
            "`forecaster init` creates the key where the data and the user's rights allow it"
        )


def describe_irregular(stored: pl.DataFrame, *, horizon: int | None = None) -> Iterator[str]:
    """A sentence each on tracks with a month twice, and on tracks with some of their months only.

    `stored` is what `stored_months` selects. Months are missing if they are not 1 to n, or if n is less
    than the `horizon`; without one, less than most tracks have, which should be 24 at least.
    """
    complete = horizon or max([*stored["months"].mode(), Parameters().horizon])
    doubled = stored.filter(pl.col("rows") > pl.col("months"))
    holes = (pl.col("first") != 1) | (pl.col("last") != pl.col("months"))
    partial = stored.filter(holes | (pl.col("months") < complete))
    for tracks, what in (
        (doubled, "a month twice or NULL"),
        (partial, f"gaps or fewer than {complete} months"),
    ):
        if len(tracks):
            first = tracks["cm_track_id"].sort()[0]
            yield (
                f"tracks in {FORECAST_TABLE} with {what}: {len(tracks):,}, the first is {first}; "
                f"they are left as they are, and `forecaster run --replace --track-id {first}` mends one"
            )


def has_key(tables: Tables) -> bool:
    """Whether the server lets no track have a month twice."""
    return tables.is_unique(FORECAST_TABLE, "cm_track_id", "month")
