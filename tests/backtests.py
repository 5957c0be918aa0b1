"""A catalogue that is cut at a day, its forecasts of that day, and their error by a loop."""

from datetime import date, timedelta

import polars as pl

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.setup.sample import sample_catalogue
from forecaster.tables import KEPT
from tests import sql
from tests.tables import initialise

CUTOFF = date(2024, 1, 1)
STREAMS, RATES = sample_catalogue(40)
BEFORE = STREAMS.filter(pl.col("date") < CUTOFF)
LATER = STREAMS.filter(pl.col("date") >= CUTOFF)


def forecast_at_cutoff(dsn: Dsn) -> None:
    """Without the tables of the history: only `created_at` tells what a forecast knew."""
    initialise(dsn)
    for table in KEPT:
        sql.run(dsn, f"DROP TABLE IF EXISTS {table}")
    load(dsn, "public", streams=BEFORE, mldr=RATES)
    run(Database(dsn))


def by_hand(forecasts: pl.DataFrame, days: pl.DataFrame) -> tuple[float, int]:
    """WAPE and the number of whole months, by a loop over them."""
    streams = {(t, d): s for t, d, s in days.select("cm_track_id", "date", "daily_streams").iter_rows()}
    error = total = windows = 0
    for track, as_of, month, value in forecasts.iter_rows():
        window = [(track, as_of + timedelta(days=30 * (month - 1) + i)) for i in range(1, 31)]
        if all(day in streams for day in window):
            actual = sum(streams[day] for day in window)
            error, total, windows = error + abs(value - actual), total + abs(actual), windows + 1
    return error / total, windows
