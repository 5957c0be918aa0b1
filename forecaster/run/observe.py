"""Observe the tracks of a batch for the checks of plausibility: group and count them."""

import polars as pl

from forecaster.model.plausibility import suspicions
from forecaster.run.plausible import NAMED, Limits, Observed, Some


def by_end(tracks: pl.LazyFrame, /) -> pl.LazyFrame:
    """Group tracks by their last day: day (since 1970-01-01), number, first (ids)."""
    return tracks.group_by(day=pl.col("last_date").to_physical()).agg(
        number=pl.len(), first=_first(pl.col("cm_track_id"))
    )


def suspicious(tracks: pl.LazyFrame, limits: Limits, /) -> pl.LazyFrame:
    """Count the suspicious rows of `build_tracks`: one row; per check a struct of number, first and among."""
    return tracks.select(
        pl.struct(
            number=applies.sum(),
            first=_first(pl.col("cm_track_id").filter(applies)).implode(),
            among=applies.count(),
        ).alias(name)
        for name, applies in suspicions(limits).items()
    )


def observed(ends: pl.DataFrame, counted: pl.DataFrame | None = None, /) -> Observed:
    """Build from what `by_end` and `suspicious` have counted."""
    counts = counted.row(0, named=True) if counted is not None and counted.width else {}
    return Observed(
        {
            day: Some(number, tuple(first))
            for day, number, first in ends.select("day", "number", "first").rows()
        },
        {name: Some(one["number"] or 0, tuple(one["first"] or ())) for name, one in counts.items()},
        {name: one["among"] or 0 for name, one in counts.items()},
    )


def _first(ids: pl.Expr) -> pl.Expr:
    return ids.sort().head(NAMED)
