"""Streams and forecasts to score, and scores to look at."""

import random
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import polars as pl

from forecaster.scoring import GROUPS, Evaluation
from forecaster.scoring.baselines import history
from forecaster.scoring.windows import read_days, read_forecasts

ORIGIN = date(2023, 6, 30)
DAILY = pl.Schema({"cm_track_id": pl.Int64, "date": pl.Date, "daily_streams": pl.Float64})
MONTHS = pl.Schema(
    {
        "cm_track_id": pl.Int64,
        "cutoff": pl.Date,
        "as_of": pl.Date,
        "month": pl.Int64,
        "forecasted_value": pl.Float64,
        "segment_used": pl.Int64,
        "time_used": pl.Int64,
    }
)


def blocks(totals: Iterable[tuple[int, float]], *, before: int, track: int = 1) -> pl.DataFrame:
    """A record a day, in blocks of so many days with so many streams in all.

    The first `before` blocks end on `ORIGIN`.
    """
    given = list(totals)
    streams = [total / days for days, total in given for _ in range(days)]
    first = ORIGIN + timedelta(days=1 - sum(days for days, _ in given[:before]))
    rows = [(track, first + timedelta(days=day), value) for day, value in enumerate(streams)]
    return pl.DataFrame(rows, DAILY, orient="row")


def monthly(before: Sequence[float], after: Sequence[float], *, track: int = 1) -> pl.DataFrame:
    """Streams per 30 days, before the origin and after it."""
    return blocks([(30, total) for total in (*before, *after)], before=len(before), track=track)


def forecast(
    values: Sequence[float],
    *,
    track: int = 1,
    cutoff: date | None = ORIGIN,
    as_of: date = ORIGIN,
    age: int | None = 40,
    segments: Sequence[int] | None = None,
) -> pl.DataFrame:
    rows = [
        (
            track,
            cutoff,
            as_of,
            i,
            value,
            segments[i - 1] if segments else 11,
            None if age is None else age + i - 1,
        )
        for i, value in enumerate(values, start=1)
    ]
    return pl.DataFrame(rows, MONTHS, orient="row")


def row(frame: pl.DataFrame, **key: object) -> dict[str, float]:
    (name, value), *_ = key.items()
    found: dict[str, float] = frame.filter(pl.col(name).eq_missing(pl.lit(value))).row(0, named=True)
    return found


def overall(evaluation: Evaluation, model: str = "forecaster") -> dict[str, float]:
    return row(evaluation.overall, model=model)


def frames(evaluation: Evaluation) -> dict[str, pl.DataFrame]:
    return {name: getattr(evaluation, name) for name in ("overall", *GROUPS, "series")}


def known(months: pl.DataFrame, daily: pl.DataFrame) -> pl.DataFrame:
    return history(read_forecasts(months.lazy(), daily.lazy())[0], read_days(daily.lazy()))


def random_catalogue(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tracks with gaps, negative days and different lengths; three origins, one without a label."""
    chance = random.Random(seed)
    days, months = [], []
    for track in range(1, 31):
        level, gaps = 10 ** chance.uniform(0, 4), chance.choice([0.0, 0.003, 0.05])
        first = chance.choice([45, 75, 300, 500])
        for day in range(-first, 220):
            if chance.random() >= gaps:
                value = level * chance.uniform(-0.05, 2.0)
                days.append((track, ORIGIN + timedelta(days=day), value))
        for cutoff, shift in ((ORIGIN, 0), (ORIGIN + timedelta(days=60), 58), (None, 31)):
            values = [30 * level * chance.uniform(0.2, 2.0) for _ in range(6)]
            as_of = ORIGIN + timedelta(days=shift)
            segments = [chance.randint(1, 3) for _ in values]
            months.append(forecast(values, track=track, cutoff=cutoff, as_of=as_of, segments=segments))
    return pl.concat(months), pl.DataFrame(days, DAILY, orient="row")
