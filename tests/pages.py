"""Catalogues and evaluations for the page to draw, without a server."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl

from forecaster.scoring import Evaluation, evaluate
from forecaster.views.catalogue import Catalogue

TRACKS = 1_530
"""Of the synthetic catalogue that most tests look at."""

READ_AT = datetime(2025, 1, 2, 3, 4, tzinfo=UTC)
STORED_AT = datetime(2025, 1, 1, 12, 30, tzinfo=UTC)

Row = dict[str, Any]

SCHEMA: dict[str, type[pl.DataType] | pl.DataType] = {
    "cm_track_id": pl.Int64, "cm_artist_id": pl.Int64, "as_of": pl.Date, "months_since_release": pl.Int64,
    "streams_30": pl.Float64, "streams_365": pl.Float64, "influence_range": pl.Int64, "mldr": pl.Float64,
    "k": pl.Float64, "multiplier": pl.Float64, "reason": pl.String, "history": pl.List(pl.Float64),
    "forecast": pl.List(pl.Float64), "months": pl.Int64, "total": pl.Float64, "segment": pl.Int64,
    "created_at": pl.Datetime("us", "UTC"), "age": pl.Int64, "cutoff": pl.Date, "is_stale": pl.Boolean,
    "low": pl.Float64, "high": pl.Float64,
}  # fmt: skip
NO_STREAMS: Row = {
    "as_of": None, "months_since_release": None, "streams_30": None, "streams_365": None, "mldr": None,
    "influence_range": None, "k": None, "multiplier": None, "history": [],
}  # fmt: skip
NO_FORECAST: Row = {
    "forecast": [], "months": None, "total": None, "segment": None, "created_at": None, "age": None,
    "cutoff": None,
}  # fmt: skip
STALE: Row = {
    "as_of": date(2024, 12, 31), "cutoff": date(2024, 10, 17), "is_stale": True,  # 75 days
    "age": 27, "months_since_release": 30, "segment": 9, "history": [1000.0] * 12, "forecast": [900.0] * 24,
}  # fmt: skip


def track(track_id: int = 1, **columns: object) -> Row:
    """One good row with the columns given replaced; months and total follow from the forecast."""
    good: Row = {
        "cm_track_id": track_id, "cm_artist_id": 7, "as_of": date(2024, 12, 31), "months_since_release": 30,
        "streams_30": 1000.0, "streams_365": 13000.0, "influence_range": 1, "mldr": 0.03, "k": 0.01,
        "multiplier": 1.5, "reason": None, "history": [1100.0, 1000.0], "forecast": [900.0, 800.0, 700.0],
        "segment": 10, "created_at": STORED_AT, "age": 30, "cutoff": date(2024, 12, 31), "is_stale": False,
    }  # fmt: skip
    row = good | columns
    forecast = row["forecast"]
    return {"months": len(forecast) or None, "total": sum(forecast) if forecast else None} | row


def catalogue(
    *rows: Row,
    database: str = "postgresql://user@host:5432/music",
    schema: str = "public",
    tracks: pl.DataFrame | None = None,
    warnings: tuple[str, ...] = (),
) -> Catalogue:
    frame = pl.DataFrame([*rows], schema=pl.Schema(SCHEMA.items())) if tracks is None else tracks
    return Catalogue(database, schema, READ_AT, warnings, frame)


def synthetic(tracks: int, months: int) -> pl.DataFrame:
    """A catalogue of as much variety as a real one; every 50th track pending, every 75th skipped."""
    chance = np.random.default_rng(5)
    size = chance.lognormal(9, 3.5, tracks).round()
    history = (size[:, None] * chance.lognormal(0.05, 0.3, (tracks, 12))).round()
    decay = chance.gamma(2, 0.02, (tracks, 1)) * (1 + 3 / np.arange(1, months + 1))
    forecast = (size[:, None] * np.exp(-np.cumsum(decay, axis=1))).round()
    number = np.arange(tracks)
    frame = pl.DataFrame(
        {
            "cm_track_id": number * 3 + 1, "cm_artist_id": chance.integers(1, 1500, tracks),
            "months_since_release": chance.integers(1, 400, tracks), "streams_30": size,
            "streams_365": history.sum(axis=1), "influence_range": chance.integers(0, 10, tracks),
            "mldr": chance.normal(0.03, 0.02, tracks), "k": chance.gamma(1, 0.02, tracks),
            "multiplier": 1 + chance.gamma(1, 2, tracks), "history": history, "forecast": forecast,
            "segment": chance.integers(1, 13, tracks),
        }
    )  # fmt: skip
    pending, skipped = pl.lit(number % 50 == 49), pl.lit(number % 75 == 74)
    has = (pending | skipped).not_()
    return (
        frame.with_columns(pl.col("history", "forecast").arr.to_list())
        .with_columns(
            as_of=pl.lit(date(2024, 12, 31)),
            reason=pl.when(skipped).then(pl.lit("no_mldr")),
            mldr=pl.when(skipped.not_()).then("mldr"),
            forecast=pl.when(has).then("forecast").otherwise(pl.lit([], dtype=pl.List(pl.Float64))),
            segment=pl.when(has).then("segment"),
            created_at=pl.when(has).then(pl.lit(STORED_AT)),
            age=pl.when(has).then("months_since_release"),
            cutoff=pl.when(has).then(pl.lit(date(2024, 12, 31))),
            is_stale=pl.lit(value=False),
        )
        .with_columns(
            months=pl.when(has).then(pl.lit(months)), total=pl.when(has).then(pl.col("forecast").list.sum())
        )
        .with_columns(low=pl.col("total") / 2, high=pl.col("total") * 2)
        .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    )


ORIGIN = date(2023, 12, 31)


def evaluated(*, cutoffs: int = 1) -> Evaluation:
    """Forecasts of 30 tracks, one without streams: too high at first, too low in month 4.

    At the last cutoff the fifth month is not over.
    """
    chance = np.random.default_rng(3)
    tracks = chance.lognormal(8, 2, 30)
    tracks[0] = 0.0
    days = pl.DataFrame({"day": range(-400, 130)})
    numbered = pl.DataFrame({"cm_track_id": range(1, 31), "size": tracks})
    daily = numbered.join(days, how="cross").select(
        "cm_track_id",
        date=pl.lit(ORIGIN) + pl.duration(days="day"),
        daily_streams=(pl.col("size") * (-pl.col("day") / 300).exp()).round(),
    )  # fmt: skip
    months = pl.DataFrame({"month": range(1, 6), "factor": [1.5, 4.0, 1.0, 0.5, 1.0]})
    at = pl.DataFrame({"back": [60 * number for number in range(cutoffs)]})
    forecasts = numbered.join(months, how="cross").join(at, how="cross").select(
        "cm_track_id", "month",
        cutoff=pl.lit(ORIGIN) - pl.duration(days="back"),
        as_of=pl.lit(ORIGIN) - pl.duration(days="back"),
        forecasted_value=pl.col("size") * 30 * pl.col("factor"),
        segment_used=pl.when(pl.col("cm_track_id") == 1).then(3).otherwise(12),
    )  # fmt: skip
    return evaluate(forecasts, daily)
