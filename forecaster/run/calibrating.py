"""What to calibrate, and the last steps, which are the same for a database and for files."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from forecaster.errors import CalibrationError
from forecaster.model.calibrated.calibrate import RowsAsked, calibration_from
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.parameters import AgeFrom
from forecaster.run.report import Subject
from forecaster.scoring.calibrating import ORIGINS, sums_of_known

if TYPE_CHECKING:
    from forecaster.model.calibrated.past import PastSums
    from forecaster.model.calibrated.records import KnownRecords
    from forecaster.run.stages import Stages

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


def last_day(asked: Calibrating, newest: date | None, /) -> date:
    """Return the last day that counts. Raises `CalibrationError` for a catalogue without a record."""
    day = asked.as_of or newest
    if day is None:
        raise CalibrationError("there is no record", hint="`forecaster load` loads daily streams")
    return day


def sums_of(known: "KnownRecords", mldr: pl.LazyFrame, asked: Calibrating, as_of: date, /) -> "PastSums":
    """Sum up the past of some tracks, from their records up to `as_of`."""
    return sums_of_known(known, mldr, as_of=as_of, origins=asked.origins)


def calibrated(sums: "PastSums", asked: Calibrating, as_of: date, stages: "Stages", /) -> Calibration:
    """Make the calibration from the sums over all tracks. Raises `CalibrationError` without a track."""
    if sums.first_day is None:
        raise CalibrationError(f"there is no record up to {as_of}", hint="choose a later day")
    with stages.stage("fit"):
        return calibration_from(sums, as_of=as_of, rows=asked.rows)


CALIBRATION = Subject(
    "tracks", "cm_track_id", "calibrated", pl.Schema(), ("connect", "read", "origins", "fit", "write")
)
"""The subject of a report that follows it."""
