"""Forecasts as they would have been made on earlier days, from what was known then."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model import build_forecasts
from forecaster.model.mldr import artist_rates
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import Source, warn_of_hidden_rows
from forecaster.postgres.history import rates_before
from forecaster.postgres.listeners import artists, read_listeners
from forecaster.process.signals import interruptible
from forecaster.tables import LISTENERS, LISTENERS_TABLE

NO_DAYS, NO_RATE = "no_days_before_cutoff", "no_mldr_at_cutoff"
"""Why a track has no forecast at a cutoff, besides the model's reasons: there is no day of it before the
cutoff; there is a decay rate of its artist, but none that was known by then."""


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
    made, by_later, skipped = [], {}, Counter[str]()
    for cutoff in cutoffs:
        rates = _rates_known(source, listeners, cutoff)
        later = stored.join(rates, on="cm_artist_id", how="anti")
        before = days.lazy().filter(pl.col("date") < cutoff)
        built = build_forecasts(
            before,
            pl.concat([rates, later] if later_rates else [rates]).lazy(),
            horizon=parameters.horizon,
            age_from=parameters.age_from,
            influence=parameters.influence,
        )
        as_of = before.group_by("cm_track_id").agg(as_of=pl.col("date").max())
        forecasts = built.forecasts.join(as_of, on="cm_track_id", maintain_order="left").with_columns(
            pl.col("forecasted_value").round(), cutoff=pl.lit(cutoff)
        )
        could_be_rated = pl.col("cm_artist_id").is_in(later["cm_artist_id"].implode())
        others = built.skipped.with_columns(
            reason=pl.when((pl.col("reason") == "no_mldr") & could_be_rated)
            .then(pl.lit(NO_RATE))
            .otherwise("reason")
        )
        one, other = interruptible(partial(pl.collect_all, [forecasts, others]), cancel=None)
        made.append(one.drop("training_data_id"))
        skipped.update(dict(other["reason"].value_counts().iter_rows()))
        skipped[NO_DAYS] += len(tracks) - one["cm_track_id"].n_unique() - len(other)
        by_later[cutoff] = one.filter(could_be_rated)["cm_track_id"].n_unique()
    by_reason = {reason: count for reason, count in skipped.most_common() if count}
    if not any(len(frame) for frame in made):
        raise _nothing(cutoffs, by_reason, days["date"])
    counts = {cutoff: count for cutoff, count in by_later.items() if count}
    return Origins(pl.concat(made), "cutoff", by_reason, [*_described(counts)], sum(counts.values()))


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


def _rates_known(source: Source, listeners: pl.DataFrame | None, cutoff: date) -> pl.DataFrame:
    """Each artist's rate by the listeners before the cutoff, else the one that was stored by then."""
    stored = rates_before(source, cutoff)
    if listeners is None:
        return stored
    computed = artist_rates(listeners.lazy().filter(pl.col("date") < cutoff))
    then = computed.select("cm_artist_id", "mldr").drop_nulls().collect()
    return pl.concat([then, stored.join(then, on="cm_artist_id", how="anti")])


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
