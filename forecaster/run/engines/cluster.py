"""Dask: connect to a cluster, submit tasks to its workers, and yield the outcome of each."""

import logging
import os
import queue
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
"""Worker losses tolerated per task. After one more, the task waits until it can run alone; if it loses as
many workers again, it fails with an error that names it."""

_PATIENCE = "10s"  # until a scheduler has to answer
WITHOUT_WORKERS = 60.0
"""Seconds to wait for a worker: of a cluster that grows with its work, or a new one for a lost one."""

STAY_DONE = "; finished batches stay done"
"""End of hints about a run."""

ANSWERS_WITHIN = 60.0
"""Seconds until a scheduler, which may be busy, has to list its workers."""

_POLL = 0.5  # seconds between two checks whether the scheduler is still connected


class _WorkersLostError(WorkerError):
    """More than `LOSSES` workers were lost while they had an item."""


@contextmanager
def connected(scheduler: str | None, *, environ: Mapping[str, str] | None = None) -> "Iterator[Client]":
    """Connect to the scheduler at that address, or start a local cluster with one worker per core.

    Each worker of a local cluster has one thread, and Polars in it has one, too; `environ` is added to their
    environment. Raises `MissingExtraError` without Dask; `EngineError` if no scheduler answers, or if the
    settings of Dask are invalid.
    """
    _load()
    from dask.system import CPU_COUNT  # noqa: PLC0415 - an extra
    from distributed import Client, LocalCluster  # noqa: PLC0415

    # Their messages are reported as errors of this program.
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
                dashboard_address="127.0.0.1:0",  # else other machines could reach it
                scheduler_kwargs={"dashboard": False},
                security=True,  # else any user of the machine could run code in the workers
                silence_logs=logging.CRITICAL,
                env={"POLARS_MAX_THREADS": "1", **(environ or {})},
            )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster, set_as_default=False))
        except Exception as error:  # the settings of Dask may hold anything
            raise EngineError(
                f"the Dask workers could not be started: {brief(in_one_line(error))}",
                hint=_settings() or "run again, or run without --engine dask in one process",
            ) from error
        yield client


def _load() -> None:
    """Import Dask, which applies its settings on import. Raises what `connected` raises."""
    try:
        import dask.config  # noqa: PLC0415 - an extra
        import distributed  # noqa: PLC0415, F401
    except ImportError:
        raise MissingExtraError(
            "--engine dask needs Dask, which is not installed",
            hint="install it with: pip install 'forecaster[dask]'",
        ) from None
    except Exception as error:
        raise _invalid_settings(in_one_line(error)) from error
    ours, defaults = dask.config.config, dask.config.merge(*dask.config.defaults)
    for file in _unreadable(Path(dask.config.PATH)):
        raise _invalid_settings(f"{file} cannot be read")
    for misfit in _misfits("distributed", ours.get("distributed"), defaults["distributed"]):
        raise _invalid_settings(misfit)


def _invalid_settings(why: str) -> EngineError:
    return EngineError(f"the settings of Dask are invalid: {why}", hint=_settings())


def _unreadable(place: Path) -> Iterator[Path]:
    """Yield the setting files of the user that Dask ignores because it cannot read them."""
    if place.is_dir() and os.access(place, os.R_OK):
        files = [file for file in place.iterdir() if file.suffix.lower() in {".json", ".yaml", ".yml"}]
    else:
        files = [place] if place.exists() or "DASK_CONFIG" in os.environ else []
    for file in files:
        if not (file.is_file() and os.access(file, os.R_OK)):
            yield file


def _misfits(name: str, value: object, default: object) -> Iterator[str]:
    """Yield settings whose type differs from their default. With some, workers would fail forever."""
    from dask.utils import parse_bytes, parse_timedelta  # noqa: PLC0415 - an extra

    if isinstance(default, Mapping):
        if not isinstance(value, Mapping):
            yield f"{name} is {value!r}: expected a section"
            return
        for key in default:
            known = key if key in value else key.replace("-", "_")
            if known in value and not key.isupper():  # a variable for the workers
                yield from _misfits(f"{name}.{key}", value[known], default[key])
    elif isinstance(default, (int, float)) and not isinstance(default, bool):
        if not (value is None or value == "inf" or isinstance(value, (int, float))):
            yield f"{name} is {value!r}: expected a number"
    elif isinstance(default, str) and isinstance(value, str):
        for parse in (parse_timedelta, parse_bytes):
            if _parses(parse, default) and not _parses(parse, value):
                yield f"{name} is {value!r}: expected a value like {default!r}"


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except (KeyError, ValueError):
        return False
    return any(character.isdigit() for character in text)


def _settings() -> str | None:
    """Name the files and variables with settings of Dask; None if it has only its defaults."""
    config = sys.modules.get("dask.config")
    files = [f"{file}" for file, _ in config.collect_yaml(config.paths, return_paths=True)] if config else []
    named = [*files, *(name for name in os.environ if name.startswith("DASK_"))]
    return f"check the settings of Dask, which come from {', '.join(named)}" if named else None


def _client_of(scheduler: str) -> "Client":
    from distributed import Client  # noqa: PLC0415 - an extra
    from distributed.utils import LoopRunner  # noqa: PLC0415

    try:
        # First without a client: a client that fails to start closes itself when it is garbage-collected. If
        # that happens while another one starts its event loop, the two wait for each other.
        LoopRunner().run_sync(_reach, scheduler)
        return Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except Exception as error:  # the settings of Dask may hold anything
        advice = "start one with `dask scheduler`, and give its address as tcp://HOST:PORT"
        raise EngineError(
            f"no scheduler answers at {scheduler}: {brief(in_one_line(error))}",
            hint="; ".join(filter(None, (advice, _settings()))),
        ) from error


async def _reach(scheduler: str) -> None:
    """Raise the error of a client if no scheduler answers at this address."""
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
    """Submit `work` for each item, at most `at_once` at a time; yield each outcome as soon as it is known.

    Errors of `work` are yielded, and so is a `WorkerError` for an item whose workers were lost repeatedly,
    even when it ran alone. An item may be executed more than once: if its worker is lost, another one starts
    it again. Raises `EngineError` if the scheduler is lost, or has no worker for a minute.
    """
    run = os.urandom(4).hex()
    over: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    going: dict[object, tuple[Item, Future[Result]]] = {}
    waiting = iter(items)
    # Dask counts the loss of a worker for every task that was assigned to it, started or not.
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
    """Wait for the next finished task while a worker exists that may execute it."""
    last_worker = time.monotonic()  # when a worker was seen last
    while True:
        with suppress(queue.Empty):
            return over.get(timeout=_POLL)
        if client.status != "running":
            raise _lost()
        if _threads_of_each(client):
            last_worker = time.monotonic()
        elif time.monotonic() - last_worker > WITHOUT_WORKERS:
            raise EngineError(
                f"Dask has had no worker for {WITHOUT_WORKERS:.0f} s",
                hint=f"start workers with `dask worker`, and run again{STAY_DONE}",
            )


def threads(client: "Client") -> int:
    """Number of tasks that the workers execute at once; 1 while there are no workers."""
    return max(1, sum(_threads_of_each(client).values()))


def _threads_of_each(client: "Client") -> Mapping[str, int]:
    """Number of threads by address of the worker. Raises `EngineError` if the scheduler does not answer."""
    try:
        # With a timeout: while its machine runs, it accepts requests even if the scheduler hangs.
        return interruptible(client.nthreads, cancel=None, timeout=ANSWERS_WITHIN)
    except TimeoutError:
        raise EngineError(
            f"the Dask scheduler has not answered for {ANSWERS_WITHIN:.0f} s",
            hint=f"check the scheduler, and run again{STAY_DONE}",
        ) from None
    except OSError:
        raise _lost() from None


def _outcome(future: "Future[Result]") -> Result | Exception:
    from distributed import KilledWorker  # noqa: PLC0415 - an extra

    try:
        error = future.exception()
        if error is None:
            return future.result()
    except (OSError, CancelledError) as error:  # the scheduler is lost, and with it the future
        raise _lost() from error
    if isinstance(error, CancelledError):
        raise _lost()
    if isinstance(error, ForecasterError):
        return error
    if isinstance(error, KilledWorker):
        return _WorkersLostError(
            f"failed after {LOSSES + 1} workers were lost while they executed nothing else, "
            f"the last at {error.last_worker.address}",
            hint="give workers more memory, or use smaller buckets",
        )
    return WorkerError(f"a worker failed with {type(error).__name__}: {brief(str(error))}")


def _lost() -> EngineError:
    return EngineError(
        "the connection to the Dask scheduler is lost",
        hint=f"run again once the scheduler is back{STAY_DONE}",
    )
