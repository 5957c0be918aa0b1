"""The intervals of forecasts: one row per track, stored in the transaction of its forecast."""

from collections.abc import Sequence

import polars as pl

from forecaster.postgres.connection import Connection, copy_in, execute, integer_array, is_far, query
from forecaster.postgres.statements import among
from forecaster.postgres.tables import Tables
from forecaster.tables import FORECAST_TABLE, INTERVALS, QUANTILES, RUNS

_SHARED = tuple(one.name for one in INTERVALS.columns if one.name not in QUANTILES)


def store_intervals(connection: Connection, tables: Tables, rows: pl.DataFrame, /, *, horizon: int) -> None:
    """Store the intervals of tracks in place of those that they have. The caller commits.

    `rows`: the columns of `INTERVALS`, with a list of `horizon` months in each of `QUANTILES`.
    """
    if rows.is_empty():
        return
    if is_far(connection) or INTERVALS.name in tables.filtered:
        _insert_arrays(connection, tables, rows, horizon=horizon)
    else:
        target = tables.name(INTERVALS.name)
        tracks = integer_array(rows["cm_track_id"])
        execute(connection, f"DELETE FROM {target} WHERE cm_track_id = ANY ({tracks})")
        copy_in(connection, rows.sort("cm_track_id"), INTERVALS.name, schema=tables.schema)


def _insert_arrays(connection: Connection, tables: Tables, rows: pl.DataFrame, *, horizon: int) -> None:
    """Insert them in one round trip: for each column the months of all tracks, one after the other."""
    rows = rows.sort("cm_track_id")
    its = f"[t.number * {horizon} - {horizon - 1}:t.number * {horizon}]"
    shared = [f"${number}" for number, _ in enumerate(_SHARED, 1)]
    bounds = [f"(${number}::real[]){its}" for number, _ in enumerate(QUANTILES, len(_SHARED) + 1)]
    names = (*_SHARED, *QUANTILES)
    replaced = ", ".join(f"{name} = excluded.{name}" for name in names if name not in INTERVALS.key)
    query(
        connection,
        f"""
        INSERT INTO {tables.name(INTERVALS.name)} ({", ".join(names)})
        SELECT t.cm_track_id, t.created_at::timestamptz, t.calibration, {", ".join(bounds)}
        FROM unnest({", ".join(shared)}) WITH ORDINALITY AS t ({", ".join(_SHARED)}, number)
        ON CONFLICT ({", ".join(INTERVALS.key)}) DO UPDATE SET {replaced}""",
        (
            rows["cm_track_id"],
            # As text: around an instant of its type, the driver sets the time zone, in three statements.
            rows["created_at"].dt.to_string("%Y-%m-%d %H:%M:%S%.6f+00"),
            rows["calibration"],
            *(rows[name].explode() for name in QUANTILES),
        ),
    )


def intervals_of_runs(tables: Tables, runs: pl.Series) -> str:
    """SQL: read the intervals that these runs stored and that are still there: run, cm_track_id, `QUANTILES`.

    A run's `started_at` is the `created_at` of what it stores.
    """
    return f"""
        SELECT r.id AS run, i.cm_track_id, {", ".join(f"i.{name}" for name in QUANTILES)}
        FROM {tables.name(INTERVALS.name)} i JOIN {tables.name(RUNS.name)} r ON r.started_at = i.created_at
        WHERE r.id = ANY ({integer_array(runs)})"""


def intervals(tables: Tables, ids: Sequence[int] | pl.Series | None) -> str:
    """SQL: read the intervals of the stored forecasts of these tracks, or of all, ordered by track.

    cm_track_id, calibration and `QUANTILES`. Those of a forecast that has been replaced since are left out.
    """
    made = (
        f"SELECT max({tables.instant(FORECAST_TABLE)}) FROM {tables.name(FORECAST_TABLE)} s "
        "WHERE s.cm_track_id = i.cm_track_id"
    )
    rows = f"SELECT * FROM {tables.name(INTERVALS.name)} s WHERE {among(tables, INTERVALS.name, ids)}"
    return f"""
        SELECT i.cm_track_id, i.calibration, {", ".join(f"i.{name}" for name in QUANTILES)} FROM ({rows}) i
        WHERE i.created_at = ({made}) ORDER BY 1"""
