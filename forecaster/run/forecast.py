"""Compute the forecasts of a batch: from rows or records to rows in the types of a sink."""

from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import import_module

import polars as pl

from forecaster.frames.casting import Fitted, fit, fit_or_refuse
from forecaster.frames.collecting import collect_all
from forecaster.frames.schemas import KNOWN
from forecaster.model import forecastable, records_and_facts, skipped, until
from forecaster.model.features import clean
from forecaster.model.parameters import Parameters
from forecaster.process.signals import started
from forecaster.run.batch import Computed, Fit, History
from forecaster.run.made_with import MadeWith
from forecaster.run.observe import by_end, observed, suspicious
from forecaster.run.plausible import Limits
from forecaster.run.stages import Stages
from forecaster.tables import FORECASTS, STREAMS

_NONE: Limits = {}
_NEEDED_LATER = ("forecaster.model.decay_fit", "pyarrow")


def import_the_rest() -> None:
    """Import, in a thread, what a run needs only when it has read: meanwhile it waits for its source."""
    started(lambda: [import_module(name) for name in _NEEDED_LATER])


def history_of(
    daily: pl.DataFrame, mldr: pl.LazyFrame, /, *, with_days: bool = False, last: date | None = None
) -> History:
    """Build the input for forecasts of all tracks in `daily`.

    `daily`: `DAILY_STREAMS`, one row per track and day; `mldr`: `NEWEST_MLDR`. `with_days`: also the days of
    the records; `last`: as if no later day existed.
    """
    rows, is_record = until(daily.lazy(), last), STREAMS.is_record()
    counts = [rows.select(is_record.sum()), daily.lazy().select((~is_record).sum())]
    usable, unusable, cleaned = collect_all([*counts, clean(rows)])
    records, facts = records_and_facts(daily.lazy(), cleaned.lazy(), with_days=with_days)
    return History(records, facts, mldr, int(usable.item()) - len(cleaned), int(unusable.item()))


def fit_made(forecasts: pl.DataFrame, created_at: datetime, /) -> tuple[Fitted, dict[int, str]]:
    """Cast forecasts to the types of the table that `init` creates.

    Also returns the tracks that these types cannot hold, with the reason. `training_data_id` keeps its type.
    """
    fitted, refused = fit_or_refuse(forecasts, _fit_made, by=FORECASTS.owner)
    at = pl.lit(created_at.astimezone(UTC), dtype=pl.Datetime("us", "UTC"))
    return replace(fitted, rows=fitted.rows.with_columns(created_at=at)), refused


def _fit_made(forecasts: pl.DataFrame) -> Fitted:
    fitted = fit(forecasts.drop("training_data_id"), FORECASTS.made)
    return replace(fitted, rows=fitted.rows.with_columns(forecasts["training_data_id"]))


def forecast(
    history: History,
    fit: Fit,
    stages: Stages,
    /,
    *,
    parameters: Parameters | None = None,
    limits: Limits = _NONE,
    made_with: MadeWith | None = None,
) -> Computed:
    """Forecast the tracks of a batch: streams per month, rounded to integers, in the types of the sink.

    `limits`: thresholds of the checks of plausibility; without them, only the last days are observed.
    `made_with`: the model and its parameters; by default the production model with these `parameters`.
    """
    made_with = made_with or MadeWith(parameters or Parameters())
    parameters, tracks = made_with.parameters, made_with.tracks(history, stages)
    with stages.stage("projection") as stage:
        rows = made_with.project(forecastable(tracks))
        is_ahead = pl.col("last_date") > pl.lit(parameters.as_of, dtype=pl.Date)
        counts = tracks.select(pl.len(), ahead=is_ahead.sum())
        known, seen = tracks.select(KNOWN.names()), (by_end(tracks), suspicious(tracks, limits))
        rounded = rows.with_columns(FORECASTS.rounded_streams(), *made_with.exact)
        frames = [rounded, skipped(tracks), counts, known, *seen]
        forecasts, left_out, counted, looked_at, *found = collect_all(frames)
        intervals = made_with.intervals(forecasts)
        fitted, refused = fit(forecasts.select(FORECASTS.given_names))
        stage.count, looking_ahead = counted.row(0)
    return Computed(
        fitted,
        len(fitted.rows) // parameters.horizon,
        left_out,
        refused,
        history.duplicate_rows,
        history.unusable_rows,
        looking_ahead or 0,
        looked_at,
        observed(*found),
        intervals,
    )
