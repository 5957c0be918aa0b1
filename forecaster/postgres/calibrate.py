"""Calibrate on the tables of a database: batch by batch, and store the record."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.past import PastSums
from forecaster.model.calibrated.records import KnownRecords
from forecaster.postgres.calibrations import check_calibrations, store_calibration
from forecaster.postgres.catalogue import Source, open_source, slices
from forecaster.postgres.connection import commit, connect, query
from forecaster.postgres.dsn import Dsn, with_own_password
from forecaster.postgres.readers import CONNECTIONS
from forecaster.postgres.rights import check_rights
from forecaster.postgres.server import check_writable
from forecaster.postgres.tables import read_tables
from forecaster.postgres.wire import unpacked_on_days
from forecaster.process.signals import both
from forecaster.run.calibrating import (
    BATCH,
    Calibrating,
    InWorker,
    added_up,
    calibrated,
    sums_of,
)
from forecaster.run.engines.dask import Dask
from forecaster.tables import CALIBRATIONS, MLDR_TABLE, STREAMS_TABLE

if TYPE_CHECKING:
    from forecaster.run.report import Report
    from forecaster.run.stages import Stages

_CONNECTIONS_AT_ONCE = 48  # limit for all workers together, as of a run
_PER_BATCH = CONNECTIONS + 2  # one reads the rates; the rows take some of their own, and one asks for columns


def calibrate(
    dsn: Dsn, schema: str, asked: Calibrating, report: "Report", /, *, workers: Dask | None = None
) -> tuple[Calibration, bool]:
    """Calibrate on all tracks, and store the record; also return whether it was not there before.

    `workers`: who sums up the tracks; None: this process. Raises `CalibrationError` without a record to learn
    from, `SchemaMismatchError` for tables that do not fit, `DatabaseError` for rights that are missing, and
    what the engine raises.
    """
    with report.stages.stage("connect"):
        _check_target(dsn, schema)
    with open_source(dsn, schema, needed=(STREAMS_TABLE, MLDR_TABLE)) as source:
        with report.stages.stage("connect"):
            as_of, tracks = asked.last_day(source.last_day()), source.tracks()
        report.pending = len(tracks)
        past = _PastOfTracks(source, asked, as_of)
        if workers is None:
            sums = _summed(past, tracks, report.stages)
        else:
            sums = _summed_elsewhere(past, tracks, report.stages, workers)
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


@dataclass(frozen=True)
class _PastOfTracks:
    """Sums up the past of tracks. Without the connections of this process, it is sent to workers."""

    source: Source
    asked: Calibrating
    as_of: date

    def read(self, tracks: pl.Series, stages: "Stages") -> list[KnownRecords]:
        """Read the records of tracks up to the as-of day. Each track that has some is in one of the parts."""
        with stages.stage("read") as stage:
            stage.count = len(tracks)
            return [*self._parts(tracks)]

    def _parts(self, tracks: pl.Series) -> Iterator[KnownRecords]:
        age_from, others = self.asked.age_from, tracks
        wire = self.source.packed_records(tracks, self.as_of)
        if wire is not None:
            # What is the same for all records of a track has been sent once; else each row counts.
            said_once, others = wire.filter("is_regular"), wire.filter(~pl.col("is_regular"))["cm_track_id"]
            day, streams, starts = unpacked_on_days(said_once)
            artist, born = said_once["artist"], said_once["born"]
            yield KnownRecords.of_tracks(starts, day, streams, artist, born, age_from=age_from)
        if len(others):
            days = self.source.days(others).filter(pl.col("date") <= self.as_of)
            yield KnownRecords.of(days.sort("cm_track_id", "date"), age_from=age_from)

    def add(
        self, sums: PastSums, known: list[KnownRecords], rates: pl.LazyFrame, stages: "Stages", number: int
    ) -> PastSums:
        """Sum up the records of so many tracks, and add that to `sums`, which the result replaces."""
        with stages.stage("origins") as stage:
            stage.count = number
            for part in known:
                sums = sums_of(part, rates, self.asked, self.as_of, onto=sums)
        return sums

    def __call__(self, tracks: pl.Series, stages: "Stages", /) -> PastSums:
        """Read and sum up, in a worker, which has the password in its environment."""
        with replace(self.source, dsn=with_own_password(self.source.dsn)).connected() as source:
            here = replace(self, source=source)
            return here.add(
                PastSums.none(), here.read(tracks, stages), source.every_mldr(), stages, len(tracks)
            )


def _summed(past: _PastOfTracks, tracks: pl.Series, stages: "Stages") -> PastSums:
    """Sum up all tracks. While some are summed up, the next are read: memory holds both."""
    rates, sums = past.source.every_mldr(), PastSums.none()
    batches = slices(tracks, BATCH)
    known = past.read(batches[0], stages)
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        add = partial(past.add, sums, known, rates, stages, len(batch))
        if following is None:
            return add()
        sums, known = both(add, partial(past.read, following, stages), cancel=past.source.cancel)
    return sums


def _summed_elsewhere(past: _PastOfTracks, tracks: pl.Series, stages: "Stages", workers: Dask) -> PastSums:
    """Let workers read and sum up all tracks, in the snapshot of this process."""
    dsn = past.source.dsn
    there = replace(past, source=replace(past.source, dsn=replace(dsn, password=None), readers=None))
    results = workers.results(
        InWorker(there),
        slices(tracks, BATCH),
        secrets=(("PGPASSWORD", dsn.password),) if dsn.password else (),
        at_once=_CONNECTIONS_AT_ONCE // _PER_BATCH,
    )
    return added_up(((len(batch), packed) for batch, packed in results), stages)
