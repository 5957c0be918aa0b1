"""The forecast of one track with every number that it follows from, to check it by hand."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model import build_tracks, forecastable
from forecaster.model.eligibility import REASONS
from forecaster.model.features import looks_ahead
from forecaster.model.parameters import Parameters
from forecaster.model.projection import project
from forecaster.model.segments import FORECAST_SEGMENT_STARTS, INFLUENCE_EDGES, SEGMENT_STARTS, base_rate
from forecaster.postgres.catalogue import Source, open_source
from forecaster.postgres.dsn import Dsn
from forecaster.tables import FORECASTS

_AT_ONCE = 500  # pending tracks read at once when searching for one that can be forecast
_SHOWN_MONTHS = 6


@dataclass(frozen=True)
class Diagnosis:
    """The forecast of one track, and the numbers that it follows from."""

    track: Mapping[str, Any]
    """The row of the track from `build_tracks`."""
    forecasts: pl.DataFrame
    """One row per month, `forecasted_value` rounded to whole streams."""
    rates: tuple[tuple[float, float], ...]
    """For each lifecycle segment the base rate, and the base rate x multiplier; both per month."""
    history: pl.DataFrame
    """One row per day with a record, in order: date, daily_streams."""

    @property
    def warnings(self) -> list[str]:
        """Warnings about streams after the as-of date."""
        return list(looks_ahead(int(self.track["as_of"] < self.track["last_date"]), self.track["as_of"]))

    def __str__(self) -> str:
        return "\n".join((*self._inputs(), *self._rates(), *self._months()))

    def _inputs(self) -> Iterator[str]:
        t = self.track
        influence = t["influence_range"]
        yield f"track {t['cm_track_id']} of artist {t['cm_artist_id']}"
        for name, value in (
            ("training data id", t["training_data_id"]),
            ("as of", t["as_of"]),
            ("months since release", t["months_since_release"]),
            ("streams, last 30 records", f"{t['streams_30']:,.0f}"),
            ("streams, last 90 records", f"{t['streams_90']:,.0f}"),
            ("streams, last 365 records", f"{t['streams_365']:,.0f}"),
            ("x (months)", ", ".join(str(t[x]) for x in ("x0", "x1", "x2"))),
            ("y (streams per 30 days)", ", ".join(f"{t[y]:,.2f}" for y in ("y0", "y1", "y2"))),
            ("k, the track's own decay", f"{t['k']:.10g} per month"),
            ("MLDR of the artist", f"{t['mldr']:.10g} per month"),
            ("influence range", f"{influence + 1} (from {INFLUENCE_EDGES[influence]:,})"),
            ("h, mean of 1 / base rate", f"{t['base_months']:.10g} months"),
            ("artist factor", f"{t['artist_factor']:.10g}"),
            ("multiplier", f"{t['multiplier']:.10g}"),
        ):
            yield f"  {name:<27}{value}"

    def _rates(self) -> Iterator[str]:
        # The base rates' segments begin at the first, those of the forecast itself a month earlier.
        yield "  segment   from month   in forecasts   base rate       rate"
        starts = zip(SEGMENT_STARTS, FORECAST_SEGMENT_STARTS, self.rates, strict=True)
        for number, (start, in_forecasts, (base, rate)) in enumerate(starts, start=1):
            yield f"  {number:>7}{start:>13}{in_forecasts:>15}{base:>12.6f}{rate:>11.6f}"

    def _months(self) -> Iterator[str]:
        total = self.forecasts["forecasted_value"].sum()
        yield f"  total of {len(self.forecasts)} months: {total:,} streams"
        columns = ("month", "forecasted_value", "segment_used", "time_used")
        shown = self.forecasts.select(columns).head(_SHOWN_MONTHS).rows()
        width = max(len("streams"), *(len(f"{value:,}") for _, value, _, _ in shown)) + 3
        yield f"    month{'streams':>{width}}   segment   month since release"
        for month, value, segment, time in shown:
            yield f"  {month:>7}{value:>{width},}{segment:>10}{time:>22}"
        if len(self.forecasts) > _SHOWN_MONTHS:
            yield f"  and {len(self.forecasts) - _SHOWN_MONTHS} more"


def diagnose(dsn: Dsn, schema: str, parameters: Parameters, track_id: int | None) -> Diagnosis:
    """Forecast one track and store nothing; without an id, the first pending track that can be forecast.

    Raises `NoForecastError` with the reason if no forecast is possible, and what reading raises.
    """
    with open_source(dsn, schema) as source:
        if track_id is None:
            return _first_forecastable(source, parameters)
        if source.tracks([track_id]).is_empty():
            raise NoForecastError(
                f"track {track_id} is unknown: it has no streams in schema {schema!r}",
                hint="check the id and --schema",
            )
        track = _tracks(source, pl.Series([track_id]), parameters)
        reason = track["reason"][0]
        if reason:
            raise NoForecastError(f"track {track_id} gets no forecast ({reason}): {REASONS[reason].meaning}")
        return _diagnosis(source, track, parameters)


def _first_forecastable(source: Source, parameters: Parameters) -> Diagnosis:
    tracks = source.tracks()
    pending = tracks.filter(~tracks.is_in(source.stored()["cm_track_id"].drop_nulls().implode()))
    reasons: Counter[str] = Counter()
    for start in range(0, len(pending), _AT_ONCE):
        tried = _tracks(source, pending.slice(start, _AT_ONCE), parameters)
        good = tried.lazy().pipe(forecastable).head(1).collect()
        if len(good):
            return _diagnosis(source, good, parameters)
        reasons.update(tried["reason"].to_list())
    if tracks.is_empty():
        raise NoForecastError("there are no streams", hint="load a catalogue with `forecaster load`")
    if pending.is_empty():
        problem = "no track is pending: each track with streams has a forecast"
    else:
        counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
        problem = f"none of the {len(pending):,} pending tracks can be forecast ({counts})"
    raise NoForecastError(problem, hint="give --track-id to show any track, pending or not")


def _tracks(source: Source, track_ids: pl.Series, parameters: Parameters) -> pl.DataFrame:
    history = source.history(track_ids)
    return build_tracks(history.records, history.facts, source.mldr(), parameters).collect()


def _diagnosis(source: Source, track: pl.DataFrame, parameters: Parameters) -> Diagnosis:
    segments = range(1, len(SEGMENT_STARTS) + 1)
    base = track.select(base_rate(pl.col("influence_range"), j).alias(str(j)) for j in segments).row(0)
    forecasts = (
        project(track.lazy(), horizon=parameters.horizon)
        .with_columns(FORECASTS.rounded_streams().cast(pl.Int64, strict=False))
        .collect()
    )
    if forecasts["forecasted_value"].null_count():
        raise NoForecastError(f"the forecast of track {track['cm_track_id'][0]} is larger than 2^63 streams")
    row = track.row(0, named=True)
    rates = tuple((rate, rate * row["multiplier"]) for rate in base)
    return Diagnosis(row, forecasts, rates, source.daily(row["cm_track_id"]))
