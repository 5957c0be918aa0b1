"""Find what stored forecasts were made with, and how far off such forecasts are."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from forecaster.errors import CalibrationError
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.uncertainty import Errors, prior_errors
from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.postgres.calibrations import (
    check_calibrations,
    newest_calibration,
    read_calibration,
    read_calibrations,
)
from forecaster.postgres.catalogue import Source
from forecaster.postgres.connection import integer_array
from forecaster.postgres.statements import microseconds
from forecaster.tables import CALIBRATIONS, RUNS

_ONE_PERCENT = 0.01
_ONE_SECOND = "1s"  # a column may hold instants to the second only
_MADE = ("weight", "level", "calibration", "of_others")
_MADE_WITH = f"""
    SELECT r.id AS run, {microseconds("r.started_at")} AS started,
           (r.parameters #>> '{{{{parameters,weight}}}}')::double precision AS weight,
           (r.parameters #>> '{{{{parameters,level}}}}')::bigint AS level,
           coalesce(r.parameters #>> '{{{{parameters,calibration}}}}', r.parameters ->> 'intervals')
               AS calibration,
           coalesce(r.parameters -> 'intervals' = 'null', false) AS of_others
    FROM {{runs}} r"""
_RECORDED = pl.Schema(
    {
        "started": pl.Datetime("us", "UTC"),
        "weight": pl.Float64(),
        "level": pl.Int64(),
        "calibration": pl.String(),
        "of_others": pl.Boolean(),
    }
)


@dataclass(frozen=True)
class StoredWith:
    """What forecasts were made with. By default the production model from 30 days, without a calibration."""

    weight: float = 0.0
    """Weight of the calibrated forecast: 1 is the calibrated model, 0 the production model."""
    level: int = DAYS_PER_MONTH
    """Days whose mean they start from."""
    calibration: Calibration | None = None
    """Where the error figures are from; None: other catalogues alone."""
    of_others: bool = False
    """Whether they were stored with the ranges of other catalogues, for want of a calibration."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    is_known: bool = True
    """Whether a run recorded what they were made with; if none did, the others are those of the default."""

    @property
    def errors(self) -> Errors:
        """The error figures of these forecasts."""
        if self.calibration is None:
            return prior_errors(self.weight)
        return self.calibration.errors_of(self.weight, self.level)


def stored_with(source: Source, forecasts: pl.DataFrame, /) -> StoredWith:
    """Find what most streams of these forecasts were made with; warn if it is not what all were made with.

    `forecasts`: created_at (in UTC) and forecasted_value. The model of a forecast that no run
    recorded, or without an instant, is not known; its errors are those of the production model. A calibration
    that is not recorded is the newest one; but where a run recorded that it had none, the ranges that it
    stored count, those of other catalogues.

    Raises `CalibrationError` for a calibration that was changed, and what reading raises.
    """
    made = _weighed(forecasts, _recorded(source))
    weight, level, id_, of_others, is_known = made.select(*_MADE, "is_known").row(0)
    calibration = None if of_others else _calibration(source, id_)
    return StoredWith(weight, level, calibration, of_others, tuple(_several(made)), is_known)


def errors_of_runs(source: Source, runs: pl.Series, /) -> tuple[dict[int, Errors], list[str]]:
    """Find the error figures that the intervals of runs are from, by run; also return warnings.

    Without those of runs that stored no intervals, or whose calibration is not in its table. A run without a
    calibration took those of other catalogues. Raises what reading raises.
    """
    tables = source.tables
    among = f"r.id = ANY ({integer_array(runs)}) AND jsonb_exists(r.parameters, 'intervals')"
    made = source.read(f"{_MADE_WITH.format(runs=tables.name(RUNS.name))} WHERE {among}")
    read = dict(_calibrations(source, made["calibration"].drop_nulls()))
    stored = {id_: one for id_, one in read.items() if isinstance(one, Calibration)}
    errors = {
        run: stored[id_].errors_of(weight or 0.0, level or DAYS_PER_MONTH) if id_ else prior_errors(0.0)
        for run, _, weight, level, id_, _ in made.rows()
        if id_ is None or id_ in stored
    }
    only = "of the intervals of its runs, only those that are still stored count"
    return errors, sorted(f"{read[id_]}; {only}" for id_ in read.keys() - stored.keys())


def _calibrations(source: Source, ids: pl.Series) -> Iterator[tuple[str, Calibration | CalibrationError]]:
    tables = source.tables
    if len(ids) and CALIBRATIONS.name in tables.columns.keys() - tables.unreadable:
        check_calibrations(source.read, tables)
        yield from read_calibrations(source.read, tables, ids)


def _weighed(forecasts: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Sum the streams by what they were made with, the most first."""
    instants = forecasts.group_by("created_at").agg(streams=pl.col("forecasted_value").sum())
    default = StoredWith()
    return (
        instants.sort("created_at")
        .join_asof(
            runs.sort("started").with_columns(is_known=True),
            left_on="created_at",
            right_on="started",
            strategy="nearest",
            tolerance=_ONE_SECOND,
        )
        .with_columns(
            pl.col("weight").fill_null(default.weight),
            pl.col("level").fill_null(default.level),
            pl.col("of_others").fill_null(default.of_others),
            pl.col("is_known").fill_null(value=False),
        )
        .group_by(*_MADE, "is_known")
        .agg(pl.col("streams").sum())
        .sort("streams", *_MADE, "is_known", descending=[True, *(False for _ in _MADE), False])
    )


def _several(made: pl.DataFrame) -> Iterator[str]:
    if len(made) > 1:
        share = 1 - made["streams"][0] / made["streams"].sum() if made["streams"].sum() else 0.0
        which = "with another model or calibration"
        if not made["is_known"].all():
            which = "with another model or calibration, or not by the same recorded run"
        yield (
            f"{_percent(share)} of the streams were forecast {which}, and get the same "
            "ranges; `forecaster run --replace` makes all forecasts alike"
        )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= _ONE_PERCENT else "less than 1%"


def _recorded(source: Source) -> pl.DataFrame:
    """Read of each run: started, weight, level, calibration. Nothing if runs cannot be read."""
    if RUNS.name not in source.tables.columns or RUNS.name in source.tables.unreadable:
        return pl.DataFrame(schema=_RECORDED)
    rows = source.read(_MADE_WITH.format(runs=source.tables.name(RUNS.name)))
    return rows.select(pl.col(name).cast(kind) for name, kind in _RECORDED.items())


def _calibration(source: Source, id_: str | None) -> Calibration | None:
    tables = source.tables
    if CALIBRATIONS.name not in tables.columns or CALIBRATIONS.name in tables.unreadable:
        return None
    check_calibrations(source.read, tables)
    if id_ is not None and _is_stored(source, id_):
        return read_calibration(source.read, tables, id_)
    return newest_calibration(source.read, tables)


def _is_stored(source: Source, id_: str) -> bool:
    """Whether it is in the table: a run may have had it from a file."""
    name, literal = source.tables.name(CALIBRATIONS.name), id_.replace("'", "''")
    return len(source.read(f"SELECT 1 AS one FROM {name} WHERE id = '{literal}'")) > 0
