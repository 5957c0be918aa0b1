"""Check that the streams and decay rates are plausible, by the rules of a run."""

from collections.abc import Iterator
from datetime import UTC, datetime

import polars as pl

from forecaster.doctor.checks import check
from forecaster.doctor.context import Context
from forecaster.doctor.findings import Seen
from forecaster.frames.collecting import collect_all
from forecaster.model import build_tracks, skipped
from forecaster.postgres.catalogue import AT_ONCE
from forecaster.postgres.runs import last_totals
from forecaster.process.numbers import counted
from forecaster.run.observe import by_end, observed, suspicious
from forecaster.run.plausible import Facts, Limits, Observed
from forecaster.tables import RUNS


@check("plausibility", order=180)
def plausibility(context: Context) -> Iterator[Seen]:
    """Judge all tracks with streams, as `run --replace` would, and the total of the last run."""
    if not context.can_count or context.plausibility is None:
        return
    rules = context.plausibility
    seen, skips = _observed(context, rules.limits)
    total, before = _totals(context)
    facts = Facts(
        seen,
        datetime.now(UTC).date(),
        context.parameters.as_of,
        is_whole=True,
        skipped=skips,
        total=total,
        total_before=before,
    )
    implausible = rules.judge(facts)
    for name, finding in implausible.items():
        yield "warning", f"{name}: {finding.found}", finding.advice
    if not implausible:
        yield "ok", f"{counted(seen.tracks, 'track')}: {', '.join(rules.limits)}", None
    rules.refuse(implausible, hint="correct the data, or change --threshold or --strict")


def _totals(context: Context) -> tuple[float | None, float | None]:
    """Read the total of the last run and of the run before; None where there is none to judge."""
    if not context.tables.fits(RUNS.name, "total") or context.lacking({RUNS.name: ("SELECT",)}):
        return None, None
    return last_totals(context.connection, context.tables)


def _observed(context: Context, limits: Limits) -> tuple[Observed, int]:
    """Observe all tracks, and count those that would be skipped."""
    source, tracks = context.source, context.streamed
    mldr, seen, skips = source.mldr(), Observed(), 0
    for start in range(0, len(tracks), AT_ONCE):
        history = source.history(tracks.slice(start, AT_ONCE))
        built = build_tracks(history.records, history.facts, mldr, context.parameters)
        wanted = [by_end(built), suspicious(built, limits), skipped(built).select(pl.len())]
        ends, counted, number = collect_all(wanted)
        seen += observed(ends, counted)
        skips += number.item()
    return seen, skips
