"""The local engine: batches one after the other, or three at once in different stages."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic

from forecaster.errors import ForecasterError
from forecaster.process.signals import Cancel, cancel_all, cancel_now, outcome
from forecaster.run.batch import Batch, Done, Work, done_of
from forecaster.run.stages import Stages

_WAITING = 1  # batches computed and not stored, in addition to the one that is being stored


class Local:
    """Executes batches in this process. Polars uses all cores for each batch."""

    repeats = False

    def places(self, _work: Work[Any, Any], /) -> int | None:
        """None: the size of a batch need not follow from the number of workers."""
        return None

    def __call__(
        self, work: Work[Batch, Any], batches: Sequence[Batch], /
    ) -> Iterator[tuple[Batch, Done | Exception]]:
        """Yield each batch with its outcome, or its error, in order."""
        if work.overlaps:
            return _overlapping(work, batches)
        return ((batch, attempted(work, batch)) for batch in batches)


def attempted(work: Work[Batch, Any], batch: Batch) -> Done | Exception:
    """Execute a batch; return its outcome or its error, so that the others continue."""
    try:
        return work(batch)
    except ForecasterError as error:
        return error


def _overlapping(work: Work[Batch, Any], batches: Sequence[Batch]) -> Iterator[tuple[Batch, Done]]:
    """Read the next batch and store the previous ones in two threads while one batch is computed.

    Raises the first error, after the batches that are being stored have been stored.
    """
    stages = work.stages or Stages()
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        ahead = [reading.submit(work.read, batch, stages) for batch in batches[:1]]
        behind: list[_Behind[Batch]] = []
        try:
            for number, batch in enumerate(batches, start=1):
                read = outcome(ahead[0], others=[one.write for one in behind])
                following = batches[number : number + 1]
                ahead[:] = [reading.submit(work.read, next_one, stages) for next_one in following]
                computed = work.computed(read, stages)
                while len(behind) > _WAITING:
                    yield _first(behind)
                write = writing.submit(work.stored, batch, computed, stages)
                behind.append(_Behind(batch, done_of(computed, results=0, is_stored=False), write))
            while behind:
                yield _first(behind)
        except GeneratorExit:
            cancel_now([*ahead, *(one.write for one in behind)], _both(work))
            raise
        except Exception:
            # A write in progress is not interrupted. If it fails, its error counts: a write must not be
            # retried, while a read may be.
            cancel_all(ahead, work.cancel_read or Cancel([], lambda: None))
            yield from _settled(behind)
            raise
        except BaseException:
            cancel_now([*ahead, *(one.write for one in behind)], _both(work))
            yield from ((one.batch, one.write.result()) for one in behind if _is_stored(one.write))
            raise


@dataclass(frozen=True)
class _Behind(Generic[Batch]):
    """A computed batch that is being stored, or waits to be stored."""

    batch: Batch
    unstored: Done
    """The outcome if the write fails."""
    write: "Future[Done]"


def _first(behind: list[_Behind[Batch]]) -> tuple[Batch, Done]:
    """Wait for the batch that is stored first, and remove it from the list. A batch that failed stays."""
    done = outcome(behind[0].write)
    return behind.pop(0).batch, done


def _settled(behind: Sequence[_Behind[Batch]]) -> Iterator[tuple[Batch, Done]]:
    """Yield the outcomes of the batches being stored. Raises the first error after all have ended."""
    failure: Exception | None = None
    for one in behind:
        try:
            done = outcome(one.write)
        except Exception as error:  # noqa: BLE001 - raised again
            failure, done = failure or error, one.unstored
        yield one.batch, done
    if failure:
        raise failure


def _is_stored(write: "Future[Done]") -> bool:
    return write.done() and not write.cancelled() and write.exception() is None


def _both(work: Work[Any, Any]) -> Cancel:
    """Cancel both a read and a write in progress."""
    known = [cancel for cancel in (work.cancel_read, work.cancel_write) if cancel]
    return Cancel([ask for cancel in known for ask in cancel.asks], lambda: [c.cut() for c in known])
