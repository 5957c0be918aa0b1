"""The intervals of forecasts: one row per track, stored in the transaction of its forecast."""

from collections.abc import Sequence

import polars as pl

from forecaster.postgres.connection import integer_array
from forecaster.postgres.statements import among
from forecaster.postgres.tables import Tables
from forecaster.tables import FORECAST_TABLE, INTERVALS, QUANTILES, RUNS


def storing(
    tables: Tables, rows: pl.DataFrame, /, *, horizon: int, first: int
) -> tuple[str, tuple[object, ...]]:
    """SQL: store the intervals of tracks instead of those they have; also the parameters from `first` on.

    `rows`: the columns of `INTERVALS`, not empty, the same created_at and calibration in each, with a list of
    `horizon` months in each of `QUANTILES`. In a parameter, the months of all tracks follow one another.
    """
    ids, made_at, calibration, *bounds = (f"${number}" for number in range(first, first + 3 + len(QUANTILES)))
    its = f"[t.number * {horizon} - {horizon - 1}:t.number * {horizon}]"
    lists = ", ".join(f"({bound}::real[]){its}" for bound in bounds)
    names = ("created_at", "calibration", *QUANTILES)
    replaced = ", ".join(f"{name} = excluded.{name}" for name in names)
    sql = f"""
        INSERT INTO {tables.name(INTERVALS.name)} (cm_track_id, {", ".join(names)})
        SELECT t.id, {made_at}::text::timestamptz, {calibration}::text, {lists}
        FROM unnest({ids}::bigint[]) WITH ORDINALITY AS t (id, number)
        ON CONFLICT ({", ".join(INTERVALS.key)}) DO UPDATE SET {replaced}"""
    # As text: around an instant of its type, the driver sets the time zone, in three statements.
    made = rows["created_at"][0].isoformat()
    return sql, (
        rows["cm_track_id"],
        made,
        rows["calibration"][0],
        *(rows[name].explode() for name in QUANTILES),
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
    here = among(tables, FORECAST_TABLE, ids)
    made = (
        f"SELECT s.cm_track_id, max({tables.instant(FORECAST_TABLE)}) AS instant "
        f"FROM {tables.name(FORECAST_TABLE)} s WHERE {here} GROUP BY 1"
    )
    # The column of the forecasts may round instants to tenths, or to whole seconds.
    rounded = """
        CASE m.instant WHEN date_trunc('second', m.instant) THEN interval '0.5 s'
                       WHEN date_trunc('milliseconds', m.instant) THEN interval '0.05 s'
                       ELSE interval '0' END"""
    return f"""
        SELECT i.cm_track_id, i.calibration, {", ".join(f"i.{name}" for name in QUANTILES)}
        FROM {tables.name(INTERVALS.name)} i JOIN ({made}) m ON m.cm_track_id = i.cm_track_id
        WHERE i.created_at BETWEEN m.instant - ({rounded}) AND m.instant + ({rounded}) ORDER BY 1"""
