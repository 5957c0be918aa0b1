"""Read the stored catalogue: the features of every track, and its forecast if it has one."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.frames.collecting import collect
from forecaster.model import build_tracks
from forecaster.model.calibrated.uncertainty import track_totals
from forecaster.model.features import WINDOW
from forecaster.model.parameters import DAYS_PER_MONTH, Parameters
from forecaster.postgres.catalogue import AT_ONCE, Source, open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.stored import describe_irregular
from forecaster.postgres.stored_with import stored_with
from forecaster.views.origins import known_until
from forecaster.views.total import Total, added_up

_OF_TRACK = (
    "cm_track_id",
    "cm_artist_id",
    "as_of",
    "months_since_release",
    "streams_30",
    "streams_365",
    "influence_range",
    "mldr",
    "k",
    "multiplier",
    "reason",
)


@dataclass(frozen=True)
class Catalogue:
    """Every track with streams or a stored forecast."""

    database: str
    """The URL without password."""
    schema: str
    read_at: datetime
    """In UTC."""
    warnings: tuple[str, ...]
    """Problems of the stored forecasts, each with a way to solve it."""
    tracks: pl.DataFrame
    """One row per track, ordered by cm_track_id.

    cm_track_id, cm_artist_id; as_of, months_since_release, streams_30, streams_365, influence_range (0 to 9),
    mldr, k, multiplier: computed from its present streams, NULL without streams.
    reason: why its streams allow no forecast; NULL if they do.
    history: up to twelve sums of 30 records each, oldest first; the last one is `streams_30`.
    forecast: the stored streams per month, in order; empty if none is stored.
    months, total: number of stored months and their sum; segment (from 1) and age (in months): of the first
    stored month; created_at: when they were stored; cutoff: the as-of day of the forecast, else the last date
    that it may have used.
    NULL without a forecast.
    is_stale: whether streams came after the forecast was stored; false without a forecast.
    low, high: between them lies the total of the track in 80 % of cases; NULL without a forecast.
    """
    total: Total | None = None
    """The total of all tracks over the months that each of them has; None without a forecast."""

    @property
    def with_forecast(self) -> int:
        """Number of tracks with a stored forecast."""
        return self.tracks["months"].count()

    @property
    def skipped(self) -> int:
        """Number of tracks without a stored forecast that a run would skip."""
        return self.tracks.filter(pl.col("months").is_null())["reason"].count()


def read_catalogue(dsn: Dsn, schema: str, parameters: Parameters) -> Catalogue:
    """Read all tracks in one snapshot. All parameters count, except the horizon.

    Raises `NoForecastError` for a schema with neither streams nor forecasts, and what reading raises.
    """
    with open_source(dsn, schema) as source:
        read_at = datetime.now(UTC)
        stored = source.stored()
        parts = list(_parts(source, stored, parameters))
        total, ranges = _how_sure(source, parts)
    if not parts:
        raise NoForecastError(
            f"schema {schema!r} has neither streams nor forecasts",
            hint="load a catalogue with `forecaster load`, or name another schema with --schema",
        )
    tracks = pl.concat(parts).join(ranges, on="cm_track_id", how="left", maintain_order="left")
    warnings = [
        *describe_irregular(stored, schema),
        *_stale(tracks.filter("is_stale")["cm_track_id"], schema),
    ]
    return Catalogue(f"{dsn}", schema, read_at, tuple(warnings), tracks, total)


def _how_sure(source: Source, parts: Sequence[pl.DataFrame]) -> tuple[Total | None, pl.DataFrame]:
    """Compute the total of all forecasts, and of each track its range: cm_track_id, low, high."""
    columns = ("cm_track_id", "age", "created_at", "forecast")
    lists = [part.select(columns).filter(pl.col("forecast").list.len() > 0) for part in parts]
    tracks = pl.concat(lists) if lists else pl.DataFrame()
    if tracks.is_empty():
        kinds = {"cm_track_id": pl.Int64, "low": pl.Float64, "high": pl.Float64}
        return None, pl.DataFrame(schema=kinds)
    number = pl.col("forecast").list.len().cast(pl.Int64)
    rows = (
        tracks.with_columns(month=pl.int_ranges(1, number + 1))
        .explode("month", "forecast")
        .with_columns(forecasted_value="forecast", time_used=pl.col("age") + pl.col("month") - 1)
        .drop_nulls("forecasted_value")
    )
    made_with, lengths = stored_with(source, rows), tracks["forecast"].list.len()
    common, longest = lengths.sort().gather([0, -1]).to_list()
    total = added_up(rows, made_with, common, is_part=False)
    ranges = (
        track_totals(rows.lazy(), made_with.errors, horizon=longest)
        .select("cm_track_id", low="cumulated_q10", high="cumulated_q90")
        .collect()
    )
    return Total(total, len(tracks), len(tracks), made_with), ranges


def _stale(tracks: pl.Series, schema: str) -> Iterator[str]:
    if len(tracks):
        where = "" if schema == "public" else f" --schema {shlex.quote(schema)}"
        yield (
            f"tracks with streams that came after their forecast: {len(tracks):,}, the first is {tracks[0]}; "
            f"compute new forecasts with `forecaster run --refresh{where}`"
        )


def _parts(source: Source, stored: pl.DataFrame, parameters: Parameters) -> Iterator[pl.DataFrame]:
    with_forecast = stored["cm_track_id"].drop_nulls().cast(pl.Int64)
    tracks = pl.concat([source.tracks(), with_forecast]).unique().sort()
    mldr = source.mldr()
    for start in range(0, len(tracks), AT_ONCE):
        chunk = tracks.slice(start, AT_ONCE)
        history = source.history(chunk)
        built = build_tracks(history.records, history.facts, mldr, parameters).select(_OF_TRACK)
        now = built.join(_totals(history.records), on="cm_track_id", how="left")
        then = _stored(source.forecasts(chunk), known_until(source, chunk))
        yield collect(_joined(chunk, now, then))


def _stored(forecasts: pl.DataFrame, cutoffs: pl.DataFrame) -> pl.LazyFrame:
    """Aggregate stored forecasts to one row per track."""
    return (
        forecasts.lazy()
        .group_by("cm_track_id")
        .agg(
            pl.col("cm_artist_id").first().alias("_artist"),
            forecast=pl.col("forecasted_value"),
            months=pl.len().cast(pl.Int64),
            total=pl.col("forecasted_value").sum(),
            segment=pl.col("segment_used").first(),
            age=pl.col("time_used").first(),
            created_at=pl.col("created_at").max(),
        )
        .join(cutoffs.lazy(), on="cm_track_id", how="left")
    )


def _joined(tracks: pl.Series, now: pl.LazyFrame, stored: pl.LazyFrame) -> pl.LazyFrame:
    is_stale = pl.col("as_of") > pl.col("by_rows")
    return (
        tracks.alias("cm_track_id")
        .to_frame()
        .lazy()
        .join(now, on="cm_track_id", how="left")
        .join(stored, on="cm_track_id", how="left")
        .with_columns(
            pl.coalesce("cm_artist_id", "_artist").alias("cm_artist_id"),
            pl.col("history", "forecast").fill_null(pl.lit([], dtype=pl.List(pl.Float64))),
            is_stale=is_stale.fill_null(value=False),
        )
        .drop("_artist", "is_known", "by_rows")
        .sort("cm_track_id")
    )


def _totals(records: pl.LazyFrame) -> pl.LazyFrame:
    """Compute one row per track: the sums of its last 30 records, of the 30 before, etc.; oldest first."""
    streams = pl.col("streams").list
    sums = [
        pl.when(streams.len() >= DAYS_PER_MONTH * (back + 1))
        .then(streams.slice(DAYS_PER_MONTH * back, DAYS_PER_MONTH).list.sum())
        .alias(f"{back}")
        for back in reversed(range(WINDOW // DAYS_PER_MONTH))
    ]
    newest_first = records.with_columns(streams.reverse())
    return newest_first.select("cm_track_id", history=pl.concat_list(sums).list.drop_nulls())
