"""Theta, and a combination of three exponential smoothings: statistical baselines, by statsforecast."""

from collections.abc import Mapping
from importlib.util import find_spec

import polars as pl

from forecaster.errors import MissingExtraError

THETA_BASELINES: Mapping[str, str] = {
    "theta": "Theta, without a season, of all whole totals of 30 records; missing for fewer than 12",
    "combination": (
        "mean of simple, Holt's and damped exponential smoothing of these totals; missing for fewer than 12"
    ),
}
"""Formula of each. They need the extra "theta"."""

THETA_SPOKEN: Mapping[str, str] = {
    "theta": "Theta",
    "combination": "The mean of three exponential smoothings",
}

_LEAST = 12


def check_theta() -> None:
    """Raise `MissingExtraError` if statsforecast is not installed."""
    if find_spec("statsforecast") is None:
        raise MissingExtraError(
            "the baselines theta and combination need statsforecast, which is not installed",
            hint="pip install 'forecaster[theta]'",
        )


def theta_months(totals: pl.DataFrame, months: int, /) -> pl.DataFrame:
    """Forecast all series at once: series, theta_months and combination_months (lists of `months` streams).

    `totals`: series, back (0 for the newest), months (how many the series has), total.
    A series with fewer than 12 totals has no row. Raises `MissingExtraError` without the extra.
    """
    check_theta()
    from statsforecast import StatsForecast  # noqa: PLC0415 - in an extra, and slow to import
    from statsforecast.models import (  # noqa: PLC0415
        AutoETS,
        Holt,
        SimpleExponentialSmoothingOptimized,
        Theta,
    )

    enough = totals.filter(pl.col("months") >= _LEAST)
    if enough.is_empty():
        lists = {f"{name}_months": pl.List(pl.Float64) for name in THETA_BASELINES}
        return pl.DataFrame(schema=pl.Schema({"series": pl.Int64(), **lists}))
    long = enough.sort("series", "back", descending=[False, True]).select(
        unique_id="series", ds=pl.col("months") - pl.col("back"), y="total"
    )
    models = [
        Theta(season_length=1),
        SimpleExponentialSmoothingOptimized(),
        Holt(),
        AutoETS(model="AAN", damped=True, alias="damped"),
    ]
    made: pl.DataFrame = StatsForecast(models=models, freq=1, n_jobs=1).forecast(df=long, h=months)
    three = pl.mean_horizontal("SESOpt", "Holt", "damped")
    return (
        made.sort("unique_id", "ds")
        .group_by("unique_id", maintain_order=True)
        .agg(theta_months=pl.col("Theta"), combination_months=three)
        .rename({"unique_id": "series"})
        .cast({"series": pl.Int64})
    )
