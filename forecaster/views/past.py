"""Read what forecasts as of earlier days need, and make them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import Source, warn_of_hidden_rows
from forecaster.postgres.history import rates_before
from forecaster.postgres.listeners import artists, read_listeners
from forecaster.process.signals import interruptible
from forecaster.scoring.past import NO_RATE, build_past, outcome, rates_at
from forecaster.tables import LISTENERS, LISTENERS_TABLE


@dataclass(frozen=True)
class Origins:
    """Forecasts to be scored, each from its as-of date on, and what is to be said of them."""

    forecasts: pl.DataFrame
    """One row per track, cutoff and month, as `forecaster.scoring.evaluate` takes it."""
    known_by: str
    """How their as-of dates are known."""
    skipped: Mapping[str, int]
    """Tracks without a forecast, by reason; over all cutoffs."""
    warnings: list[str]
    later_rates: int = 0
    """Tracks that are forecast by a rate which may know later days; over all cutoffs."""


def made_at(
    cutoffs: Sequence[date],
    source: Source,
    tracks: pl.Series,
    days: pl.DataFrame,
    parameters: Parameters,
    *,
    later_rates: bool,
) -> Origins:
    """Forecast the tracks, whose days are given, at each cutoff from the days before it.

    A decay rate is known at a cutoff if it follows from the listeners before it, or was stored before it.
    With `later_rates` the stored one stands in where none is known.
    Raises `NoForecastError` if no track can be forecast.
    """
    listeners, stored = _listeners(source), source.mldr().drop_nulls().collect()
    made = {}
    for cutoff in cutoffs:
        rates = rates_at(
            cutoff, stored_then=rates_before(source, cutoff), stored_now=stored, listeners=listeners
        )
        built = build_past(days, rates, cutoff=cutoff, parameters=parameters, later_rates=later_rates)
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
    return Origins(every, "cutoff", by_reason, [*_described(by_later)], sum(by_later.values()))


def shown_range(dates: pl.Series) -> str:
    """The first and the last of the dates, or the one that all are."""
    first, last = dates.sort().gather([0, -1])
    return f"{first}" if first == last else f"{first} to {last}"


def _listeners(source: Source) -> pl.DataFrame | None:
    """All records of listeners, where there is such a table."""
    columns = source.tables.columns.get(LISTENERS_TABLE, {})
    if not columns.keys() >= LISTENERS.contract.keys():
        return None
    warn_of_hidden_rows(source.tables, LISTENERS_TABLE)
    return read_listeners(source, artists(source)).records.collect()


def _described(by_later: Mapping[date, int]) -> Iterator[str]:
    if by_later:
        yield (
            "tracks forecast by a decay rate that was not known at the cutoff, and may know later days: "
            + ", ".join(f"{count:,} at {cutoff}" for cutoff, count in by_later.items())
        )


def _nothing(cutoffs: Sequence[date], skipped: Mapping[str, int], dates: pl.Series) -> NoForecastError:
    hint = "cutoffs have to lie within the days that the streams table holds"
    if NO_RATE in skipped:
        hint = (
            "--later-rates takes the stored decay rates, which may know later days; `forecaster load "
            "--listeners FILE` loads listeners, from which the rates of the time follow"
        )
    return NoForecastError(
        f"no track can be forecast from the days before {', '.join(map(str, cutoffs))}: "
        + ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
        + f"; the days with streams are {shown_range(dates)}",
        hint=hint,
    )
