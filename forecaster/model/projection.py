"""Tracks x months x segment boundaries -> forecast rows."""

import polars as pl

from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.model.segments import BASE_RATES, FORECAST_SEGMENT_STARTS, segment, summed_before
from forecaster.tables import FORECASTS

_SEGMENT_STARTS = (0, *FORECAST_SEGMENT_STARTS[1:])  # only the calibrated model forecasts a month 0


def project(tracks: pl.LazyFrame, /, *, horizon: int, level: int = DAYS_PER_MONTH) -> pl.LazyFrame:
    """Forecast `horizon` months per track, ordered by track and month; `forecasted_value` is not rounded.

    The streams of month i are streams_30 x exp(-(sum of the rates of the months up to it)). With a `level` of
    7 days they start from 30 x level instead: a column of the tracks.
    """
    return project_by(own_decay(), tracks, horizon=horizon, level=level)


def own_decay() -> pl.Expr:
    """Return the decay of a track from the as-of day to a month: the sum of its rates, for `project_by`."""
    until = decay_before(pl.col("months_since_release") + pl.col("month"))
    return pl.col("multiplier") * (until - pl.col("_decay_before"))


def project_by(
    decay: pl.Expr, tracks: pl.LazyFrame, /, *, horizon: int, level: int, has_own: bool = True
) -> pl.LazyFrame:
    """Forecast the level x exp(-`decay`), per track and month; `has_own`: the decay uses `own_decay`."""
    months = pl.LazyFrame({"month": pl.int_range(1, horizon + 1, dtype=pl.Int64, eager=True)})
    m, i = pl.col("months_since_release"), pl.col("month")
    return (
        tracks.with_columns([decay_before(m).alias("_decay_before")] if has_own else [])
        .join(months, how="cross")
        .with_columns(time_used=m + i - 1, _decay=decay)
        .with_columns(
            segment_used=segment(pl.col("time_used"), _SEGMENT_STARTS),
            forecasted_value=start_of(level) * (-pl.col("_decay")).exp(),
        )
        .select(FORECASTS.given_names)
        .sort("cm_track_id", "month")
    )


def start_of(level: int) -> pl.Expr:
    """Return the streams per month that a forecast from the mean of this number of days starts from."""
    return pl.col("streams_30") if level == DAYS_PER_MONTH else DAYS_PER_MONTH * pl.col("level")


def decay_before(month: pl.Expr) -> pl.Expr:
    """Sum the base rates of the `influence_range` over the months before `month`."""
    return summed_before(month, pl.col("influence_range"), values=BASE_RATES, starts=FORECAST_SEGMENT_STARTS)
