"""The forecast of one track with every number that it follows from, to check it by hand."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model import build_tracks, forecastable
from forecaster.model.calibrated.calibration import prior_errors
from forecaster.model.calibrated.forecast import Model
from forecaster.model.calibrated.uncertainty import Errors, totals
from forecaster.model.eligibility import REASONS
from forecaster.model.features import WEEK, looks_ahead
from forecaster.model.parameters import DAYS_PER_MONTH, Parameters
from forecaster.model.projection import project
from forecaster.model.segments import FORECAST_SEGMENT_STARTS, INFLUENCE_EDGES, SEGMENT_STARTS, base_rate
from forecaster.postgres.catalogue import Source, open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.made_with import find_made_with
from forecaster.postgres.stored_with import basis
from forecaster.process.numbers import counted, short_range
from forecaster.run.calibrations import Quantiles
from forecaster.run.config import ModelName, RunConfig
from forecaster.run.made_with import PRODUCTION, MadeWith
from forecaster.tables import CALIBRATED, FORECASTS, QUANTILES
from forecaster.views.calibrated import calibrated_inputs, calibrated_months, level_of

_AT_ONCE = 500  # pending tracks read at once when searching for one that can be forecast
_SHOWN_MONTHS = 6


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

    @property
    def headline(self) -> str:
        """The total of all months, with its range."""
        made, horizon = self.forecasts.lazy(), len(self.forecasts)
        added = totals(made, self.errors, horizon=horizon, is_group=True).collect()
        low, high = added.select("cumulated_q10", "cumulated_q90").row(-1)
        total = self.forecasts["forecasted_value"].cast(pl.Int128).sum()
        return f"{counted(horizon, 'month')}: {total:,} streams, 80 % range {short_range(low, high)}"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"track {self.track['cm_track_id']} of artist {self.track['cm_artist_id']}"
        yield from _named(self._inputs())
        if self.is_production:
            yield from _named(self._production())
            yield from self._rates()
        if self.model and self.is_calibrated:
            yield from calibrated_inputs(self.track, self.model)
            yield from calibrated_months(self.track, self.model, self.forecasts, shown=_SHOWN_MONTHS)
        yield from self._months()

    def _inputs(self) -> Iterator[tuple[str, object]]:
        t = self.track
        yield from (
            ("training data id", t["training_data_id"]),
            ("as of", t["as_of"]),
            ("months since release", t["months_since_release"]),
            ("streams, last 30 records", f"{t['streams_30']:,.0f}"),
            ("streams, last 90 records", f"{t['streams_90']:,.0f}"),
            ("streams, last 365 records", f"{t['streams_365']:,.0f}"),
        )
        if not self.is_calibrated and self.level_days == WEEK:
            yield "level, streams per day", f"{t['level']:,.10g}, from the last {WEEK} days"

    def _production(self) -> Iterator[tuple[str, object]]:
        t = self.track
        influence = t["influence_range"]
        yield from (
            ("x (months)", ", ".join(str(t[x]) for x in ("x0", "x1", "x2"))),
            ("y (streams per 30 days)", ", ".join(f"{t[y]:,.2f}" for y in ("y0", "y1", "y2"))),
            ("k, the track's own decay", f"{t['k']:.10g} per month"),
            ("MLDR of the artist", f"{t['mldr']:.10g} per month"),
            ("influence range", f"{influence + 1} (from {INFLUENCE_EDGES[influence]:,})"),
            ("h, mean of 1 / base rate", f"{t['base_months']:.10g} months"),
            ("artist factor", f"{t['artist_factor']:.10g}"),
            ("multiplier", f"{t['multiplier']:.10g}"),
        )

    def _rates(self) -> Iterator[str]:
        # The base rates' segments begin at the first, those of the forecast itself a month earlier.
        yield "  segment   from month   in forecasts   base rate       rate"
        starts = zip(SEGMENT_STARTS, FORECAST_SEGMENT_STARTS, self.rates, strict=True)
        for number, (start, in_forecasts, (base, rate)) in enumerate(starts, start=1):
            yield f"  {number:>7}{start:>13}{in_forecasts:>15}{base:>12.6f}{rate:>11.6f}"

    def _months(self) -> Iterator[str]:
        yield f"  {self.headline}"
        columns = ("month", "forecasted_value", "segment_used", "time_used", "q10", "q90")
        shown = self.forecasts.select(columns).head(_SHOWN_MONTHS).rows()
        width = max(len("streams"), *(len(f"{value:,}") for _, value, *_ in shown)) + 3
        ends = [short_range(low, high) for *_, low, high in shown]
        room = max(len("80 % range"), *map(len, ends)) + 3
        yield f"    month{'streams':>{width}}{'80 % range':>{room}}   segment   month since release"
        for (month, value, segment, time, *_), between in zip(shown, ends, strict=True):
            yield f"  {month:>7}{value:>{width},}{between:>{room}}{segment:>10}{time:>22}"
        if len(self.forecasts) > _SHOWN_MONTHS:
            yield f"  and {len(self.forecasts) - _SHOWN_MONTHS} more"
        yield from (
            f"  {line}" for line in basis(self.calibration, self.errors, len(self.forecasts)).splitlines()
        )


def _named(values: Iterable[tuple[str, object]]) -> Iterator[str]:
    yield from (f"  {name:<27}{value}" for name, value in values)


@dataclass(frozen=True)
class Making:
    """How a track is forecast: the parameters, the model, and the calibration."""

    parameters: Parameters
    model: ModelName = "production"
    calibration: str | None = None
    level_days: int | None = None

    def found(self, source: Source) -> tuple[MadeWith, list[str]]:
        """Find what the forecast is made with, and warnings. Raises as `find_made_with` does."""
        has_none = not CALIBRATED.keys() <= source.tables.columns.keys() - source.tables.unreadable
        config = RunConfig(
            parameters=self.parameters,
            model=self.model,
            calibration=self.calibration,
            level_days=self.level_days,
        )
        if self.model == PRODUCTION and self.calibration is None and has_none:
            return MadeWith(config.parameters), []
        return find_made_with(source, config, to_store=False)


def diagnose(dsn: Dsn, schema: str, making: Making, track_id: int | None) -> Diagnosis:
    """Forecast one track and store nothing; without an id, the first pending track that can be forecast.

    Raises `NoForecastError` with the reason if no forecast is possible, and what `Making.found` and reading
    raise.
    """
    with open_source(dsn, schema) as source:
        reader = _Reader(source, *making.found(source))
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
        given = (read.records, read.facts, self.source.mldr(), made_with.parameters)
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
        ours = made_with.with_quantiles
        quantiles = ours if isinstance(ours, Quantiles) else Quantiles(prior_errors(0.0), horizon)
        whole = [FORECASTS.rounded_streams(), pl.col(QUANTILES).round()]
        forecasts = quantiles(made_with.project(track.lazy())).with_columns(
            *(expression.cast(pl.Int64, strict=False) for expression in whole)
        )
        return forecasts.collect(), quantiles.errors

    def _production_decays(self, track: pl.DataFrame) -> list[float]:
        """Return ln(level / forecast) of the production model by month, if it has a part in the forecast."""
        model = self.made_with.model
        if model is None or model.weight in (0, 1):
            return []
        months = project(track.lazy(), horizon=self.made_with.parameters.horizon, level=model.level)
        start = DAYS_PER_MONTH * level_of(track.row(0, named=True), model)
        decays = (start / pl.col("forecasted_value")).log()
        return months.select(decays).collect().to_series().to_list()


def _rates_of(track: pl.DataFrame) -> tuple[tuple[float, float], ...]:
    """Return for each segment the base rate, and the base rate x multiplier."""
    segments = range(1, len(SEGMENT_STARTS) + 1)
    base = track.select(base_rate(pl.col("influence_range"), j).alias(str(j)) for j in segments).row(0)
    return tuple((rate, rate * track["multiplier"][0]) for rate in base)
