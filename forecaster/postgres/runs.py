"""The record that a database keeps of each run, and the history rows of the tracks that the run looked at."""

import json
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Thread
from typing import NamedTuple

import polars as pl

from forecaster.errors import ForecasterError
from forecaster.frames.collecting import collect
from forecaster.postgres.answers import Rows, answers
from forecaster.postgres.connection import (
    Connection,
    connect,
    each_committed,
    integer_array,
    query,
    quote_identifier,
)
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.migrations import MIGRATIONS, NEWER_PROGRAM, last_applied, too_new
from forecaster.postgres.tables import Tables
from forecaster.process.secrets import masked
from forecaster.process.signals import Interrupted, postponed
from forecaster.process.version import VERSION
from forecaster.run.batch import Computed
from forecaster.run.report import Report
from forecaster.tables import FORECAST_TABLE, HISTORY, KEPT, REFUSED, RUNS, VERSIONS

_FOR_THE_REST = 0.4  # seconds that are left, after a signal, to write the report
_PATIENCE = 5  # seconds of silence of a server after which a failure is not recorded
_RIGHTS = {
    RUNS.name: ("SELECT", "INSERT", "UPDATE"),
    HISTORY.name: ("SELECT", "INSERT"),
    VERSIONS.name: ("SELECT",),
}
# Whoever holds the lock of the forecasts is the only run: another one that is still "running" was killed.
# Nothing is recorded in tables of a version that is not known.
_BEGIN = """
    WITH newest AS ({newest}),
    known AS (SELECT coalesce(max(number), 0) <= $8::bigint AS is_known FROM newest),
    dead AS (
        UPDATE {runs} SET outcome = 'killed' FROM known WHERE is_known AND outcome = 'running' RETURNING id
    ), begun AS (
        INSERT INTO {runs} (log_id, started_at, program, model, parameters, horizon, outcome, host)
        SELECT $1, $2::text::timestamptz, $3, $4, $5::text::jsonb, $6::bigint::int, 'running', $7
        FROM (SELECT count(*) FROM dead) AS after_the_update, known WHERE is_known RETURNING id
    )
    SELECT begun.id, newest.number, newest.program
    FROM known LEFT JOIN begun ON true LEFT JOIN newest ON true"""
_EACH = ", ".join(
    f"('{table}', '{right}', {position})"
    for table, rights in _RIGHTS.items()
    for position, right in enumerate(rights)
)
LACKING = f"""
    SELECT string_agg(w."right", ', ' ORDER BY w.position) AS rights, w."table", current_user::text AS "user"
    FROM (VALUES {_EACH}) AS w ("table", "right", position)
    JOIN pg_catalog.pg_class c ON c.relname = w."table"
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
    WHERE NOT has_table_privilege(c.oid, w."right") GROUP BY 2 ORDER BY 2"""
"""SQL: the rights that this user lacks to keep a history in schema $1, by table that exists."""
_AGAIN = "UPDATE {runs} SET outcome = 'running', error = NULL, finished_at = NULL WHERE id = $1 RETURNING id"
RUN_BEFORE = """
    SELECT b.id, b.total FROM {{runs}} b
    WHERE b.id < {run} AND b.horizon = {horizon} AND b.total IS NOT NULL ORDER BY b.id DESC LIMIT 1"""
"""SQL: id and total of the run with which the total of a run is compared, from its id and its horizon."""
# Others are summed, not the own ones, of which most runs have more. Instants may be rounded to whole seconds.
_END = f"""
    WITH before AS ({RUN_BEFORE.format(run="$1", horizon="$8::bigint")}),
    own AS (SELECT started_at - interval '0.5 s' AS since, started_at + interval '0.5 s' AS until
            FROM {{runs}} WHERE id = $1),
    stored AS (
        SELECT sum({{streams}}) AS total,
               sum({{streams}}) FILTER (WHERE ({{made}} BETWEEN (SELECT since FROM own)
                                                        AND (SELECT until FROM own)) IS NOT TRUE) AS others
        FROM {{forecasts}} s WHERE s.month <= $8::bigint
    )
    UPDATE {{runs}} r
    SET finished_at = clock_timestamp(), outcome = $2, error = $3::text, tracks = $4::bigint,
        rows = $5::bigint, skipped = $6::text::jsonb, refused = $7::bigint,
        (as_of_from, as_of_to) = (SELECT min(h.as_of), max(h.as_of) FROM {{history}} h
                                  WHERE h.run_id = r.id AND h.months IS NOT NULL),
        total = stored.total
    FROM stored
    WHERE r.id = $1
    RETURNING r.total, (SELECT id FROM before) AS run_before, (SELECT total FROM before) AS total_before,
              coalesce(stored.others, 0)::double precision AS total_of_others"""

_LAST_TOTALS = f"""
    SELECT CASE WHEN r.parameters ->> 'limit' IS NULL AND r.parameters -> 'track_ids' = '[]' THEN r.total END,
           before.total AS total_before
    FROM {{runs}} r
    LEFT JOIN LATERAL ({RUN_BEFORE.format(run="r.id", horizon="r.horizon")}) before ON true
    WHERE r.outcome = 'done' ORDER BY r.id DESC LIMIT 1"""


class NotKept(NamedTuple):
    """Why runs leave no history in these tables, and what would change it."""

    why: str
    fix: str


def why_not_kept(connection: Connection, tables: Tables, lacking: Rows | None = None) -> NotKept | None:
    """Say why runs leave no history in these tables; None if they do.

    `lacking`: what `LACKING` selects, if it has been asked for.
    """
    missing = [name for name in KEPT if name not in tables.columns]
    if missing:
        return NotKept(f"the schema has no {' and no '.join(missing)}", "create them with `forecaster init`")
    if lacking is None:
        lacking = answers(connection, {"lacking": LACKING}, (tables.schema,))["lacking"]
    newest = query(connection, last_applied(tables))
    # A newer version also explains columns that do not fit.
    return _too_new(*next(newest.iter_rows(), (None, None))) or _unfit(tables, lacking)


def _too_new(number: int | None, program: str | None) -> NotKept | None:
    newer = too_new(number, program)
    return NotKept(newer, NEWER_PROGRAM) if newer else None


def _unfit(tables: Tables, lacking: Rows) -> NotKept | None:
    if misfits := [problem for name in KEPT for problem in tables.problems_to_write(name)]:
        return NotKept("; ".join(misfits), "alter the table, or drop it and run `forecaster init`")
    if filtered := [name for name in KEPT if name in tables.filtered]:
        of = "row security policies decide which rows this user sees in"
        return NotKept(f"{of} {' and '.join(filtered)}", "these two tables need none: disable it for them")
    grants = [
        f"GRANT {names} ON {tables.name(table)} TO {quote_identifier(user)}" for names, table, user in lacking
    ]
    return NotKept("this user lacks rights on its tables", "; ".join(grants)) if grants else None


@dataclass
class RunRecord:
    """The record of one run, from its beginning to its end, over all attempts."""

    dsn: Dsn
    report: Report
    started_at: datetime
    horizon: int

    def begin(self, writer: Connection, tables: Tables, lacking: Rows) -> NotKept | None:
        """Record that the run begins, or that it goes on after a lost connection, and commit.

        `lacking`: what `LACKING` selects. The caller holds the lock of the forecasts. Sets `run` of the
        report. Returns why it records nothing, if the tables do not allow it.
        """
        if any(name not in tables.columns for name in KEPT) or _unfit(tables, lacking):
            return why_not_kept(writer, tables, lacking)
        with each_committed(writer):
            return self._begin(writer, tables)

    def _begin(self, writer: Connection, tables: Tables) -> NotKept | None:
        report = self.report
        if report.run is not None:
            query(writer, named(_AGAIN, tables), (report.run,))
            return None
        selection = {**report.asked, "replace": report.replace, "refresh": report.refresh}
        # The instant as text: around one of its type, the driver sets the time zone, in three statements.
        values = (report.log_id, self.started_at.isoformat(), VERSION, report.model)
        after = (json.dumps(selection), self.horizon, socket.gethostname())
        sql = named(_BEGIN, tables, newest=last_applied(tables))
        report.run, *newest = query(writer, sql, (*values, *after, MIGRATIONS[-1].number)).row(0)
        return None if report.run else _too_new(*newest)

    def end(self, writer: Connection, tables: Tables, error: BaseException | None) -> None:
        """Record how the run ended, and commit, if its beginning is recorded.

        If it failed, as far as the server can still be reached. A run that cannot record its success, or is
        interrupted meanwhile, has failed.
        """
        if self.report.run is None:
            return
        if error is not None:
            self._end_late(tables, error)
            return
        try:
            self._end(writer, tables, None)
        except BaseException as late:
            self._end_late(tables, late)
            raise

    def _end_late(self, tables: Tables, error: BaseException) -> None:
        # On another connection: this one may be lost, or have a statement that was cancelled. In a thread,
        # because after a signal the process ends within two seconds, whether the server answers or not.
        late = Thread(target=self._end_elsewhere, args=(tables, error), daemon=True)
        with postponed():
            late.start()
            left = error.left - _FOR_THE_REST if isinstance(error, Interrupted) else _PATIENCE
            late.join(max(0.0, left))

    def _end_elsewhere(self, tables: Tables, error: BaseException) -> None:
        hurried = replace(self.dsn, stall_timeout=_PATIENCE)
        with suppress(ForecasterError), connect(hurried) as other:
            self._end(other, tables, error)

    def _end(self, writer: Connection, tables: Tables, error: BaseException | None) -> None:
        report = self.report
        counts = (report.results, report.rows, json.dumps(report.skipped_by_reason), len(report.refused))
        why = None if error is None else masked(f"{error}" or type(error).__name__)
        values = (report.run, _outcome(error), why, *counts, self.horizon)
        with each_committed(writer):
            found = query(writer, named(_END, tables), values)
        report.total, report.run_before, report.total_before, report.total_of_others = found.row(0)


def history_rows(run: int, computed: Computed, /) -> pl.DataFrame:
    """Return the rows of the history for the tracks of a batch: the columns of `HISTORY` except `months`."""
    is_refused = pl.col("cm_track_id").is_in([*computed.refused])
    return collect(
        computed.known.lazy()
        .join(computed.skipped.lazy().select("cm_track_id", "reason"), on="cm_track_id", how="left")
        .with_columns(
            run_id=pl.lit(run, dtype=pl.Int64),
            reason=pl.when(is_refused).then(pl.lit(REFUSED)).otherwise("reason"),
        )
        .select(pl.col(one.name).cast(one.dtype) for one in HISTORY.columns if one.name != "months")
        .sort("cm_track_id")
    )


def kept_tracks(connection: Connection, tables: Tables, run: int, track_ids: pl.Series, /) -> pl.Series:
    """Return those of the tracks that have a row in the history of a run."""
    sql = (
        f"SELECT cm_track_id FROM {tables.name(HISTORY.name)} "
        f"WHERE run_id = $1 AND cm_track_id = ANY ({integer_array(track_ids)})"
    )
    return query(connection, sql, (run,))["cm_track_id"]


def last_totals(connection: Connection, tables: Tables) -> tuple[float | None, float | None]:
    """Return the total of the last run that is done, and of the run before it.

    None without such a run; the first one also for a run with a limit, or of some tracks.
    """
    found = query(connection, named(_LAST_TOTALS, tables))
    return (None, None) if found.is_empty() else found.row(0)


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "done"
    return "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"


def named(sql: str, tables: Tables, **others: str) -> str:
    """Fill in the names of the tables, {runs}, {history}, {forecasts}; {streams} and {made} of a forecast."""
    return sql.format(
        **others,
        runs=tables.name(RUNS.name),
        history=tables.name(HISTORY.name),
        forecasts=tables.name(FORECAST_TABLE),
        streams=tables.finite(FORECAST_TABLE, "forecasted_value"),
        made=tables.instant(FORECAST_TABLE),
    )
