"""Checks of the calibrations and intervals: whether the newest is usable, and a run can store intervals."""

from collections.abc import Iterator

from forecaster.doctor.checks import check
from forecaster.doctor.context import Context
from forecaster.doctor.findings import Seen
from forecaster.postgres.calibrations import newest_calibration
from forecaster.postgres.uncalibrated import why_no_intervals
from forecaster.run.config import MAX_STALE_DAYS
from forecaster.run.made_with import unlike
from forecaster.tables import CALIBRATIONS, INTERVALS, VERSIONS


@check("calibration", order=175)
def calibration(context: Context) -> Iterator[Seen]:
    """Check the newest calibration, where there is one: most runs need none."""
    tables = context.tables
    if not context.can_count or CALIBRATIONS.name not in tables.columns.keys() - tables.unreadable:
        return
    newest = newest_calibration(context.query, tables)
    if newest is None:
        return
    last = context.source.last_day()
    age = (last - newest.as_of).days if last else 0
    if age > MAX_STALE_DAYS:
        found = f"the newest, {newest.id}, is {age:,} days older than the newest day {last}"
        yield "warning", found, context.command("calibrate")
        return
    others = [*unlike(newest.id, newest.tracks, tracks=len(context.streamed), newest=last)]
    for found in others:
        yield "warning", found, context.command("calibrate")
    if not others:
        yield "ok", f"the newest is {newest.id}", None


@check("intervals", order=178)
def intervals(context: Context) -> Iterator[Seen]:
    """Look for what keeps a run from storing intervals, or from reading the calibration that they are by."""
    tables = context.tables
    if not context.can_count:
        return
    wanted = {
        CALIBRATIONS.name: ("SELECT",),
        VERSIONS.name: ("SELECT",),
        INTERVALS.name: ("SELECT", "INSERT", "UPDATE"),
    }
    there = {name: rights for name, rights in wanted.items() if name in tables.columns}
    if missing := sorted({CALIBRATIONS.name, INTERVALS.name} - there.keys()):
        found = f"{' and '.join(missing)}: missing; only runs with intervals of a calibration need that"
        yield "ok", found, context.command("init")
    elif lacking := context.lacking(there):
        yield "warning", f"to store them, and read calibrations: {lacking}", lacking.hint
    else:
        for why in why_no_intervals(tables):
            found, _, fix = why.rpartition("; ")
            yield "warning", found, fix
