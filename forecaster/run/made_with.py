"""What the forecasts of a run are made with: the model, its calibration, the as-of day, the error figures."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl

from forecaster.frames.collecting import collect
from forecaster.model import build_tracks
from forecaster.model.calibrated.uncertainty import Errors, with_quantiles
from forecaster.model.parameters import DAYS_PER_MONTH, Parameters, model_name
from forecaster.model.projection import project
from forecaster.run.batch import History
from forecaster.run.plausible import Observed, Some
from forecaster.run.stages import Stages
from forecaster.tables import QUANTILES

if TYPE_CHECKING:
    from forecaster.model.calibrated.forecast import Model

PRODUCTION = "production"
"""The name of the model that needs no calibration."""
_EXACT = "exact_value"


def day_of(calibration: str) -> date:
    """Return the last day that a calibration knows, with which its id begins."""
    return date.fromisoformat(calibration[:10])


def unlike(calibration: str, calibrated: int, /, *, tracks: int, newest: date | None) -> Iterator[str]:
    """Warn of a calibration of so many `calibrated` tracks that does not seem to be of this catalogue.

    `tracks`: those of the catalogue; `newest`: the last day with a record.
    """
    advice = "`forecaster calibrate` makes one of this catalogue"
    if newest and day_of(calibration) > newest:
        yield f"calibration {calibration} knows days after the newest day {newest}: {advice}"
    if 2 * min(calibrated, tracks) < max(calibrated, tracks):
        yield f"calibration {calibration} is of {calibrated:,} tracks, and there are {tracks:,}: {advice}"


@dataclass(frozen=True)
class MadeWith:
    """By default, the production model without intervals."""

    parameters: Parameters = field(default_factory=Parameters)
    """With one as-of date for all tracks, if there is a `model`."""
    model: "Model | None" = None
    """With its calibration; None: the production model alone."""
    is_past: bool = False
    """Whether there may be days after the as-of date, which do not count."""
    errors: Errors | None = None
    """Error figures that intervals are made from; None: no intervals."""
    calibration: str | None = None
    """Id of the calibration that the model or the error figures are from; None: the figures of others."""
    calibrated: int = 0
    """The number of tracks that it is of."""

    @property
    def name(self) -> str:
        """The name of the model."""
        return model_name(self.model.weight if self.model else 0.0)

    @property
    def needs_days(self) -> bool:
        """Whether the model must know the days of the records."""
        return self.model is not None or self.parameters.level != DAYS_PER_MONTH

    @property
    def needs_mldr(self) -> bool:
        """Whether MLDRs make a difference."""
        return self.model is None or self.model.needs_mldr

    @property
    def until(self) -> date | None:
        """The last day of which records and MLDRs count; None: all of them."""
        return self.parameters.as_of if self.model and self.is_past else None

    @property
    def recorded(self) -> dict[str, object]:
        """What a record of the run says of the model: nothing of the production model."""
        if self.model is None:
            return {}
        return {
            "model": self.name,
            "calibration": self.calibration,
            "weight": self.model.weight,
            "level": self.model.level,
        }

    @property
    def asked(self) -> dict[str, object]:
        """What results depend on in addition to the parameters: nothing for the production model alone."""
        return {**self.recorded, **({"intervals": self.calibration} if self.errors else {})}

    def remarks(self, seen: Observed, /) -> Iterator[str]:
        """Warn of a calibration that is not of the whole catalogue that a run has seen."""
        is_as_of = self.is_past or (self.model is None and self.parameters.as_of is not None)
        if self.calibration is not None and not is_as_of:
            number = seen.tracks - seen.ends.get(None, Some()).number
            last = max((day for day in seen.ends if day is not None), default=None)
            newest = None if last is None else date(1970, 1, 1) + timedelta(last)
            yield from unlike(self.calibration, self.calibrated, tracks=number, newest=newest)

    def tracks(self, history: History, stages: Stages, /) -> pl.LazyFrame:
        """Compute one row per track: everything that decides its forecast, or its reason for having none."""
        given = (history.records, history.facts, history.mldr, self.parameters)
        if self.model is None:
            return build_tracks(*given, checkpoint=stages.checkpoint)
        tracks = self.model.tracks(*given, checkpoint=stages.checkpoint)
        return tracks if self.needs_mldr else tracks.with_columns(mldr=pl.lit(None, dtype=pl.Float64))

    def project(self, tracks: pl.LazyFrame, /) -> pl.LazyFrame:
        """Forecast the months of tracks that get a forecast."""
        horizon = self.parameters.horizon
        if self.model is None:
            return project(tracks, horizon=horizon, level=self.parameters.level)
        return self.model.project(tracks, horizon=horizon)

    @property
    def exact(self) -> list[pl.Expr]:
        """What `intervals` need of forecasts in addition, which are rounded."""
        return [pl.col("forecasted_value").alias(_EXACT)] if self.errors else []

    def intervals(self, rows: pl.DataFrame, /) -> pl.DataFrame:
        """Compute the intervals of forecasts with their `exact` value: one row per track, with lists.

        `rows`: whole tracks, ordered by track and month. Returns cm_track_id, and the columns `QUANTILES`. If
        there are none, an empty frame.
        """
        if self.errors is None:
            return pl.DataFrame()
        horizon = self.parameters.horizon
        exact = rows.lazy().with_columns(forecasted_value=pl.col(_EXACT))
        bounds = collect(
            with_quantiles(exact, self.errors, horizon=horizon).select(pl.col(QUANTILES).cast(pl.Float32))
        )
        # As many months for each track, in their order: no grouping is needed.
        lists = (bounds[name].reshape((-1, horizon)).arr.to_list() for name in QUANTILES)
        return pl.DataFrame([rows["cm_track_id"].gather_every(horizon), *lists])
