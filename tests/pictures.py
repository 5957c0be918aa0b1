"""Pictures of one track, without a server."""

from datetime import date, timedelta
from typing import Any

import polars as pl

from forecaster.model import build_tracks
from forecaster.model.calibrated.uncertainty import prior_errors, with_quantiles
from forecaster.model.features import clean, last_streams, track_facts
from forecaster.model.parameters import Parameters
from forecaster.model.projection import project
from forecaster.model.segments import base_rate
from forecaster.postgres.diagnosis import Diagnosis
from forecaster.tables import QUANTILES
from forecaster.views.chart import Picture, picture
from tests.catalogues import daily_frame, days, mldr_frame
from tests.reference import Mldr, Row

LAST = date(2024, 6, 30)


def diagnosis(rows: list[Row], *, mldr: float = 0.1, **options: Any) -> Diagnosis:
    """Of the one track in `rows`, without a server."""
    daily, parameters = clean(daily_frame(rows)), Parameters(**options)
    rates = mldr_frame([Mldr(1, mldr, 1, None)]).select("cm_artist_id", "mldr")
    track = build_tracks(last_streams(daily), track_facts(daily), rates, parameters).collect()
    assert track["reason"].to_list() == [None]
    base = track.select(base_rate(pl.col("influence_range"), j).alias(str(j)) for j in range(1, 13)).row(0)
    made = project(track.lazy(), horizon=parameters.horizon)
    forecasts = with_quantiles(made, prior_errors(0.0), horizon=parameters.horizon).with_columns(
        pl.col("forecasted_value", *QUANTILES).round().cast(pl.Int64, strict=False)
    )
    row = track.row(0, named=True)
    adjusted = tuple((rate, rate * row["multiplier"]) for rate in base)
    history = daily.select("date", "daily_streams").sort("date").collect()
    return Diagnosis(row, forecasts.collect(), adjusted, history)


def falling(number: int, *, first_age: int | None = None, last: date = LAST) -> list[Row]:
    """So many days up to the last one, each with a hundredth less streams than the one before."""
    first = last - timedelta(days=number - 1)
    return days([1000.0 * 0.99**day for day in range(number)], first=first, first_age=first_age)


def drawn(rows: list[Row], **options: Any) -> Picture:
    found = diagnosis(rows, **options)
    return picture(found, found.history)


def parts(lines: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What is above the plot, the plot with the row of the segments, what is below it."""
    top = next(i for i, line in enumerate(lines) if "┌" in line)
    bottom = next(i for i, line in enumerate(lines) if "└" in line) + 3
    return lines[:top], lines[top:bottom], lines[bottom:]
