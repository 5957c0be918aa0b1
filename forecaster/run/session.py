"""Run: open a session, have its batches worked by an engine, count what became of each."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any, NamedTuple, Protocol

from forecaster.run.batch import Done, Engine, Work
from forecaster.run.config import RunConfig
from forecaster.run.engines.local import Local
from forecaster.run.report import Report
from forecaster.run.retry import persevere


class Opened(NamedTuple):
    """What is to be done."""

    work: Work[Any, Any]
    batches: Callable[[Callable[[], int | None]], Sequence[Any]]
    """Takes how many batches the engine works at once, as a function, and cuts the work in batches."""


class Session(Protocol):
    """A run in one place: it holds transaction, lock and snapshot, and knows what is still to be done."""

    def opened(self, *, repeats: bool) -> AbstractContextManager[Opened]:
        """Make all ready, and let go of it at the end; after a lost connection, once more.

        `repeats`: whether the engine may work a batch twice.
        """
        ...

    def count(self, batch: Any, done: Done, /) -> None:  # noqa: ANN401 - whatever this session cuts
        """Add up what became of a batch. Then it is done."""
        ...

    def fail(self, batch: Any, error: Exception, /) -> None:  # noqa: ANN401
        """Take note of a batch that failed while others go on."""
        ...

    def finish(self) -> None:
        """Raise what is to be raised for the batches that failed."""
        ...

    def remarks(self) -> Iterator[str]:
        """What the user should know about the results."""
        ...


class Place(Protocol):
    """Where a run reads and stores: a database, files, or memory. Each is one implementation."""

    def session(self, config: RunConfig, report: Report, /) -> Session:
        """A run in this place. Raises `InvalidOptionError` for options that contradict it."""
        ...


def run(
    where: Place,
    config: RunConfig | None = None,
    engine: Engine | None = None,
    report: Report | None = None,
) -> Report:
    """Compute and store what is pending in a place, each batch wholly or not at all.

    A connection that is lost while reading is made anew, with a limit; a write is never tried twice. The
    `report` is filled in on the way, so that it is there whatever happens.

    Raises `DatabaseUnreachableError`; `SchemaMismatchError` and `BadFileError` before anything is computed;
    `LockedError` if another run writes to the same place; `NoForecastError` for ids without data;
    `WriteRefusedError` for rows that the table cannot hold; `BucketsFailedError` if some buckets failed;
    `DatabaseError` for all else the server refuses; `EngineError` if the engine is lost.
    """
    report = report or Report()
    session = where.session(config or RunConfig(), report)
    chosen = engine or Local()
    persevere(lambda: _attempt(session, chosen, report), report)
    report.warnings += session.remarks()
    return report


def _attempt(session: Session, engine: Engine, report: Report) -> None:
    """Do all that is still to do."""
    with session.opened(repeats=engine.repeats) as (work, cut):

        def places() -> int | None:
            with report.stages.stage("connect"):
                return engine.places(work)

        with closing(_worked(engine, work, cut(places))) as outcomes:
            for batch, outcome in outcomes:
                if isinstance(outcome, Exception):
                    session.fail(batch, outcome)
                else:
                    session.count(batch, outcome)
        session.finish()


def _worked(
    engine: Engine, work: Work[Any, Any], batches: Sequence[Any]
) -> Generator[tuple[Any, Done | Exception], None, None]:
    if batches:
        yield from engine(work, batches)
