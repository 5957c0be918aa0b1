"""Checks of the stored forecasts, and of the lock."""

import re
from collections.abc import Iterator

import polars as pl

from forecaster.doctor.checks import check
from forecaster.doctor.context import Context
from forecaster.doctor.findings import Seen
from forecaster.postgres.connection import commit
from forecaster.postgres.lock import holder
from forecaster.postgres.runs import why_not_kept
from forecaster.postgres.stored import describe_irregular, has_key, missing_key
from forecaster.process.numbers import counted
from forecaster.tables import FORECAST_TABLE, RUNS

_NAMED_TRACKS = 10  # if there are more tracks, a command does not name them
# The sentences of `describe_irregular` about tracks that it has counted.
_LEFT_AS_THEY_ARE = re.compile(r"; they are left as they are.*", re.DOTALL)
_MENDS_ONE = re.compile(r"`(?P<mend>forecaster .+) --track-id -?\d+`", re.DOTALL)

_RUNS = """
    SELECT id, started_at AT TIME ZONE 'UTC', outcome, error, count(*) OVER ()
    FROM {table} ORDER BY id DESC LIMIT 1"""
_WITHOUT_TRACK = "DELETE FROM {table} WHERE cm_track_id IS NULL"


@check("key of the forecasts", order=120)
def key(context: Context) -> Iterator[Seen]:
    """Check that the server keeps a month from being stored twice."""
    if not context.fits(FORECAST_TABLE):
        return
    if has_key(context.tables):
        yield "ok", "unique on (cm_track_id, month)", None
        return
    found, _, otherwise = next(missing_key(context.tables)).partition(". ")
    fix = context.command("init")
    if FORECAST_TABLE in context.tables.with_children:
        fix = otherwise
    elif FORECAST_TABLE in context.readable:
        twice = context.stored.filter(pl.col("rows") > pl.col("months"))["cm_track_id"].drop_nulls().sort()
        if len(twice):
            found += f"; in the way are tracks with a month twice or NULL: {len(twice):,}"
            fix = f"{_replacing(context, twice)} && {fix}"
    yield "warning", found, fix


def _replacing(context: Context, doubled: pl.Series) -> str:
    """Write the command that replaces the forecasts of these tracks, at the horizon that most tracks have."""
    tracks = context.stored.filter(pl.col("cm_track_id").is_not_null())
    first, *_ = filter(None, map(_MENDS_ONE.search, describe_irregular(tracks, context.tables.schema)))
    ids = doubled if len(doubled) <= _NAMED_TRACKS else doubled.clear()
    return " ".join((first["mend"], *(f"--track-id {track}" for track in ids)))


@check("stored forecasts", order=140)
def stored(context: Context) -> Iterator[Seen]:
    """Check that each track has all its months, and that each row names a track."""
    if FORECAST_TABLE not in context.readable:
        return
    irregular = list(describe_irregular(context.stored, context.tables.schema))
    for sentence in irregular:
        mends = _MENDS_ONE.search(sentence)
        found = _LEFT_AS_THEY_ARE.sub("", sentence)
        if mends:
            yield "warning", f"{found}; the command repairs that one", mends[0].strip("`")
        else:
            yield "warning", found, _WITHOUT_TRACK.format(table=context.tables.name(FORECAST_TABLE))
    if not irregular:
        yield "ok", f"{counted(len(context.stored), 'track')}, each with all its months", None


@check("history", order=145)
def history(context: Context) -> Iterator[Seen]:
    """Check that runs leave a history, and how the last one ended."""
    if FORECAST_TABLE not in context.relations or not context.relations[FORECAST_TABLE].usable:
        return
    if not_kept := why_not_kept(context.connection, context.tables):
        fix = context.command("init") if "forecaster init" in not_kept.fix else not_kept.fix
        yield "warning", f"runs leave none: {not_kept.why}", fix
        return
    runs = context.query(_RUNS.format(table=context.tables.name(RUNS.name)))
    if runs.is_empty():
        yield "ok", "no run yet", None
        return
    number, started, outcome, error, count = runs.row(0)
    if outcome == "running" and not _holder(context):
        outcome = "killed"
    last = f"runs: {count:,}; the last is run {number} of {started:%Y-%m-%d %H:%M} UTC: {outcome}"
    if outcome in ("failed", "killed", "interrupted"):
        yield "warning", f"{last}{f' ({error})' if error else ''}", context.command("run")
    else:
        yield "ok", last, None


@check("lock", order=150)
def lock(context: Context) -> Iterator[Seen]:
    """Check whether a run is writing."""
    if FORECAST_TABLE not in context.relations or not context.relations[FORECAST_TABLE].usable:
        return
    if by := _holder(context):
        yield "warning", f"held by another run: {by}", context.command("run --wait 3600")
    else:
        yield "ok", "free: no run is writing", None


def _holder(context: Context) -> str | None:
    commit(context.connection)
    return holder(context.connection, context.tables.name(FORECAST_TABLE))
