"""The scores of forecast months, in any grouping."""

from collections.abc import Mapping

import polars as pl
from polars import selectors as cs

from forecaster.scoring.baselines import BASELINES
from forecaster.scoring.windows import FORECASTER

MODELS: tuple[str, ...] = (FORECASTER, *BASELINES)
"""The forecaster first."""

WITHIN: Mapping[str, float] = {"within_10": 0.10, "within_20": 0.20, "within_50": 0.50}

FORMULAS: Mapping[str, str] = {
    "wape": "sum |f - a| / sum |a| over all months (0: perfect)",
    "bias": "sum (f - a) / sum |a| over all months (above 0: the forecast is too high)",
    "smape": "mean over series of mean |f - a| / (|f| + |a|), 0 where both are 0 (0: perfect, 1: worst)",
    "mase": (
        "mean over series of mean |f - a| / mean |difference of neighbouring totals of 30 records before the"
        " origin| (0: perfect)"
    ),
    "rmsse": (
        "mean over series of root of (mean (f - a)^2 / mean (difference of neighbouring totals of 30 records"
        " before the origin)^2) (0: perfect)"
    ),
    "without_scale": "series without two different neighbouring totals: they are not in mase and rmsse",
    "within_10": "share of series with |F - A| <= 10 % of |A|; where A is 0, with F rounded to 0",
    "within_20": "share of series with |F - A| <= 20 % of |A|; where A is 0, with F rounded to 0",
    "within_50": "share of series with |F - A| <= 50 % of |A|; where A is 0, with F rounded to 0",
    "forecast_total": "sum f over all months",
    "actual_total": "sum a over all months",
    "error_share": "(F - A) / |A| of one series (above 0: the forecast is too high)",
    "skill": "1 - wape / wape of the best baseline (above 0: better than the baseline; 1: perfect)",
}
"""Of each score. `SYMBOLS` says what the letters are."""

SYMBOLS: Mapping[str, str] = {
    "f, a": "forecast of a month of 30 days, and its streams",
    "F, A": "sums of f and of a over the months of a series that are scored",
    "series": "one track at one cutoff",
    "influence range": "1 to 10, by the streams of the last 30 records at the origin",
    "volume decile": "tenths of the series by the streams of the last 365 records at the origin (1: least)",
}
"""Of what is in the formulas, and of what the groups are by."""

_ROUNDING = 1e-9  # so that an error of just 10 % is within 10 %


def scores(windows: pl.LazyFrame, /, *, model: str, by: str) -> pl.LazyFrame:
    """One row per group of `by`, ordered by it (NULL first): the scores of one model's forecasts.

    `windows`: the months that count, with `actual`, a column per model and the scales of their series.
    Adds to `by`: series, windows (counts), forecast_total, actual_total, wape, bias, smape, mase, rmsse,
    without_scale, within_10, within_20, within_50, and `wape_<name>` of each baseline in the same months.
    """
    absolute = pl.col("absolute").sum()
    has_scale = pl.col("scale") > 0
    return (
        _per_series(windows, model=model, by=by)
        .sort(by, "series")  # a sum's last digits depend on the order of its terms
        .group_by(by, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("series"),
            pl.col("windows", "forecast_total", "actual_total").sum(),
            wape=pl.col("absolute_error").sum() / absolute,
            bias=pl.col("error").sum() / absolute,
            smape=pl.col("smape").mean(),
            mase=(pl.col("mean_absolute") / pl.col("scale")).filter(has_scale).mean(),
            rmsse=(pl.col("mean_squared") / pl.col("scale_squared")).sqrt().filter(has_scale).mean(),
            without_scale=has_scale.not_().fill_null(value=True).sum().cast(pl.Int64),
            **{name: _is_within(share).mean() for name, share in WITHIN.items()},
            **{f"wape_{name}": pl.col(f"_{name}").sum() / absolute for name in BASELINES},
        )
        .pipe(finite)
    )


def _per_series(windows: pl.LazyFrame, *, model: str, by: str) -> pl.LazyFrame:
    """One row per group and series: sums and means over its months in the group."""
    forecast, actual = pl.col(model), pl.col("actual")
    error, size = forecast - actual, forecast.abs() + actual.abs()
    return windows.group_by(by, "series", maintain_order=True).agg(
        windows=pl.len().cast(pl.Int64),
        forecast_total=forecast.sum(),
        actual_total=actual.sum(),
        absolute=actual.abs().sum(),
        error=error.sum(),
        absolute_error=error.abs().sum(),
        smape=pl.when(size > 0).then(error.abs() / size).otherwise(0.0).mean(),
        mean_absolute=error.abs().mean(),
        mean_squared=error.pow(2).mean(),
        scale=pl.col("scale").first(),
        scale_squared=pl.col("scale_squared").first(),
        **{f"_{name}": (pl.col(name) - actual).abs().sum() for name in BASELINES},
    )


def _is_within(share: float) -> pl.Expr:
    forecast, actual = pl.col("forecast_total"), pl.col("actual_total")
    near = (forecast - actual).abs() <= share * (1 + _ROUNDING) * actual.abs()
    return pl.when(actual == 0).then(forecast.round() == 0).otherwise(near)


def with_skill(scored: pl.LazyFrame, /, *, best: str) -> pl.LazyFrame:
    """Add `skill`, against one baseline in the same months; NULL where it is not defined."""
    return scored.with_columns(skill=1 - pl.col("wape") / pl.col(f"wape_{best}")).pipe(finite)


def best_baseline(windows: pl.DataFrame, /) -> str:
    """The baseline with the smallest WAPE over all months; of equal ones the first."""
    # All have the same denominator, and the errors can be compared even where that is 0.
    errors = windows.select((pl.col(name) - pl.col("actual")).abs().sum() for name in BASELINES)
    return min(BASELINES, key=lambda name: float(errors[name].item()))


def series_scores(windows: pl.LazyFrame, /) -> pl.LazyFrame:
    """One row per series, ordered by track and cutoff: how far its forecast was off.

    cm_track_id, cutoff, as_of, segment_used (of the first month that counts), influence_range, volume_decile,
    months (that count), forecast_total, actual_total, error_share, wape.
    """
    forecast, actual = pl.col(FORECASTER), pl.col("actual")
    return (
        windows.group_by("series", maintain_order=True)
        .agg(
            pl.col(
                "cm_track_id", "cutoff", "as_of", "segment_used", "influence_range", "volume_decile"
            ).first(),
            months=pl.len().cast(pl.Int64),
            forecast_total=forecast.sum(),
            actual_total=actual.sum(),
            error_share=(forecast.sum() - actual.sum()) / actual.sum().abs(),
            wape=(forecast - actual).abs().sum() / actual.abs().sum(),
        )
        .pipe(finite)
        .sort("series")
        .drop("series")
    )


def finite(frame: pl.LazyFrame, /) -> pl.LazyFrame:
    """NULL where a score is not defined: there is no NaN and no infinity in a result."""
    return frame.with_columns(pl.when(cs.float().is_finite()).then(cs.float()).name.keep())
