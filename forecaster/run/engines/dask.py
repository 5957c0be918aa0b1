"""The Dask engine: names and ids are sent to the workers, outcomes of batches come back; no rows do."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from forecaster.errors import EngineError, InvalidOptionError
from forecaster.run.batch import Batch, Done, Work
from forecaster.run.engines.cluster import STAY_DONE, Item, Result, connected, each, threads

if TYPE_CHECKING:
    from types import TracebackType

    from distributed import Client

Secrets = tuple[tuple[str, str], ...]
"""Environment variables that workers on this machine need."""

_ENCRYPTED = "tls://"


class Dask:
    """The workers of a scheduler, or of a local cluster with one per core, while the block runs.

    If a worker is lost, another one starts its batch again. Raises `MissingExtraError` and `EngineError` like
    `connected` and `each`.
    """

    repeats = True

    def __init__(self, scheduler: str | None = None) -> None:
        self.scheduler = scheduler
        self._stack = ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        self._client = None

    def places(self, work: Work[Any, Any], /) -> int | None:
        """Number of batches that the workers execute at once."""
        return threads(self._connected(work.secrets))

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent to the workers is encrypted."""
        return self.scheduler is None or self.scheduler.startswith(_ENCRYPTED)

    def __call__(
        self, work: Work[Batch, Any], batches: Sequence[Batch], /
    ) -> Iterator[tuple[Batch, Done | Exception]]:
        """Yield each batch with its outcome, or its error, as soon as it is known.

        Raises `InvalidOptionError` for work that stays in this process, or with a secret that would be sent
        unencrypted.
        """
        if work.elsewhere is None:
            raise InvalidOptionError(
                "this place can be used in this process only", hint="use the local engine"
            )
        task = work.elsewhere(self.is_encrypted)
        yield from each(self._connected(work.secrets), task, batches, at_once=work.at_once)

    def results(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        /,
        *,
        secrets: Secrets = (),
        at_once: int | None = None,
    ) -> Iterator[tuple[Item, Result]]:
        """Execute a task that stores nothing; yield each item with its result, as soon as it is known.

        Raises the first error of the task.
        """
        try:
            for item, result in each(self._connected(secrets), task, items, at_once=at_once):
                if isinstance(result, Exception):
                    raise result
                yield item, result
        except EngineError as error:
            if error.hint:
                error.hint = error.hint.removesuffix(STAY_DONE)
            raise

    def _connected(self, secrets: Secrets) -> "Client":
        """Return the client; it stays connected when the run retries after a lost connection."""
        if self._client is None:
            client = connected(self.scheduler, environ=dict(secrets))
            self._client = self._stack.enter_context(client)
        return self._client
