"""Totals over all tracks of an origin: of each month, and of the months up to it."""

import polars as pl

from forecaster.errors import SchemaMismatchError
from forecaster.frames.schemas import DAY, ID, NUMBER, Kind, conform
from forecaster.model.calibrated.uncertainty import Errors, totals
from forecaster.scoring.metrics import finite
from forecaster.scoring.windows import FORECASTER, INTERVALS
from forecaster.tables import QUANTILES

OF = ("month", "cumulated")
"""What a total is of: one month, of the tracks that have it; the months 1 to it, of those that have all."""

_ORIGIN = ("cutoff", "run")
_KEY = (*_ORIGIN, "of", "month")

FACTORS = {
    "cutoff": DAY,
    "run": Kind(ID.expected, ID.accepts, pl.Int64, required=False),
    "of": Kind("month or cumulated", (pl.String,), pl.String),
    "month": ID,
    **dict.fromkeys(QUANTILES, NUMBER),
}
"""Columns of quantiles of totals, each as a multiple of the forecast of the total."""


def factors_of(errors: Errors, /, *, horizon: int) -> pl.DataFrame:
    """Return the quantiles of totals with these error figures, as `FACTORS` without the origin."""
    one = pl.LazyFrame({"month": range(1, horizon + 1)}).with_columns(
        cm_track_id=pl.lit(0), time_used=pl.col("month"), forecasted_value=pl.lit(1.0)
    )
    added = totals(one, errors, horizon=horizon, is_group=False).collect()
    return pl.concat(
        added.select(
            pl.lit(of).alias("of"),
            "month",
            *((pl.col(prefix + name) / pl.col(total)).alias(name) for name in QUANTILES),
        )
        for of, total, prefix in zip(OF, ("total", "cumulated"), ("", "cumulated_"), strict=True)
    )


def origin_totals(windows: pl.DataFrame, series: pl.DataFrame, /) -> pl.DataFrame:
    """Sum the forecasts and the streams of each origin.

    `windows`: months that count, ordered by series and month; `series`: their cutoff and run.
    cutoff, run, of (one of `OF`), month, tracks, forecast, actual; absolute_error, absolute: sums over the
    tracks of the errors and sizes of their own totals.
    """
    forecast, actual = pl.col(FORECASTER), pl.col("actual")
    months = windows.lazy().select(
        "series",
        pl.col("month").cast(pl.Int64),
        forecast,
        actual,
        before=forecast.cum_sum().over("series"),
        came=actual.cum_sum().over("series"),
        is_whole=pl.col("month") == pl.int_range(1, pl.len() + 1).over("series"),
    )
    origins = series.lazy().select("series", *_ORIGIN)
    both = months.join(origins, on="series", how="inner", maintain_order="left")
    whole = both.filter("is_whole").with_columns(pl.col("before").alias(FORECASTER), actual="came")
    parts = pl.collect_all([_summed(both, "month"), _summed(whole, "cumulated")], engine="in-memory")
    return pl.concat(parts)


def _summed(months: pl.LazyFrame, of: str) -> pl.LazyFrame:
    forecast, actual = pl.col(FORECASTER), pl.col("actual")
    return (
        months.group_by(*_ORIGIN, "month", maintain_order=True)
        .agg(
            tracks=pl.len().cast(pl.Int64),
            forecast=forecast.sum(),
            actual=actual.sum(),
            absolute_error=(forecast - actual).abs().sum(),
            absolute=actual.abs().sum(),
        )
        .select(*_ORIGIN, pl.lit(of).alias("of"), pl.all().exclude(*_ORIGIN))
    )


def cumulative_wape(totals: pl.DataFrame, /) -> pl.DataFrame:
    """Return the cumulative WAPE by month ahead, over the tracks of all origins: month, cumulative_wape."""
    sums = pl.col("absolute_error", "absolute").sum()
    return (
        totals.lazy()
        .filter(of="cumulated")
        .group_by("month", maintain_order=True)
        .agg(sums)
        .select("month", cumulative_wape=pl.col("absolute_error") / pl.col("absolute"))
        .pipe(finite)
        .sort("month")
        .collect(engine="in-memory")
    )


def with_quantiles(totals: pl.DataFrame, factors: pl.DataFrame | pl.LazyFrame, /) -> pl.DataFrame:
    """Add the quantiles of each total: its forecast times its `FACTORS`; NULL where there are none.

    Raises `SchemaMismatchError` for columns, and for factors that occur twice.
    """
    known = conform(factors.lazy(), FACTORS, name="totals").collect()
    if known.select(pl.struct(_KEY).is_duplicated().any()).item():
        raise SchemaMismatchError("totals: a month occurs more than once for one cutoff or run")
    both = totals.join(known, on=_KEY, how="left", nulls_equal=True, maintain_order="left")
    return both.with_columns(pl.col(*QUANTILES) * pl.col("forecast"))


def total_scores(totals: pl.DataFrame, /) -> pl.DataFrame:
    """Score the totals by what they are of and month ahead, over the origins.

    of, month, origins, wape, bias; with quantiles also inside_<level> and interval_<level>, as in `METRICS`.
    """
    forecast, actual = pl.col("forecast"), pl.col("actual")
    size = actual.abs().sum()
    scores = {"wape": (forecast - actual).abs().sum() / size, "bias": (forecast - actual).sum() / size}
    if "q10" in totals.columns:
        for level, (low, high) in INTERVALS.items():
            below, above = pl.col(low) - actual, actual - pl.col(high)
            outside = below.clip(lower_bound=0) + above.clip(lower_bound=0)
            score = pl.col(high) - pl.col(low) + outside * (200 / (100 - level))
            scores[f"inside_{level}"] = actual.is_between(low, high).mean()
            scores[f"interval_{level}"] = score.sum() / actual.abs().filter(score.is_not_null()).sum()
    return (
        totals.lazy()
        .group_by("of", "month", maintain_order=True)
        .agg(origins=pl.len().cast(pl.Int64), **scores)
        .pipe(finite)
        .sort(pl.col("of") == "cumulated", "month")
        .collect(engine="in-memory")
    )
