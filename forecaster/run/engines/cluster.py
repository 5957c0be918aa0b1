"""Dask: worker processes, and what becomes of each piece of work that is spread over them."""

import logging
import os
import queue
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from forecaster.errors import EngineError, ForecasterError, MissingExtraError, WorkerError, in_one_line
from forecaster.process.secrets import brief
from forecaster.process.signals import interruptible

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Result = TypeVar("Result")

LOSSES = 3
"""So many workers may be lost while they have one piece of work. After one more it waits until it can be
worked with nothing else beside it; if it loses as many again, it is given up, and named."""

_PATIENCE = "10s"  # for a scheduler to answer
WITHOUT_WORKERS = 60.0
"""Seconds for workers to come: those of a cluster that grows with its work, or new ones for those lost."""

ANSWERS_WITHIN = 60.0
"""Seconds for a scheduler that may be busy to say which workers there are."""

_LOOKS = 0.5  # seconds between two looks at whether the scheduler is still there


class _WorkersLostError(WorkerError):
    """So many workers were lost while they had an item."""


@contextmanager
def connected(scheduler: str | None, *, environ: Mapping[str, str] | None = None) -> "Iterator[Client]":
    """A client of the scheduler at that address, or of workers of its own: one for each core.

    Each of its own workers has one thread, and so has Polars in it; `environ` is what else they find in
    their environment. Raises `MissingExtraError` without Dask; `EngineError` if nothing answers, or if Dask
    cannot work with its settings.
    """
    _load()
    from dask.system import CPU_COUNT  # noqa: PLC0415 - an extra
    from distributed import Client, LocalCluster  # noqa: PLC0415

    # What they have to say is said by us, as an error.
    for name in ("asyncio", "tornado", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("asyncio", "distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with ExitStack() as stack:
        if scheduler is not None:
            yield stack.enter_context(_client_of(scheduler))
            return
        try:
            cluster = LocalCluster(
                n_workers=CPU_COUNT,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",  # with none it would be seen from everywhere
                scheduler_kwargs={"dashboard": False},
                security=True,  # else any user of the machine could have the workers do what they like
                silence_logs=logging.CRITICAL,
                env={"POLARS_MAX_THREADS": "1", **(environ or {})},
            )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster, set_as_default=False))
        except Exception as error:  # what its settings may hold is not known
            raise EngineError(
                f"Dask's workers could not be started: {brief(in_one_line(error))}",
                hint=_settings() or "run again; or without --engine dask, in one process",
            ) from error
        yield client


def _load() -> None:
    """Import Dask, which obeys its settings on the way. Raises what `connected` raises."""
    try:
        import dask.config  # noqa: PLC0415 - an extra
        import distributed  # noqa: PLC0415, F401
    except ImportError:
        raise MissingExtraError(
            "--engine dask needs Dask, which is not installed",
            hint="install it with: pip install 'forecaster[dask]'",
        ) from None
    except Exception as error:
        raise _unsettled(in_one_line(error)) from error
    ours, defaults = dask.config.config, dask.config.merge(*dask.config.defaults)
    for file in _unreadable(Path(dask.config.PATH)):
        raise _unsettled(f"{file} cannot be read")
    for misfit in _misfits("distributed", ours.get("distributed"), defaults["distributed"]):
        raise _unsettled(misfit)


def _unsettled(why: str) -> EngineError:
    return EngineError(f"Dask cannot work with its settings: {why}", hint=_settings())


def _unreadable(place: Path) -> Iterator[Path]:
    """The user's own files of settings that Dask passes over, because it cannot read them."""
    if place.is_dir() and os.access(place, os.R_OK):
        files = [file for file in place.iterdir() if file.suffix.lower() in {".json", ".yaml", ".yml"}]
    else:
        files = [place] if place.exists() or "DASK_CONFIG" in os.environ else []
    for file in files:
        if not (file.is_file() and os.access(file, os.R_OK)):
            yield file


def _misfits(name: str, value: object, default: object) -> Iterator[str]:
    """The settings of another kind than their defaults. With some of these, workers would fail for ever."""
    from dask.utils import parse_bytes, parse_timedelta  # noqa: PLC0415 - an extra

    if isinstance(default, Mapping):
        if not isinstance(value, Mapping):
            yield f"{name} is {value!r}, and has to be a section"
            return
        for key in default:
            known = key if key in value else key.replace("-", "_")
            if known in value and not key.isupper():  # a variable for the workers
                yield from _misfits(f"{name}.{key}", value[known], default[key])
    elif isinstance(default, (int, float)) and not isinstance(default, bool):
        if not (value is None or value == "inf" or isinstance(value, (int, float))):
            yield f"{name} is {value!r}, and has to be a number"
    elif isinstance(default, str) and isinstance(value, str):
        for parse in (parse_timedelta, parse_bytes):
            if _parses(parse, default) and not _parses(parse, value):
                yield f"{name} is {value!r}, and has to be like {default!r}"


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except (KeyError, ValueError):
        return False
    return any(character.isdigit() for character in text)


def _settings() -> str | None:
    """Where Dask has its settings from; None if it has only its own."""
    config = sys.modules.get("dask.config")
    files = [f"{file}" for file, _ in config.collect_yaml(config.paths, return_paths=True)] if config else []
    named = [*files, *(name for name in os.environ if name.startswith("DASK_"))]
    return f"Dask has settings from {', '.join(named)}" if named else None


def _client_of(scheduler: str) -> "Client":
    from distributed import Client  # noqa: PLC0415 - an extra
    from distributed.utils import LoopRunner  # noqa: PLC0415

    try:
        # First without a client: one that fails in its making closes itself whenever it is collected. If that
        # is while another one starts its event loop, the two wait for each other.
        LoopRunner().run_sync(_reach, scheduler)
        return Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except Exception as error:  # what its settings may hold is not known
        advice = "start one with `dask scheduler`, and give its address as tcp://HOST:PORT"
        raise EngineError(
            f"no scheduler answers at {scheduler}: {brief(in_one_line(error))}",
            hint="; ".join(filter(None, (advice, _settings()))),
        ) from error


async def _reach(scheduler: str) -> None:
    """Raise what a client would, if nothing answers there."""
    from distributed import Security  # noqa: PLC0415 - an extra
    from distributed.comm.core import connect  # noqa: PLC0415

    comm = await connect(scheduler, timeout=_PATIENCE, **Security().get_connection_args("client"))
    await comm.close()


def each(
    client: "Client",
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    at_once: int | None = None,
) -> Iterator[tuple[Item, Result | Exception]]:
    """What becomes of each item, in the order in which that is known; no more than `at_once` at a time.

    What `work` raises is yielded, and so is a `WorkerError` for an item whose workers were lost again and
    again, also when nothing else was worked. An item may be worked more than once: if the worker is lost,
    another one begins anew. Raises `EngineError` if the scheduler is lost, or has no worker for a minute.
    """
    run = secrets.token_hex(4)
    over: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    going: dict[object, tuple[Item, Future[Result]]] = {}
    waiting = iter(items)
    # Dask holds the loss of a worker against all that were to be worked there, begun or not.
    suspects: list[Item] = []
    is_alone = False
    numbers = count()

    def begin(some: Iterator[Item]) -> None:
        for item in some:
            key = f"forecaster-{run}-{next(numbers)}"
            future = client.submit(work, item, key=key, pure=False)
            going[key] = (item, future)
            future.add_done_callback(over.put)

    begin(islice(waiting, at_once))
    while going or suspects:
        if not going:
            is_alone = True
            begin(iter([suspects.pop()]))
        future = _first_over(client, over)
        item, _ = going.pop(future.key)
        outcome = _outcome(future)
        begin(islice(waiting, 1))
        if isinstance(outcome, _WorkersLostError) and not is_alone:
            suspects.append(item)
        else:
            yield item, outcome


def _first_over(client: "Client", over: "queue.SimpleQueue[Future[Result]]") -> "Future[Result]":
    """Wait for the next piece of work that is done, as long as there is someone who may do it."""
    last_worker = time.monotonic()  # when there was one
    while True:
        with suppress(queue.Empty):
            return over.get(timeout=_LOOKS)
        if client.status != "running":
            raise _lost()
        if _threads_of_each(client):
            last_worker = time.monotonic()
        elif time.monotonic() - last_worker > WITHOUT_WORKERS:
            raise EngineError(
                f"there has been no worker for {WITHOUT_WORKERS:.0f} s",
                hint="start some with `dask worker`; what is done stays done",
            )


def threads(client: "Client") -> int:
    """How many pieces of work the workers do at once; 1 while there are no workers."""
    return max(1, sum(_threads_of_each(client).values()))


def _threads_of_each(client: "Client") -> Mapping[str, int]:
    """By each worker's address. Raises `EngineError` if the scheduler does not say."""
    try:
        # Its machine takes what is sent as long as it runs, whether the scheduler does or not.
        return interruptible(client.nthreads, cancel=None, timeout=ANSWERS_WITHIN)
    except TimeoutError:
        raise EngineError(
            f"Dask's scheduler has said nothing for {ANSWERS_WITHIN:.0f} s",
            hint="see what it does; what is done stays done",
        ) from None
    except OSError:
        raise _lost() from None


def _outcome(future: "Future[Result]") -> Result | Exception:
    from distributed import KilledWorker  # noqa: PLC0415 - an extra

    try:
        error = future.exception()
        if error is None:
            return future.result()
    except (OSError, CancelledError) as error:  # the scheduler is gone, and with it the future
        raise _lost() from error
    if isinstance(error, CancelledError):
        raise _lost()
    if isinstance(error, ForecasterError):
        return error
    if isinstance(error, KilledWorker):
        return _WorkersLostError(
            f"given up after {LOSSES + 1} workers were lost at it and nothing else, "
            f"the last at {error.last_worker.address}",
            hint="it may need more memory than a worker has; smaller buckets help",
        )
    return WorkerError(f"a worker failed with {type(error).__name__}: {brief(str(error))}")


def _lost() -> EngineError:
    return EngineError(
        "the connection to Dask's scheduler is lost",
        hint="what is done stays done: run again once the scheduler is back",
    )
