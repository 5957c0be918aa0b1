"""Forecasts of the past against what came after: stored ones, or made on the spot as of an earlier day."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl

from forecaster.dsn import Dsn
from forecaster.errors import InvalidOptionError, NoForecastError
from forecaster.evaluation import Evaluation, evaluate
from forecaster.files import TABLE_ENDINGS
from forecaster.intake import read_streams
from forecaster.interrupt import interruptible
from forecaster.model import build_forecasts
from forecaster.model.listeners import artist_rates
from forecaster.model.parameters import Parameters
from forecaster.origins import stored_forecasts
from forecaster.postgres.listeners import artists, read_listeners
from forecaster.postgres.source import Source, open_source
from forecaster.postgres.tables import CONTRACT, LISTENERS_TABLE, STREAMS_TABLE
from forecaster.schema import TRACK_DAYS


@dataclass(frozen=True)
class BacktestConfig:
    """What to compare with what. Raises `InvalidOptionError` if the values contradict each other."""

    dsn: Dsn
    schema: str = "public"
    parameters: Parameters = field(default_factory=Parameters)
    """With cutoffs, how the forecasts are made. Without, `as_of` alone counts: that of the stored ones."""
    cutoffs: tuple[date, ...] = ()
    """Make forecasts from the days before each of these. Empty: take the stored ones."""
    actuals: str | None = None
    """Table of the schema, or file, with later streams. None: those of the streams table alone."""
    track_ids: tuple[int, ...] = ()
    """Only these tracks. Empty: all."""

    def __post_init__(self) -> None:
        if self.cutoffs and self.parameters.as_of:
            raise InvalidOptionError(
                "--as-of and --cutoff contradict each other",
                hint="with --cutoff a track's age is measured on its last date before the cutoff",
            )


@dataclass(frozen=True)
class Backtest:
    """The scores, and what the reader of them should know."""

    evaluation: Evaluation
    skipped: dict[str, int]
    """Tracks without a forecast at a cutoff, by reason; over all cutoffs."""
    warnings: list[str]


def backtest(config: BacktestConfig) -> Backtest:
    """Score forecasts against the streams of the 30-day months after them.

    Raises `NoForecastError` if there is nothing to score, what reading raises, and `BadFileError` and
    `SchemaMismatchError` for actuals that cannot be used.
    """
    with open_source(config.dsn, config.schema) as source:
        tracks = _tracks(source, config.track_ids)
        days = source.days(tracks)
        if config.cutoffs:
            forecasts, skipped, warnings = _made(source, days, config)
        else:
            forecasts, warnings = _stored(source, tracks, config)
            skipped = {}
    if config.actuals:
        days = _joined(days, _actuals(config, tracks))
    return Backtest(interruptible(lambda: evaluate(forecasts, days), cancel=None), skipped, warnings)


def _tracks(source: Source, wanted: Sequence[int]) -> pl.Series:
    tracks = source.tracks(wanted or None)
    if unknown := sorted(set(wanted) - set(tracks)):
        raise NoForecastError(
            f"no streams of these tracks: {', '.join(map(str, unknown))}", hint="check the ids, and --schema"
        )
    return tracks


def _stored(source: Source, tracks: pl.Series, config: BacktestConfig) -> tuple[pl.DataFrame, list[str]]:
    among = tracks if config.track_ids else None
    rows, warnings = stored_forecasts(source, among, as_of=config.parameters.as_of)
    is_doubled = pl.struct("cm_track_id", "month").is_duplicated().any().over("cm_track_id")
    doubled = rows.filter(is_doubled)["cm_track_id"].unique().sort()
    if len(doubled):
        rows = rows.filter(~pl.col("cm_track_id").is_in(doubled.implode()))
        warnings.append(
            f"tracks left out because a month of theirs is stored twice: {len(doubled):,}, the first is "
            f"{doubled[0]}; `forecaster run --replace --track-id {doubled[0]}` mends one"
        )
    return rows.rename({"cutoff": "as_of"}).with_columns(cutoff=pl.lit(None, pl.Date)), warnings


def _made(
    source: Source, days: pl.DataFrame, config: BacktestConfig
) -> tuple[pl.DataFrame, dict[str, int], list[str]]:
    """Forecasts as they would have been made at each cutoff, from what was there then."""
    listeners, stored = _listeners(source), source.mldr().collect()
    parameters, warnings = config.parameters, []
    made, skipped = [], []
    for cutoff in sorted(set(config.cutoffs)):
        before = days.lazy().filter(pl.col("date") < cutoff)
        rates, described = _rates(listeners, stored, cutoff, days["cm_artist_id"].unique())
        warnings += described
        built = build_forecasts(
            before,
            rates,
            horizon=parameters.horizon,
            age_from=parameters.age_from,
            influence=parameters.influence,
        )
        as_of = before.group_by("cm_track_id").agg(as_of=pl.col("date").max())
        forecasts = built.forecasts.join(as_of, on="cm_track_id").with_columns(
            pl.col("forecasted_value").round(), cutoff=pl.lit(cutoff)
        )
        one, other = interruptible(partial(pl.collect_all, [forecasts, built.skipped]), cancel=None)
        made.append(one.drop("training_data_id"))
        skipped.append(other)
    reasons = pl.concat(skipped)["reason"].value_counts(sort=True)
    if not any(len(frame) for frame in made):
        raise NoForecastError(
            f"no track can be forecast from the days before {', '.join(map(str, config.cutoffs))}",
            hint="cutoffs have to lie within the days that the streams table holds",
        )
    return pl.concat(made), dict(reasons.iter_rows()), warnings


def _listeners(source: Source) -> pl.DataFrame | None:
    """All records of listeners, where there is such a table."""
    columns = source.tables.columns.get(LISTENERS_TABLE, {})
    if not columns.keys() >= CONTRACT[LISTENERS_TABLE].keys():
        return None
    return read_listeners(source, artists(source)).records.collect()


def _rates(
    listeners: pl.DataFrame | None, stored: pl.DataFrame, cutoff: date, wanted: pl.Series
) -> tuple[pl.LazyFrame, list[str]]:
    """Each artist's rate as it would have been computed at the cutoff, else the stored one."""
    known = stored.filter(pl.col("cm_artist_id").is_in(wanted.implode()))
    if listeners is not None:
        computed = artist_rates(listeners.lazy().filter(pl.col("date") < cutoff))
        then = computed.filter(pl.col("mldr").is_not_null()).select("cm_artist_id", "mldr").collect()
        stored = pl.concat([then, stored.join(then, on="cm_artist_id", how="anti")])
        known = known.join(then, on="cm_artist_id", how="anti")
    return stored.lazy(), list(_stored_rates(known["cm_artist_id"], cutoff))


def _stored_rates(artist_ids: pl.Series, cutoff: date) -> Iterator[str]:
    if len(artist_ids):
        yield (
            f"cutoff {cutoff}: {len(artist_ids):,} artists have no rate from listeners before it; the stored "
            "one was taken, which may know later days"
        )


def _actuals(config: BacktestConfig, tracks: pl.Series) -> pl.DataFrame:
    named = config.actuals or ""
    if named.lower().endswith(TABLE_ENDINGS):
        rows = read_streams(Path(named)).rows
        rows = rows.filter(
            pl.col("cm_track_id").is_in(tracks.implode()), pl.col("daily_streams").is_not_null()
        )
        return rows.with_columns(
            pl.col("daily_streams").cast(pl.Float64), pl.col("days_from_release").cast(pl.Int64)
        )
    schema, _, table = named.rpartition(".")
    with open_source(config.dsn, schema or config.schema, needed=(STREAMS_TABLE,), streams=table) as source:
        return source.days(tracks)


def _joined(days: pl.DataFrame, actuals: pl.DataFrame) -> pl.DataFrame:
    """Of two rows for one track and date, that of the actuals."""
    rest = days.join(actuals, on=["cm_track_id", "date"], how="anti")
    return pl.concat([rest, actuals.select(TRACK_DAYS)])
