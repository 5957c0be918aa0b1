"""The scores of forecast months, in any grouping. A metric is a row of `METRICS`."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import polars as pl
from polars import selectors as cs

from forecaster.scoring.baselines import BASELINES
from forecaster.scoring.windows import FORECASTER, INTERVALS

MODELS: tuple[str, ...] = (FORECASTER, *BASELINES)
"""The forecaster first."""

_NEARLY_ALL = 0.9
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
    (with `own_wape` and `best_wape`, the errors of the model and of the best baseline in the months that both
    have), or the scored months of one series."""
    needs: str | None = None
    """Column of `per_series` that only some forecasts have. The metric is NULL, and not shown, without it."""

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
_TOTAL_FORECAST, _TOTAL_ACTUAL = pl.col("forecast_total"), pl.col("actual_total")


def _inside(level: int) -> Metric:
    low, high = INTERVALS[level]
    return Metric(
        f"in {level}",
        f"share of months with {low} <= a <= {high} ({level}.0%: as it should be)",
        pl.col(f"inside_{level}").sum() / pl.col(f"bounded_{level}").sum(),
        needs=f"inside_{level}",
    )


def _interval_score(level: int) -> Metric:
    low, high = INTERVALS[level]
    by = 200 // (100 - level)
    return Metric(
        f"IS {level}",
        f"interval score: sum of {high} - {low}, + {by} x ({low} - a) where a is below, + {by} x (a - {high})"
        " where it is above, / sum |a| (0: perfect)",
        pl.col(f"interval_{level}").sum() / pl.col(f"bounded_size_{level}").sum(),
        ".3f",
        needs=f"inside_{level}",
    )


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
    "cumulative_wape": Metric(
        "cWAPE",
        "cumulative WAPE: sum |F - A| / sum |A| over all series (0: perfect); by month ahead, F and A are of"
        " the months 1 to that one, of the series that have them all",
        (_TOTAL_FORECAST - _TOTAL_ACTUAL).abs().sum() / _TOTAL_ACTUAL.abs().sum(),
    ),
    "skill": Metric(
        "skill",
        "1 - wape / wape of the best baseline, in the months that both have (above 0: better than the"
        " baseline; 1: perfect)",
        1 - pl.col("own_wape") / pl.col("best_wape"),
        ".3f",
        of="scores",
    ),
    "smape": Metric(
        "sMAPE",
        "as in M4: mean over series of mean 2 |f - a| / (|f| + |a|), 0 where both are 0 (0: perfect, 200 %:"
        " worst)",
        pl.col("smape").mean(),
    ),
    "within_20": _within(0.20),
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
    "within_50": _within(0.50),
    "inside_80": _inside(80),
    "inside_95": _inside(95),
    "interval_80": _interval_score(80),
    "interval_95": _interval_score(95),
    "error_share": Metric(
        None,
        "(F - A) / |A| of one series (above 0: the forecast is too high)",
        (_FORECAST - _ACTUAL) / _ACTUAL.abs(),
        of="months",
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


def scores(per_series: pl.LazyFrame, /, *, by: str, baselines: Collection[str]) -> pl.LazyFrame:
    """Score one model's forecasts: one row per group of `by`, ordered by it (NULL first).

    `per_series`: what the function of that name returns, for all series. Adds to `by`: series, windows
    (counts), the metrics, with skill against the best baseline, and `wape_<name>` of each baseline in the
    same months, of those that it has.
    """
    there = per_series.collect_schema().names()
    error, size = pl.col("paired_error").sum(), pl.col("paired_size").sum()
    wapes = {f"wape_{name}": pl.col(f"_{name}").sum() / pl.col(f"_{name}_size").sum() for name in baselines}
    return (
        per_series.sort(by, "series")  # a sum's last digits depend on the order of its terms
        .group_by(by, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("series"),
            pl.col("windows").sum(),
            **_values("series", there),
            **wapes,
            own_wape=error / size,
            best_wape=pl.col("best_error").sum() / size,
        )
        .pipe(finite)
        .with_columns(**_values("scores", there))
        .drop("own_wape", "best_wape")
        .pipe(finite)
    )


def per_series(
    windows: pl.LazyFrame, /, *, model: str, by: str, best: str, baselines: Collection[str]
) -> pl.LazyFrame:
    """Aggregate to one row per group and series: sums and means over its months in the group.

    `windows`: months that count, with `actual`, a column per model and the scales of their series. Months
    that the model cannot forecast are left out.
    """
    forecast, actual = pl.col(model), pl.col("actual")
    error, size = forecast - actual, forecast.abs() + actual.abs()
    is_paired = pl.col(best).is_not_null()
    with_bounds = model == FORECASTER and "q10" in windows.collect_schema().names()
    return (
        windows.filter(forecast.is_not_null())
        .group_by(by, "series", maintain_order=True)
        .agg(
            windows=pl.len().cast(pl.Int64),
            forecast_total=forecast.sum(),
            actual_total=actual.sum(),
            absolute=actual.abs().sum(),
            error=error.sum(),
            absolute_error=error.abs().sum(),
            smape=pl.when(size > 0).then(2 * error.abs() / size).otherwise(0.0).mean(),
            mean_absolute=error.abs().mean(),
            mean_squared=error.pow(2).mean(),
            scale=pl.col("scale").first(),
            scale_squared=pl.col("scale_squared").first(),
            paired_error=error.abs().filter(is_paired).sum(),
            paired_size=actual.abs().filter(is_paired).sum(),
            best_error=(pl.col(best) - actual).abs().sum(),
            **dict(chain.from_iterable(map(_of_baseline, baselines))),
            **(dict(chain.from_iterable(map(_of_interval, INTERVALS))) if with_bounds else {}),
        )
    )


def _of_baseline(name: str) -> Iterator[tuple[str, pl.Expr]]:
    """Sum the errors of a baseline, and the streams of the months that it has."""
    actual = pl.col("actual")
    yield f"_{name}", (pl.col(name) - actual).abs().sum()
    yield f"_{name}_size", actual.abs().filter(pl.col(name).is_not_null()).sum()


def _of_interval(level: int) -> Iterator[tuple[str, pl.Expr]]:
    """Count the months between the bounds, of those that have some, and sum their interval scores."""
    low, high, actual = *map(pl.col, INTERVALS[level]), pl.col("actual")
    outside = (low - actual).clip(lower_bound=0) + (actual - high).clip(lower_bound=0)
    is_bounded = low.is_finite() & high.is_finite()
    yield f"inside_{level}", actual.is_between(low, high).filter(is_bounded).sum().cast(pl.Int64)
    yield f"bounded_{level}", is_bounded.sum().cast(pl.Int64)
    yield f"bounded_size_{level}", actual.abs().filter(is_bounded).sum()
    yield f"interval_{level}", (high - low + outside * (200 / (100 - level))).filter(is_bounded).sum()


def _values(of: str, there: Collection[str] = ()) -> dict[str, pl.Expr]:
    return {
        name: metric.value if metric.needs is None or metric.needs in there else pl.lit(None, pl.Float64)
        for name, metric in METRICS.items()
        if metric.of == of
    }


def best_baseline(errors: pl.DataFrame, /) -> str:
    """Return the baseline with the smallest WAPE; the first of equal ones.

    Only those count that have nearly all months: 90 %. `errors`: name, months (that it has), all_months,
    error, size (of the months that it has).
    """
    complete = errors.filter(pl.col("months") >= _NEARLY_ALL * pl.col("all_months"))
    wape = pl.col("error") / pl.col("size")
    ranked = complete.with_columns(wape=pl.when(pl.col("size") > 0).then(wape).otherwise("error"))
    return str(ranked.sort("wape", maintain_order=True, nulls_last=True)["name"][0])


def baseline_errors(windows: pl.LazyFrame, /, *, baselines: Collection[str]) -> pl.LazyFrame:
    """Sum the errors of each model over all months that it has, as `best_baseline` takes them.

    Adds own: the error of the forecaster in these months.
    """
    actual = pl.col("actual").abs()
    return windows.select(
        pl.struct(
            name=pl.lit(name),
            months=pl.col(name).count().cast(pl.Int64),
            all_months=pl.len().cast(pl.Int64),
            error=(pl.col(name) - pl.col("actual")).abs().sum(),
            size=actual.filter(pl.col(name).is_not_null()).sum(),
            own=(pl.col(FORECASTER) - pl.col("actual")).abs().filter(pl.col(name).is_not_null()).sum(),
        ).alias(name)
        for name in baselines
    ).select(pl.concat_list(*baselines).explode().struct.unnest())


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
