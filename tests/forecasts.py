"""Forecasts as they are stored, and as the Python API gives them."""

from typing import Any

import polars as pl

from forecaster.model import build_forecasts
from forecaster.postgres.dsn import Dsn
from tests import sql

STORED = (
    "SELECT cm_track_id::bigint, month::bigint, forecasted_value::bigint, segment_used::bigint, "
    "time_used::bigint FROM backtest_track_streams_forecast ORDER BY 1, 2"
)


def stored(dsn: Dsn) -> pl.DataFrame:
    columns = ("cm_track_id", "month", "forecasted_value", "segment_used", "time_used")
    return pl.DataFrame(sql.rows(dsn, STORED), schema=dict.fromkeys(columns, pl.Int64), orient="row")


def in_frames(streams: pl.DataFrame, mldr: pl.DataFrame, **parameters: Any) -> pl.DataFrame:
    """What the Python API answers, as it would be stored."""
    forecasts = build_forecasts(streams.lazy(), mldr.lazy(), **parameters).forecasts.collect()
    return forecasts.select(
        "cm_track_id",
        "month",
        pl.col("forecasted_value").round().cast(pl.Int64),
        pl.col("segment_used").cast(pl.Int64),
        pl.col("time_used").cast(pl.Int64),
    ).sort("cm_track_id", "month")
