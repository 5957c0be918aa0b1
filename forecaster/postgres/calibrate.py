"""Calibrate on the tables of a database: batch by batch, and store the record."""

from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.past import PastSums
from forecaster.postgres import statements
from forecaster.postgres.calibrations import check_calibrations, store_calibration
from forecaster.postgres.catalogue import Source, open_source, slices
from forecaster.postgres.connection import commit, connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rights import check_rights
from forecaster.postgres.server import check_writable
from forecaster.postgres.tables import read_tables
from forecaster.process.signals import both
from forecaster.run.calibrating import BATCH, Calibrating, calibrated, last_day, sums_of
from forecaster.tables import CALIBRATIONS, MLDR_TABLE, STREAMS_TABLE

if TYPE_CHECKING:
    from forecaster.run.report import Report


def calibrate(dsn: Dsn, schema: str, asked: Calibrating, report: "Report") -> tuple[Calibration, bool]:
    """Calibrate on all tracks, and store the record; also return whether it was not there before.

    Raises `CalibrationError` without a record to learn from, `SchemaMismatchError` for tables that do not
    fit, `DatabaseError` for rights that are missing.
    """
    with report.stages.stage("connect"):
        _check_target(dsn, schema)
    with open_source(dsn, schema, needed=(STREAMS_TABLE, MLDR_TABLE)) as source:
        with report.stages.stage("connect"):
            as_of, tracks = last_day(asked, asked.as_of or source.last_day()), source.tracks()
        report.pending = len(tracks)
        sums = _summed(source, tracks, as_of, asked, report)
    calibration = calibrated(sums, asked, as_of, report.stages)
    with report.stages.stage("write"):
        return calibration, store(dsn, schema, calibration)


def store(dsn: Dsn, schema: str, calibration: Calibration) -> bool:
    """Store a calibration in the tables of a schema; return whether it was not there before."""
    _check_target(dsn, schema)
    with connect(dsn) as connection:
        is_new = store_calibration(connection, read_tables(connection, schema), calibration)
        commit(connection)
    return is_new


def _check_target(dsn: Dsn, schema: str) -> None:
    """Raise what would prevent a calibration from being stored."""
    with connect(dsn) as connection:
        check_writable(connection)
        tables = read_tables(connection, schema)
        check_calibrations(partial(query, connection), tables)
        check_rights(connection, tables, {CALIBRATIONS.name: ("SELECT", "INSERT")})


def _summed(source: Source, tracks: pl.Series, as_of: date, asked: Calibrating, report: "Report") -> PastSums:
    """Sum up all tracks. While some are summed up, the next are read: memory holds both."""
    mldr = source.read(statements.all_rates(source.tables))
    rates = mldr.with_columns(pl.col("created_at").cast(pl.Datetime("us", "UTC"))).lazy()
    sums = PastSums.none()

    def read(batch: pl.Series) -> pl.DataFrame:
        with report.stages.stage("read") as stage:
            stage.count = len(batch)
            return source.days(batch).filter(pl.col("date") <= as_of).sort("cm_track_id", "date")

    def sum_up(days: pl.DataFrame, number: int) -> PastSums:
        with report.stages.stage("origins") as stage:
            stage.count = number
            return sums_of(days, rates, asked, as_of)

    batches = slices(tracks, BATCH)
    days = read(batches[0])
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        add = partial(sum_up, days, len(batch))
        if following is None:
            return sums + add()
        more, days = both(add, partial(read, following), cancel=source.cancel)
        sums += more
    return sums
