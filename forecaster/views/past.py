"""Read the input of forecasts as of earlier days, and make them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model import Forecasts
from forecaster.model.calibrated.uncertainty import prior_errors, with_quantiles
from forecaster.model.parameters import Parameters
from forecaster.postgres.backtest import rates_before
from forecaster.postgres.catalogue import Source, warn_of_hidden_rows
from forecaster.postgres.listeners import artists, read_listeners
from forecaster.process.signals import interruptible
from forecaster.scoring.past import NO_RATE, KnownDays, Outcome, Rates, build_past, outcome, rates_at
from forecaster.scoring.past_models import CalibratedPast, calibrated_past
from forecaster.scoring.totals import factors_of
from forecaster.tables import LISTENERS, LISTENERS_TABLE


@dataclass(frozen=True)
class PastModel:
    """What forecasts as of an earlier day are made with."""

    name: str = "production"
    """Or one of `MODELS_OF_CALIBRATION`."""
    later: bool = False
    """Where none is known at the cutoff, the stored one, which may depend on later days."""
    level: int | None = None
    """Days whose mean forecasts start from; None: as the model has it."""
    given: float | pl.DataFrame | None = None
    """These instead of all others: one rate for all artists, or cm_artist_id and mldr."""

    def of_artists(self, artists: pl.Series) -> pl.DataFrame | None:
        """Return the given rates: cm_artist_id, mldr; None if none are given."""
        if self.given is None or isinstance(self.given, pl.DataFrame):
            return None if self.given is None else self.given.drop_nulls()
        every = artists.drop_nulls().unique().sort().alias("cm_artist_id").to_frame()
        return every.with_columns(mldr=pl.lit(self.given, pl.Float64))


@dataclass(frozen=True)
class Origins:
    """Forecasts to score after their as-of dates, with warnings about them."""

    batches: Iterable[pl.DataFrame]
    """One row per track, cutoff, run and month, as `forecaster.scoring.evaluate_batches` takes them. They may
    be read while they are scored, once."""
    spans: pl.DataFrame
    """The first and the last as-of date of each track: cm_track_id, first, last."""
    known_by: str
    """The source of the as-of dates: history, by created_at, --as-of, or cutoff."""
    skipped: Mapping[str, int]
    """Number of tracks without a forecast, by reason; over all cutoffs."""
    warnings: list[str]
    started: pl.DataFrame | None = None
    """The day on which each run began: run, started. None: the forecasts are not those of runs."""
    later_rates: int = 0
    """Number of tracks forecast with an MLDR that may depend on later days; over all cutoffs."""
    factors: pl.DataFrame | None = None
    """Quantiles of the totals, as an evaluation takes them."""
    made_with: Sequence[str] = ()
    """For each cutoff with a calibration of its own: what the forecasts were made with."""


def made_at(
    cutoffs: Sequence[date],
    source: Source,
    tracks: pl.Series,
    days: pl.DataFrame,
    parameters: Parameters,
    *,
    model: PastModel,
) -> Origins:
    """Forecast the tracks at each cutoff from those of their `days` that are before it.

    An MLDR is known at a cutoff if it follows from the listeners before it, or was stored before it. `model`
    says what replaces an unknown one, or all of them, and which model makes the forecasts.
    Raises `NoForecastError` if no track can be forecast.
    """
    made, calibrated, known = {}, {}, KnownDays.of(days)
    needs_past = model.name != "production" and model.given is None
    past_mldr = source.every_mldr() if needs_past else None
    of_production = replace(parameters, level=model.level or parameters.level)
    for cutoff, rates in _rates(cutoffs, source, model.of_artists(days["cm_artist_id"])):
        # Where there is no record before the cutoff, both models skip all tracks.
        if model.name == "production" or not (days["date"] < cutoff).any():
            built = _production(known, rates, cutoff, of_production, model)
        else:
            calibrated[cutoff] = _calibrated(known, rates, cutoff, parameters, model, past_mldr)
            built = calibrated[cutoff].forecasts
        forecasts, others = interruptible(
            partial(pl.collect_all, [built.forecasts, built.skipped]), cancel=None
        )
        # Without later rates, a calibrated forecast of an artist without a rate needs none.
        used = rates if model.later or model.name == "production" else Rates(rates.known, rates.later.clear())
        made[cutoff] = outcome(forecasts, others, used, tracks=len(tracks))
    skipped = sum((Counter(one.skipped) for one in made.values()), Counter[str]())
    by_reason = dict(skipped.most_common())
    if not any(len(one.forecasts) for one in made.values()):
        raise _nothing(cutoffs, by_reason, days["date"])
    by_later = {cutoff: one.by_later_rate for cutoff, one in made.items() if one.by_later_rate}
    every = pl.concat((one.forecasts for one in made.values()), how="diagonal")
    return Origins(
        [every],
        spans_of(every),
        "cutoff",
        by_reason,
        [*_described(by_later), *_what_if(model)],
        later_rates=sum(by_later.values()),
        factors=_factors(calibrated, made, horizon=parameters.horizon),
        made_with=[f"{one}" for one in calibrated.values()] or _of_production(of_production),
    )


def _of_production(parameters: Parameters) -> list[str]:
    return [f"production from {parameters.level} days; intervals of other catalogues"]


def _production(
    known: KnownDays, rates: Rates, cutoff: date, parameters: Parameters, model: PastModel
) -> Forecasts:
    built = build_past(known, rates, cutoff=cutoff, parameters=parameters, later_rates=model.later)
    sure = with_quantiles(built.forecasts, prior_errors(0.0), horizon=parameters.horizon)
    return Forecasts(sure, built.skipped)


def _calibrated(
    known: KnownDays,
    rates: Rates,
    cutoff: date,
    parameters: Parameters,
    model: PastModel,
    past_mldr: pl.LazyFrame | None,
) -> CalibratedPast:
    mldr = pl.concat([rates.known, rates.later] if model.later else [rates.known])
    past = partial(calibrated_past, known, mldr, cutoff=cutoff, parameters=parameters, name=model.name)
    return interruptible(partial(past, level=model.level, past_mldr=past_mldr), cancel=None)


def _rates(
    cutoffs: Sequence[date], source: Source, given: pl.DataFrame | None
) -> Iterator[tuple[date, Rates]]:
    """Yield the rates at each cutoff: the given ones, else those that were known."""
    if given is not None:
        yield from ((cutoff, Rates(given, later=given.clear())) for cutoff in cutoffs)
        return
    listeners, now = _listeners(source), source.mldr().drop_nulls().collect()
    for cutoff in cutoffs:
        then = rates_before(source, cutoff)
        yield cutoff, rates_at(cutoff, stored_then=then, stored_now=now, listeners=listeners)


def spans_of(forecasts: pl.DataFrame) -> pl.DataFrame:
    """Find the first and the last as-of date of the forecasts of each track."""
    as_of = pl.col("as_of")
    return forecasts.group_by("cm_track_id").agg(first=as_of.min(), last=as_of.max())


def shown_range(dates: pl.Series) -> str:
    """Show dates as "first to last", or as one date if all are equal."""
    first, last = dates.sort().gather([0, -1])
    return f"{first}" if first == last else f"{first} to {last}"


def _listeners(source: Source) -> pl.DataFrame | None:
    """Read all records of listeners; None if their table is missing or lacks a column."""
    columns = source.tables.columns.get(LISTENERS_TABLE, {})
    if not columns.keys() >= LISTENERS.contract.keys():
        return None
    warn_of_hidden_rows(source.tables, LISTENERS_TABLE)
    return read_listeners(source, artists(source)).records.collect()


def _described(by_later: Mapping[date, int]) -> Iterator[str]:
    if by_later:
        yield (
            "tracks forecast with a decay rate (MLDR) that was not known at the cutoff, and may depend on "
            "later days: " + ", ".join(f"{count:,} at {cutoff}" for cutoff, count in by_later.items())
        )


def _factors(
    calibrated: Mapping[date, CalibratedPast], made: Mapping[date, Outcome], *, horizon: int
) -> pl.DataFrame:
    """Return the quantiles of the totals at each cutoff."""
    errors = {cutoff: one.model.errors for cutoff, one in calibrated.items()}
    prior = prior_errors(0.0)
    return pl.concat(
        factors_of(errors.get(cutoff, prior), horizon=horizon).with_columns(cutoff=pl.lit(cutoff))
        for cutoff in made
    )


def _what_if(model: PastModel) -> Iterator[str]:
    if isinstance(model.given, pl.DataFrame):
        yield "what if: the decay rates (MLDR) are those of --mldr, whenever they became known"
    elif model.given is not None:
        yield f"what if: the decay rate (MLDR) is {model.given:g} for all artists"


def _nothing(cutoffs: Sequence[date], skipped: Mapping[str, int], dates: pl.Series) -> NoForecastError:
    hint = "choose cutoffs within the days of the streams table"
    if NO_RATE in skipped:
        hint = (
            "give --later-rates to use the stored decay rates (MLDR), which may depend on later days; or "
            "load listeners with `forecaster load --listeners FILE`, from which earlier decay rates follow"
        )
    return NoForecastError(
        f"no track can be forecast from the days before {', '.join(map(str, cutoffs))}: "
        + ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
        + f"; the days with streams are {shown_range(dates)}",
        hint=hint,
    )
