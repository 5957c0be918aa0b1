"""How sure each stored forecast is: the intervals that are stored with it, else computed ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import polars as pl

from forecaster.model.calibrated.uncertainty import Errors, with_quantiles
from forecaster.postgres.catalogue import Source
from forecaster.postgres.intervals import intervals, intervals_of_runs
from forecaster.postgres.stored_with import errors_of_runs, stored_with
from forecaster.scoring.totals import factors_of
from forecaster.tables import INTERVALS, QUANTILES


def with_bounds(source: Source, forecasts: pl.DataFrame, /) -> tuple[pl.DataFrame, list[str]]:
    """Add `QUANTILES` to stored forecasts (columns of `STORED_FORECASTS`); also return warnings.

    A track without stored intervals gets those of the model that it was forecast with.
    """
    if forecasts.is_empty():
        return forecasts.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in QUANTILES), []
    stored = stored_bounds(source, forecasts["cm_track_id"].unique())
    joined = forecasts.join(stored, on=["cm_track_id", "month"], how="left", maintain_order="left")
    lacks = pl.col(QUANTILES[0]).is_null()
    if not joined.select(lacks.any()).item():
        return joined, []
    made_with = stored_with(source, forecasts)
    computed = with_quantiles(
        forecasts.lazy(),
        made_with.errors,
        horizon=int(forecasts["month"].max()),  # type: ignore[arg-type]
    ).select(QUANTILES)
    filled = joined.with_columns(
        pl.when(lacks).then(computed.collect()[name]).otherwise(pl.col(name)).alias(name)
        for name in QUANTILES
    )
    return filled, list(made_with.warnings)


def stored_bounds(source: Source, tracks: pl.Series) -> pl.DataFrame:
    """Read the intervals of stored forecasts: cm_track_id, month, `QUANTILES`; nothing if they are hidden."""
    rows = _BY_TRACK.clear()
    if _is_readable(source):
        rows = source.read(intervals(source.tables, tracks))
    return _by_month(rows).drop("run", strict=False)


@dataclass(frozen=True)
class BoundsOfRuns:
    """How sure forecasts in the history were: the intervals of their run, as far as it had some."""

    stored: pl.DataFrame
    """Those that have not been replaced since: run, cm_track_id, and lists of months in `QUANTILES`."""
    errors: Mapping[int, Errors]
    """By run: what the others follow from again, with the calibration that the run names."""
    warnings: Sequence[str]

    @classmethod
    def of(cls, source: Source, runs: pl.Series) -> Self:
        """Read them."""
        is_there = _is_readable(source)
        stored = source.read(intervals_of_runs(source.tables, runs)) if is_there else _BY_TRACK.clear()
        return cls(stored, *errors_of_runs(source, runs))

    def added(self, months: pl.DataFrame) -> pl.DataFrame:
        """Add `QUANTILES` to months of `forecast_months`; NULL where their run had no intervals."""
        runs = months["run"].unique()
        stored = self.stored.filter(pl.col("run").is_in(runs.implode()))
        if stored.is_empty() and not self.errors.keys() & {*runs}:
            return months
        computed = pl.concat(
            (self._computed(part, run) for (run,), part in months.partition_by("run", as_dict=True).items()),
            how="diagonal",
        )
        names = {name: f"{name}_stored" for name in QUANTILES}
        months_of = _by_month(stored).rename(names)
        both = computed.join(months_of, on=["run", "cm_track_id", "month"], how="left", maintain_order="left")
        return both.with_columns(pl.coalesce(names[name], name).alias(name) for name in QUANTILES).drop(
            names.values()
        )

    def factors(self, whole: Mapping[int, int]) -> pl.DataFrame | None:
        """Return the quantiles of the totals of runs of the whole catalogue, as an evaluation takes them.

        `whole`: months by run. None without any.
        """
        parts = [
            factors_of(self.errors[run], horizon=horizon).with_columns(run=pl.lit(run, pl.Int64))
            for run, horizon in whole.items()
            if run in self.errors
        ]
        return pl.concat(parts).with_columns(cutoff=pl.lit(None, pl.Date)) if parts else None

    def _computed(self, months: pl.DataFrame, run: int) -> pl.DataFrame:
        if run not in self.errors:
            return months.with_columns(pl.lit(None, pl.Float64).alias(name) for name in QUANTILES)
        horizon = int(months["month"].max())  # type: ignore[arg-type]
        return with_quantiles(months.lazy(), self.errors[run], horizon=horizon).collect()


_BY_TRACK = pl.DataFrame(
    schema={"run": pl.Int64, "cm_track_id": pl.Int64} | dict.fromkeys(QUANTILES, pl.List(pl.Float32))
)


def _is_readable(source: Source) -> bool:
    """Whether there is a table of intervals that fits, and that this user may read."""
    tables = source.tables
    fits = all(tables.fits(INTERVALS.name, one.name) for one in INTERVALS.columns)
    return fits and INTERVALS.name not in tables.unreadable


def _by_month(rows: pl.DataFrame) -> pl.DataFrame:
    """Return one row per track and month, in place of lists of months."""
    months = pl.int_ranges(1, pl.col(QUANTILES[0]).list.len().cast(pl.Int64) + 1)
    keys = [name for name in ("run", "cm_track_id") if name in rows.columns]
    return (
        rows.select(*keys, *QUANTILES, month=months)
        .filter(pl.col("month").list.len() > 0)
        .explode("month", *QUANTILES)
        .with_columns(pl.col(QUANTILES).cast(pl.Float64))
        .unique([*keys, "month"])
    )
