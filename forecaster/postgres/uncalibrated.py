"""What forecasts are made with where there is no calibration: the error figures of other catalogues."""

from forecaster.model.calibrated.uncertainty import prior_errors
from forecaster.postgres.tables import Tables
from forecaster.run.config import RunConfig
from forecaster.run.made_with import PRODUCTION, MadeWith
from forecaster.tables import CALIBRATIONS, INTERVALS, VERSIONS


def takes_no_calibration(tables: Tables, config: RunConfig, /) -> bool:
    """Whether the run asks for none, and there is none for its intervals that this user may read."""
    if config.model != PRODUCTION or config.calibration is not None:
        return False
    some = tables.columns.keys() - tables.empty
    return not config.intervals or CALIBRATIONS.name not in some or bool(_unreadable(tables))


def uncalibrated(
    tables: Tables, config: RunConfig, /, *, to_store: bool = True
) -> tuple[MadeWith, list[str]]:
    """Return what forecasts are made with, and warnings. `to_store`: intervals only if they can be stored."""
    if to_store and INTERVALS.name not in tables.columns:  # no version of `init` has made it
        return MadeWith(config.parameters), []
    has_intervals, why_not = stores_intervals(tables, config, to_store=to_store)
    if not has_intervals:
        return MadeWith(config.parameters), why_not
    hidden = _unreadable(tables) if CALIBRATIONS.name in tables.columns.keys() - tables.empty else []
    grant = "the intervals are not by a calibration; grant this user SELECT on"
    warnings = [f"{grant} {' and '.join(hidden)}"] if hidden else []
    return MadeWith(config.parameters, errors=prior_errors(0.0)), warnings


def _unreadable(tables: Tables) -> list[str]:
    return sorted(tables.unreadable & {CALIBRATIONS.name, VERSIONS.name})


def stores_intervals(tables: Tables, config: RunConfig, /, *, to_store: bool) -> tuple[bool, list[str]]:
    """Whether forecasts get intervals, with a warning why they do not although they should."""
    wanted = config.intervals and not (to_store and config.dry_run)
    why_not = why_no_intervals(tables) if wanted and to_store else []
    return wanted and not why_not, why_not


def why_no_intervals(tables: Tables) -> list[str]:
    """Say in a warning why intervals cannot be stored; nothing if they can."""
    name = INTERVALS.name
    problems, fix = tables.problems_to_write(name), "create it with `forecaster init`"
    if not problems and name in tables.lacking:
        problems, fix = [f"this user lacks {tables.lacking[name]} on {name}"], "grant these rights"
    if not problems and name in tables.filtered:
        problems, fix = [f"row security on {name} filters rows"], "exempt this user from it"
    if not problems and not tables.has_key(name, *INTERVALS.key):
        problems, fix = [f"{name} has no unique key on {', '.join(INTERVALS.key)}"], "create it"
    return [f"this run stores no intervals: {'; '.join(problems)}; {fix}"] if problems else []
