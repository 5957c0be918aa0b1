"""What a run makes its forecasts with if it has a calibration."""

from dataclasses import replace
from datetime import date

from forecaster.model.calibrated.calibration import Calibration
from forecaster.process.numbers import counted
from forecaster.run.config import RunConfig
from forecaster.run.made_with import PRODUCTION, MadeWith


def made_with(
    calibration: Calibration, config: RunConfig, as_of: date | None, /, *, intervals: bool
) -> MadeWith:
    """Return what the forecasts of a run are made with if it has this calibration.

    `as_of`: the newest as-of date of the catalogue; `intervals`: whether there are to be intervals, which are
    all that the production model takes from it. Raises `InvalidOptionError` for an as-of date before that of
    the calibration.
    """
    parameters = config.parameters
    if config.model == PRODUCTION:
        calibration.check_day(parameters.as_of or calibration.as_of)
        errors = calibration.errors_of(0.0, parameters.level)
        return MadeWith(
            parameters,
            errors=errors if intervals else None,
            calibration=calibration.id,
            calibrated=calibration.tracks,
        )
    model = (calibration.chosen() if config.model == "auto" else calibration.using()).using(config.level_days)
    return MadeWith(
        model.parameters(replace(parameters, as_of=parameters.as_of or as_of)),
        model,
        is_past=parameters.as_of is not None,
        errors=model.errors if intervals else None,
        calibration=calibration.id,
        calibrated=calibration.tracks,
    )


def stale(calibration: Calibration, as_of: date | None, config: RunConfig, /) -> list[str]:
    """Warn of a calibration that is older than the run allows."""
    age = (as_of - calibration.as_of).days if as_of else 0
    older = (
        f"{counted(age, 'day')} older than the as-of day {as_of}: `forecaster calibrate` makes a newer one"
    )
    return [f"calibration {calibration.id} is {older}"] if age > config.max_stale_days else []
