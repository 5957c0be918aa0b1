"""Find what a run in a database makes its forecasts with if there is a calibration: model and intervals."""

from datetime import date

from forecaster.errors import CalibrationError, SchemaMismatchError
from forecaster.model.calibrated.calibration import Calibration
from forecaster.postgres.calibrations import check_calibrations, newest_calibration, read_calibration
from forecaster.postgres.catalogue import Source
from forecaster.postgres.uncalibrated import stores_intervals, uncalibrated
from forecaster.run.calibrations import made_with, stale
from forecaster.run.config import RunConfig
from forecaster.run.made_with import PRODUCTION, MadeWith


def find_made_with(
    source: Source, config: RunConfig, /, *, to_store: bool = True
) -> tuple[MadeWith, list[str]]:
    """Find it; also return warnings. `to_store`: whether intervals are only needed if they can be stored.

    Raises `CalibrationError` without a calibration that the model needs, `SchemaMismatchError` or
    `DatabaseError` if they cannot be read, `InvalidOptionError` for an as-of date before that of the
    calibration.
    """
    as_of = config.parameters.as_of
    if config.model != PRODUCTION:
        as_of = as_of or source.last_day()
    calibration, problems = _calibration(source, config, as_of)
    if calibration is None and config.model == PRODUCTION:
        made, warnings = uncalibrated(source.tables, config, to_store=to_store)
        return made, [*problems, *warnings]
    if calibration is None:
        raise CalibrationError(
            f"model {config.model} needs a calibration, and there is none"
            + (f" as of {as_of} or an earlier day" if as_of else ""),
            hint="make one with `forecaster calibrate`, or omit --model",
        )
    has_intervals, why_not = stores_intervals(source.tables, config, to_store=to_store)
    return (
        made_with(calibration, config, as_of, intervals=has_intervals),
        [*stale(calibration, as_of, config), *why_not],
    )


def _calibration(
    source: Source, config: RunConfig, as_of: date | None
) -> tuple[Calibration | None, list[str]]:
    """Find the one that is asked for, or the newest that knows no later day.

    The production model needs none: what is wrong with them, without being asked for, is only a warning.
    """
    if isinstance(config.calibration, Calibration):
        return config.calibration, []
    try:
        check_calibrations(source.read, source.tables)
        if config.calibration is not None:
            return read_calibration(source.read, source.tables, config.calibration), []
        return newest_calibration(source.read, source.tables, as_of), []
    except (CalibrationError, SchemaMismatchError) as error:
        if config.model != PRODUCTION or config.calibration is not None:
            raise
        return None, [f"no calibration is used: {error}; {error.hint}"]
