"""The sequential baseline: one track at a time, like the original system."""

import math
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from scipy.optimize import OptimizeWarning, curve_fit

from benchmarks.catalogue import Catalogue
from forecaster.model.segments import BASE_RATES, FORECAST_SEGMENT_STARTS, INFLUENCE_EDGES, SEGMENT_STARTS
from forecaster.tables import MLDR_TABLE, STREAMS_TABLE

Forecast = list[tuple[int, int]]


@dataclass(frozen=True)
class Baseline:
    """The forecasts of a sample of tracks, computed one by one, and their seconds."""

    seconds: float
    forecasts: dict[int, Forecast]
    """(month, forecasted value) per track; an empty list for a skipped track."""


def measure(catalogue: Catalogue, tracks: list[int]) -> Baseline:
    """Forecast each track with two queries, one call of an optimiser and one loop; store nothing."""
    with psycopg.connect(catalogue.dsn.uri) as connection:
        start = time.perf_counter()
        forecasts = {track: _forecast(connection, catalogue, track) for track in tracks}
        return Baseline(time.perf_counter() - start, forecasts)


def _forecast(
    connection: "psycopg.Connection[tuple[Any, ...]]", catalogue: Catalogue, track: int, horizon: int = 24
) -> Forecast:
    history = connection.execute(
        "SELECT daily_streams, cm_artist_id, days_from_release "
        f"FROM {catalogue.table(STREAMS_TABLE)} WHERE cm_track_id = {track} ORDER BY date"
    ).fetchall()
    streams = [float(row[0]) for row in history]
    rates = connection.execute(
        f"SELECT mldr FROM {catalogue.table(MLDR_TABLE)} WHERE cm_artist_id = {history[-1][1]} "
        "ORDER BY created_at DESC LIMIT 1"
    ).fetchall()
    m = int(history[-1][2]) // 30
    if not rates or m < 1:
        return []
    recent, quarter, year = (sum(streams[-days:]) for days in (30, 90, 365))
    k = _decay(m, recent, quarter, year)
    return _project(m, recent, k, float(rates[0][0]), horizon)


def _decay(m: int, recent: float, quarter: float, year: float) -> float:
    second = (quarter - recent) / (2 if m > 2 else 1)
    first = (year - quarter) / (9 if m > 11 else m - 3) if m > 3 else second
    x = np.array([max(m - 11, 0), max(m - 2, 0), m], dtype=float)
    y = np.array([first, second, recent])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            (_, k), _ = curve_fit(
                lambda x, s0, k: s0 * np.exp(-k * x),
                x,
                y,
                p0=(max(y[0], 1.0), 0.01),
                bounds=(0, np.inf),
                maxfev=20_000,
            )
        except RuntimeError:  # did not converge: the original dropped such tracks
            return math.nan
    return float(k)


def _project(m: int, recent: float, k: float, mldr: float, horizon: int) -> Forecast:
    influence = min(10 * recent, 5_000_000)
    row = max(i for i, edge in enumerate(INFLUENCE_EDGES) if edge <= influence)

    def base(month: int, starts: tuple[int, ...]) -> float:
        return float(BASE_RATES[row][max(i for i, start in enumerate(starts) if start <= month)])

    observed = range(max(m - 11, 1), m + 1)
    h = sum(1 / base(month, SEGMENT_STARTS) for month in observed) / len(observed)
    u = mldr * h - 1
    factor = max(1 + u * min(u, 1) if u > 0 else 1.0, k * h)
    value, forecast = recent, []
    for month in range(1, horizon + 1):
        value *= math.exp(-factor * base(m + month - 1, FORECAST_SEGMENT_STARTS))
        forecast.append((month, round(value) if not math.isnan(value) else -1))
    return forecast
