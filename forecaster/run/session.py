"""Forecast every pending track and store the result: lock, read, build, write, chunk by chunk."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from forecaster.errors import (
    InvalidOptionError,
    NoForecastError,
)
from forecaster.model.features import looks_ahead
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import Source, export_snapshot, slices
from forecaster.postgres.connection import Connection, commit, connect, end_connections
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import ENDS_WITHIN, take_lock
from forecaster.postgres.rights import check_rights, warnings_of_hidden_rows
from forecaster.postgres.server import check_writable, server_state
from forecaster.postgres.stored import describe_irregular, missing_key
from forecaster.postgres.tables import Tables, read_tables
from forecaster.process.signals import both, cancel_all, cancel_now, outcome
from forecaster.run.batch import Computed, Done, Worker
from forecaster.run.report import RunReport
from forecaster.run.retry import persevere
from forecaster.tables import FORECAST_TABLE, TO_FORECAST

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
    return Run(config, report or RunReport()).finished()


class Run:
    """A run in progress: what is done stays done when the connection is lost and made anew.

    A subclass may have chunks worked elsewhere, by `work_all`.
    """

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

    def finished(self) -> RunReport:
        """Do it, and say what is to be said about it."""
        persevere(self._attempt, self.report)
        self.report.warnings += self._remarks()
        return self.report

    def _attempt(self) -> None:
        """Do all that is still to do."""
        config, report = self.config, self.report
        with ExitStack() as stack:
            with report.stage("connect"):
                reader = stack.enter_context(connect(config.dsn, repeatable_read=True))
                report.server = self._look_at(reader)
                tables = read_tables(reader, config.schema)
                tables.check(*TO_FORECAST)
                self.check(tables)
                check_rights(reader, tables, self._rights)
                commit(reader)  # the snapshot has to be younger than the lock
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
                self.work_all(self._worker(source, writer), todo)

    def _look_at(self, reader: Connection) -> str:
        """The server's version, where what is to be done can be done."""
        state = server_state(reader)
        if not self.config.dry_run:
            check_writable(reader, state)
        return state.version

    def check(self, tables: Tables) -> None:
        """Raise what is against this kind of run, once it is known what the tables are like."""

    def _remarks(self) -> Iterator[str]:
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
                *warnings_of_hidden_rows(source.tables, *TO_FORECAST),
                *missing_key(source.tables),
                *describe_irregular(left, config.schema, horizon=config.parameters.horizon),
            ]
        return self.todo

    def work_all(self, worker: Worker, todo: pl.Series) -> None:
        """While a chunk is computed, the next one is read and those before are stored, each in a thread."""
        size = CHUNK if worker.source.reads_by_index else CHUNK * _IN_ONE_PASS
        chunks = slices(todo, size)
        with (
            ThreadPoolExecutor(1) as reading,
            ThreadPoolExecutor(1) as beside,
            ThreadPoolExecutor(1) as writing,
        ):
            ahead = [reading.submit(worker.read, chunk) for chunk in chunks[:1]]
            mldr = beside.submit(worker.source.mldr)
            left_out = beside.submit(self.count_unusable, worker.source, todo)
            behind: list[Future[None]] = []
            try:
                for number, chunk in enumerate(chunks, start=1):
                    history = outcome(ahead[0], beside=behind)
                    following = chunks[number : number + 1]
                    ahead[:] = [reading.submit(worker.read, next_one) for next_one in following]
                    computed = worker.compute(chunk, history, outcome(mldr, beside=behind))
                    for write in behind[:-1]:  # one may still wait for its turn
                        outcome(write)
                    behind[:] = [*behind[-1:], writing.submit(self._store, worker, computed)]
                outcome(left_out, beside=behind)
                for write in behind:
                    outcome(write)
            except Exception:
                # What is being stored is not broken off. Should it fail, that is what counts: it must not be
                # tried again, while what could not be read may be.
                cancel_all([mldr, *ahead, left_out], worker.source.cancel)
                for write in behind:
                    outcome(write)
                raise
            except BaseException:
                cancel_now([mldr, *ahead, left_out, *behind], worker.cancel)
                raise

    def count_unusable(self, source: Source, todo: pl.Series) -> None:
        """Once, however often the connection is made anew."""
        if not self.counted:
            self.report.unusable_rows += source.unusable_rows(todo)
            self.counted = True

    def count_computed(self, done: Done) -> None:
        """Add up what is known of a chunk before it is stored, and whether it can be."""
        report = self.report
        report.skipped = report.skipped.vstack(done.skipped)
        report.refused |= done.refused
        report.duplicate_rows += done.duplicates
        self.looking_ahead += done.looking_ahead

    def count_stored(self, done: Done) -> None:
        """Add up what became of a chunk. Then it is done."""
        report = self.report
        report.taken += done.taken
        report.forecast += done.rows // self.config.parameters.horizon
        report.rows += 0 if self.config.dry_run else done.rows
        if self.todo is not None:
            self.todo = self.todo.filter(~self.todo.is_in(done.track_ids.implode()))

    def _store(self, worker: Worker, computed: Computed) -> None:
        self.count_computed(computed.done)
        self.count_stored(worker.store(computed))

    def _worker(self, source: Source, writer: Connection | None) -> Worker:
        config = self.config
        return Worker(source, writer, config.parameters, self.created_at, config.replace, self.report)
