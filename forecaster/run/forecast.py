"""Compute the forecasts of a batch: the model from its records to rows in the sink's types."""

import polars as pl

from forecaster.frames.collecting import collect_all
from forecaster.model import build_tracks, forecastable, skipped
from forecaster.model.parameters import Parameters
from forecaster.model.projection import project
from forecaster.run.batch import Computed, Fit, History
from forecaster.run.stages import Stages


def forecast(history: History, fit: Fit, stages: Stages, /, *, parameters: Parameters) -> Computed:
    """The forecasts of the tracks, in whole streams, as the sink takes them."""
    records, facts, mldr = history.records, history.facts, history.mldr
    tracks = build_tracks(records, facts, mldr, parameters, checkpoint=stages.checkpoint)
    with stages.stage("projection") as stage:
        rows = project(forecastable(tracks), horizon=parameters.horizon)
        is_ahead = pl.col("last_date") > pl.lit(parameters.as_of, dtype=pl.Date)
        counts = tracks.select(pl.len(), ahead=is_ahead.sum())
        frames = [rows.with_columns(pl.col("forecasted_value").round()), skipped(tracks), counts]
        forecasts, left_out, counted = collect_all(frames)
        fitted, refused = fit(forecasts)
        stage.count, looking_ahead = counted.row(0)
    return Computed(
        fitted,
        len(fitted.rows) // parameters.horizon,
        left_out,
        refused,
        history.duplicate_rows,
        history.unusable_rows,
        looking_ahead or 0,
    )
