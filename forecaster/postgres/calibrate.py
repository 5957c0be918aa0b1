"""Calibrate on the tables of a database: batch by batch, and store the record."""

from collections.abc import Iterator
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.past import PastSums, added
from forecaster.model.calibrated.records import KnownRecords
from forecaster.model.parameters import AgeFrom
from forecaster.postgres import statements
from forecaster.postgres.calibrations import check_calibrations, store_calibration
from forecaster.postgres.catalogue import Source, open_source, slices
from forecaster.postgres.connection import commit, connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rights import check_rights
from forecaster.postgres.server import check_writable
from forecaster.postgres.tables import read_tables
from forecaster.postgres.wire import unpacked_on_days
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

    def read(batch: pl.Series) -> list[KnownRecords]:
        with report.stages.stage("read") as stage:
            stage.count = len(batch)
            return [*_known_records(source, batch, as_of, asked.age_from)]

    def sum_up(parts: list[KnownRecords], number: int) -> PastSums:
        with report.stages.stage("origins") as stage:
            stage.count = number
            return added(sums_of(part, rates, asked, as_of) for part in parts)

    batches = slices(tracks, BATCH)
    known = read(batches[0])
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        add = partial(sum_up, known, len(batch))
        if following is None:
            return sums + add()
        more, known = both(add, partial(read, following), cancel=source.cancel)
        sums += more
    return sums


def _known_records(
    source: Source, tracks: pl.Series, until: date, age_from: AgeFrom
) -> Iterator[KnownRecords]:
    """Read the records of tracks up to a day. Each track that has some is in one of the parts."""
    wire, others = source.packed_records(tracks, until), tracks
    if wire is not None:
        # What is the same for all records of a track has been sent once; else each row counts.
        regular, others = wire.filter("is_regular"), wire.filter(~pl.col("is_regular"))["cm_track_id"]
        day, streams, starts = unpacked_on_days(regular)
        yield KnownRecords.of_tracks(
            starts, day, streams, regular["artist"], regular["born"], age_from=age_from
        )
    if len(others):
        days = source.days(others).filter(pl.col("date") <= until).sort("cm_track_id", "date")
        yield KnownRecords.of(days, age_from=age_from)
