"""Forecast as of an earlier day with a calibration of that day, and with the production model beside it."""

from dataclasses import dataclass, replace
from datetime import date, timedelta

import polars as pl

from forecaster.model import Forecasts, build_forecasts
from forecaster.model.calibrated.forecast import Model
from forecaster.model.calibrated.uncertainty import with_quantiles
from forecaster.model.parameters import Parameters
from forecaster.scoring.calibrating import calibrate
from forecaster.scoring.past import KnownDays
from forecaster.tables import FORECASTS

MODELS_OF_CALIBRATION = ("calibrated", "auto")
"""Models that need a calibration; auto is the one that suits the catalogue best by its own past."""


@dataclass(frozen=True)
class CalibratedPast:
    """Forecasts as of the day before a cutoff, for all tracks alike, and what they were made with."""

    cutoff: date
    model: Model
    forecasts: Forecasts
    """As `forecaster.scoring.past.build_past` returns them, with quantiles and the column `production`."""

    def __str__(self) -> str:
        names = {0.0: "production", 1.0: "calibrated"}
        name = names.get(self.model.weight, f"{self.model.weight:g} calibrated")
        return f"{self.cutoff} {name} from {self.model.level} days"


def calibrated_past(  # noqa: PLR0913 - what is known, and what is made of it
    known: KnownDays,
    mldr: pl.DataFrame,
    /,
    *,
    cutoff: date,
    parameters: Parameters,
    name: str,
    level: int | None = None,
    past_mldr: pl.LazyFrame | None = None,
) -> CalibratedPast:
    """Calibrate on the days before the cutoff, and forecast with that. Lazy, but for the calibration.

    `mldr`: cm_artist_id, mldr; `name`: one of `MODELS_OF_CALIBRATION`; `level`: days whose mean its forecasts
    start from; None: as the model has it. `past_mldr`: `ARTIST_MLDR` to calibrate with, of which each past
    day knows those that were created by then; None: `mldr`, as if always known. All forecasts are as of the
    day before the cutoff. The months of the production model are those of the same day.
    """
    as_of = cutoff - timedelta(days=1)
    every = known.frame.lazy().drop("created_at", strict=False)
    days = every.filter(pl.col("date") < cutoff)
    rates = mldr.lazy() if past_mldr is None else past_mldr
    calibration = calibrate(every, rates, as_of=as_of, age_from=parameters.age_from)
    model = (calibration.chosen() if name == "auto" else calibration.using()).using(level)
    given = replace(parameters, as_of=as_of)
    built = _built(days, mldr, given, model)
    production = _built(days, mldr, given, None).forecasts
    others = production.select("cm_track_id", "month", FORECASTS.rounded_streams()).rename(
        {"forecasted_value": "production"}
    )
    forecasts = (
        with_quantiles(built.forecasts, model.errors, horizon=parameters.horizon)
        .join(others, on=["cm_track_id", "month"], how="left", maintain_order="left")
        .with_columns(FORECASTS.rounded_streams(), cutoff=pl.lit(cutoff), as_of=pl.lit(as_of))
        .drop("training_data_id")
    )
    return CalibratedPast(cutoff, model, Forecasts(forecasts, built.skipped))


def _built(days: pl.LazyFrame, mldr: pl.DataFrame, parameters: Parameters, model: Model | None) -> Forecasts:
    return build_forecasts(
        days,
        mldr.lazy(),
        horizon=parameters.horizon,
        age_from=parameters.age_from,
        as_of=parameters.as_of,
        influence=parameters.influence,
        model=model,
    )
