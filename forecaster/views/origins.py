"""Find the cutoff of each stored forecast: the last day before its first month."""

from collections.abc import Iterator
from datetime import date

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model.parameters import HORIZON_MAX, Parameters
from forecaster.postgres.catalogue import Source


def stored_forecasts(
    source: Source, track_ids: pl.Series | None = None, *, as_of: date | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """Read the stored rows with `cutoff`; also return warnings about it.

    The cutoff (Date) is the last day before the first month of a forecast: `as_of`, else the as-of day in the
    history. Without one, it is the last date that the forecast may have used; if no row of the track is as
    old as its forecast, the last date of the track, and if the track has no rows, the day on which the
    forecast was stored.

    Raises `NoForecastError` if no forecast is stored.
    """
    forecasts = source.forecasts(track_ids)
    if forecasts.is_empty():
        raise NoForecastError("no forecast is stored", hint="make forecasts with `forecaster run`")
    if as_of:
        Parameters(HORIZON_MAX, as_of=as_of)  # refuses a day whose forecast would end after the calendar
        return forecasts.with_columns(cutoff=pl.lit(as_of)), []
    cutoffs = known_until(source, forecasts["cm_track_id"].unique())
    rows = forecasts.join(
        cutoffs.select("cm_track_id", "cutoff"), on="cm_track_id", how="left", maintain_order="left"
    ).with_columns(pl.coalesce("cutoff", pl.col("created_at").dt.date()).alias("cutoff"))
    return rows, list(_unknown(cutoffs.filter(~pl.col("is_known"))))


def known_until(source: Source, track_ids: pl.Series, /) -> pl.DataFrame:
    """Find the last day that the stored forecast of each track can have known, by the history if it is there.

    One row per track: cm_track_id, cutoff and is_known, as `Source.cutoffs` returns them; by_rows: the cutoff
    without the history, from the rows that existed when the forecast was stored, NULL if none did.
    """
    rows = source.cutoffs(track_ids)
    recorded = source.recorded_days(track_ids)
    return rows.join(recorded, on="cm_track_id", how="left", maintain_order="left").select(
        "cm_track_id",
        cutoff=pl.coalesce("as_of", "cutoff"),
        is_known=pl.col("is_known") | pl.col("as_of").is_not_null(),
        by_rows=pl.when("is_known").then("cutoff"),
    )


def _unknown(tracks: pl.DataFrame) -> Iterator[str]:
    newer = tracks["cutoff"].count()
    kinds = {
        "with streams that are all newer than the forecast, for which the last date is taken": newer,
        "without streams, for which the day on which the forecast was stored is taken": len(tracks) - newer,
    }
    if len(tracks):
        yield (
            f"tracks whose cutoff is not known by created_at: {len(tracks):,}, the first is "
            f"{tracks['cm_track_id'][0]} ("
            + "; ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
            + "). Give another one with --as-of DATE"
        )
