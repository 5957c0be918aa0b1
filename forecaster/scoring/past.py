"""Forecast as of earlier days, from the data that was known then. Pure: frames in, frames out."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from forecaster.frames.arrays import np
from forecaster.frames.schemas import RECORDS, RECORDS_WITH_DAYS, conform
from forecaster.model import Forecasts, build_tracks, forecastable, skipped
from forecaster.model.features import WEEK, WINDOW
from forecaster.model.mldr import artist_rates
from forecaster.model.parameters import Parameters
from forecaster.model.projection import project
from forecaster.scoring.windows import Days, read_days
from forecaster.tables import DAILY_STREAMS, FORECASTS

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


@dataclass(frozen=True)
class KnownDays:
    """All days with a record, from which the days before any cutoff are found without reading them all."""

    frame: pl.DataFrame
    """`DAILY_STREAMS`, ordered by track and date, one row for each."""
    days: Days
    """The same rows."""

    @classmethod
    def of(cls, days: pl.DataFrame) -> "KnownDays":
        """Take `TRACK_DAYS`, ordered by track and date. Raises what `read_days` raises."""
        frame = conform(days.lazy(), DAILY_STREAMS, name="days").collect()
        return cls(frame, read_days(frame.lazy()))

    def before(self, cutoff: date, *, with_days: bool = False) -> tuple[pl.LazyFrame, pl.LazyFrame]:
        """Select `RECORDS` (the last 365 of each track) and `TRACK_FACTS` as they were before the cutoff.

        `with_days`: `RECORDS_WITH_DAYS`.
        """
        last = (cutoff - date(1970, 1, 1)).days - 1
        start, track = self.days.starts[:-1], np.arange(len(self.days.tracks))
        end = self.days.rows_until(track, np.full(len(track), last))
        is_known = end > start
        start, end = start[is_known], end[is_known]
        number = np.minimum(end - start, WINDOW)
        row = np.arange(number.sum()) + np.repeat(end - np.cumsum(number), number)
        names = ("cm_track_id", "cm_artist_id", "daily_streams", *(["date"] if with_days else []))
        recent = self.frame[row].select(*names, row=pl.Series(row))
        tracks = _in_window(recent.lazy(), with_days=with_days)
        facts = self.frame[end - 1].select(
            "cm_track_id",
            "cm_artist_id",
            pl.col("id").alias("training_data_id"),
            self.frame["date"][start].alias("first_date"),
            pl.col("date").alias("last_date"),
            "days_from_release",
        )
        of_facts = tracks.select("cm_track_id", "has_several_artists")
        records = tracks.select(RECORDS_WITH_DAYS if with_days else RECORDS)
        return records, facts.lazy().join(of_facts, on="cm_track_id")


def _in_window(recent: pl.LazyFrame, *, with_days: bool) -> pl.LazyFrame:
    """Collect the last records of each track: cm_track_id, streams, has_several_artists; perhaps days."""
    artist = pl.col("cm_artist_id")
    days = {"days": pl.col("date").to_physical().sort_by("row")} if with_days else {}
    return recent.group_by("cm_track_id").agg(
        **days,
        streams=pl.col("daily_streams").sort_by("row"),
        has_several_artists=(artist.min() < artist.max()).fill_null(value=False),
    )


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
    known: KnownDays, rates: Rates, /, *, cutoff: date, parameters: Parameters, later_rates: bool
) -> Forecasts:
    """Forecast from the days before the cutoff. Lazy, like `forecaster.model.build_forecasts`.

    Adds to the forecasts `cutoff` and `as_of`, the track's last day before it. With
    `later_rates`, a later rate replaces one that is not known; without it, these tracks have the reason
    `NO_RATE`.
    """
    mldr = pl.concat([rates.known, rates.later] if later_rates else [rates.known]).lazy()
    days = known.before(cutoff, with_days=parameters.level == WEEK)
    tracks = build_tracks(*days, mldr, parameters)
    forecasts = (
        project(forecastable(tracks), horizon=parameters.horizon, level=parameters.level)
        .join(tracks.select("cm_track_id", as_of="last_date"), on="cm_track_id", maintain_order="left")
        .with_columns(FORECASTS.rounded_streams(), cutoff=pl.lit(cutoff))
        .drop("training_data_id")
    )
    is_unknown = (pl.col("reason") == "no_mldr") & _has_a_later_rate(rates)
    reason = pl.when(is_unknown).then(pl.lit(NO_RATE)).otherwise("reason")
    return Forecasts(forecasts, skipped(tracks).with_columns(reason=reason))


def outcome(forecasts: pl.DataFrame, skipped: pl.DataFrame, rates: Rates, /, *, tracks: int) -> Outcome:
    """Count the outcome of `tracks` tracks; the two frames are those of `build_past`, collected."""
    counts = Counter(dict(skipped["reason"].value_counts().iter_rows()))
    counts[NO_DAYS] = tracks - forecasts["cm_track_id"].n_unique() - len(skipped)
    by_later_rate = forecasts.filter(_has_a_later_rate(rates))["cm_track_id"].n_unique()
    return Outcome(forecasts, counts, by_later_rate)


def _has_a_later_rate(rates: Rates) -> pl.Expr:
    return pl.col("cm_artist_id").is_in(rates.later["cm_artist_id"].implode())
