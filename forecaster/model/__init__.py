"""The forecasting model: frames in, frames out. The only place that knows the order of its steps."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from forecaster.errors import InvalidOptionError
from forecaster.frames.schemas import SKIPPED, check, conform
from forecaster.model.decay import decay_rate, with_points
from forecaster.model.eligibility import skip_reason
from forecaster.model.features import WEEK, clean, last_streams, track_facts, track_features, with_level
from forecaster.model.mldr import mldr_until, newest_mldr, no_mldr
from forecaster.model.multiplier import with_multiplier
from forecaster.model.parameters import AgeFrom, Parameters
from forecaster.model.projection import project
from forecaster.tables import ARTIST_MLDR, DAILY_STREAMS

if TYPE_CHECKING:
    from forecaster.model.calibrated.calibration import Calibration
    from forecaster.model.calibrated.forecast import Model

Checkpoint = Callable[[str, pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True)
class Forecasts:
    """The result for every track: each is in exactly one of the two frames."""

    forecasts: pl.LazyFrame
    """One row per track and month, ordered by both:
    month, forecasted_value (streams, not rounded), segment_used (from 1), time_used (months since release),
    cm_track_id, cm_artist_id, training_data_id (`id` of the track's earliest row; NULL without ids)."""
    skipped: pl.LazyFrame
    """One row per track without a forecast, ordered by track:
    cm_track_id, cm_artist_id, reason (a key of `forecaster.model.eligibility.REASONS`),
    months_since_release."""


def build_forecasts(  # noqa: PLR0913 - the parameters of the model, and the model
    daily_streams: pl.LazyFrame,
    artist_mldr: pl.LazyFrame | None,
    /,
    *,
    horizon: int = 24,
    age_from: AgeFrom = "release",
    as_of: date | None = None,
    influence: float | None = None,
    level: int | None = None,
    model: "Calibration | Model | None" = None,
) -> Forecasts:
    """Forecast every track of a catalogue. Lazy: nothing is computed before the result is collected.

    `daily_streams`: one row per track and day with `cm_track_id`, `cm_artist_id`, `date`, `daily_streams`
    and, if known, `days_from_release`, `id`, `created_at`. `artist_mldr`: `cm_artist_id`, `mldr` and, if
    an artist has several rows, `id` and `created_at`. The order of rows does not matter. The parameters are
    those of `Parameters`. Collect both results in one go with `polars.collect_all`: they share their work.

    `model`: a calibration for the calibrated model, or one of its models, such as `calibration.chosen()`. It
    forecasts as of one day, `as_of`, by default that of the calibration; later days have no influence, and
    with `as_of`, no MLDR that was created later. The calibrated model needs no MLDR: None. `level`: by
    default 30, with a calibration 7.

    Raises `SchemaMismatchError` for missing columns or wrong types, `InvalidOptionError` for parameters.
    """
    parameters = Parameters(horizon, age_from, as_of, influence, level or Parameters.level)
    if isinstance(model, str):
        raise InvalidOptionError(f"model is {model!r}: expected a calibration, as `calibrate` returns it")
    if artist_mldr is None:
        artist_mldr = no_mldr()
    check(
        ("daily_streams", daily_streams, DAILY_STREAMS), ("artist_mldr", artist_mldr, ARTIST_MLDR)
    )  # both at once, so that one error names all
    daily = conform(daily_streams, DAILY_STREAMS, name="daily_streams")
    rates = conform(artist_mldr, ARTIST_MLDR, name="artist_mldr")
    mldr = newest_mldr(mldr_until(rates, as_of if model else None))
    if model:
        chosen = model.using(level)
        known = until(daily, chosen.parameters(parameters).as_of)
        records, facts = records_and_facts(daily, clean(known), with_days=True)
        tracks = chosen.tracks(records, facts, mldr, parameters)
        return Forecasts(chosen.project(forecastable(tracks), horizon=horizon), skipped(tracks))
    records, facts = records_and_facts(daily, clean(daily), with_days=parameters.level == WEEK)
    tracks = build_tracks(records, facts, mldr, parameters)
    forecasts = project(forecastable(tracks), horizon=horizon, level=parameters.level)
    return Forecasts(forecasts, skipped(tracks))


def until(daily: pl.LazyFrame, as_of: date | None, /) -> pl.LazyFrame:
    """Leave out the rows after a day; None: leave out none."""
    return daily.filter(pl.col("date") <= as_of) if as_of else daily


def records_and_facts(
    daily: pl.LazyFrame, cleaned: pl.LazyFrame, /, *, with_days: bool = False
) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Compute `RECORDS` and `TRACK_FACTS` from the daily streams, which are given as stored and cleaned."""
    # A track without a single usable record is still a track: it is skipped, not lost.
    every_track = daily.select("cm_track_id").drop_nulls().unique()
    facts = every_track.join(track_facts(cleaned), on="cm_track_id", how="left")
    return last_streams(cleaned, with_days=with_days), facts


def build_tracks(
    records: pl.LazyFrame,
    facts: pl.LazyFrame,
    mldr: pl.LazyFrame,
    parameters: Parameters,
    /,
    *,
    checkpoint: Checkpoint = lambda _stage, frame: frame,
    missing_mldr: float | None = None,
) -> pl.LazyFrame:
    """Compute one row per track: everything that decides its forecast, or its `reason` for having none.

    `records`, `facts` and `mldr`: `RECORDS`, `TRACK_FACTS` and `NEWEST_MLDR` of `forecaster.frames.schemas`.
    `checkpoint` is called with each finished stage ("features", "fit") and may collect it, to time it.
    `missing_mldr` is the MLDR of artists without one. A level of 7 days needs `RECORDS_WITH_DAYS`.
    """
    features = track_features(records, facts, age_from=parameters.age_from, as_of=parameters.as_of)
    if parameters.level == WEEK:
        features = with_level(features, records, level=WEEK, may_look_ahead=parameters.as_of is not None)
    return checkpoint("fit", rated(checkpoint("features", features), mldr, parameters, missing_mldr))


def rated(
    features: pl.LazyFrame, mldr: pl.LazyFrame, parameters: Parameters, missing_mldr: float | None, /
) -> pl.LazyFrame:
    """Add to the features of each track its rates, and its `reason` for having no forecast.

    The MLDR of an artist without one stays NULL, whatever is used instead.
    """
    tracks, known = features.join(mldr, on="cm_artist_id", how="left"), pl.col("mldr")
    if missing_mldr is None:
        return tracks.pipe(with_rates, influence=parameters.influence).sort("cm_track_id")
    used = pl.when(known.is_finite()).then(known).otherwise(missing_mldr)
    with_used = tracks.with_columns(known=known, mldr=used).pipe(with_rates, influence=parameters.influence)
    return with_used.with_columns(mldr="known").drop("known").sort("cm_track_id")


def with_rates(tracks: pl.LazyFrame, /, *, influence: float | None) -> pl.LazyFrame:
    """Add to the features and the MLDR of each track its rates, and its `reason` for having no forecast."""
    return (
        tracks.pipe(with_points)
        .with_columns(k=decay_rate())
        .pipe(with_multiplier, influence=influence)
        .with_columns(reason=skip_reason())
    )


def forecastable(tracks: pl.LazyFrame, /) -> pl.LazyFrame:
    """Keep the tracks that get a forecast."""
    return tracks.filter(pl.col("reason").is_null())


def skipped(tracks: pl.LazyFrame, /) -> pl.LazyFrame:
    """Keep the tracks that get none, with the reason."""
    return tracks.filter(pl.col("reason").is_not_null()).select(SKIPPED.names())
