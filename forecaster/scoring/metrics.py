"""The scores of forecast months, in any grouping. A metric is a row of `METRICS`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl
from polars import selectors as cs

from forecaster.scoring.baselines import BASELINES
from forecaster.scoring.windows import FORECASTER

MODELS: tuple[str, ...] = (FORECASTER, *BASELINES)
"""The forecaster first."""

_ROUNDING = 1e-9  # so that an error of just 10 % is within 10 %


@dataclass(frozen=True, eq=False)
class Metric:
    """A score: how it is computed, and how it is shown."""

    heading: str | None
    """Of its column in tables; None for a metric that only data and files have."""
    formula: str
    """One line. `SYMBOLS` says what the letters are."""
    value: pl.Expr
    """Where it is not defined, it may be NaN or infinite; results have NULL there."""
    form: str = ".1%"
    """Format of a value in tables, as `format` takes it."""
    of: Literal["series", "scores", "months"] = "series"
    """What `value` is computed from: the series of a group (columns of `per_series`), the scores of a group
    (with `best_wape`, that of the best baseline), or the scored months of one series."""

    def shown(self, value: float | None) -> str:
        """Format a value for a table; "-" for NULL."""
        return "-" if value is None else f"{value:{self.form}}"


def _within(share: float) -> Metric:
    forecast, actual = pl.col("forecast_total"), pl.col("actual_total")
    near = (forecast - actual).abs() <= share * (1 + _ROUNDING) * actual.abs()
    return Metric(
        f"+-{share:.0%}",
        f"share of series with |F - A| <= {100 * share:.0f} % of |A|; where A is 0, with F rounded to 0",
        pl.when(actual == 0).then(forecast.round() == 0).otherwise(near).mean(),
    )


_HAS_SCALE = pl.col("scale") > 0
_SCALED = pl.col("mean_absolute") / pl.col("scale")
_SCALED_SQUARED = pl.col("mean_squared") / pl.col("scale_squared")
_FORECAST, _ACTUAL = pl.col(FORECASTER).sum(), pl.col("actual").sum()

METRICS: Mapping[str, Metric] = {
    "forecast_total": Metric(None, "sum f over all months", pl.col("forecast_total").sum()),
    "actual_total": Metric(None, "sum a over all months", pl.col("actual_total").sum()),
    "wape": Metric(
        "WAPE",
        "sum |f - a| / sum |a| over all months (0: perfect)",
        pl.col("absolute_error").sum() / pl.col("absolute").sum(),
    ),
    "bias": Metric(
        "bias",
        "sum (f - a) / sum |a| over all months (above 0: the forecast is too high)",
        pl.col("error").sum() / pl.col("absolute").sum(),
        "+.1%",
    ),
    "smape": Metric(
        "sMAPE",
        "mean over series of mean |f - a| / (|f| + |a|), 0 where both are 0 (0: perfect, 1: worst)",
        pl.col("smape").mean(),
    ),
    "mase": Metric(
        "MASE",
        "mean over series of mean |f - a| / mean |difference of neighbouring totals of 30 records before the"
        " origin| (0: perfect)",
        _SCALED.filter(_HAS_SCALE).mean(),
        ".3f",
    ),
    "rmsse": Metric(
        "RMSSE",
        "mean over series of root of (mean (f - a)^2 / mean (difference of neighbouring totals of 30 records"
        " before the origin)^2) (0: perfect)",
        _SCALED_SQUARED.sqrt().filter(_HAS_SCALE).mean(),
        ".3f",
    ),
    "without_scale": Metric(
        None,
        "series without two different neighbouring totals: not part of mase and rmsse",
        _HAS_SCALE.not_().fill_null(value=True).sum().cast(pl.Int64),
    ),
    "within_10": _within(0.10),
    "within_20": _within(0.20),
    "within_50": _within(0.50),
    "error_share": Metric(
        None,
        "(F - A) / |A| of one series (above 0: the forecast is too high)",
        (_FORECAST - _ACTUAL) / _ACTUAL.abs(),
        of="months",
    ),
    "skill": Metric(
        "skill",
        "1 - wape / wape of the best baseline (above 0: better than the baseline; 1: perfect)",
        1 - pl.col("wape") / pl.col("best_wape"),
        ".3f",
        of="scores",
    ),
}
"""Every metric by its name. Evaluations, their JSON, tables, formulas and the page follow from these rows."""

SYMBOLS: Mapping[str, str] = {
    "f, a": "forecast of a month of 30 days, and its streams",
    "F, A": "sums of f and of a over the months of a series that are scored",
    "series": "one track at one cutoff, or in one run",
    "influence range": "1 to 10, by the streams of the last 30 records at the origin",
    "volume decile": "tenths of the series, or of those of a run, by the streams of the last 365 records at"
    " the origin (1: least)",
}
"""Meaning of the letters in the formulas, and of the columns that groups are by."""


def scores(per_series: pl.LazyFrame, /, *, by: str) -> pl.LazyFrame:
    """Score one model's forecasts: one row per group of `by`, ordered by it (NULL first).

    `per_series`: what the function of that name returns, for all series. Adds to `by`: series, windows
    (counts), the metrics of series, and `wape_<name>` of each baseline in the same months.
    """
    absolute = pl.col("absolute").sum()
    return (
        per_series.sort(by, "series")  # a sum's last digits depend on the order of its terms
        .group_by(by, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("series"),
            pl.col("windows").sum(),
            **_values("series"),
            **{f"wape_{name}": pl.col(f"_{name}").sum() / absolute for name in BASELINES},
        )
        .pipe(finite)
    )


def per_series(windows: pl.LazyFrame, /, *, model: str, by: str) -> pl.LazyFrame:
    """Aggregate to one row per group and series: sums and means over its months in the group.

    `windows`: months that count, with `actual`, a column per model and the scales of their series.
    """
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


def with_comparison(scored: pl.LazyFrame, /, *, best: str) -> pl.LazyFrame:
    """Add the metrics of scores, against one baseline in the same months; NULL where one is not defined."""
    return (
        scored.with_columns(best_wape=pl.col(f"wape_{best}"))
        .with_columns(**_values("scores"))
        .drop("best_wape")
        .pipe(finite)
    )


def _values(of: str) -> dict[str, pl.Expr]:
    return {name: metric.value for name, metric in METRICS.items() if metric.of == of}


def best_baseline(per_series: pl.DataFrame, /) -> str:
    """Return the baseline with the smallest WAPE over all months; the first of equal ones."""
    # All have the same denominator, so errors can be compared even if it is 0.
    return min(BASELINES, key=lambda name: float(per_series[f"_{name}"].sum()))


def series_scores(windows: pl.LazyFrame, /) -> pl.LazyFrame:
    """Score each series: one row per series, ordered by `series`, with the error of its forecast.

    cm_track_id, cutoff, run, as_of, segment_used (of the first month that counts), influence_range,
    volume_decile, months (that count), forecast_total, actual_total, error_share, wape.
    """
    forecast, actual = pl.col(FORECASTER), pl.col("actual")
    return (
        windows.group_by("series", maintain_order=True)
        .agg(
            pl.col(
                "cm_track_id", "cutoff", "run", "as_of", "segment_used", "influence_range", "volume_decile"
            ).first(),
            months=pl.len().cast(pl.Int64),
            forecast_total=forecast.sum(),
            actual_total=actual.sum(),
            **_values("months"),
            wape=(forecast - actual).abs().sum() / actual.abs().sum(),
        )
        .pipe(finite)
        .sort("series")
        .drop("series")
    )


def finite(frame: pl.LazyFrame, /) -> pl.LazyFrame:
    """Replace NaN and infinity by NULL, which means that a score is not defined."""
    return frame.with_columns(pl.when(cs.float().is_finite()).then(cs.float()).name.keep())
