"""The forecast of one track with every number that it follows from. Nothing is stored."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model import build_tracks, forecastable
from forecaster.model.calibrated.forecast import Model
from forecaster.model.calibrated.uncertainty import Errors, prior_errors, with_quantiles
from forecaster.model.eligibility import REASONS
from forecaster.model.features import WEEK, looks_ahead
from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.model.projection import project, start_of
from forecaster.model.segments import SEGMENT_STARTS, base_rate
from forecaster.postgres.catalogue import Source, open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.made_with import find_made_with
from forecaster.postgres.uncalibrated import takes_no_calibration
from forecaster.run.config import RunConfig
from forecaster.run.made_with import MadeWith
from forecaster.tables import FORECASTS, QUANTILES

_AT_ONCE = 500  # pending tracks read at once when searching for one that can be forecast


@dataclass(frozen=True)
class Diagnosis:
    """The forecast of one track, and the numbers that it follows from."""

    track: Mapping[str, Any]
    """The row of the track from `build_tracks`."""
    forecasts: pl.DataFrame
    """One row per month: `forecasted_value` and the quantiles are rounded to whole streams."""
    rates: tuple[tuple[float, float], ...]
    """For each lifecycle segment the base rate, and the base rate x multiplier; both per month."""
    history: pl.DataFrame
    """One row per day with a record, in order: date, daily_streams."""
    model: Model | None = None
    """The model, with its calibration; None: the production model."""
    errors: Errors = field(default_factory=lambda: prior_errors(0.0))
    """The error figures behind the intervals."""
    calibration: str | None = None
    """Id of the calibration that they are from; None: other catalogues."""
    remarks: Sequence[str] = ()
    """Warnings about the calibration."""

    @property
    def warnings(self) -> list[str]:
        """Warnings about the calibration, and about streams after the as-of date."""
        ahead = int(self.track["as_of"] < self.track["last_date"])
        return [*self.remarks, *looks_ahead(ahead, self.track["as_of"])]

    @property
    def level_days(self) -> int:
        """Days whose mean the forecast starts from: 7 or 30."""
        if self.model:
            return self.model.level
        return WEEK if "level" in self.track else DAYS_PER_MONTH

    @property
    def is_production(self) -> bool:
        """Whether the production model has a part in the forecast."""
        return self.model is None or self.model.weight < 1

    @property
    def is_calibrated(self) -> bool:
        """Whether the calibrated model has a part in the forecast."""
        return self.model is not None and self.model.weight > 0


def diagnose(dsn: Dsn, schema: str, config: RunConfig, track_id: int | None) -> Diagnosis:
    """Forecast one track as a run would; without an id, the first pending track that can be forecast.

    Raises `NoForecastError` with the reason if no forecast is possible, and what `find_made_with` and reading
    raise.
    """
    with open_source(dsn, schema) as source:
        reader = _Reader(source, *_found(source, config))
        if track_id is None:
            return reader.first_forecastable()
        if source.tracks([track_id]).is_empty():
            raise NoForecastError(
                f"track {track_id} is unknown: it has no streams in schema {schema!r}",
                hint="check the id and --schema",
            )
        track = reader.tracks(pl.Series([track_id]))
        reason = track["reason"][0]
        if reason:
            raise NoForecastError(f"track {track_id} gets no forecast ({reason}): {REASONS[reason].meaning}")
        return reader.diagnosis(track)


def _found(source: Source, config: RunConfig) -> tuple[MadeWith, list[str]]:
    """Find what the forecast is made with, and warnings. Raises as `find_made_with` does."""
    if takes_no_calibration(source.tables, config):
        return MadeWith(config.parameters), []
    return find_made_with(source, config, to_store=False)


@dataclass(frozen=True)
class _Reader:
    """Reads tracks, and forecasts them."""

    source: Source
    made_with: MadeWith
    remarks: list[str]
    """Warnings about the calibration."""

    def first_forecastable(self) -> Diagnosis:
        tracks = self.source.tracks()
        pending = tracks.filter(~tracks.is_in(self.source.stored()["cm_track_id"].drop_nulls().implode()))
        reasons: Counter[str] = Counter()
        for start in range(0, len(pending), _AT_ONCE):
            tried = self.tracks(pending.slice(start, _AT_ONCE))
            good = tried.lazy().pipe(forecastable).head(1).collect()
            if len(good):
                return self.diagnosis(good)
            reasons.update(tried["reason"].to_list())
        if tracks.is_empty():
            raise NoForecastError("there are no streams", hint="load a catalogue with `forecaster load`")
        if pending.is_empty():
            problem = "no track is pending: each track with streams has a forecast"
        else:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
            problem = f"none of the {len(pending):,} pending tracks can be forecast ({counts})"
        raise NoForecastError(problem, hint="give --track-id to show any track, pending or not")

    def tracks(self, track_ids: pl.Series) -> pl.DataFrame:
        made_with = self.made_with
        read = self.source.history(track_ids, with_days=made_with.needs_days, until=made_with.until)
        mldr = self.source.mldr(until=made_with.until)
        given = (read.records, read.facts, mldr, made_with.parameters)
        tracks = made_with.model.tracks(*given) if made_with.model else build_tracks(*given)
        return tracks.collect()

    def diagnosis(self, track: pl.DataFrame) -> Diagnosis:
        made_with, id_ = self.made_with, track["cm_track_id"][0]
        forecasts, errors = self._forecasts(track)
        if forecasts["forecasted_value"].null_count():
            raise NoForecastError(f"the forecast of track {id_} is larger than 2^63 streams")
        row = track.row(0, named=True)
        has_rates = made_with.model is None or made_with.model.weight < 1
        rates = _rates_of(track) if has_rates else ()
        if made_with.model:
            row |= {"production_decays": self._production_decays(track)}
        return Diagnosis(
            row,
            forecasts,
            rates,
            self.source.daily(id_),
            made_with.model,
            errors,
            made_with.calibration,
            self.remarks,
        )

    def _forecasts(self, track: pl.DataFrame) -> tuple[pl.DataFrame, Errors]:
        """Forecast the months with their quantiles, in whole streams; return the error figures, too."""
        made_with, horizon = self.made_with, self.made_with.parameters.horizon
        errors = made_with.errors or prior_errors(0.0)
        whole = [FORECASTS.rounded_streams(), pl.col(QUANTILES).round()]
        forecasts = with_quantiles(made_with.project(track.lazy()), errors, horizon=horizon).with_columns(
            *(expression.cast(pl.Int64, strict=False) for expression in whole)
        )
        return forecasts.collect(), errors

    def _production_decays(self, track: pl.DataFrame) -> list[float]:
        """Return ln(level / forecast) of the production model by month, if it has a part in the forecast."""
        model = self.made_with.model
        if model is None or model.weight in (0, 1):
            return []
        months = project(track.lazy(), horizon=self.made_with.parameters.horizon, level=model.level)
        start = track.select(start_of(model.level)).item()
        decays = (start / pl.col("forecasted_value")).log()
        return months.select(decays).collect().to_series().to_list()


def _rates_of(track: pl.DataFrame) -> tuple[tuple[float, float], ...]:
    """Return for each segment the base rate, and the base rate x multiplier."""
    segments = range(1, len(SEGMENT_STARTS) + 1)
    base = track.select(base_rate(pl.col("influence_range"), j).alias(str(j)) for j in segments).row(0)
    return tuple((rate, rate * track["multiplier"][0]) for rate in base)
