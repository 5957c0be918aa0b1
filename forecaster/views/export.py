"""Export the stored forecasts in the format of common forecasting tools."""

from datetime import date

import polars as pl

from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.postgres.catalogue import Source
from forecaster.views.origins import stored_forecasts


def nixtla(source: Source, *, as_of: date | None = None) -> tuple[pl.DataFrame, list[str]]:
    """Read the stored forecasts in Nixtla's format; also return warnings about them.

    One row per track and month: unique_id (the track), ds (Date), y (streams), cutoff (Date), h (month).
    Month h covers the 30 days up to ds. The cutoff and the errors are those of `stored_forecasts`.
    """
    forecasts, warnings = stored_forecasts(source, as_of=as_of)
    rows = forecasts.select(
        unique_id="cm_track_id",
        ds=pl.col("cutoff") + pl.duration(days=DAYS_PER_MONTH) * pl.col("month"),
        y="forecasted_value",
        cutoff="cutoff",
        h="month",
    )
    return rows, warnings
