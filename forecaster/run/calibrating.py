"""What to calibrate, and the last steps, which are the same for a database and for files."""

import pickle
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Generic, NamedTuple, Protocol, TypeVar

import polars as pl

from forecaster.errors import CalibrationError
from forecaster.model.calibrated.calibrate import RowsAsked, calibration_from
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.past import PastSums
from forecaster.model.calibrated.records import KnownRecords
from forecaster.model.parameters import AgeFrom
from forecaster.run.report import Subject
from forecaster.run.stages import Stages
from forecaster.scoring.calibrating import ORIGINS, last_day, sums_of_known

Batch = TypeVar("Batch")
Batch_contra = TypeVar("Batch_contra", contravariant=True)

BATCH = 2_500
"""Tracks that are summed up at once."""


@dataclass(frozen=True)
class Calibrating:
    """What to calibrate."""

    as_of: date | None = None
    """The last day that counts; None: the newest day of the catalogue."""
    rows: RowsAsked = "auto"
    age_from: AgeFrom = "release"
    origins: int = ORIGINS
    """Number of days of the past to forecast from, 30 days apart."""

    def last_day(self, newest: date | None, /) -> date:
        """Return the last day that counts; `newest`: the last day with a record.

        Raises `CalibrationError` like `forecaster.scoring.calibrating.last_day`.
        """
        return last_day(self.as_of, newest)


def sums_of(
    known: KnownRecords,
    mldr: pl.LazyFrame,
    asked: Calibrating,
    as_of: date,
    /,
    *,
    onto: PastSums | None = None,
) -> PastSums:
    """Sum up the past of some tracks, from their records up to `as_of`; `onto`: see `sums_of_known`."""
    return sums_of_known(known, mldr, as_of=as_of, origins=asked.origins, onto=onto)


class Past(Protocol[Batch_contra]):
    """Reads some tracks of a catalogue, and sums up their past."""

    def __call__(self, batch: Batch_contra, stages: Stages, /) -> PastSums:
        """Sum up the tracks of a batch."""
        ...


class Packed(NamedTuple):
    """The sums of a batch as a worker sends them: mostly zeros, which take little space."""

    sums: bytes
    seconds: dict[str, float]
    """In each stage."""


@dataclass(frozen=True)
class InWorker(Generic[Batch]):
    """Sums up a batch in another process."""

    past: Past[Batch]

    def __call__(self, batch: Batch, /) -> Packed:
        """Sum up the tracks of a batch, and pack the sums."""
        stages = Stages(announced=False)
        sums = self.past(batch, stages)
        return Packed(zlib.compress(pickle.dumps(sums), level=1), stages.seconds)


def added_up(results: Iterable[tuple[int, Packed]], stages: Stages, /) -> PastSums:
    """Add up what workers send; each with the number of tracks or buckets in its batch."""
    sums = PastSums.none()
    for count, packed in results:
        sums = sums.take(pickle.loads(zlib.decompress(packed.sums)))  # noqa: S301 - from a worker, as by Dask itself
        stages.add(packed.seconds, count)
    return sums


def calibrated(sums: PastSums, asked: Calibrating, as_of: date, stages: Stages, /) -> Calibration:
    """Make the calibration from the sums over all tracks. Raises `CalibrationError` without a track."""
    if sums.first_day is None:
        raise CalibrationError(f"there is no record up to {as_of}", hint="choose a later day")
    with stages.stage("fit"):
        return calibration_from(sums, as_of=as_of, rows=asked.rows)


CALIBRATION = Subject(
    "tracks", "cm_track_id", "calibrated", pl.Schema(), ("connect", "read", "origins", "fit", "write")
)
"""The subject of a report that follows it."""
