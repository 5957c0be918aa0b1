"""Forecast with a calibration: the steps of the calibrated model, and its mean with the production model."""

from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import polars as pl

from forecaster.errors import InvalidOptionError
from forecaster.model import Checkpoint, build_tracks
from forecaster.model.calibrated.rates import GROUP_STARTS
from forecaster.model.eligibility import REASONS, first_reason
from forecaster.model.features import WEEK, track_features, with_level
from forecaster.model.parameters import LEVELS, Parameters
from forecaster.model.projection import own_decay, project, project_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forecaster.model.calibrated.calibration import Calibration
    from forecaster.model.calibrated.uncertainty import Errors
    from forecaster.model.eligibility import Reason

_NEEDLESS = ("no_mldr", "too_young")


@dataclass(frozen=True)
class Model:
    """What forecasts are made with: a calibration, the weight of the calibrated model, and the level.

    Raises `InvalidOptionError` on creation if a value cannot be used.
    """

    calibration: "Calibration"
    weight: float = 1.0
    """Weight of the calibrated forecast in the geometric mean with that of the production model: 1 is the
    calibrated model alone, 0 the production model."""
    level: int = WEEK
    """Days whose mean both start from: 7 or 30."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise InvalidOptionError(f"the weight is {self.weight!r}: expected 0 to 1")
        if self.level not in LEVELS:
            raise InvalidOptionError(f"level is {self.level!r}: expected 7 or 30 days")

    def using(self, level: int | None) -> "Model":
        """Return the same model with another level."""
        return replace(self, level=level) if level else self

    @property
    def needs_mldr(self) -> bool:
        """Whether MLDRs make a difference."""
        return self.weight < 1

    @property
    def errors(self) -> "Errors":
        """The error figures of these forecasts."""
        return self.calibration.errors_of(self.weight, self.level)

    def parameters(self, parameters: Parameters, /) -> Parameters:
        """Return the parameters with this level and one as-of day: by default that of the calibration.

        Raises `InvalidOptionError` for a day before that of the calibration, which knows later days.
        """
        as_of = parameters.as_of or self.calibration.as_of
        self.calibration.check_day(as_of)
        return replace(parameters, as_of=as_of, level=self.level)

    def tracks(
        self,
        records: pl.LazyFrame,
        facts: pl.LazyFrame,
        mldr: pl.LazyFrame,
        parameters: Parameters,
        /,
        *,
        checkpoint: Checkpoint = lambda _stage, frame: frame,
    ) -> pl.LazyFrame:
        """Compute one row per track, like `forecaster.model.build_tracks`; adds level and age_group (0 to 2).

        `records` (with days) and `facts` know only the days up to the as-of day. With a weight below 1 an
        artist without an MLDR has 0 (with a weight of 0: none, so that its tracks get no forecast).
        """
        parameters = self.parameters(parameters)
        if self.weight < 1:
            rate = None if self.weight == 0 else 0.0
            tracks = build_tracks(records, facts, mldr, parameters, checkpoint=checkpoint, missing_mldr=rate)
        else:
            tracks = self._alone(records, facts, parameters, checkpoint)
        return tracks.with_columns(age_group=age_group())

    def project(self, tracks: pl.LazyFrame, /, *, horizon: int) -> pl.LazyFrame:
        """Forecast the months of tracks that get a forecast, like `forecaster.model.projection.project`."""
        if self.weight == 0:
            return project(tracks, horizon=horizon, level=self.level)
        decays = self.calibration.decays(horizon=horizon)
        cell = pl.col("age_group") * horizon + pl.col("month") - 1
        ours = pl.lit(pl.Series([*chain.from_iterable(decays)])).gather(cell)
        if self.weight == 1:
            return project_by(ours, tracks, horizon=horizon, level=self.level, has_own=False)
        decay = self.weight * ours + (1 - self.weight) * own_decay()
        return project_by(decay, tracks, horizon=horizon, level=self.level)

    def _alone(
        self, records: pl.LazyFrame, facts: pl.LazyFrame, parameters: Parameters, checkpoint: Checkpoint
    ) -> pl.LazyFrame:
        features = track_features(records, facts, age_from=parameters.age_from, as_of=parameters.as_of)
        tracks = (
            checkpoint("features", with_level(features, records, level=self.level))
            .with_columns(pl.col("months_since_release").clip(lower_bound=0))  # as young as a track can be
            .with_columns(reason=first_reason(_reasons()))
            .sort("cm_track_id")
        )
        return checkpoint("fit", tracks)


def _reasons() -> "Mapping[str, Reason]":
    """Select the reasons of the calibrated model alone, which needs neither an MLDR nor a month of days."""
    return {name: reason for name, reason in REASONS.items() if name not in _NEEDLESS}


def age_group() -> pl.Expr:
    """Return the age group: 0 before 6 months since release, 1 before 12, then 2; NULL without an age."""
    months = pl.col("months_since_release")
    return pl.sum_horizontal((months >= start).cast(pl.Int64) for start in GROUP_STARTS)
