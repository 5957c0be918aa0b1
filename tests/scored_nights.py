"""A handful of nights: each stores what arrived on a day, and forecasts all tracks again."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import polars as pl

from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.init import initialise
from forecaster.setup.load import load
from forecaster.setup.sample import sample_catalogue
from tests import sql

FIRST = date(2024, 1, 1)
"""The day after the last one that the first night knows."""
STREAMS, RATES = sample_catalogue(12)
NIGHTS = tuple(FIRST + timedelta(days=days) for days in (0, 1, 31, 60))

NEWEST = date(2024, 4, 20)
"""The last day that arrives: months 1 to 3 of the first night are over, and month 1 of the third."""


def nights_and_later_days(dsn: Dsn) -> None:
    """All nights, and what came after them."""
    spend(dsn, until=NEWEST + timedelta(days=1))


def spend(dsn: Dsn, nights: Sequence[date] = NIGHTS, *, until: date | None = None) -> None:
    """Nights on which `run --replace` sees the days before each; then, all days before `until` arrive."""
    initialise(dsn, "public")
    load(dsn, "public", mldr=RATES)
    since = date.min
    for night in nights:
        arrive(dsn, since, night)
        tonight(dsn)
        shift(dsn, night)
        since = night
    if until:
        arrive(dsn, since, until)


def arrive(dsn: Dsn, since: date, until: date) -> None:
    """The days from `since` up to, but without, `until` are loaded, each as if on the next day."""
    load(dsn, "public", streams=STREAMS.filter(pl.col("date").is_between(since, until, closed="left")))
    sql.run(dsn, "UPDATE backtest_track_daily_training_data SET created_at = date + interval '1 day'")


def tonight(dsn: Dsn, config: RunConfig | None = None) -> None:
    run(Database(dsn), replace(config or RunConfig(parameters=Parameters(horizon=6)), replace=True))


def shift(dsn: Dsn, night: date) -> None:
    """Date the newest run, and the forecasts and intervals that it stored, to noon of that day."""
    noon = f"'{night} 12:00+00'"
    for table in ("backtest_track_streams_forecast", "backtest_track_streams_forecast_interval"):
        sql.run(
            dsn,
            f"UPDATE {table} SET created_at = {noon} WHERE created_at = "
            "(SELECT started_at FROM backtest_forecast_run ORDER BY id DESC LIMIT 1)",
        )
    sql.run(
        dsn,
        f"UPDATE backtest_forecast_run SET started_at = {noon} WHERE id = "
        "(SELECT max(id) FROM backtest_forecast_run)",
    )


def said(dsn: Dsn) -> list[tuple[int, int, date, date, list[float]]]:
    """Run, track, as-of date, last date and months of all forecasts in the history."""
    return sql.rows(
        dsn,
        "SELECT run_id, cm_track_id, as_of, last_date, months FROM backtest_track_streams_forecast_history "
        "WHERE months IS NOT NULL ORDER BY 1, 2",
    )
