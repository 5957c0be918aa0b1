"""Read the record of runs and the history: list runs, one track over time, two states of the catalogue."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.postgres.catalogue import warn_of_hidden_rows
from forecaster.postgres.connection import Connection, connect, execute, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.look import look
from forecaster.postgres.migrations import check_version
from forecaster.postgres.rights import check_rights
from forecaster.postgres.runs import RUN_BEFORE, named
from forecaster.postgres.statements import days_of_one
from forecaster.postgres.tables import Tables
from forecaster.tables import FORECAST_TABLE, KEPT, STREAMS_TABLE, VERSIONS

_RUNS = f"""
    SELECT r.id, r.log_id, r.started_at, r.finished_at,
           extract(epoch FROM r.finished_at - r.started_at)::float8 AS seconds,
           r.outcome, r.error, r.host, r.program, r.model, r.horizon, r.parameters::text AS parameters,
           r.as_of_from, r.as_of_to, r.tracks, r.rows, r.skipped::text AS skipped, r.refused, r.total,
           before.id AS run_before, before.total AS total_before
    FROM {{runs}} r
    LEFT JOIN LATERAL ({RUN_BEFORE.format(run="r.id", horizon="r.horizon")}) before ON true"""
# A run that did not end has no counts, as which 0 is good.
_REMOVED = """
    SELECT (coalesce(r.tracks, 0) + coalesce(r.refused, 0)
            + (SELECT coalesce(sum(s.value::bigint), 0) FROM jsonb_each_text(r.skipped) s)
            - (SELECT count(*) FROM {history} h WHERE h.run_id = r.id))::bigint AS rows
    FROM {runs} r WHERE r.id = $1"""
# The row of each run is found by the key. OFFSET keeps the planner from reading the whole history instead.
_OF_TRACK = """
    SELECT r.id AS run, r.started_at, r.model,
           coalesce(r.parameters #>> '{{parameters,calibration}}', r.parameters ->> 'intervals')
               AS calibration,
           h.as_of, h.last_date, h.mldr, h.reason AS skipped, h.months
    FROM {runs} r
    CROSS JOIN LATERAL (SELECT * FROM {history} h WHERE h.run_id = r.id AND h.cm_track_id = $1 OFFSET 0) h
    ORDER BY r.id DESC"""
# One pass over the history finds the newest row of each track, for both runs; the key then finds these rows.
_STATES = """
    WITH newest AS MATERIALIZED (
        SELECT h.cm_track_id AS track,
               max(h.run_id) FILTER (WHERE h.months IS NOT NULL AND h.run_id <= {before}) AS before,
               max(h.run_id) FILTER (WHERE h.months IS NOT NULL AND h.run_id <= {after}) AS after,
               max(h.run_id) FILTER (WHERE h.months IS NOT NULL) AS latest,
               max(h.run_id) FILTER (WHERE h.run_id <= {after}) AS looked_at
        FROM {history} h GROUP BY 1)
    SELECT n.track AS cm_track_id, n.latest,
           EXISTS (SELECT FROM {forecasts} f WHERE f.cm_track_id = n.track) AS is_stored,
           CASE WHEN n.looked_at > {before} THEN l.reason END AS skipped_since, {columns}
    FROM newest n
    LEFT JOIN {history} a ON a.run_id = n.before AND a.cm_track_id = n.track
    LEFT JOIN {runs} ra ON ra.id = a.run_id
    LEFT JOIN {history} b ON b.run_id = n.after AND b.cm_track_id = n.track
    LEFT JOIN {runs} rb ON rb.id = b.run_id
    LEFT JOIN {history} l ON l.run_id = n.looked_at AND l.cm_track_id = n.track
    WHERE n.after IS NOT NULL
    ORDER BY 1"""
# Runs that recorded no level started from the last 30 days.
_OF_STATE = """
    {row}.run_id AS run_{state}, {row}.as_of AS as_of_{state}, {row}.last_date AS last_date_{state},
    {row}.mldr AS mldr_{state}, {row}.months AS months_{state},
    nullif(r{row}.program, 'unknown') AS program_{state}, r{row}.model AS model_{state},
    ('{{{{"level": 30}}}}' || (r{row}.parameters -> 'parameters') - ARRAY['as_of', 'horizon'])::text
        AS parameters_{state}"""

COMPLETE: tuple[str, ...] = ("done", "imported")
"""Outcomes of runs that ended as they should."""


@dataclass(frozen=True)
class Ledger:
    """The tables of runs and of the history, in one snapshot."""

    connection: Connection
    tables: Tables

    def runs(self, last: int) -> pl.DataFrame:
        """Read the last runs, newest first: the columns of `RUNS`, with jsonb as text.

        Adds seconds, and run_before and total_before: of the run before with the same horizon and a total.
        """
        return self._query(f"{_RUNS} ORDER BY r.id DESC LIMIT {int(last)}")

    def number_of_runs(self) -> int:
        """Count all runs."""
        return int(self._query("SELECT count(*)::bigint AS n FROM {runs}").item())

    def run(self, named: str) -> pl.DataFrame:
        """Read one run by its log id or its id: one row as from `runs`.

        Raises `NoForecastError` for an unknown one.
        """
        sql = f"{_RUNS} WHERE $1 IN (r.log_id, r.id::text) ORDER BY r.log_id = $1 DESC, r.id DESC LIMIT 1"
        found = self._query(sql, named)
        if found.is_empty():
            raise NoForecastError(
                f"run {named} is unknown: it is neither the id nor the log id of a run",
                hint="`forecaster history` lists the runs",
            )
        return found

    def removed(self, run: int) -> int:
        """Count the rows that a run left in the history and that are not there any more."""
        return max(0, int(self._query(_REMOVED, run).item()))

    def last_complete(self, number: int) -> pl.DataFrame:
        """Read the last runs that ended as they should, newest first."""
        outcomes = ", ".join(f"'{outcome}'" for outcome in COMPLETE)
        return self._query(f"{_RUNS} WHERE r.outcome IN ({outcomes}) ORDER BY r.id DESC LIMIT {int(number)}")

    def track(self, track_id: int) -> pl.DataFrame:
        """Read a track's rows of the history, newest first, at one lookup per run.

        run, started_at, model, calibration (of the model or of the intervals; NULL without), as_of,
        last_date, mldr, skipped (the reason; NULL for a forecast), months.
        """
        return self._query(_OF_TRACK, track_id)

    def days(self, track_id: int) -> pl.DataFrame:
        """Read the days on which a track has a record: cm_track_id, date, daily_streams."""
        days = query(self.connection, days_of_one(self.tables, track_id))
        return days.select(
            pl.lit(track_id, dtype=pl.Int64).alias("cm_track_id"),
            pl.col("day").cast(pl.Int32).cast(pl.Date).alias("date"),
            pl.col("daily_streams").cast(pl.Float64),
        )

    def states(self, before: int, after: int) -> pl.DataFrame:
        """Read the newest forecast of each track up to two runs: one row per track, ordered by it.

        For each of the states `before` and `after`, with its name at the end: run, as_of, last_date, mldr,
        months, and of that run program, model, parameters (without as_of and horizon). NULL without a
        forecast in the state before. Also latest (the run of the newest forecast), is_stored (whether the
        table of the forecasts has any), skipped_since (the reason, if the track was skipped last).
        """
        columns = [_OF_STATE.format(row=row, state=state) for row, state in zip("ab", STATES, strict=True)]
        sql = _STATES.replace("{columns}", ",".join(columns))
        return self._query(sql.replace("{before}", f"{int(before)}").replace("{after}", f"{int(after)}"))

    def _query(self, sql: str, *parameters: object) -> pl.DataFrame:
        return query(self.connection, named(sql, self.tables), parameters)


STATES: tuple[str, str] = ("before", "after")
"""Names of the two states of the catalogue that are compared."""


@contextmanager
def open_ledger(dsn: Dsn, schema: str) -> Iterator[Ledger]:
    """Open the history, and the tables of forecasts and streams, as they are now, for reading only.

    Raises `SchemaMismatchError` if a table is missing, does not fit or is too new, `DatabaseError` if the
    user may not read it.
    """
    needed = (*KEPT, FORECAST_TABLE, STREAMS_TABLE)
    rights = dict.fromkeys((*needed, VERSIONS.name), ("SELECT",))
    with connect(dsn, repeatable_read=True) as connection:
        execute(connection, "SET TRANSACTION READ ONLY")
        seen = look(connection, schema, rights)
        tables = seen.tables
        check_version(partial(query, connection), tables)
        tables.check(*needed, to_write=())
        check_rights(connection, tables, rights, seen.lacking)
        warn_of_hidden_rows(tables, *needed)
        yield Ledger(connection, tables)
