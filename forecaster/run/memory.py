"""A catalogue and its forecasts in memory: the twin of database and files, for tests and notebooks."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import polars as pl

from forecaster.errors import InvalidOptionError
from forecaster.frames.casting import Fitted
from forecaster.frames.collecting import collect
from forecaster.frames.schemas import conform
from forecaster.model.features import looks_ahead
from forecaster.model.mldr import newest_mldr
from forecaster.run.batch import Computed, Done, History, Work, done_of
from forecaster.run.config import RunConfig
from forecaster.run.forecast import fit_made, forecast, history_of
from forecaster.run.made_with import PRODUCTION, MadeWith
from forecaster.run.observe import by_end, observed
from forecaster.run.report import TRACKS, Report
from forecaster.run.selection import limited, named
from forecaster.run.session import Opened
from forecaster.run.stages import Stages
from forecaster.tables import RATES, STREAMS


@dataclass
class Memory:
    """Daily streams and MLDR in frames, and the forecasts that runs have stored."""

    streams: pl.DataFrame
    """One row per track and day, with the columns that `build_forecasts` takes."""
    mldr: pl.DataFrame
    forecasts: pl.DataFrame = field(default_factory=pl.DataFrame)
    """One row per track and month, in the types of the table that `init` creates; empty at first."""
    batch: int = 2_500
    """Tracks per batch."""

    def session(self, config: RunConfig, report: Report, /) -> "MemorySession":
        """Begin a run on these frames.

        Raises `SchemaMismatchError` for columns that do not fit, `InvalidOptionError` to refresh.
        """
        if config.refresh:
            raise InvalidOptionError("refresh is not supported: frames do not record what a forecast knew")
        if config.model != PRODUCTION:
            raise InvalidOptionError(
                f"model {config.model} is not supported in memory",
                hint="use build_forecasts(..., model=calibration)",
            )
        return MemorySession(self, config, report)

    def forecast_tracks(self) -> pl.Series:
        """Return the ids of the tracks that have a forecast, in order."""
        known = self.forecasts["cm_track_id"] if len(self.forecasts) else pl.Series(dtype=pl.Int64)
        return known.unique().sort()


class MemorySession:
    """A run in progress on frames."""

    was_reached = True

    def __init__(self, memory: Memory, config: RunConfig, report: Report) -> None:
        self.memory, self.config, self.report = memory, config, report
        self.daily = conform(memory.streams.lazy(), STREAMS.frame, name="streams").collect()
        self.created_at = datetime.now(UTC)
        self.todo: pl.Series | None = None
        report.begin(TRACKS)
        report.describe(config)
        report.place = {"source": "memory"}
        report.started_at = self.created_at.isoformat()

    @contextmanager
    def opened(self, *, repeats: bool) -> Iterator[Opened]:  # noqa: ARG002 - it stays in this process
        """Find the pending tracks; frames need no lock.

        Raises `InvalidOptionError` for an engine that executes batches in other processes.
        """
        with self.report.stages.stage("read"):
            todo = self._find() if self.todo is None else self.todo
        mldr = newest_mldr(conform(self.memory.mldr.lazy(), RATES.frame, name="mldr"))
        limits = self.config.plausibility.limits
        compute = partial(forecast, made_with=MadeWith(self.config.parameters), limits=limits)
        sink = MemorySink(self.memory, self.created_at, dry_run=self.config.dry_run)
        catalogue = MemoryCatalogue(self.daily, mldr, with_days=MadeWith(self.config.parameters).needs_days)
        work = Work(catalogue, compute, sink, self.report.stages, len, overlaps=True)

        def cut(_places: int | None) -> Sequence[pl.Series]:
            return [todo.slice(start, self.memory.batch) for start in range(0, len(todo), self.memory.batch)]

        yield Opened(work, cut)

    def count(self, batch: pl.Series, done: Done, /) -> None:
        """Add the outcome of a batch to the report."""
        self.report.add(done)
        if done.is_stored and self.todo is not None:
            self.todo = self.todo.filter(~self.todo.is_in(batch.implode()))

    def fail(self, _batch: pl.Series, error: Exception, /) -> None:
        """Raise the error: no other batch is in progress."""
        raise error

    def finish(self) -> None:
        """Do nothing: a batch that failed has raised its error."""

    def remarks(self) -> Iterator[str]:
        """Yield a warning about tracks that have streams after the as-of date."""
        yield from looks_ahead(self.report.looking_ahead, self.config.parameters.as_of)

    def _find(self) -> pl.Series:
        config, known = self.config, self.daily["cm_track_id"].drop_nulls().unique().sort()
        tracks = named(config, known, rows="streams of these tracks", hint="check the ids")
        if not config.replace:
            tracks = tracks.filter(~tracks.is_in(self.memory.forecast_tracks().implode()))
        self.todo = limited(config, tracks)
        self.report.pending, self.report.is_whole = len(self.todo), not config.ids
        if not config.ids:
            self.report.unusable_rows += self.daily["cm_track_id"].null_count()
            others = self.daily.filter(~pl.col("cm_track_id").is_in(self.todo.implode()))
            self.report.observed += observed(collect(by_end(history_of(others, pl.LazyFrame()).facts)))
        return self.todo


@dataclass(frozen=True)
class MemoryCatalogue:
    """Daily rows with the columns of `STREAMS.frame`, and `NEWEST_MLDR`."""

    daily: pl.DataFrame
    mldr: pl.LazyFrame
    with_days: bool = False
    """Whether the model must know the days of the records."""

    def read(self, track_ids: pl.Series, /) -> History:
        """Read the cleaned records of the tracks."""
        rows = self.daily.filter(pl.col("cm_track_id").is_in(track_ids.implode()))
        return history_of(rows, self.mldr, with_days=self.with_days)


@dataclass(frozen=True)
class MemorySink:
    """The forecasts of a `Memory`."""

    memory: Memory
    created_at: datetime
    dry_run: bool

    def fit(self, rows: pl.DataFrame, /) -> tuple[Fitted, dict[int, str]]:
        """Cast rows to the types of the table that `init` creates."""
        return fit_made(rows, self.created_at)

    def held(self, _track_ids: pl.Series, /) -> "AbstractContextManager[MemorySink]":
        """Hold nothing: no other process has the frames."""
        return nullcontext(self)

    def store(self, track_ids: pl.Series, computed: Computed, stages: Stages, /) -> Done:
        """Replace the forecasts of the tracks; in a dry run, do nothing."""
        if self.dry_run or not computed.results:
            return done_of(computed)
        with stages.stage("write") as stage:
            stage.count = len(track_ids)
            rows, before = computed.fitted.rows, self.memory.forecasts
            if len(before):
                stays = ~pl.col("cm_track_id").is_in(rows["cm_track_id"].unique().implode())
                rows = pl.concat([before.filter(stays), rows])
            self.memory.forecasts = rows.sort("cm_track_id", "month")
        return done_of(computed)
