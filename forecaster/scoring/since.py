"""One track's forecasts over time, beside the streams that came since. Pure: frames in, frames out."""

import polars as pl

from forecaster.scoring.windows import read_days, with_actuals

_NO_ACTUAL = (pl.lit(None, pl.Float64).alias("actual"), pl.lit("no_streams").alias("left_out"))


def with_streams_since(forecasts: pl.DataFrame, days: pl.DataFrame, /) -> pl.DataFrame:
    """Return the months of one track's forecasts: run, month, forecast, actual, error, left_out.

    `forecasts`: one row per run with run, as_of, last_date and months (NULL where it was skipped); `days`:
    cm_track_id, date, daily_streams of that track. `actual`: streams of the 30 days of the month; `left_out`:
    why there are none, one of `LEFT_OUT`. `error`: (forecast - actual) / actual; NULL where that is 0.
    """
    numbers = pl.int_ranges(1, pl.col("months").list.len() + 1)
    months = (
        forecasts.drop_nulls("months")
        .select("run", "as_of", "last_date", month=numbers, forecast="months")
        .explode("month", "forecast")
        .cast({"month": pl.Int64})
    )
    dated = months.filter(pl.col("as_of").is_not_null())
    rest = months.filter(pl.col("as_of").is_null()).with_columns(*_NO_ACTUAL)
    compared = pl.concat([_compared(dated, days), rest], how="diagonal")
    error = (pl.col("forecast") - pl.col("actual")) / pl.col("actual").abs()
    return compared.with_columns(error=pl.when(pl.col("actual") != 0).then(error)).select(
        "run", "month", "forecast", "actual", "error", "left_out"
    )


def _compared(months: pl.DataFrame, days: pl.DataFrame) -> pl.DataFrame:
    if days.is_empty():
        return months.with_columns(*_NO_ACTUAL)
    known = read_days(days.lazy())
    track = months.with_columns(cm_track_id=pl.lit(days["cm_track_id"][0]))
    return with_actuals(track, known, known).select(
        "run",
        "month",
        "forecast",
        pl.when(pl.col("reason").is_null()).then("actual").alias("actual"),
        pl.col("reason").alias("left_out"),
    )
