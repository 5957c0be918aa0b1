"""Read the forecasts of past runs from the history, to score them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import polars as pl

from forecaster.errors import DatabaseError, NoForecastError
from forecaster.postgres.catalogue import Source, warn_of_hidden_rows
from forecaster.postgres.conditions import INSUFFICIENT_PRIVILEGE, hint_for
from forecaster.postgres.connection import integer_array
from forecaster.postgres.migrations import check_version
from forecaster.postgres.statements import epoch_day
from forecaster.tables import FORECAST_TABLE, HISTORY, KEPT, RUNS, VERSIONS

MONTHS_AT_ONCE = 500_000
"""Months in a batch, except if a single run has more. A catalogue of 8,459 tracks has 203,016 in a run."""

_LIST = "`forecaster history` lists the runs"

IMPORTED = "imported"
"""Outcome of the run that stands for the forecasts that were stored before there was a history."""


@dataclass(frozen=True)
class Chosen:
    """The runs to score: with one of the ids, or begun on one of the days. Neither: all."""

    ids: tuple[int, ...] = ()
    days: tuple[date, date] | None = None
    """The first and the last day, in UTC."""

    def __bool__(self) -> bool:
        return bool(self.ids or self.days)

    def among(self, recorded: pl.DataFrame) -> pl.DataFrame:
        """Select the recorded runs. Raises `NoForecastError` for an id that is not recorded."""
        if unknown := sorted(set(self.ids) - set(recorded["run"])):
            raise NoForecastError(
                f"no such run: {', '.join(map(str, unknown))} ({_recorded(recorded)})", hint=_LIST
            )
        of_days = pl.col("started").is_between(*self.days) if self.days else pl.lit(value=not self)
        found = recorded.filter(pl.col("run").is_in(list(self.ids)) | of_days)
        if self.days and found.is_empty():
            first, last = self.days
            raise NoForecastError(f"no run began from {first} to {last} ({_recorded(recorded)})", hint=_LIST)
        return found


@dataclass(frozen=True)
class PastRuns:
    """Runs with forecasts in the history, and what to read of them."""

    source: Source
    runs: pl.DataFrame
    """One row per run: run, started (date; NULL if it is not known), age_from, is_imported, is_whole (whether
    it forecast all tracks again), horizon, tracks, months, unknown (tracks whose as-of date is not known);
    ordered by run."""
    tracks: pl.Series | None
    """Only the forecasts of these tracks; None: all."""
    horizon: int | None
    """Only that many months of each; None: all."""
    as_of: date | None
    """As-of date of the forecasts that were stored before there was a history. None: the recorded one."""

    def spans(self) -> pl.DataFrame:
        """Read the first and the last as-of date of each track: cm_track_id, first, last."""
        sql = (
            f"SELECT cm_track_id, {epoch_day('min(as_of)')} AS first, {epoch_day('max(as_of)')} AS last "
            f"FROM ({self._rows(self.runs['run'])}) h GROUP BY 1"
        )
        return self.source.read(sql).with_columns(pl.col("first", "last").cast(pl.Int32).cast(pl.Date))

    def batches(self) -> Iterator[pl.DataFrame]:
        """Read whole runs: run, cm_track_id, as_of, last_date, months (a list of streams)."""
        before = pl.col("months").cum_sum() - pl.col("months")
        numbered = self.runs.with_columns(batch=before // MONTHS_AT_ONCE)
        for runs in numbered.partition_by("batch", maintain_order=True):
            months = "months" if self.horizon is None else f"months[1:{int(self.horizon)}]"
            sql = (
                f"SELECT run_id AS run, cm_track_id, {epoch_day('as_of')} AS as_of, "
                f"{epoch_day('last_date')} AS last_date, {months} AS months "
                f"FROM ({self._rows(runs['run'])}) h"
            )
            rows = self.source.read_rows(sql)
            if len(rows):
                yield rows.with_columns(pl.col("as_of", "last_date").cast(pl.Int32).cast(pl.Date))

    def _rows(self, runs: pl.Series) -> str:
        """SQL: the forecasts of runs whose as-of date is known."""
        rows = f"SELECT run_id, cm_track_id, {self._as_of} AS as_of, last_date, months FROM {self._table}"
        wanted = f"run_id = ANY ({integer_array(runs)}) AND {_forecasts_of(self.tracks)}"
        return f"{rows} WHERE {wanted} AND {self._as_of} IS NOT NULL"

    @property
    def _table(self) -> str:
        return self.source.tables.name(HISTORY.name)

    @property
    def _as_of(self) -> str:
        return _as_of(self.runs.filter("is_imported")["run"], self.as_of)


def has_history(source: Source) -> bool:
    """Whether the schema has the tables of the history."""
    return all(name in source.tables.columns for name in KEPT)


def find_runs(
    source: Source, chosen: Chosen, *, tracks: pl.Series | None, horizon: int | None, as_of: date | None
) -> PastRuns:
    """Find the chosen runs that have forecasts of the tracks in the history.

    Raises `SchemaMismatchError` if the tables are missing, do not fit or are too new, `DatabaseError` if the
    user may not read them, and `NoForecastError` for runs that are not recorded, or have no such forecast.
    """
    if hidden := sorted(source.tables.unreadable & {*KEPT, VERSIONS.name}):
        # Known beforehand: a statement that the server refuses would end the snapshot with its transaction.
        raise DatabaseError(
            f"this user may not read {' and '.join(hidden)}", hint=hint_for(INSUFFICIENT_PRIVILEGE)
        )
    check_version(source.read, source.tables)
    source.tables.check(RUNS.name, HISTORY.name, to_write=())
    warn_of_hidden_rows(source.tables, RUNS.name, HISTORY.name)
    recorded = source.read(_recorded_runs(source)).with_columns(
        pl.col("started").cast(pl.Int32).cast(pl.Date), pl.col("is_imported", "is_whole").cast(pl.Boolean)
    )
    runs = chosen.among(recorded)
    rows = source.tables.name(HISTORY.name)
    among = f"run_id = ANY ({integer_array(runs['run'])})" if chosen else "true"
    dates = _as_of(recorded.filter("is_imported")["run"], as_of)
    counts = source.read(f"""
        SELECT run_id AS run, count(*)::bigint AS tracks, sum(cardinality(months))::bigint AS months,
               count(*) FILTER (WHERE {dates} IS NULL)::bigint AS unknown
        FROM {rows} WHERE {among} AND {_forecasts_of(tracks)} GROUP BY 1""")
    found = counts.join(recorded, on="run", how="left").with_columns(
        pl.col("is_imported").fill_null(value=False)
    )
    if chosen and found.is_empty():
        named = ", ".join(map(str, runs["run"].sort()))
        raise NoForecastError(f"no forecast to score in the history of run {named}", hint=_LIST)
    return PastRuns(source, found.sort("run"), tracks, horizon, as_of)


def tracks_outside(source: Source, tracks: pl.Series | None) -> pl.Series:
    """Find the tracks whose stored forecast is not in the history."""
    tables = source.tables
    among = "true" if tracks is None else f"s.cm_track_id = ANY ({integer_array(tracks)})"
    # A column may hold instants to the second only, or to the millisecond.
    near = "f.made BETWEEN r.started_at - interval '1 second' AND r.started_at + interval '1 second'"
    found = source.read(f"""
        SELECT f.id::bigint AS id
        FROM (SELECT s.cm_track_id AS id, max({tables.instant(FORECAST_TABLE)}) AS made
              FROM {tables.name(FORECAST_TABLE)} s
              WHERE s.cm_track_id IS NOT NULL AND {among} GROUP BY 1) f
        WHERE NOT EXISTS (
            SELECT FROM {tables.name(HISTORY.name)} h JOIN {tables.name(RUNS.name)} r ON r.id = h.run_id
            WHERE h.cm_track_id = f.id AND h.months IS NOT NULL
              AND ({near} OR r.outcome = '{IMPORTED}' AND f.made <= r.started_at))""")
    return found["id"].cast(pl.Int64).sort()


def _recorded_runs(source: Source) -> str:
    """SQL: all runs: run, started (day in UTC, since 1970), age_from, is_imported, is_whole, horizon."""
    return f"""
        SELECT id AS run, {epoch_day("(started_at AT TIME ZONE 'UTC')::date")} AS started,
               parameters #>> '{{parameters,age_from}}' AS age_from, outcome = '{IMPORTED}' AS is_imported,
               coalesce(parameters ->> 'replace' = 'true' AND parameters ->> 'limit' IS NULL
                        AND parameters -> 'track_ids' = '[]', false) AS is_whole, horizon::bigint AS horizon
        FROM {source.tables.name(RUNS.name)}"""


def _recorded(runs: pl.DataFrame) -> str:
    if runs.is_empty():
        return "no run is recorded"
    ordered = runs.sort("run").select("run", "started")
    (first, since), (last, until) = ordered.row(0), ordered.row(-1)
    return f"recorded are runs {first} to {last}, from {since} to {until}"


def _forecasts_of(tracks: pl.Series | None) -> str:
    """SQL condition: a row is a forecast, of one of the tracks."""
    among = "" if tracks is None else f" AND cm_track_id = ANY ({integer_array(tracks)})"
    return f"months IS NOT NULL{among}"


def _as_of(imported: pl.Series, as_of: date | None) -> str:
    """SQL expression: the as-of date of a row; `as_of`, if it is given, in the runs that are imported."""
    if as_of is None:
        return "as_of"
    return f"CASE WHEN run_id = ANY ({integer_array(imported)}) THEN DATE '{as_of}' ELSE as_of END"
