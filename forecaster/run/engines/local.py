"""The engine of a run in this process: batches one after the other, or three at once in different stages."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic

from forecaster.errors import ForecasterError
from forecaster.process.signals import Cancel, cancel_all, cancel_now, outcome
from forecaster.run.batch import Batch, Done, Work, done_of
from forecaster.run.stages import Stages

_WAITING = 1  # batches computed and not stored, beside the one that is being stored


class Local:
    """In this process. Polars takes all cores for each batch."""

    repeats = False

    def places(self, _work: Work[Any, Any], /) -> int | None:
        """None: the size of a batch need not follow from the number of workers."""
        return None

    def __call__(
        self, work: Work[Batch, Any], batches: Sequence[Batch], /
    ) -> Iterator[tuple[Batch, Done | Exception]]:
        """What became of each batch, in their order."""
        if work.overlaps:
            return _overlapping(work, batches)
        return ((batch, attempted(work, batch)) for batch in batches)


def attempted(work: Work[Batch, Any], batch: Batch) -> Done | Exception:
    """What became of a batch; what it failed with is returned, to be told along with the others'."""
    try:
        return work(batch)
    except ForecasterError as error:
        return error


def _overlapping(work: Work[Batch, Any], batches: Sequence[Batch]) -> Iterator[tuple[Batch, Done]]:
    """While a batch is computed, the next one is read and those before are stored, each in a thread.

    Raises what the first one fails with, once what is being stored is.
    """
    stages = work.stages or Stages()
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        ahead = [reading.submit(work.read, batch, stages) for batch in batches[:1]]
        behind: list[_Behind[Batch]] = []
        try:
            for number, batch in enumerate(batches, start=1):
                read = outcome(ahead[0], beside=[one.write for one in behind])
                following = batches[number : number + 1]
                ahead[:] = [reading.submit(work.read, next_one, stages) for next_one in following]
                computed = work.computed(read, stages)
                while len(behind) > _WAITING:
                    yield _first(behind)
                write = writing.submit(work.sink.store, batch, computed, stages)
                behind.append(_Behind(batch, done_of(computed, results=0, is_stored=False), write))
            while behind:
                yield _first(behind)
        except GeneratorExit:
            cancel_now([*ahead, *(one.write for one in behind)], _both(work))
            raise
        except Exception:
            # What is being stored is not broken off. Should it fail, that is what counts: it must not be
            # tried again, while what could not be read may be.
            cancel_all(ahead, work.catalogue.cancel or Cancel([], lambda: None))
            yield from _settled(behind)
            raise
        except BaseException:
            cancel_now([*ahead, *(one.write for one in behind)], _both(work))
            yield from ((one.batch, one.write.result()) for one in behind if _is_stored(one.write))
            raise


@dataclass(frozen=True)
class _Behind(Generic[Batch]):
    """A batch that is being stored, or waits for it."""

    batch: Batch
    unstored: Done
    """What counts if it cannot be stored."""
    write: "Future[Done]"


def _first(behind: list[_Behind[Batch]]) -> tuple[Batch, Done]:
    """What became of the batch that is stored first. One that failed stays in its place."""
    done = outcome(behind[0].write)
    return behind.pop(0).batch, done


def _settled(behind: Sequence[_Behind[Batch]]) -> Iterator[tuple[Batch, Done]]:
    """What became of those that are being stored. Raises what the first one fails with, once all are over."""
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
    """Breaks off whatever is going on."""
    known = [cancel for cancel in (work.catalogue.cancel, work.sink.cancel) if cancel]
    return Cancel([ask for cancel in known for ask in cancel.asks], lambda: [c.cut() for c in known])
