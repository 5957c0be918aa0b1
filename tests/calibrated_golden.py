"""The golden files of the calibrated model, which a scalar implementation of its page has made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import polars as pl

from forecaster import Calibration, calibrate
from forecaster.model.parameters import Parameters
from forecaster.run.config import RunConfig
from tests.tables import GOLDEN, golden_streams

CUTOFFS = (date(2022, 7, 1), date(2022, 10, 1), date(2023, 1, 1))
TRACKS = 250
FEW = (*range(1, 25), 26, 92, 114, 125, 180, 202)
"""Tracks for the smallest parts, with all that are less than a month old at the last cutoff."""
NEAR = 1e-9
"""Relative difference that is allowed."""


@dataclass(frozen=True)
class Case:
    """A cutoff, and a way to cut the catalogue."""

    cutoff: date
    size: int
    """Tracks in a batch, or in a bucket on average."""
    ids: tuple[int, ...] = ()
    """Only these tracks; empty: all."""

    def __str__(self) -> str:
        return f"{self.size}"

    @property
    def buckets(self) -> int:
        return -(-(len(self.ids) or TRACKS) // self.size)

    @property
    def config(self) -> RunConfig:
        """A run as of the day before the cutoff."""
        parameters, made = Parameters(as_of=self.cutoff - timedelta(1)), calibration_at(self.cutoff)
        return RunConfig(model="calibrated", calibration=made, parameters=parameters, ids=self.ids)

    def check(self, stored: pl.DataFrame) -> None:
        """These rows are those of the file, and no others, rounded to whole streams."""
        assert_golden(stored, golden_at(self.cutoff, self.ids))


CASES = (Case(CUTOFFS[0], TRACKS), Case(CUTOFFS[1], 100), Case(CUTOFFS[2], 7), Case(CUTOFFS[2], 1, FEW))
"""Every row of the file, and parts of 1, 7 and 100 tracks and of all."""


@cache
def calibration_at(cutoff: date) -> Calibration:
    """Made of the days before the cutoff."""
    return calibrate(golden_streams().lazy(), as_of=cutoff - timedelta(1), origins=0)


def golden_at(cutoff: date, ids: Sequence[int] = ()) -> pl.DataFrame:
    """The forecasts of every track with a record before the cutoff, however young it was."""
    rows = pl.read_parquet(GOLDEN / "calibrated_forecasts.parquet").filter(cutoff=cutoff)
    return rows.filter(pl.col("cm_track_id").is_in(ids) | (not ids)).sort("cm_track_id", "month")


def assert_golden(stored: pl.DataFrame, expected: pl.DataFrame) -> None:
    """These rows, in order, are those of the file, rounded to whole streams."""
    key = pl.col("cm_track_id", "month").cast(pl.Int64)
    assert len(expected)
    assert stored.select(key).equals(expected.select(key))
    low, high = ((expected["forecasted_value"] * (1 + off)).round() for off in (-NEAR, NEAR))
    assert stored["forecasted_value"].is_between(low, high).all()
