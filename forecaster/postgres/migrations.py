"""The tables of our own in numbered versions: `init` brings older ones up, one migration after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from forecaster.errors import SchemaMismatchError
from forecaster.model.segments import SEGMENT_STARTS
from forecaster.postgres.answers import look_up
from forecaster.postgres.connection import Connection, execute, query, quote_identifier
from forecaster.postgres.tables import Tables, read_tables
from forecaster.process.version import VERSION
from forecaster.tables import (
    CALIBRATED,
    FORECAST_TABLE,
    HISTORY,
    KEPT,
    MLDR_TABLE,
    RUNS,
    STREAMS_TABLE,
    VERSIONS,
    Table,
)

NEWER_PROGRAM = "use a newer forecaster"


@dataclass(frozen=True)
class Migration:
    """One step from a version of the tables to the next. It adds and fills; it never deletes a row."""

    number: int
    what: str
    apply: Callable[[Connection, Tables], Sequence[str]]
    """Returns what was created. The caller commits."""


def last_applied(tables: Tables) -> str:
    """SQL: number and program of the last migration that was applied in a schema.

    No row without any, or if this user may not read them.
    """
    if VERSIONS.name not in tables.columns or VERSIONS.name in tables.unreadable:
        return "SELECT 0::bigint AS number, NULL::text AS program WHERE false"
    newest = f"FROM {tables.name(VERSIONS.name)} ORDER BY number DESC LIMIT 1"
    return f"SELECT number::bigint AS number, program::text AS program {newest}"


def too_new(number: int | None, program: str | None) -> str | None:
    """Explain that a newer version of this program made the tables of our own; None if none did.

    Takes what `last_applied` selects.
    """
    known = MIGRATIONS[-1].number
    if number is None or number <= known:
        return None
    return (
        f"the tables of the history have version {number}, made by forecaster {program}; this is "
        f"forecaster {VERSION}, which knows versions up to {known}"
    )


def check_version(read: Callable[[str], pl.DataFrame], tables: Tables) -> int:
    """Return the number of the last migration that was applied in a schema; 0 if none is known.

    `read`: runs a statement. Raises `SchemaMismatchError` if a newer version of this program made its tables.
    """
    number, program = next(read(last_applied(tables)).iter_rows(), (0, None))
    if why := too_new(number, program):
        raise SchemaMismatchError(why, hint=f"{NEWER_PROGRAM}, or name another schema with --schema")
    return int(number)


def pending(connection: Connection, schema: str) -> list[Migration]:
    """Return the migrations that a schema lacks, in order. Raises as `check_version` does."""
    found = check_version(partial(query, connection), read_tables(connection, schema))
    return [migration for migration in MIGRATIONS if migration.number > found]


def migrate(connection: Connection, schema: str, migrations: Sequence[Migration]) -> list[str]:
    """Apply migrations in order; return what was created. The caller commits."""
    created: list[str] = []
    for migration in migrations:
        created += migration.apply(connection, read_tables(connection, schema))
        _record(connection, schema, migration)
    return created


def create_kept(connection: Connection, tables: Tables) -> list[str]:
    """Create the tables of runs and of the history if they are missing; return their names.

    If both are, they begin with the stored forecasts, as those of one run. The caller commits.
    """
    created = _create(connection, tables, KEPT)
    if set(created) == set(KEPT):
        execute(connection, _TAKE_OVER.format(**_names(tables)))
    elif RUNS.name in created:  # the history still has rows of runs, whose ids must not be given again
        last = (
            f"SELECT setval(pg_get_serial_sequence($1, 'id'), max(run_id)) FROM {tables.name(HISTORY.name)}"
        )
        query(connection, last, (tables.name(RUNS.name),))
    return created


def create_calibrated(connection: Connection, tables: Tables) -> list[str]:
    """Create the tables of calibrations and of intervals if they are missing; return their names.

    The caller commits.
    """
    return _create(connection, tables, CALIBRATED)


def _create(connection: Connection, tables: Tables, wanted: Mapping[str, Table]) -> list[str]:
    created = [name for name in wanted if name not in tables.columns]
    for name in created:
        execute(connection, wanted[name].ddl(tables.name(name), {}, segments=len(SEGMENT_STARTS)))
    return created


def _has_versions(connection: Connection, schema: str) -> bool:
    exists = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = $2"
    [(number,)] = look_up(connection, exists, (schema, VERSIONS.name))
    return bool(number)


def _record(connection: Connection, schema: str, migration: Migration) -> None:
    if not _has_versions(connection, schema):
        execute(connection, VERSIONS.ddl(_name(schema), {}, segments=len(SEGMENT_STARTS)))
    sql = f"INSERT INTO {_name(schema)} (number, what, program) VALUES ($1::bigint, $2, $3)"
    query(connection, f"{sql} RETURNING number", (migration.number, migration.what, VERSION))


def _name(schema: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(VERSIONS.name)}"


# One run for all forecasts that are stored already, as nothing tells in which run each was made. What each
# knew is what was in the tables, by `created_at`, when it was stored: the rule of `evaluate` for them.
_TAKE_OVER = """
    WITH whole AS (
        SELECT s.cm_track_id::bigint AS track, max({made}) FILTER (WHERE isfinite({made})) AS made,
               max(s.cm_artist_id)::bigint AS artist, array_agg({value} ORDER BY s.month) AS months
        FROM {forecasts} s WHERE s.cm_track_id IS NOT NULL
        GROUP BY 1 HAVING count(*) = max(s.month) AND count(DISTINCT s.month) = max(s.month)
                      AND min(s.month) = 1 AND bool_and({value} IS NOT NULL)
    ), usual AS (
        SELECT mode() WITHIN GROUP (ORDER BY cardinality(months)) AS horizon FROM whole
    ), run AS (
        INSERT INTO {runs} (log_id, started_at, finished_at, program, model, horizon, tracks, rows, total,
                            outcome, host)
        SELECT 'imported', coalesce(max(made), now()), coalesce(max(made), now()), 'unknown', 'production',
               max(horizon), count(*), sum(cardinality(months)),
               sum((SELECT sum(v) FROM unnest(months[:horizon]) v)), 'imported', 'unknown'
        FROM whole CROSS JOIN usual HAVING count(*) > 0 RETURNING id
    ), knew AS (
        SELECT w.track, max({day}) AS last_date
        FROM whole w JOIN {streams} s ON s.cm_track_id = w.track AND NOT {unusable} AND {known} <= w.made
        GROUP BY 1
    ), rated AS (
        SELECT DISTINCT ON (w.track) w.track, {mldr} AS mldr
        FROM whole w JOIN {rates} s ON s.cm_artist_id = w.artist AND {rated} <= w.made
        ORDER BY w.track, {newest}
    )
    INSERT INTO {history} (run_id, cm_track_id, as_of, last_date, mldr, months)
    SELECT run.id, w.track, k.last_date, k.last_date, r.mldr, w.months
    FROM run CROSS JOIN whole w
    LEFT JOIN knew k ON k.track = w.track
    LEFT JOIN rated r ON r.track = w.track"""


def _names(tables: Tables) -> Mapping[str, str]:
    return {
        "runs": tables.name(RUNS.name),
        "history": tables.name(HISTORY.name),
        "forecasts": tables.name(FORECAST_TABLE),
        "streams": tables.name(STREAMS_TABLE),
        "rates": tables.name(MLDR_TABLE),
        "made": tables.instant(FORECAST_TABLE),
        "value": tables.finite(FORECAST_TABLE, "forecasted_value"),
        "day": tables.day(STREAMS_TABLE),
        "unusable": tables.unusable(STREAMS_TABLE),
        "known": tables.instant(STREAMS_TABLE),
        "mldr": tables.finite(MLDR_TABLE, "mldr"),
        "rated": tables.instant(MLDR_TABLE),
        "newest": tables.newest_first(MLDR_TABLE),
    }


MIGRATIONS: Sequence[Migration] = (
    Migration(1, "record of runs, history of forecasts", create_kept),
    Migration(2, "calibrations, intervals of forecasts", create_calibrated),
)
"""All migrations in order. Version 0 are the tables of forecaster 0.1.0."""
