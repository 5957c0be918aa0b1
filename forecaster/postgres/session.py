"""A run on a database: connections, rights, lock and snapshot, and what is pending."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol

import polars as pl

from forecaster.postgres.catalogue import Source, export_snapshot, slices
from forecaster.postgres.connection import Connection, commit, connect, end_connections
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import ENDS_WITHIN, take_lock
from forecaster.postgres.rights import check_rights
from forecaster.postgres.server import check_writable, server_state
from forecaster.postgres.tables import Tables, read_tables
from forecaster.process.signals import cancel_all, cancel_now, outcome
from forecaster.run.batch import Done, Work
from forecaster.run.config import RunConfig
from forecaster.run.report import Report, Subject
from forecaster.run.session import Opened


@dataclass
class Pending:
    """What is still to be done, over all attempts."""

    todo: pl.Series | None = None
    """The tracks or artists still to be looked at, once they are known."""
    replaced: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.Int64))
    """Those looked at that have a result."""


class Task(Protocol):
    """What is computed from which tables: forecasts of tracks, or decay rates of artists."""

    subject: ClassVar[Subject]
    tables: ClassVar[tuple[str, ...]]
    """Those that are read."""
    target: ClassVar[str]
    """The table that is written to."""

    def check(self, tables: Tables, /, *, repeats: bool, dry_run: bool) -> None:
        """Raise `SchemaMismatchError` for tables that do not fit."""
        ...

    def find(self, source: Source, config: RunConfig, pending: Pending, report: Report, /) -> pl.Series:
        """What is pending. The first time, say what is wrong with the tables, too."""
        ...

    def count_unusable(self, source: Source, todo: pl.Series, config: RunConfig, /) -> int:
        """How many rows of these are not records."""
        ...

    def batch_size(self, number: int, source: Source, places: int | None, /) -> int:
        """How many of that number go into a batch; `places`: how many the workers have at once, if any."""
        ...

    def work(
        self, source: Source, writer: Connection | None, config: RunConfig, made: "Made", /
    ) -> Work[pl.Series, Any]:
        """What is done with every batch; without a writer, nothing is stored."""
        ...

    def remarks(self, report: Report, kept: pl.Series, /) -> Iterator[str]:
        """Sentences on the results; `kept`: those that were to be replaced and keep what they have."""
        ...


@dataclass(frozen=True)
class Made:
    """What is the same for all batches of a run."""

    created_at: datetime
    report: Report


class DatabaseSession:
    """A run in progress: what is done stays done when the connection is lost and made anew."""

    def __init__(self, dsn: Dsn, schema: str, task: Task, config: RunConfig, report: Report) -> None:
        self.dsn, self.schema, self.task = dsn, schema, task
        self.config, self.report = config, report
        self.pending = Pending()
        self.created_at = datetime.now(UTC)
        self.counted = False
        """Whether the rows that are not records have been."""
        self.holder: str | None = None
        """The application name under which the lock was held last."""
        self.goes_on = False
        """Whether other batches are worked after one that failed."""
        self.failure: Exception | None = None
        report.begin(task.subject)
        report.place = {"database": f"{dsn}", "schema": schema}
        report.started_at = self.created_at.isoformat()

    @property
    def was_reached(self) -> bool:
        """Whether the server has said its version."""
        return bool(self.report.server)

    @contextmanager
    def opened(self, *, repeats: bool) -> Iterator[Opened]:
        """Connect, lock, take the snapshot, and find what is pending in it."""
        self.goes_on, self.failure = repeats, None
        with ExitStack() as stack:
            with self.report.stages.stage("connect"):
                source, writer = self._connected(stack, repeats=repeats)
            with self.report.stages.stage("read"):
                todo = self.task.find(source, self.config, self.pending, self.report)
            work = self.task.work(source, writer, self.config, Made(self.created_at, self.report))

            def batches(places: Callable[[], int | None]) -> Sequence[pl.Series]:
                return slices(todo, self.task.batch_size(len(todo), source, places())) if len(todo) else []

            if len(todo):
                stack.enter_context(self._counting(source, todo))
            yield Opened(work, batches)

    def count(self, batch: pl.Series, done: Done, /) -> None:
        """Add up what became of a batch."""
        self.report.add(done)
        self.report.stages.add(done.stages, len(batch))
        if done.is_stored and self.pending.todo is not None:
            self.pending.todo = self.pending.todo.filter(~self.pending.todo.is_in(batch.implode()))

    def fail(self, _batch: pl.Series, error: Exception, /) -> None:
        """Raise the first failure; at the end, where workers elsewhere are at other batches."""
        self.failure = self.failure or error
        if not self.goes_on:
            raise self.failure

    def finish(self) -> None:
        """Raise what the first batch failed with."""
        if self.failure:
            raise self.failure

    def remarks(self) -> Iterator[str]:
        """What the user should know about the results."""
        got_none = [*self.report.skipped[self.task.subject.key], *self.report.refused]
        replaced = self.pending.replaced
        yield from self.task.remarks(self.report, replaced.filter(replaced.is_in(got_none)).sort())

    def _connected(self, stack: ExitStack, *, repeats: bool) -> tuple[Source, Connection | None]:
        config = self.config
        reader = stack.enter_context(connect(self.dsn, repeatable_read=True))
        state = server_state(reader)
        if not config.dry_run:
            check_writable(reader, state)
        self.report.server = state.version
        tables = read_tables(reader, self.schema)
        self.task.check(tables, repeats=repeats, dry_run=config.dry_run)
        check_rights(reader, tables, self._rights)
        commit(reader)  # the snapshot has to be younger than the lock
        writer = None if config.dry_run else self._locked(stack, reader, tables)
        return Source(self.dsn, tables, export_snapshot(reader)), writer

    def _locked(self, stack: ExitStack, reader: Connection, tables: Tables) -> Connection:
        writer = stack.enter_context(connect(self.dsn, beside=reader))
        if self.holder:  # the server need not have noticed that it is gone
            end_connections(self.dsn, self.holder)
        wait = max(self.config.wait, ENDS_WITHIN if self.holder else 0)
        self.holder = take_lock(writer, tables, table=self.task.target, wait=wait)
        return writer

    @property
    def _rights(self) -> dict[str, tuple[str, ...]]:
        write = ("INSERT", *(["DELETE"] if self.config.replace else []))
        return dict.fromkeys(self.task.tables, ("SELECT",)) | {
            self.task.target: ("SELECT", *(() if self.config.dry_run else write))
        }

    def _count_unusable(self, source: Source, todo: pl.Series) -> None:
        self.report.unusable_rows += self.task.count_unusable(source, todo, self.config)
        self.counted = True

    @contextmanager
    def _counting(self, source: Source, todo: pl.Series) -> Iterator[None]:
        """Count the rows that are not records meanwhile; once, however often the connection is made anew."""
        if self.counted:
            yield
            return
        with ThreadPoolExecutor(1) as thread:
            left_out = thread.submit(self._count_unusable, source, todo)
            try:
                yield
                outcome(left_out)
            except Exception:
                cancel_all([left_out], source.cancel)
                raise
            except BaseException:
                cancel_now([left_out], source.cancel)
                raise
