"""Forecast every pending track and store the result: lock, read, build, write, chunk by chunk."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

from forecaster.attempts import persevere
from forecaster.dsn import Dsn
from forecaster.errors import (
    ConnectionLostError,
    DatabaseError,
    InvalidOptionError,
    NoForecastError,
)
from forecaster.interrupt import both, cancel_all, interruptible, outcome
from forecaster.model import build_tracks, forecastable, skipped
from forecaster.model.features import looks_ahead
from forecaster.model.parameters import Parameters
from forecaster.model.projection import project
from forecaster.postgres.connection import Connection, connect, end_connections, query, statement_errors
from forecaster.postgres.lock import ENDS_WITHIN, take_lock
from forecaster.postgres.sink import Fitted, Stored, fit, store_forecasts, uuid_bytes
from forecaster.postgres.source import History, Source, export_snapshot
from forecaster.postgres.stored import describe_irregular, missing_key
from forecaster.postgres.tables import FORECAST_TABLE, TO_FORECAST, check_rights, read_tables
from forecaster.report import RunReport

CHUNK = 2_500
"""Tracks per chunk, which is one transaction. Four are in memory at most: read, computed, waiting, stored."""

_IN_ONE_PASS = 4  # times the size of a chunk where each read goes over all rows of the table


@dataclass(frozen=True)
class RunConfig:
    """What a run does. Raises `InvalidOptionError` on creation if a value cannot be used."""

    dsn: Dsn
    schema: str = "public"
    parameters: Parameters = field(default_factory=Parameters)
    track_ids: tuple[int, ...] = ()
    """Only these tracks, where they are pending. Empty: all."""
    limit: int | None = None
    """At most so many tracks, in the order of their ids; skipped ones count. None: all."""
    replace: bool = False
    """Also the tracks that have a forecast, which takes the place of theirs."""
    dry_run: bool = False
    """Everything but the write."""
    wait: float = 0.0
    """Seconds to wait for another run to end."""

    def __post_init__(self) -> None:
        if self.limit is not None and not 1 <= self.limit < 2**63:
            raise InvalidOptionError(f"limit is {self.limit}: expected at least 1")
        if not 0 <= self.wait < 2**31:
            raise InvalidOptionError(f"wait is {self.wait}: expected a number of seconds of at least 0")


def run(config: RunConfig, report: RunReport | None = None) -> RunReport:
    """Forecast the pending tracks and store the result, each chunk of tracks in one transaction.

    A connection that is lost while reading is made anew, with a limit; a write is never tried twice. The
    `report` is filled in on the way, so that it is there whatever happens.

    Raises `DatabaseUnreachableError`; `SchemaMismatchError` before anything is read; `LockedError` if
    another run writes to the same table; `NoForecastError` for track ids without streams;
    `WriteRefusedError` for rows that the table cannot hold; `DatabaseError` for all else the server refuses.
    """
    work = _Run(config, report or RunReport())
    persevere(work.attempt, work.report)
    work.report.warnings += work.remarks()
    return work.report


class _Computed(NamedTuple):
    """A chunk of tracks on its way into the table."""

    track_ids: pl.Series
    forecasts: Fitted
    """Of the tracks that the table can hold."""
    skipped: pl.DataFrame
    refused: dict[int, str]
    """Tracks that the table cannot hold, and why."""
    duplicates: int
    """Daily rows left out."""


class _Run:
    """A run in progress: what is done stays done when the connection is lost and made anew."""

    def __init__(self, config: RunConfig, report: RunReport) -> None:
        self.config = config
        self.report = report
        self.created_at = datetime.now(UTC)
        self.todo: pl.Series | None = None
        """The tracks still to be looked at, once they are known."""
        self.replaced = pl.Series(dtype=pl.Int64)
        """The tracks looked at that have a forecast."""
        self.looking_ahead = 0
        """The tracks that have streams after the as-of date."""
        self.counted = False
        """Whether the daily rows that are no records have been."""
        self.holder: str | None = None
        """The application name under which the lock was held last."""
        report.parameters = config.parameters
        report.database = str(config.dsn)
        report.schema = config.schema
        report.ids = config.track_ids
        report.limit = config.limit
        report.replace = config.replace
        report.dry_run = config.dry_run
        report.started_at = self.created_at.isoformat()

    def attempt(self) -> None:
        """Do all that is still to do."""
        config, report = self.config, self.report
        with ExitStack() as stack:
            with report.stage("connect"):
                reader = stack.enter_context(connect(config.dsn, repeatable_read=True))
                report.server = query(reader, "SELECT current_setting('server_version')").item()
                tables = read_tables(reader, config.schema)
                tables.check(*TO_FORECAST)
                check_rights(reader, tables, self._rights)
                reader.commit()  # the snapshot has to be younger than the lock
                writer = None
                if not config.dry_run:
                    writer = stack.enter_context(connect(config.dsn, beside=reader))
                    if self.holder:  # the server need not have noticed that it is gone
                        end_connections(config.dsn, self.holder)
                    wait = max(config.wait, ENDS_WITHIN if self.holder else 0)
                    self.holder = take_lock(writer, tables, wait=wait)
                source = Source(config.dsn, tables, export_snapshot(reader))
            with report.stage("read"):
                todo = self._find_work(source)
            if len(todo):
                self._forecast_all(source, writer, todo)

    def remarks(self) -> Iterator[str]:
        """Sentences on forecasts that look ahead, and on those that were to be replaced."""
        yield from looks_ahead(self.looking_ahead, self.config.parameters.as_of)
        got_none = [*self.report.skipped["cm_track_id"], *self.report.refused]
        kept = self.replaced.filter(self.replaced.is_in(got_none)).sort()
        if len(kept):
            yield (
                f"tracks that get no new forecast and keep the one they have: {len(kept):,}, "
                f"the first is {kept[0]}"
            )

    @property
    def _rights(self) -> dict[str, tuple[str, ...]]:
        write = ("INSERT", *(["DELETE"] if self.config.replace else []))
        return dict.fromkeys(TO_FORECAST, ("SELECT",)) | {
            FORECAST_TABLE: ("SELECT", *(() if self.config.dry_run else write))
        }

    def _find_work(self, source: Source) -> pl.Series:
        """Sets `todo` and returns it; the first time, also says what is wrong with the tables."""
        config, first_attempt = self.config, self.todo is None
        among = self.todo if self.todo is not None else pl.Series(config.track_ids, dtype=pl.Int64)
        everything = first_attempt and among.is_empty()
        wanted = None if everything else among
        tracks, stored = both(
            lambda: source.tracks(wanted), lambda: source.stored(wanted), cancel=source.cancel
        )
        if first_attempt and len(unknown := among.filter(~among.is_in(tracks.implode())).unique().sort()):
            raise NoForecastError(
                f"no streams of these tracks: {', '.join(map(str, unknown))}",
                hint="check the ids, and --schema; `forecaster load` loads streams",
            )
        with_forecast = stored["cm_track_id"].drop_nulls()
        if not config.replace:
            tracks = tracks.filter(~tracks.is_in(with_forecast.implode()))
        without_track = source.rows_without_track() if everything else 0
        self.todo = tracks if config.limit is None or not first_attempt else tracks.head(config.limit)
        if first_attempt:
            self.report.pending = len(self.todo)
            self.report.unusable_rows += without_track
            self.replaced = with_forecast.filter(with_forecast.is_in(self.todo.implode()))
            left = stored.filter(~pl.col("cm_track_id").is_in(self.replaced.implode()).fill_null(value=False))
            self.report.warnings += [
                *missing_key(source.tables),
                *describe_irregular(left, config.schema, horizon=config.parameters.horizon),
            ]
        return self.todo

    def _forecast_all(self, source: Source, writer: Connection | None, todo: pl.Series) -> None:
        """While a chunk is computed, the next one is read and those before are stored, each in a thread."""
        size = CHUNK if source.reads_by_index else CHUNK * _IN_ONE_PASS
        chunks = [todo.slice(start, size) for start in range(0, len(todo), size)]
        with (
            ThreadPoolExecutor(1) as reading,
            ThreadPoolExecutor(1) as beside,
            ThreadPoolExecutor(1) as writing,
        ):
            ahead = [reading.submit(self._read, source, chunk) for chunk in chunks[:1]]
            mldr = beside.submit(source.mldr)
            left_out = beside.submit(self._count_unusable, source, todo)
            behind: list[Future[None]] = []
            try:
                for number, chunk in enumerate(chunks, start=1):
                    history = outcome(ahead[0], beside=behind)
                    following = chunks[number : number + 1]
                    ahead[:] = [reading.submit(self._read, source, next_one) for next_one in following]
                    computed = self._compute(source, chunk, history, outcome(mldr, beside=behind))
                    for write in behind[:-1]:  # one may still wait for its turn
                        outcome(write)
                    behind[:] = [*behind[-1:], writing.submit(self._finish, source, writer, computed)]
                outcome(left_out, beside=behind)
                for write in behind:
                    outcome(write)
            except Exception:
                # What is being stored is not broken off. Should it fail, that is what counts: it must not be
                # tried again, while what could not be read may be.
                cancel_all([mldr, *ahead, left_out], source.cancel)
                for write in behind:
                    outcome(write)
                raise
            except BaseException:
                cancel_all([mldr, *ahead, left_out, *behind], lambda: _cancel(source, writer))
                raise

    def _count_unusable(self, source: Source, todo: pl.Series) -> None:
        """Once, however often the connection is made anew."""
        if not self.counted:
            self.report.unusable_rows += source.unusable_rows(todo)
            self.counted = True

    def _read(self, source: Source, track_ids: pl.Series) -> History:
        with self.report.stage("read") as stage:
            stage.count = len(track_ids)
            return source.history(track_ids)

    def _compute(self, source: Source, chunk: pl.Series, history: History, mldr: pl.LazyFrame) -> _Computed:
        report, parameters = self.report, self.config.parameters
        if parameters.as_of:
            later = history.facts.select((pl.col("last_date") > parameters.as_of).sum())
            self.looking_ahead += later.collect().item()
        tracks = build_tracks(history.records, history.facts, mldr, parameters, checkpoint=report.checkpoint)
        with report.stage("projection") as stage:
            stage.count = len(chunk)
            frames = [self._rows(source, tracks), skipped(tracks)]
            forecasts, bad = interruptible(lambda: pl.collect_all(frames), cancel=None)
            fitted = fit(forecasts, source.tables, FORECAST_TABLE)
            refused = fitted.by("cm_track_id")
            if refused:
                unfit = pl.Series(list(refused), dtype=pl.Int64).implode()
                good = forecasts.filter(~pl.col("cm_track_id").is_in(unfit))
                fitted = fit(good, source.tables, FORECAST_TABLE)
        return _Computed(chunk, fitted, bad, refused, history.duplicates)

    def _finish(self, source: Source, writer: Connection | None, computed: _Computed) -> None:
        """Count and store a chunk, in one transaction; without a writer, only count. Then it is done."""
        report = self.report
        report.skipped = report.skipped.vstack(computed.skipped)
        report.refused |= computed.refused
        report.duplicate_rows += computed.duplicates
        rows = len(computed.forecasts.rows)
        if writer and rows:
            with report.stage("write") as stage:
                stage.count = len(computed.track_ids)
                stored = self._store(source, writer, computed.forecasts)
            rows = stored.rows
            report.rows += rows
            report.taken += stored.taken
        report.forecast += rows // self.config.parameters.horizon
        if self.todo is not None:
            self.todo = self.todo.slice(len(computed.track_ids))

    def _rows(self, source: Source, tracks: pl.LazyFrame) -> pl.LazyFrame:
        """Forecasts as they are stored, in whole streams."""
        if source.tables.type(FORECAST_TABLE, "training_data_id") == "uuid":
            tracks = tracks.with_columns(uuid_bytes(pl.col("training_data_id")))
        return project(forecastable(tracks), horizon=self.config.parameters.horizon).with_columns(
            pl.col("forecasted_value").round(), created_at=self.created_at
        )

    def _store(self, source: Source, writer: Connection, forecasts: Fitted) -> Stored:
        horizon, replace = self.config.parameters.horizon, self.config.replace
        try:
            with statement_errors(self.config.dsn):
                return store_forecasts(writer, source.tables, forecasts, horizon=horizon, replace=replace)
        except ConnectionLostError as error:
            # Not to be tried again blindly: the server may have got the commit.
            raise DatabaseError(
                f"the connection was lost while writing: {error}",
                hint="each track has all its months or none; the next run completes the rest",
            ) from None


def _cancel(source: Source, writer: Connection | None) -> None:
    source.cancel()
    if writer:
        writer.adbc_cancel()
