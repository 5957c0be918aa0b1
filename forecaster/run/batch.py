"""One chunk of tracks on its way from the tables into the table: read, computed, stored."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import polars as pl

from forecaster.errors import ConnectionLostError, StalledError
from forecaster.frames.casting import Fitted
from forecaster.model import build_tracks, forecastable, skipped
from forecaster.model.parameters import Parameters
from forecaster.model.projection import project
from forecaster.postgres.catalogue import History, Source
from forecaster.postgres.connection import Connection, not_again, statement_errors
from forecaster.postgres.forecasts import store_forecasts
from forecaster.postgres.rows import Stored, fit_or_refuse, uuid_bytes
from forecaster.process.signals import Cancel, interruptible
from forecaster.run.report import Report
from forecaster.tables import FORECAST_TABLE


class Done(NamedTuple):
    """What became of a chunk. Small: it may come from another process."""

    track_ids: pl.Series
    rows: int
    """Of forecasts: stored, or only computed where nothing is to be written."""
    skipped: pl.DataFrame
    refused: dict[int, str]
    """Tracks that the table cannot hold, and why."""
    taken: list[int]
    """Tracks that got a forecast from another writer meanwhile, and none from us."""
    duplicates: int
    """Daily rows left out."""
    looking_ahead: int
    """Tracks that have streams after the as-of date."""


class Computed(NamedTuple):
    """A chunk before it is stored."""

    forecasts: Fitted
    """Of the tracks that the table can hold."""
    done: Done


@dataclass(frozen=True)
class Worker:
    """What it takes to work chunks: where from, where to, and how."""

    source: Source
    writer: Connection | None
    """None: everything but the write."""
    parameters: Parameters
    created_at: datetime
    replace: bool
    report: Report
    """Gets the seconds of each stage."""

    def read(self, track_ids: pl.Series) -> History:
        """The last records of the tracks."""
        with self.report.stage("read") as stage:
            stage.count = len(track_ids)
            return self.source.history(track_ids)

    def compute(self, track_ids: pl.Series, history: History, mldr: pl.LazyFrame) -> Computed:
        """The forecasts of the tracks, as the table takes them."""
        looking_ahead = 0
        if self.parameters.as_of:
            later = history.facts.select((pl.col("last_date") > self.parameters.as_of).sum())
            looking_ahead = later.collect().item()
        checkpoint = self.report.checkpoint
        tracks = build_tracks(history.records, history.facts, mldr, self.parameters, checkpoint=checkpoint)
        with self.report.stage("projection") as stage:
            stage.count = len(track_ids)
            frames = [self._rows(tracks), skipped(tracks)]
            forecasts, bad = interruptible(lambda: pl.collect_all(frames), cancel=None)
            fitted, refused = fit_or_refuse(forecasts, self.source.tables, FORECAST_TABLE, by="cm_track_id")
        done = Done(track_ids, len(fitted.rows), bad, refused, [], history.duplicates, looking_ahead)
        return Computed(fitted, done)

    def store(self, computed: Computed) -> Done:
        """Store a chunk in one transaction; without a writer, nothing."""
        if self.writer is None or not computed.done.rows:
            return computed.done
        with self.report.stage("write") as stage:
            stage.count = len(computed.done.track_ids)
            stored = self._store(self.writer, computed.forecasts)
        return computed.done._replace(rows=stored.rows, taken=stored.taken)

    @property
    def cancel(self) -> Cancel:
        """Breaks off whatever is going on."""
        asks, cut = self.source.cancel
        return Cancel([*asks, self.writer.adbc_cancel] if self.writer else asks, cut)

    def _rows(self, tracks: pl.LazyFrame) -> pl.LazyFrame:
        """Forecasts as they are stored, in whole streams."""
        if self.source.tables.type(FORECAST_TABLE, "training_data_id") == "uuid":
            tracks = tracks.with_columns(uuid_bytes(pl.col("training_data_id")))
        return project(forecastable(tracks), horizon=self.parameters.horizon).with_columns(
            pl.col("forecasted_value").round(), created_at=self.created_at
        )

    def _store(self, writer: Connection, forecasts: Fitted) -> Stored:
        dsn, tables, horizon = self.source.dsn, self.source.tables, self.parameters.horizon
        try:
            with statement_errors(dsn):
                return store_forecasts(writer, tables, forecasts, horizon=horizon, replace=self.replace)
        except (ConnectionLostError, StalledError) as error:
            hint = "each track has all its months or none; the next run completes the rest"
            raise not_again(error, hint) from None
