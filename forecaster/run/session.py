"""Run: open a session, let an engine execute its batches, count the outcome of each."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from forecaster.process.numbers import counted
from forecaster.run.batch import Done, Engine, Work
from forecaster.run.config import RunConfig
from forecaster.run.engines.local import Local
from forecaster.run.made_with import PRODUCTION, day_of
from forecaster.run.report import Report
from forecaster.run.retry import with_retries

_EPOCH = date(1970, 1, 1)


class Opened(NamedTuple):
    """The work of an open session."""

    work: Work[Any, Any]
    cut: Callable[[int | None], Sequence[Any]]
    """Cuts the work into batches; takes how many the engine executes at once, None in this process."""
    needs_places: bool = False
    """Whether the size of the batches depends on that number. Else `cut` gets None."""


class Session(Protocol):
    """A run in one place: it holds transaction, lock and snapshot, and knows what is still pending."""

    @property
    def was_reached(self) -> bool:
        """Whether the place has answered once, so that a retry after a lost connection makes sense."""
        ...

    def opened(self, *, repeats: bool) -> AbstractContextManager[Opened]:
        """Acquire what the run needs and release it at the end; called again after a lost connection.

        `repeats`: whether the engine may execute a batch twice.
        """
        ...

    def count(self, batch: Any, done: Done, /) -> None:  # noqa: ANN401 - each session has its own type
        """Add the outcome of a batch to the report; if it is stored, it is no longer pending."""
        ...

    def fail(self, batch: Any, error: Exception, /) -> None:  # noqa: ANN401
        """Record the error of a batch, and continue with the others."""
        ...

    def finish(self) -> None:
        """Raise an error if batches failed."""
        ...

    def remarks(self) -> Iterator[str]:
        """Yield warnings about the results."""
        ...


class Place(Protocol):
    """Where a run reads and stores: a database, files, or memory. Each is one implementation."""

    def session(self, config: RunConfig, report: Report, /) -> Session:
        """Begin a run in this place. Raises `InvalidOptionError` for options that contradict it."""
        ...


def run(
    where: Place,
    config: RunConfig | None = None,
    engine: Engine | None = None,
    report: Report | None = None,
) -> Report:
    """Compute and store all pending results of a place, each batch completely or not at all.

    If a connection is lost while reading, the run connects again, a limited number of times; a write is never
    repeated. The `report` is filled in as the run goes on, so it is usable after an error, too.

    Raises `DatabaseUnreachableError`; `SchemaMismatchError` and `BadFileError` before anything is computed;
    `LockedError` if another run writes to the same place; `NoForecastError` for ids without data;
    `WriteRefusedError` for rows that the table cannot hold; `BucketsFailedError` if some buckets failed;
    `DatabaseError` for anything else the server refuses; `StalledError` if it stops answering; `EngineError`
    if the engine is lost.
    """
    report, config = report or Report(), config or RunConfig()
    session = where.session(config, report)
    chosen = engine or Local()
    with_retries(lambda: _attempt(session, chosen, report), report, was_reached=lambda: session.was_reached)
    today = datetime.now(UTC).date()
    report.warnings += [*session.remarks(), *old_intervals(report, config, today)]
    report.judge(config.plausibility, today)
    report.is_done = True
    return report


def old_intervals(report: Report, config: RunConfig, today: date, /) -> Iterator[str]:
    """Warn of the calibration that only the intervals are from, if it is older than the run allows.

    Where the as-of day of all forecasts is known, it has been judged before.
    """
    newest = report.observed.newest((today - _EPOCH).days)
    if report.calibration is None or newest is None or config.model != PRODUCTION or config.parameters.as_of:
        return
    day = _EPOCH + timedelta(newest)
    age = (day - day_of(report.calibration)).days
    if age > config.max_stale_days:
        older = f"{counted(age, 'day')} older than the newest day {day}"
        yield f"calibration {report.calibration} is {older}: `forecaster calibrate` makes a newer one"


def _attempt(session: Session, engine: Engine, report: Report) -> None:
    """Execute the batches that are still pending."""
    with session.opened(repeats=engine.repeats) as (work, cut, needs_places):
        places = None
        if needs_places:
            with report.stages.stage("connect"):
                places = engine.places(work)
        with closing(_executed(engine, work, cut(places))) as outcomes:
            for batch, outcome in outcomes:
                if isinstance(outcome, Exception):
                    session.fail(batch, outcome)
                else:
                    session.count(batch, outcome)
        session.finish()


def _executed(
    engine: Engine, work: Work[Any, Any], batches: Sequence[Any]
) -> Generator[tuple[Any, Done | Exception], None, None]:
    if batches:
        yield from engine(work, batches)
