"""Forecast as of earlier days, from the data that was known then. Pure: frames in, frames out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from forecaster.model import Forecasts, build_forecasts
from forecaster.model.mldr import artist_rates
from forecaster.model.parameters import Parameters
from forecaster.tables import FORECASTS

NO_DAYS, NO_RATE = "no_days_before_cutoff", "no_mldr_at_cutoff"
PAST_REASONS: Mapping[str, str] = {
    NO_DAYS: "the track has no record before the cutoff",
    NO_RATE: "the artist has a decay rate, but none that was known at the cutoff",
}
"""Why a track has no forecast at a cutoff, in addition to the model's reasons. Clauses about one track."""


@dataclass(frozen=True)
class Rates:
    """Decay rates at a cutoff. Both frames: cm_artist_id, mldr."""

    known: pl.DataFrame
    """Rates that were known at the cutoff."""
    later: pl.DataFrame
    """Rates of the other artists that are known now. They may depend on later days."""


@dataclass(frozen=True)
class Outcome:
    """The forecasts and the skipped tracks at a cutoff."""

    forecasts: pl.DataFrame
    """One row per track and month."""
    skipped: Mapping[str, int]
    """Number of tracks without a forecast, by reason."""
    by_later_rate: int
    """Number of tracks forecast with a rate that may depend on later days."""


def rates_at(
    cutoff: date, /, *, stored_then: pl.DataFrame, stored_now: pl.DataFrame, listeners: pl.DataFrame | None
) -> Rates:
    """Compute each artist's rate from the listeners before the cutoff; else take the one stored by then."""
    known = stored_then
    if listeners is not None:
        computed = artist_rates(listeners.lazy().filter(pl.col("date") < cutoff))
        then = computed.select("cm_artist_id", "mldr").drop_nulls().collect()
        known = pl.concat([then, stored_then.join(then, on="cm_artist_id", how="anti")])
    return Rates(known, later=stored_now.join(known, on="cm_artist_id", how="anti"))


def build_past(
    days: pl.DataFrame, rates: Rates, /, *, cutoff: date, parameters: Parameters, later_rates: bool
) -> Forecasts:
    """Forecast from the days before the cutoff. Lazy, like `build_forecasts`.

    Adds to the forecasts `cutoff` and `as_of`, the track's last day before it. With
    `later_rates`, a later rate replaces one that is not known; without it, these tracks have the reason
    `NO_RATE`.
    """
    before = days.lazy().filter(pl.col("date") < cutoff)
    built = build_forecasts(
        before,
        pl.concat([rates.known, rates.later] if later_rates else [rates.known]).lazy(),
        horizon=parameters.horizon,
        age_from=parameters.age_from,
        influence=parameters.influence,
    )
    as_of = before.group_by("cm_track_id").agg(as_of=pl.col("date").max())
    forecasts = (
        built.forecasts.join(as_of, on="cm_track_id", maintain_order="left")
        .with_columns(FORECASTS.rounded_streams(), cutoff=pl.lit(cutoff))
        .drop("training_data_id")
    )
    is_unknown = (pl.col("reason") == "no_mldr") & _has_a_later_rate(rates)
    skipped = built.skipped.with_columns(reason=pl.when(is_unknown).then(pl.lit(NO_RATE)).otherwise("reason"))
    return Forecasts(forecasts, skipped)


def outcome(forecasts: pl.DataFrame, skipped: pl.DataFrame, rates: Rates, /, *, tracks: int) -> Outcome:
    """Count the outcome of `tracks` tracks; the two frames are those of `build_past`, collected."""
    counts = Counter(dict(skipped["reason"].value_counts().iter_rows()))
    counts[NO_DAYS] = tracks - forecasts["cm_track_id"].n_unique() - len(skipped)
    by_later_rate = forecasts.filter(_has_a_later_rate(rates))["cm_track_id"].n_unique()
    return Outcome(forecasts, counts, by_later_rate)


def _has_a_later_rate(rates: Rates) -> pl.Expr:
    return pl.col("cm_artist_id").is_in(rates.later["cm_artist_id"].implode())
