"""Read the input of forecasts as of earlier days, and make them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model.parameters import Parameters
from forecaster.postgres.backtest import rates_before
from forecaster.postgres.catalogue import Source, warn_of_hidden_rows
from forecaster.postgres.listeners import artists, read_listeners
from forecaster.process.signals import interruptible
from forecaster.scoring.past import NO_RATE, KnownDays, build_past, outcome, rates_at
from forecaster.tables import LISTENERS, LISTENERS_TABLE


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


def made_at(
    cutoffs: Sequence[date],
    source: Source,
    tracks: pl.Series,
    days: pl.DataFrame,
    parameters: Parameters,
    *,
    later_rates: bool,
) -> Origins:
    """Forecast the tracks at each cutoff from those of their `days` that are before it.

    An MLDR is known at a cutoff if it follows from the listeners before it, or was stored before it. With
    `later_rates` the stored MLDR replaces an unknown one.
    Raises `NoForecastError` if no track can be forecast.
    """
    listeners, stored = _listeners(source), source.mldr().drop_nulls().collect()
    made, known = {}, KnownDays.of(days)
    for cutoff in cutoffs:
        rates = rates_at(
            cutoff, stored_then=rates_before(source, cutoff), stored_now=stored, listeners=listeners
        )
        built = build_past(known, rates, cutoff=cutoff, parameters=parameters, later_rates=later_rates)
        forecasts, others = interruptible(
            partial(pl.collect_all, [built.forecasts, built.skipped]), cancel=None
        )
        made[cutoff] = outcome(forecasts, others, rates, tracks=len(tracks))
    skipped = sum((Counter(one.skipped) for one in made.values()), Counter[str]())
    by_reason = dict(skipped.most_common())
    if not any(len(one.forecasts) for one in made.values()):
        raise _nothing(cutoffs, by_reason, days["date"])
    by_later = {cutoff: one.by_later_rate for cutoff, one in made.items() if one.by_later_rate}
    every = pl.concat(one.forecasts for one in made.values())
    return Origins(
        [every],
        spans_of(every),
        "cutoff",
        by_reason,
        [*_described(by_later)],
        later_rates=sum(by_later.values()),
    )


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
