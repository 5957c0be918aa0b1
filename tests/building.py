"""Forecasts of rows that a test writes down, and what holds of all of them."""

from collections.abc import Sequence
from datetime import date
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from forecaster import Forecasts, build_forecasts
from forecaster.frames.schemas import SKIPPED
from forecaster.tables import FORECASTS
from tests import reference
from tests.catalogues import daily_frame, mldr_frame
from tests.reference import Mldr, Row

REASONS = {"no_mldr", "no_days", "too_young", "negative_streams", "several_artists"}
MLDR = [Mldr(artist, 0.05) for artist in range(1, 7)]
FIRST = date(2023, 1, 1)
OLD_ENOUGH = [10.0] * 60
"""Streams of a track that is old enough to be forecast."""


class Built(NamedTuple):
    forecasts: pl.DataFrame
    skipped: pl.DataFrame

    @property
    def reasons(self) -> dict[int, str]:
        return dict(self.skipped.select("cm_track_id", "reason").iter_rows())

    def steps(self, track: int) -> list[reference.Step]:
        rows = self.forecasts.filter(pl.col("cm_track_id") == track)
        columns = ("month", "forecasted_value", "segment_used", "time_used")
        return [reference.Step(*row) for row in rows.select(columns).iter_rows()]


def collected(built: Forecasts, *, engine: Literal["in-memory", "streaming"] = "streaming") -> Built:
    return Built(*pl.collect_all([built.forecasts, built.skipped], engine=engine))


def build(rows: Sequence[Row], mldr: Sequence[Mldr] = MLDR, **options: Any) -> Built:
    return collected(build_forecasts(daily_frame(rows), mldr_frame(mldr), **options))


def assert_partition(built: Built, tracks: set[int], *, horizon: int) -> None:
    """Every track is in exactly one of the two frames, in order and with all its months."""
    assert tuple(built.forecasts.columns) == FORECASTS.given_names
    assert built.skipped.schema == SKIPPED
    # One line per track.
    ids, months = (
        built.forecasts[column].to_numpy().reshape(-1, horizon) for column in ("cm_track_id", "month")
    )
    assert (ids == ids[:, :1]).all()
    assert (months == np.arange(1, horizon + 1)).all()
    forecast, skipped = ids[:, 0].tolist(), built.skipped["cm_track_id"].to_list()
    assert (forecast, skipped) == (sorted(forecast), sorted(skipped))
    assert sorted([*forecast, *skipped]) == sorted(tracks)
    assert set(built.skipped["reason"]) <= REASONS
