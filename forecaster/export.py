"""The stored forecasts in the form that the field's tools take."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model.features import DAYS_PER_MONTH
from forecaster.postgres.source import Source


@dataclass(frozen=True)
class Exported:
    """The rows, and what the reader of them should know."""

    rows: pl.DataFrame
    warnings: list[str]


def nixtla(source: Source, *, as_of: date | None = None) -> Exported:
    """One row per track and month: unique_id (the track), ds (Date), y (streams), cutoff (Date), h (month).

    Month h covers the 30 days up to ds, and the cutoff is the day before the first month: `as_of`, else the
    last date that the forecast can have known. Where no row of the track is as old as its forecast, it is
    the track's last date, and where there is none at all, the day on which the forecast was stored.

    Raises `NoForecastError` if nothing is stored.
    """
    forecasts = source.forecasts()
    if forecasts.is_empty():
        raise NoForecastError("no forecast is stored", hint="`forecaster run` makes them")
    tracks = forecasts["cm_track_id"].unique()
    cutoffs = source.cutoffs(tracks)
    if as_of:
        cutoffs = cutoffs.with_columns(cutoff=pl.lit(as_of), is_known=pl.lit(value=True))
    rows = (
        forecasts.join(cutoffs, on="cm_track_id", how="left", maintain_order="left")
        .with_columns(pl.coalesce("cutoff", pl.col("created_at").dt.date()).alias("cutoff"))
        .select(
            unique_id="cm_track_id",
            ds=pl.col("cutoff") + pl.duration(days=DAYS_PER_MONTH) * pl.col("month"),
            y="forecasted_value",
            cutoff="cutoff",
            h="month",
        )
    )
    return Exported(rows, list(_unknown(cutoffs.filter(~pl.col("is_known"))["cm_track_id"])))


def _unknown(tracks: pl.Series) -> Iterator[str]:
    if len(tracks):
        yield (
            f"tracks whose streams are all newer than their forecast: {len(tracks):,}, the first is "
            f"{tracks[0]}; their cutoff is taken to be their last date. --as-of DATE states another one"
        )
