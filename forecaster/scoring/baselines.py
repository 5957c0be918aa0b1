"""Simple forecasts that a model has to beat, computed from the days up to the origin."""

from collections.abc import Mapping

import polars as pl

from forecaster.frames.arrays import np
from forecaster.model.calibrated.records import LARGEST
from forecaster.model.decay import decay_rate, with_points
from forecaster.model.features import WINDOW
from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.model.segments import INFLUENCE_MAX, INFLUENCE_PER_STREAM, influence_range
from forecaster.scoring.theta import THETA_BASELINES, THETA_SPOKEN, theta_months
from forecaster.scoring.windows import Days, Floats, Integers

BASELINES: Mapping[str, str] = {
    "last_30_days": "streams_30 every month",
    "last_7_days": "30 x mean of the last 7 records, every month; missing for fewer than 7 records",
    "mean_12_months": "mean of the last 12 whole totals of 30 records; missing for fewer than 12",
    "own_exponential": (
        "streams_30 x exp(-k i), k >= 0 the track's own decay rate per month; missing for fewer than 365"
        " records"
    ),
    "pooled_exponential": (
        "streams_30 x exp(-b i), one b of either sign per cutoff or run: the least-squares exponential"
        " through the last 12 totals of all tracks evaluated that have 12; missing if none has"
    ),
}
"""Formula of each for month i = 1, 2, ... streams_30 is the sum of the last 30 records."""

SPOKEN: Mapping[str, str] = {
    "last_30_days": "'The last 30 days go on'",
    "last_7_days": "'The last 7 days go on'",
    "mean_12_months": "'The mean of the last 12 months goes on'",
    "own_exponential": "'Each track decays as before'",
    "pooled_exponential": "'The catalogue decays as before'",
    **THETA_SPOKEN,
}
"""Each baseline as a sentence names it."""

POOLED_RATE_MAX = 1.0
"""Largest pooled rate per month, falling or growing."""

_FITTED_AT = ("cutoff", "run")  # whose series have one pooled rate
_MONTHS = 12
_WEEK = 7
_DECILES = 10
_GRID = np.linspace(-POOLED_RATE_MAX, POOLED_RATE_MAX, 81)
_HALVINGS = 60  # from a bracket of width 0.05 to the last digit


def history(forecasts: pl.DataFrame, days: Days, /, *, theta: bool = False) -> pl.DataFrame:
    """Summarise each series that has a record on or before its as-of date; later records are not used.

    series, cm_track_id, cutoff, run, as_of;
    months_since_release: that of the forecast (`time_used`), else since the first known day; at least 1;
    records: their number; streams_7, streams_30, streams_90, streams_365: sums of the last ones;
    mean_12: mean of the last 12 whole totals of 30 records, NULL for fewer;
    scale, scale_squared: mean absolute and mean squared difference of neighbours among all whole totals,
    NULL for fewer than two; k: decay per month; pooled_k: the same, NULL where no series has 12 totals;
    influence_range (1 to 10); volume_decile (1 to 10, 1 for the smallest `streams_365` of the run).
    With `theta` also the columns of `theta_months`.
    """
    every = (
        forecasts.group_by("series")
        .agg(
            pl.col("cm_track_id", *_FITTED_AT, "as_of").first(),
            _age=(pl.col("time_used") - pl.col("month") + 1).min(),
        )
        .sort("series")
    )
    position, is_known = days.numbers(every["cm_track_id"].to_numpy())
    as_of = every["as_of"].to_physical().cast(pl.Int64).to_numpy()
    rows = days.rows_until(position, as_of)
    has_history = is_known & (rows > days.starts[position])
    series = every.filter(pl.Series(has_history))
    track, end = position[has_history], rows[has_history]
    age_in_days = pl.Series(as_of[has_history] - days.first_day(track))
    records = end - days.starts[track]
    totals = _whole_totals(series, end, records, days)
    described = (
        series.with_columns(
            *_recent_sums(days.starts[track], end, days),
            records=pl.Series(records),
            months_since_release=pl.coalesce("_age", age_in_days // DAYS_PER_MONTH).clip(lower_bound=1),
        )
        .lazy()
        .drop("_age")
        .join(_of_totals(totals).lazy(), on="series", how="left")
        .join(_pooled(totals).lazy(), on=_FITTED_AT, how="left", nulls_equal=True)
        .pipe(with_points)
        .with_columns(k=decay_rate())
        .drop("x0", "x1", "x2", "y0", "y1", "y2")
        .pipe(_with_groups)
        .sort("series")
        .collect()
    )
    if not theta:
        return described
    months = forecasts.select(pl.col("month").max()).item()
    return described.join(theta_months(totals, months), on="series", how="left", maintain_order="left")


def with_baselines(windows: pl.DataFrame, history: pl.DataFrame, /) -> pl.DataFrame:
    """Add one column per baseline to the forecast months, and the columns of `history` for their series.

    A baseline that cannot be computed for a series is NULL: it is not replaced by another one.
    `windows`: series, month, and any columns that `history` does not have.
    """
    month, last, records = pl.col("month"), pl.col("streams_30"), pl.col("records")
    both = windows.join(history, on="series", how="inner", maintain_order="left").with_columns(
        last_30_days=last,
        last_7_days=pl.when(records >= _WEEK).then(pl.col("streams_7") * (DAYS_PER_MONTH / _WEEK)),
        mean_12_months=pl.col("mean_12"),
        own_exponential=pl.when(records >= WINDOW).then(last * (-pl.col("k") * month).exp()),
        pooled_exponential=last * (-pl.col("pooled_k") * month).exp(),
    )
    found = [name for name in THETA_BASELINES if f"{name}_months" in history.columns]
    return both.with_columns(
        pl.col(f"{name}_months").list.get(month - 1, null_on_oob=True).alias(name) for name in found
    ).drop(f"{name}_months" for name in found)


def pooled_rates(totals: Floats, /) -> Floats:
    """Fit b of y = S0 exp(-b x), x = 0, 1, ..., by least squares, for each row of `totals`.

    `totals`: (n, months), oldest first. Returns (n,), -1 <= b <= 1; 0 for a row of zeros.
    As in `forecaster.model.decay`, it remains to maximise A^2 / C, with A = sum(y e) and C = sum(e^2): a grid
    finds the bracket of the maximum, and the sign of the slope the maximum in it.
    """
    x = np.arange(totals.shape[1], dtype=np.float64)
    y = totals / np.maximum(np.abs(totals).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    curves = np.exp(-_GRID[:, None] * x)
    best = ((y @ curves.T) ** 2 / (curves * curves).sum(axis=1)).argmax(axis=1)
    low, high = _GRID[np.maximum(best - 1, 0)], _GRID[np.minimum(best + 1, len(_GRID) - 1)]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        e = np.exp(-middle[:, None] * x)
        rising = _dot(y, e) * _dot(x * e, e) > _dot(x * y, e) * _dot(e, e)
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    return np.where(y.any(axis=1), (low + high) / 2, 0.0)


def _dot(left: Floats, right: Floats) -> Floats:
    product: Floats = (left * right).sum(axis=1)
    return product


def _recent_sums(first: Integers, end: Integers, days: Days) -> list[pl.Series]:
    """Sum streams_7, streams_30, ... of the last rows from `first` up to, but without, `end`."""
    return [
        pl.Series(f"streams_{records}", days.totals(np.maximum(end - records, first), end))
        for records in (_WEEK, DAYS_PER_MONTH, 3 * DAYS_PER_MONTH, WINDOW)
    ]


def _whole_totals(series: pl.DataFrame, end: Integers, records: Integers, days: Days) -> pl.DataFrame:
    """Compute the whole totals of 30 records, backwards from the row `end`, newest first.

    series, cutoff, run, back (0 for the newest), months (how many the series has), total.
    """
    months = records // DAYS_PER_MONTH
    which = np.repeat(np.arange(len(series)), months)
    back = np.arange(len(which)) - np.repeat(np.cumsum(months) - months, months)
    stop = end[which] - DAYS_PER_MONTH * back
    return series.select("series", *_FITTED_AT)[which].with_columns(
        back=pl.Series(back),
        months=pl.Series(months[which]),
        total=pl.Series(days.totals(stop - DAYS_PER_MONTH, stop)),
    )


def _of_totals(totals: pl.DataFrame) -> pl.DataFrame:
    """Aggregate the totals to one row per series: mean_12, scale, scale_squared."""
    back, total = pl.col("back"), pl.col("total")
    step = pl.when(back > 0).then(total - total.shift())  # the one before is the next newer one
    return (
        totals.with_columns(step=step)
        .group_by("series", maintain_order=True)
        .agg(
            mean_12=pl.when(pl.len() >= _MONTHS).then(total.filter(back < _MONTHS).mean()),
            scale=pl.col("step").abs().mean(),
            scale_squared=pl.col("step").pow(2).mean(),
        )
    )


def _pooled(totals: pl.DataFrame) -> pl.DataFrame:
    """Fit one rate per cutoff and run with a track that has twelve whole totals: cutoff, run, pooled_k."""
    by_month = (
        totals.filter((pl.col("months") >= _MONTHS) & (pl.col("back") < _MONTHS))
        .group_by(*_FITTED_AT, "back", maintain_order=True)
        .agg(pl.col("total").sum().clip(-LARGEST, LARGEST))
        .sort(*_FITTED_AT, "back", descending=[False, False, True])
    )
    cutoffs = by_month.filter(pl.col("back") == 0).select(_FITTED_AT)
    rates = pooled_rates(by_month["total"].to_numpy().reshape(-1, _MONTHS))
    return cutoffs.with_columns(pooled_k=pl.Series(rates))


def _with_groups(series: pl.LazyFrame) -> pl.LazyFrame:
    """Add influence_range and volume_decile."""
    influence = (pl.col("streams_30") * INFLUENCE_PER_STREAM).clip(0, INFLUENCE_MAX)
    return series.sort("streams_365", "cm_track_id", "cutoff", "series").with_columns(
        influence_range=influence_range(influence) + 1,
        volume_decile=(pl.int_range(pl.len(), dtype=pl.Int64) * _DECILES // pl.len() + 1).over("run"),
    )
