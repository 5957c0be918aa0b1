"""Which stored forecasts are stale, because streams or decay rates have changed since they were made."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import polars as pl

from forecaster.model.parameters import DAYS_PER_MONTH, Parameters
from forecaster.postgres import statements
from forecaster.postgres.catalogue import Source
from forecaster.postgres.connection import integer_array
from forecaster.postgres.stored import stored_months
from forecaster.postgres.tables import Tables
from forecaster.run.config import RunConfig
from forecaster.run.made_with import MadeWith
from forecaster.run.report import CAUSES, as_json, stale_in_words
from forecaster.tables import FORECAST_TABLE, HISTORY, MLDR_TABLE, RUNS, STREAMS_TABLE

_KNOWN = {
    RUNS.name: ("id", "started_at", "parameters"),
    HISTORY.name: ("run_id", "cm_track_id", "last_date", "mldr"),
}


@dataclass(frozen=True)
class Stored:
    """The stored forecasts of some tracks."""

    forecasts: pl.DataFrame
    """One row per track, with the columns of `stored_months`."""
    freshness: pl.DataFrame | None
    """One row per track: cm_track_id, made, `CAUSES`, is_other and last_date; None if it was not found.

    made: in microseconds, NULL if not finite; is_other: with other parameters, or with more months;
    last_date: the day of the track's last record, NULL without any.
    """

    def stale(self, tracks: pl.Series, /) -> pl.DataFrame | None:
        """Keep the tracks among these whose forecast is stale: cm_track_id and `CAUSES`."""
        if self.freshness is None:
            return None
        is_stale = pl.any_horizontal(*CAUSES) & pl.col("cm_track_id").is_in(tracks.implode())
        return self.freshness.filter(is_stale).select("cm_track_id", *CAUSES)

    def last_dates(self, tracks: pl.Series, /) -> pl.DataFrame:
        """Return what is known of the last record of these tracks: cm_track_id and last_date."""
        if self.freshness is None:
            return pl.DataFrame(schema={"cm_track_id": pl.Int64, "last_date": pl.Date})
        is_one = pl.col("cm_track_id").is_in(tracks.implode())
        return self.freshness.filter(is_one).select("cm_track_id", "last_date")


def read_stored(
    source: Source, track_ids: pl.Series | None, config: RunConfig, made_with: MadeWith | None = None, /
) -> Stored:
    """Describe the stored forecasts of these tracks, or of all, and find the stale ones.

    `made_with`: what the run makes its own forecasts with; None: the production model.

    Restated days are looked for only to refresh. Without a key of the streams the newest day of each track
    takes a pass over all rows, which only a refresh is worth. With `replace` nothing depends on it.
    """
    if config.replace or not (config.refresh or source.reads_by_index):
        return Stored(source.stored(track_ids), None)
    tables = source.tables
    made_with = made_with or MadeWith(config.parameters)
    newest = (
        _newest_by_index(tables, made_with.until)
        if source.reads_by_index
        else _newest_in_one_pass(tables, track_ids, made_with.until)
    )
    is_other = _is_other(config.parameters, made_with) if config.refresh else "false"
    found = source.read(_stored_and_fresh(tables, track_ids, is_other, newest, made_with.until))
    names = ["cm_track_id", "made", *CAUSES, "is_other", "last_day"]
    freshness = found.select(
        *names[:-1], last_date=pl.col("last_day").cast(pl.Int32).cast(pl.Date)
    ).drop_nulls("cm_track_id")
    if config.refresh and source.reads_by_index:
        freshness = _with_restated(source, freshness)
    return Stored(found.drop(names[1:]), freshness)


def counts(stale: pl.DataFrame | None, config: RunConfig, /) -> dict[str, int] | None:
    """Count stale forecasts, for the report: all of them, and by cause; one may have several causes."""
    if stale is None:
        return None
    found = [cause for cause in CAUSES if config.refresh or cause != "restated"]
    return {"tracks": len(stale), **{cause: int(stale[cause].sum()) for cause in found}}


def remarks(stored: Stored, stale: pl.DataFrame | None, config: RunConfig, /) -> Iterator[str]:
    """Warn of forecasts that a run leaves stale, or that a refresh leaves with other parameters."""
    found = counts(stale, config)
    if found and found["tracks"] and not config.refresh:
        yield f"tracks whose forecast is stale: {stale_in_words(found)}; add --refresh to forecast them again"
    if config.refresh and stored.freshness is not None and stale is not None:
        stays = ~pl.col("cm_track_id").is_in(stale["cm_track_id"].implode())
        if len(others := stored.freshness.filter(stays & pl.col("is_other"))["cm_track_id"].sort()):
            yield (
                f"tracks that keep a forecast with other parameters or more months: {len(others):,}, the "
                f"first is {others[0]}; use --replace instead of --refresh to make all alike"
            )


def oldest_look_first(source: Source, track_ids: pl.Series, /) -> pl.Series:
    """Order tracks for a limit: those that no run has looked at, then those looked at longest ago.

    Without a readable history, they stay in their order.
    """
    if not _is_readable(source.tables):
        return track_ids
    looks = source.read(f"""
        SELECT h.cm_track_id, max(h.run_id) AS look FROM {source.tables.name(HISTORY.name)} h
        JOIN unnest({integer_array(track_ids)}) AS t (id) ON t.id = h.cm_track_id GROUP BY 1""")
    tracks = track_ids.alias("cm_track_id").to_frame().join(looks, on="cm_track_id", how="left")
    return tracks.sort("look", "cm_track_id", nulls_last=False)["cm_track_id"]


def _with_restated(source: Source, freshness: pl.DataFrame) -> pl.DataFrame:
    """Find, among the forecasts that are not stale already, those of which a day has been restated."""
    fresh = freshness.filter(~pl.any_horizontal(*CAUSES), pl.col("made").is_not_null())
    if fresh.is_empty():
        return freshness
    since = fresh.select(pl.col("made").min()).item()
    touched = source.read(_touched(source.tables, fresh["cm_track_id"], since))
    later = fresh.join(touched, on="cm_track_id").filter(pl.col("touched") > pl.col("made"))["cm_track_id"]
    return freshness.with_columns(restated=pl.col("cm_track_id").is_in(later.implode()))


def _stored_and_fresh(
    tables: Tables, ids: pl.Series | None, is_other: str, newest: str, until: date | None
) -> str:
    """SQL: the columns of `stored_months`, `CAUSES`, is_other, made; `newest`: a join with the streams.

    A forecast without a row in the history is stale if the newest day, or the MLDR, was created later. One of
    the calibrated model has no MLDR.
    """
    made = f", max({tables.instant(FORECAST_TABLE)}) AS made, max(s.cm_artist_id)::bigint AS artist"
    rated = f", {tables.instant(MLDR_TABLE)} AS at"
    counts = statements.rated_up_to(tables, until)
    rates = statements.newest_rates(tables, condition=counts, more=rated)
    among = statements.among(tables, FORECAST_TABLE, ids)
    has_mldr = "(h.parameters #>> '{parameters,model}') IS DISTINCT FROM 'calibrated'"
    return f"""
        SELECT f.cm_track_id, f.rows, f.months, f.first, f.last, {is_other} AS is_other,
               CASE WHEN isfinite(f.made) THEN {statements.microseconds("f.made")} END AS made,
               coalesce(CASE WHEN h.last_date IS NULL THEN {_is_later("n.at")}
                             ELSE n.day <> h.last_date END, false) AS new_streams,
               coalesce(CASE WHEN h.run_id IS NULL THEN {_is_later("m.at")}
                             ELSE m.mldr IS DISTINCT FROM h.mldr AND {has_mldr} END, false) AS new_mldr,
               coalesce({_is_later("n.touched")}, false) AS restated,
               {statements.epoch_day("n.day")} AS last_day
        FROM ({stored_months(tables, more=made)} AND {among} GROUP BY 1) f
        LEFT JOIN LATERAL ({_known(tables)}) h ON true
        {newest}
        LEFT JOIN ({rates}) m ON m.cm_artist_id = f.artist"""


def _known(tables: Tables) -> str:
    """SQL: what the forecast `f` knew, by the history; without a readable history, nothing."""
    if not _is_readable(tables):
        nothing = "NULL::bigint AS run_id, NULL::date AS last_date, NULL::float8 AS mldr"
        return f"SELECT {nothing}, NULL::jsonb AS parameters"
    # LIMIT makes it two lookups by key: else the server might read the history of all runs.
    return f"""
        SELECT k.run_id, k.last_date, k.mldr, r.parameters FROM {tables.name(RUNS.name)} r
        JOIN {tables.name(HISTORY.name)} k ON k.run_id = r.id
        WHERE r.started_at = f.made AND k.cm_track_id = f.cm_track_id LIMIT 1"""


def _newest_by_index(tables: Tables, until: date | None) -> str:
    """SQL: join the newest day of each track, and when its row was created; restated days stay unknown."""
    return f"""
        LEFT JOIN LATERAL (
            SELECT s.date AS day, {tables.instant(STREAMS_TABLE)} AS at, NULL::timestamptz AS touched
            FROM {tables.name(STREAMS_TABLE)} s
            WHERE s.cm_track_id = f.cm_track_id AND {tables.record(STREAMS_TABLE)}{statements.up_to(until)}
            ORDER BY s.date DESC LIMIT 1) n ON true"""


def _newest_in_one_pass(tables: Tables, ids: pl.Series | None, until: date | None) -> str:
    """SQL: join the newest day of each track, and when one of its rows was created last."""
    at, day = tables.instant(STREAMS_TABLE), tables.day(STREAMS_TABLE)
    counts = f"NOT {tables.unusable(STREAMS_TABLE)}{statements.up_to(until, day)}"
    return f"""
        LEFT JOIN (
            SELECT g.track, g.day, g.touched, g.touched AS at
            FROM (SELECT s.cm_track_id::bigint AS track, max({at}) FILTER (WHERE {at} <= now()) AS touched,
                         max({day}) FILTER (WHERE {counts}) AS day
                  FROM {tables.name(STREAMS_TABLE)} s
                  WHERE {statements.among(tables, STREAMS_TABLE, ids)} GROUP BY 1) g
        ) n ON n.track = f.cm_track_id"""


def _touched(tables: Tables, ids: pl.Series, since: int) -> str:
    """SQL: when a row of each track was created last, if after an instant in microseconds."""
    # Not joined with the instant of each forecast, for which the server cannot plan. Added without a zone, it
    # is one constant for all rows; tested first, it spares most of them the other conditions.
    at = tables.instant(STREAMS_TABLE)
    made = f"(timestamp '1970-01-01' + interval '{int(since)} microseconds') AT TIME ZONE 'UTC'"
    return f"""
        SELECT s.cm_track_id::bigint AS cm_track_id, {statements.microseconds(f"max({at})")} AS touched
        FROM {tables.name(STREAMS_TABLE)} s
        WHERE {at} > {made} AND {at} <= now() AND {statements.among(tables, STREAMS_TABLE, ids)}
        GROUP BY 1"""


def _is_later(at: str) -> str:
    # A row from the future is not later than each new forecast, night after night, until its time has come.
    return f"({at} > f.made AND {at} <= now())"


def _is_other(parameters: Parameters, made_with: MadeWith) -> str:
    """SQL: the forecast `f` has more months, or other parameters; one with fewer has its own warning."""
    ours = _quoted(json.dumps(as_json(parameters) | made_with.recorded))
    # Runs that recorded no level started from the last 30 days.
    theirs = f"""('{{"level": {DAYS_PER_MONTH}}}'::jsonb || (h.parameters -> 'parameters'))"""
    differs = f"NOT {ours}::jsonb @> {theirs}"
    if made_with.recorded:  # what is recorded of a forecast of the production model is a part of ours
        differs += " OR (h.parameters #>> '{parameters,model}') IS NULL"
    return (
        f"(f.months > {parameters.horizon} OR f.months = {parameters.horizon} AND coalesce({differs}, false))"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _is_readable(tables: Tables) -> bool:
    """Whether this user can read what forecasts knew."""
    return tables.shows(_KNOWN)
