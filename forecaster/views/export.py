"""Export the stored forecasts in the format of common forecasting tools."""

from datetime import date

import polars as pl

from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.postgres.catalogue import Source
from forecaster.views.bounds import with_bounds
from forecaster.views.origins import stored_forecasts

_ENDS = {"lo-80": "q10", "hi-80": "q90", "lo-95": "q025", "hi-95": "q975"}


def nixtla(source: Source, *, as_of: date | None = None) -> tuple[pl.DataFrame, list[str]]:
    """Read the stored forecasts in Nixtla's format; also return warnings about them.

    One row per track and month: unique_id (the track), ds (Date), y (streams), cutoff (Date), h (month), and
    the ends of the intervals of 80 and 95 %: y-lo-80, y-hi-80, y-lo-95, y-hi-95. Month h covers the 30 days
    up to ds. The cutoff and the errors are those of `stored_forecasts`.
    """
    forecasts, warnings = stored_forecasts(source, as_of=as_of)
    bounded, remarks = with_bounds(source, forecasts)
    rows = bounded.select(
        unique_id="cm_track_id",
        ds=pl.col("cutoff") + pl.duration(days=DAYS_PER_MONTH) * pl.col("month"),
        y="forecasted_value",
        cutoff="cutoff",
        h="month",
        **{f"y-{end}": pl.col(name).round() for end, name in _ENDS.items()},
    )
    return rows, warnings + remarks
