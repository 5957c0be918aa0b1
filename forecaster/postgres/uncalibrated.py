"""What forecasts are made with where there is no calibration: the error figures of other catalogues."""

from forecaster.model.calibrated.uncertainty import prior_errors
from forecaster.postgres.catalogue import Source
from forecaster.run.config import RunConfig
from forecaster.run.made_with import PRODUCTION, MadeWith
from forecaster.tables import CALIBRATIONS, INTERVALS

_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


def takes_no_calibration(source: Source, config: RunConfig, /) -> bool:
    """Whether the run asks for none, and there is none for its intervals that this user may read."""
    if config.model != PRODUCTION or config.calibration is not None:
        return False
    tables = source.tables
    if not config.intervals or CALIBRATIONS.name not in tables.columns.keys() - tables.unreadable:
        return True
    found = source.read(f"SELECT EXISTS (SELECT FROM {tables.name(CALIBRATIONS.name)}) AS found")
    return not found.item()


def uncalibrated(
    source: Source, config: RunConfig, /, *, to_store: bool = True
) -> tuple[MadeWith, list[str]]:
    """Return what forecasts are made with, and warnings. `to_store`: intervals only if they can be stored."""
    wanted = config.intervals and not (to_store and config.dry_run)
    if to_store:  # else `init` has not made the tables
        wanted = wanted and INTERVALS.name in source.tables.columns
    why_not = why_no_intervals(source) if wanted and to_store else []
    errors = prior_errors(0.0) if wanted and not why_not else None
    return MadeWith(config.parameters, errors=errors), why_not


def why_no_intervals(source: Source) -> list[str]:
    """Say in a warning why intervals cannot be stored; nothing if they can."""
    tables = source.tables
    problems, fix = tables.problems_to_write(INTERVALS.name), "create it with `forecaster init`"
    if INTERVALS.name in tables.columns and not problems:
        literal = "'" + tables.name(INTERVALS.name).replace("'", "''") + "'"
        rights = ", ".join(f"('{right}')" for right in _RIGHTS)
        lacking = source.read(
            f'SELECT w."right" FROM (VALUES {rights}) AS w ("right") '
            f'WHERE NOT has_table_privilege({literal}, w."right")'
        )["right"]
        problems = [f"this user lacks {', '.join(lacking)} on {INTERVALS.name}"] if len(lacking) else []
        fix = "grant these rights"
    return [f"this run stores no intervals: {'; '.join(problems)}; {fix}"] if problems else []
