"""Checks of the streams and the decay rates: what a run would read, and what it would skip."""

from collections import Counter
from collections.abc import Iterator

import polars as pl

from forecaster.doctor.checks import check
from forecaster.doctor.context import Context
from forecaster.doctor.findings import Seen
from forecaster.doctor.indexes import create_key, gain_of_key, pasted, read_parts, why_no_key
from forecaster.frames.collecting import collect
from forecaster.model import build_tracks
from forecaster.postgres import freshness
from forecaster.postgres.catalogue import AT_ONCE, Source
from forecaster.postgres.connection import integer_array
from forecaster.process.numbers import counted
from forecaster.run.config import RunConfig
from forecaster.run.report import stale_in_words
from forecaster.tables import HISTORY, LISTENERS_TABLE, MLDR_TABLE, REFUSED, STREAMS_TABLE

_DUPLICATES = """
    SELECT coalesce(sum(d.rows - 1), 0)::bigint AS rows
    FROM (SELECT count(*) AS rows FROM {table} s WHERE s.cm_track_id IS NOT NULL AND s.date IS NOT NULL
          GROUP BY s.cm_track_id, {day} HAVING count(*) > 1) d"""
# The row that a run uses stays: the newest of those that are records.
_DELETE_DUPLICATES = (
    "DELETE FROM {table} s USING (SELECT s.tableoid AS part, s.ctid AS place, row_number() OVER "
    "(PARTITION BY s.cm_track_id, {day} ORDER BY {unusable}, {newest}) AS nth FROM {table} s "
    "WHERE s.cm_track_id IS NOT NULL AND s.date IS NOT NULL) d "
    "WHERE s.tableoid = d.part AND s.ctid = d.place AND d.nth > 1"
)
_AS_DATE = "ALTER TABLE {table} ALTER COLUMN date TYPE date USING {day}"
_NOT_RECORDS = "SELECT * FROM {table} WHERE cm_track_id IS NULL OR {unusable}"
_ARTISTS = "SELECT DISTINCT s.cm_artist_id::bigint AS id FROM {table} s WHERE NOT {unusable}"
_ARTISTS_BY_INDEX = """
    SELECT DISTINCT a.id FROM unnest({tracks}) AS t (id)
    CROSS JOIN LATERAL (
        SELECT s.cm_artist_id::bigint AS id FROM {table} s
        WHERE s.cm_track_id = t.id AND NOT {unusable} ORDER BY s.date DESC LIMIT 1) a"""
_SEVERAL_RATES = """
    SELECT count(*)::bigint AS artists
    FROM (SELECT FROM {table} s WHERE s.cm_artist_id IS NOT NULL GROUP BY s.cm_artist_id
          HAVING count(*) > 1) a"""
# Whether the last run that looked at the track had its forecast refused.
_REFUSED = """
    SELECT h.cm_track_id FROM (
        SELECT DISTINCT ON (cm_track_id) cm_track_id, reason FROM {history}
        WHERE cm_track_id = ANY ({tracks}) ORDER BY cm_track_id, run_id DESC) h
    WHERE h.reason = $1"""
_LISTENED = "SELECT count(DISTINCT cm_artist_id) FROM {table} WHERE cm_artist_id = ANY ({artists})"


@check("key of the streams", order=110)
def key(context: Context) -> Iterator[Seen]:
    """Check that tracks are read by index, and find what prevents the key."""
    if not context.fits(STREAMS_TABLE):
        return
    if Source(context.dsn, context.tables, snapshot="").reads_by_index:
        yield "ok", "unique on (cm_track_id, date): a track is read by index", None
        return
    names, steps, parts = context.names, [], read_parts(context)
    if parts[0].is_partitioned and (why := why_no_key(context, parts)):
        yield "ok", f"{STREAMS_TABLE} has none, and need not have one: {why}", None
        return
    found = f"{STREAMS_TABLE} has no unique key on (cm_track_id, date): a run reads and sorts all its rows"
    is_date = context.tables.type(STREAMS_TABLE, "date") == "date"
    if not is_date:
        found = f"date of {STREAMS_TABLE} is a timestamp: a key cannot keep a day from being stored twice"
    may_count = STREAMS_TABLE in context.readable
    doubled = context.query(_DUPLICATES.format(**names)).item() if may_count else 0
    if doubled:
        found += f"; rows that repeat a day, and have to be deleted first: {doubled:,}"
        steps.append(_DELETE_DUPLICATES.format(**names))
    if not is_date:
        steps.append(_AS_DATE.format(**names | {"day": names["day"].replace("s.date", "date")}))
    if not context.tables.has_key(STREAMS_TABLE, "cm_track_id", "date"):
        steps += create_key(parts)
    if STREAMS_TABLE in context.tables.with_children:
        found += ", for other tables inherit from it, whose rows no key of it covers"
        steps = ["use partitions in place of the tables that inherit, or put their rows into one table"]
    if not context.relations[STREAMS_TABLE].is_table:
        steps = ["create a unique index on (cm_track_id, date) of the table below, and use that table"]
    yield "warning", found + gain_of_key(context, parts, steps), pasted(steps)


@check("tracks", order=160)
def tracks(context: Context) -> Iterator[Seen]:
    """Count the tracks, the pending ones that a run would forecast or skip, and the rows left out."""
    if not context.can_count:
        return
    # The transaction idles while the model is computed.
    context.query("SELECT set_config('idle_in_transaction_session_timeout', '0', true)")
    source, streamed, counts = context.source, context.streamed, context.result.counts
    with_forecast = context.stored["cm_track_id"].drop_nulls()
    pending = streamed.filter(~streamed.is_in(with_forecast.implode()))
    counts |= {"tracks": len(streamed), "with_forecast": len(with_forecast), "pending": len(pending)}
    counts["rows_without_track"] = source.rows_without_track()
    counts["unusable_rows"] = source.unusable_rows(pending) + counts["rows_without_track"]
    _run_model(context, source, pending)
    found = (
        f"{len(streamed):,} with streams, {len(with_forecast):,} with a forecast, {len(pending):,} pending"
    )
    if len(streamed):
        yield "ok", found, None
    else:
        fix = context.command("load STREAMS.csv --mldr MLDR.csv")
        yield "warning", f"there are no streams ({found})", fix
    yield from _pending(context)
    yield from _stale(context)
    yield _daily_rows(context)


def _run_model(context: Context, source: Source, pending: pl.Series) -> None:
    """Compute the model up to the reasons to skip a track, and count the tracks."""
    mldr, refused, duplicates = source.mldr(), _refused(context, pending), 0
    reasons: Counter[str | None] = Counter()
    for start in range(0, len(pending), AT_ONCE):
        history = source.history(pending.slice(start, AT_ONCE))
        built = build_tracks(history.records, history.facts, mldr, context.parameters)
        is_refused = pl.col("reason").is_null() & pl.col("cm_track_id").is_in(refused.implode())
        reason = pl.when(is_refused).then(pl.lit(REFUSED)).otherwise("reason")
        by_reason = built.group_by(reason=reason).agg(tracks=pl.len())
        reasons.update(dict(collect(by_reason).iter_rows()))
        duplicates += history.duplicates
    refused_again = reasons.pop(REFUSED, 0)
    forecastable = reasons.pop(None, 0) + refused_again
    context.result.skipped_by_reason = {
        f"{reason}": number
        for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], f"{item[0]}"))
    }
    context.result.counts |= {
        "forecastable": forecastable,
        "refused": refused_again,
        "skipped": reasons.total(),
        "duplicate_rows": duplicates,
    }


def _refused(context: Context, pending: pl.Series) -> pl.Series:
    """Return the pending tracks whose forecast was refused by the last run that looked at them."""
    is_there = len(pending) and context.fits(HISTORY.name)
    if not is_there or context.lacking({HISTORY.name: ("SELECT",)}):
        return pending.clear()
    names = {"history": context.tables.name(HISTORY.name), "tracks": integer_array(pending)}
    return context.query(_REFUSED.format(**names), REFUSED)["cm_track_id"]


def _pending(context: Context) -> Iterator[Seen]:
    counts, by_reason = context.result.counts, context.result.skipped_by_reason
    of_pending = f"of {counts['pending']:,} pending ones"
    if others := counts["forecastable"] - counts["refused"]:
        yield "ok", f"{others:,} {of_pending} can be forecast", context.command("run")
    if counts["refused"]:
        number = f"{counts['refused']:,} {of_pending}"
        found = f"{number} had their forecast refused by the table in the last run; the report says why"
        yield "warning", found, context.command("run --report report.json")
    if by_reason:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in by_reason.items())
        yield "ok", f"{counts['skipped']:,} {of_pending} would be skipped ({reasons})", None


def _stale(context: Context) -> Iterator[Seen]:
    """Count the stored forecasts that a refresh would replace."""
    refresh = RunConfig(parameters=context.parameters, refresh=True)
    stored = freshness.read_stored(context.source, None, refresh)
    found = freshness.counts(stored.stale(context.streamed), refresh)
    if found and found["tracks"]:
        stale = f"stored forecasts that are stale: {stale_in_words(found)}"
        yield "ok", stale, context.command("run --refresh")


def _daily_rows(context: Context) -> Seen:
    counts = context.result.counts
    found = (
        f"daily rows left out: {counts['unusable_rows']:,} unusable, of them "
        f"{counts['rows_without_track']:,} without a track; {counts['duplicate_rows']:,} duplicate"
    )
    if counts["unusable_rows"]:
        shows = f"{found}; the statement shows what to complete or delete"
        return "warning", shows, _NOT_RECORDS.format(**context.names)
    return "ok", found, None  # duplicate rows are a matter of the key of the streams


@check("decay rates", order=170)
def decay_rates(context: Context) -> Iterator[Seen]:
    """Count the artists that have a usable decay rate."""
    if not context.can_count:
        return
    rates = collect(context.source.mldr())
    artists = _artists(context)
    without = artists.filter(~artists.is_in(rates["cm_artist_id"].implode())).sort()
    useless = rates.filter(pl.col("mldr").is_null())["cm_artist_id"].sort()
    several = context.query(_SEVERAL_RATES.format(table=context.tables.name(MLDR_TABLE))).item()
    context.result.counts |= {
        "artists": len(artists),
        "artists_without_rate": len(without),
        "artists_with_unusable_rate": len(useless),
        "artists_with_several_rates": several,
    }
    having = counted(len(rates), "artist")
    yield "ok", f"{having} with one, {several:,} of them with several: the newest counts", None
    for missing, what in (
        (without, f"of the {len(artists):,} artists with streams, without one"),
        (useless, "artists whose newest one is NULL or not a finite number"),
    ):
        if len(missing):
            found = f"{what}: {len(missing):,}, the first is {missing[0]}"
            listened = _with_listeners(context, missing)
            if listened:
                yield "warning", f"{found}; {listened:,} of them have listeners", context.command("mldr")
            else:
                yield "warning", found, context.command("load --mldr MLDR.csv")


def _with_listeners(context: Context, artists: pl.Series) -> int:
    """Count the artists with listeners, from which a rate can be computed."""
    if not context.fits(LISTENERS_TABLE) or context.lacking({LISTENERS_TABLE: ("SELECT",)}):
        return 0
    table = context.tables.name(LISTENERS_TABLE)
    sql = _LISTENED.format(table=table, artists=integer_array(artists))
    return int(context.query(sql).item())


def _artists(context: Context) -> pl.Series:
    """Find the artists of the tracks."""
    if context.source.reads_by_index:
        sql = _ARTISTS_BY_INDEX.format(**context.names, tracks=integer_array(context.streamed))
    else:
        sql = _ARTISTS.format(**context.names)
    return context.query(sql)["id"].drop_nulls()
