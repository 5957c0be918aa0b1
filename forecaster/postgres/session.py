"""A run on a database: its connections, rights, lock and snapshot, and the pending tracks or artists."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Protocol

import polars as pl

from forecaster.errors import PooledError
from forecaster.postgres.catalogue import Source, export_snapshot, slices
from forecaster.postgres.connection import Connection, begin, connect, connecting, end_connections, is_far
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.early import Early
from forecaster.postgres.limits import Limit, check_limit, needed
from forecaster.postgres.lock import ENDS_WITHIN, release_lock, take_lock
from forecaster.postgres.look import Look, look
from forecaster.postgres.rights import check_rights
from forecaster.postgres.runs import NotKept, RunRecord
from forecaster.postgres.server import check_writable
from forecaster.postgres.tables import Tables
from forecaster.process.logs import log
from forecaster.process.signals import Cancel, both, cancel_all, cancel_now, outcome
from forecaster.run.batch import Done, Work
from forecaster.run.config import RunConfig
from forecaster.run.observe import observed
from forecaster.run.plausible import Observed
from forecaster.run.report import Report, Subject
from forecaster.run.session import Opened


@dataclass
class Pending:
    """The tracks or artists that are still to be processed, over all attempts."""

    todo: pl.Series | None = None
    """Ids of the tracks or artists still to be processed; None before the first attempt."""
    replaced: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.Int64))
    """Ids of pending tracks or artists that have a stored result."""
    others: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.Int64))
    """Ids of the other tracks to observe, if the run is about the whole of the catalogue."""


class Task(Protocol):
    """The computation of a run, and its tables: forecasts of tracks, or MLDR of artists."""

    subject: ClassVar[Subject]
    tables: ClassVar[tuple[str, ...]]
    """Tables that are read."""
    target: ClassVar[str]
    """Table that is written."""
    leaves_history: ClassVar[bool]
    """Whether the database keeps a record of the run, and of what it found for each track."""

    def check(self, tables: Tables, /, *, repeats: bool, dry_run: bool) -> None:
        """Raise `SchemaMismatchError` for tables that do not fit."""
        ...

    def prepare(self, source: Source, config: RunConfig, report: Report, /) -> None:
        """Find out, on the first attempt, what is the same for all tracks or artists, and report it."""
        ...

    def find(self, source: Source, config: RunConfig, pending: Pending, report: Report, /) -> pl.Series:
        """Find the pending ids. On the first attempt, also report what is wrong with the tables."""
        ...

    def count_unusable(self, source: Source, todo: pl.Series, config: RunConfig, /) -> int:
        """Count the rows of these tracks or artists that are not records."""
        ...

    def batch_size(self, number: int, source: Source, places: int | None, /, *, is_far: bool) -> int:
        """Return how many of `number` ids go into a batch.

        `places`: how many batches the workers process at the same time; None without workers. `is_far`:
        whether waiting for the server's answers takes longer than what overlapping batches save.
        """
        ...

    def work(
        self, source: Source, writer: Connection | None, config: RunConfig, shared: "Shared", /
    ) -> Work[pl.Series, Any]:
        """Return the work on each batch. Without a writer, it stores nothing."""
        ...

    def remarks(self, report: Report, kept: pl.Series, /) -> Iterator[str]:
        """Comment on the results; `kept`: ids whose stored result was to be replaced, but stays."""
        ...


@dataclass(frozen=True)
class Shared:
    """Values that all batches of a run share."""

    created_at: datetime
    report: Report
    replaced: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.Int64))
    """`replaced` of `Pending`."""


class DatabaseSession:
    """A run in progress. After a lost connection it reconnects, and batches that are done stay done."""

    def __init__(
        self,
        dsn: Dsn,
        schema: str,
        task: Task,
        config: RunConfig,
        report: Report,
        early: Early | None = None,
    ) -> None:
        self.dsn, self.schema, self.task, self.early = dsn, schema, task, early
        self.config, self.report = config, report
        self.pending = Pending()
        self.created_at = datetime.now(UTC)
        self.apart: Done | None = None
        """What no batch counts; None before it has been counted."""
        self.record = RunRecord(dsn, report, self.created_at, config.parameters.horizon)
        self.holder: str | None = None
        """Application name that last held the lock."""
        self.is_far = False
        """Whether the server was far away when the run connected."""
        self.limit: Limit | None = None
        """The limit of connections when the run connected."""
        self.goes_on = False
        """Whether other batches are processed after one that failed."""
        self.failure: Exception | None = None
        self.why_not_kept: NotKept | None = None
        """Why this run leaves no history; None if it does."""
        report.begin(task.subject)
        report.place = {"database": f"{dsn}", "schema": schema}
        report.started_at = self.created_at.isoformat()

    @property
    def was_reached(self) -> bool:
        """Whether the server has reported its version, or accepted a connection before it was asked."""
        return bool(self.report.server or (self.early and self.early.was_reached))

    @contextmanager
    def opened(self, *, repeats: bool) -> Iterator[Opened]:
        """Connect, lock, take the snapshot, and find what is pending in it."""
        self.goes_on, self.failure = repeats, None
        with ExitStack() as stack:
            with self.report.stages.stage("connect"):
                source, writer, seen = self._connected(stack, repeats=repeats)
            with self.report.stages.stage("read"):
                todo = self._found(stack, source, writer, seen)
            shared = Shared(self.created_at, self.report, self.pending.replaced)
            work = self.task.work(source, writer, self.config, shared)

            def cut(places: int | None) -> Sequence[pl.Series]:
                size = self.task.batch_size(len(todo), source, places, is_far=self.is_far)
                unit, where = self.report.stages.unit, "far away" if self.is_far else "nearby"
                log.debug("%s per batch: at most %s; the server is %s", unit, f"{size:,}", where)
                batches = [batch for part in self._parts(todo) if len(part) for batch in slices(part, size)]
                if places is not None:
                    self._check_workers(min(places, work.at_once or places, len(batches)))
                return batches

            if self.apart is None and len(todo) + len(self.pending.others):
                stack.enter_context(self._counting(source, todo))
            yield Opened(work, cut, needs_places=len(todo) > 0)

    def count(self, batch: pl.Series, done: Done, /) -> None:
        """Add the counts of a batch to the report."""
        self.report.add(done)
        self.report.stages.add(done.stages, len(batch))
        if done.is_stored and self.pending.todo is not None:
            self.pending.todo = self.pending.todo.filter(~self.pending.todo.is_in(batch.implode()))

    def fail(self, _batch: pl.Series, error: Exception, /) -> None:
        """Raise the first failure: now, or at the end if other workers still process batches."""
        self.failure = self.failure or error
        if not self.goes_on:
            raise self.failure

    def finish(self) -> None:
        """Raise the error of the first batch that failed."""
        if self.failure:
            raise self.failure

    def remarks(self) -> Iterator[str]:
        """Comment on the results, where the user should know more."""
        got_none = [*self.report.skipped[self.task.subject.key], *self.report.refused]
        replaced = self.pending.replaced
        yield from self.task.remarks(self.report, replaced.filter(replaced.is_in(got_none)).sort())
        if self.why_not_kept:
            yield f"this run leaves no history: {self.why_not_kept.why}; {self.why_not_kept.fix}"

    def _parts(self, todo: pl.Series) -> list[pl.Series]:
        """Separate what a refresh replaces: a result that another program stores meanwhile stays."""
        if not self.config.refresh:
            return [todo]
        is_replaced = todo.is_in(self.pending.replaced.implode())
        return [todo.filter(~is_replaced), todo.filter(is_replaced)]

    def _connected(self, stack: ExitStack, *, repeats: bool) -> tuple[Source, Connection | None, Look]:
        # Without a transaction: a pooler that hands out transactions then gives its session to the writer.
        reader = stack.enter_context(connect(self.dsn, begun=False, early=self.early))
        number = 1 if self.config.dry_run else 2
        spare, *opened = stack.enter_context(connecting(self.dsn, number, like=reader))
        seen = look(reader, self.schema, self._rights)
        self._check(reader, seen, repeats=repeats)
        writer = self._locked(opened[0](), seen) if opened else None
        begin(reader)  # the snapshot must be younger than the lock
        try:
            snapshot = export_snapshot(reader, first=seen.state.pid)
        except PooledError:
            if writer:
                release_lock(writer, seen.tables, table=self.task.target)
            raise
        self.is_far = all(map(is_far, [reader, *([writer] if writer else [])]))
        source = stack.enter_context(Source(self.dsn, seen.tables, snapshot).connected(reader, spare=spare))
        return source, writer, seen

    def _check(self, reader: Connection, seen: Look, *, repeats: bool) -> None:
        """Raise what would prevent the run."""
        dry_run = self.config.dry_run
        if not dry_run:
            check_writable(reader, seen.state)
        if not self.report.server:  # later, the server may still count the connections that were lost
            self.limit = seen.state.limit
            check_limit(self.limit, needed(dry_run=dry_run), own=1)
        self.report.server = seen.state.version
        self.task.check(seen.tables, repeats=repeats, dry_run=dry_run)
        check_rights(reader, seen.tables, self._rights, seen.lacking)

    def _check_workers(self, batches: int) -> None:
        """Raise `ConnectionLimitError` if the workers cannot have their connections."""
        if self.limit and batches:
            check_limit(self.limit, needed(dry_run=self.config.dry_run, batches=batches), own=1)

    def _locked(self, writer: Connection, seen: Look) -> Connection:
        if self.holder:  # the server may not have noticed that this connection is lost
            end_connections(self.dsn, self.holder)
        wait = max(self.config.wait, ENDS_WITHIN if self.holder else 0)
        besides = seen.state.pid
        self.holder = take_lock(writer, seen.tables, table=self.task.target, wait=wait, besides=besides)
        return writer

    def _found(self, stack: ExitStack, source: Source, writer: Connection | None, seen: Look) -> pl.Series:
        """Find what is pending. Meanwhile, record the run, from now to its end, if the database can."""
        self.task.prepare(source, self.config, self.report)
        find = partial(self.task.find, source, self.config, self.pending, self.report)
        if writer is None or not self.task.leaves_history:
            return find()
        stack.push(lambda _kind, error, _trace: self.record.end(writer, seen.tables, error))
        record = partial(self.record.begin, writer, seen.tables, seen.lacking_to_keep)
        cancel = Cancel([*source.cancel.asks, writer.adbc_cancel], source.cancel.cut)
        self.why_not_kept, todo = both(record, find, cancel=cancel)
        return todo

    @property
    def _rights(self) -> dict[str, tuple[str, ...]]:
        write = ("INSERT", *(["DELETE"] if self.config.replace or self.config.refresh else []))
        return dict.fromkeys(self.task.tables, ("SELECT",)) | {
            self.task.target: ("SELECT", *(() if self.config.dry_run else write))
        }

    def _count(self, source: Source, todo: pl.Series) -> None:
        """Count the rows that are not records, and observe the tracks that no batch reads."""
        unusable = self.task.count_unusable(source, todo, self.config) if len(todo) else 0
        others = self.pending.others
        seen = observed(source.ends(others)) if len(others) else Observed()
        self.apart = Done(0, 0, 0, None, unusable_rows=unusable, observed=seen)

    @contextmanager
    def _counting(self, source: Source, todo: pl.Series) -> Iterator[None]:
        """Meanwhile, count what no batch counts; only once, however often the run reconnects."""
        try:
            with ThreadPoolExecutor(1) as thread:
                left_out = thread.submit(self._count, source, todo)
                try:
                    yield
                    outcome(left_out)
                except Exception:
                    cancel_all([left_out], source.cancel)
                    raise
                except BaseException:
                    cancel_now([left_out], source.cancel)
                    raise
        finally:
            if self.apart:  # now that no other thread changes the report
                self.report.add(self.apart)
