"""Tracks x months x segment boundaries -> forecast rows."""

import polars as pl

from forecaster.model.segments import BASE_RATES, FORECAST_SEGMENT_STARTS, segment, summed_before
from forecaster.tables import FORECASTS


def project(tracks: pl.LazyFrame, /, *, horizon: int) -> pl.LazyFrame:
    """Forecast `horizon` months per track, ordered by track and month; `forecasted_value` is not rounded.

    The streams of month i are streams_30 x exp(-(sum of the rates of the months up to it)).
    """
    months = pl.LazyFrame({"month": pl.int_range(1, horizon + 1, dtype=pl.Int64, eager=True)})
    m, i = pl.col("months_since_release"), pl.col("month")
    return (
        tracks.with_columns(_decay_before=_decay_before(m))
        .join(months, how="cross")
        .with_columns(
            time_used=m + i - 1,
            _decay=pl.col("multiplier") * (_decay_before(m + i) - pl.col("_decay_before")),
        )
        .with_columns(
            segment_used=segment(pl.col("time_used"), FORECAST_SEGMENT_STARTS),
            forecasted_value=pl.col("streams_30") * (-pl.col("_decay")).exp(),
        )
        .select(FORECASTS.given_names)
        .sort("cm_track_id", "month")
    )


def _decay_before(month: pl.Expr) -> pl.Expr:
    """Sum the base rates over the months before `month`."""
    return summed_before(month, pl.col("influence_range"), values=BASE_RATES, starts=FORECAST_SEGMENT_STARTS)
