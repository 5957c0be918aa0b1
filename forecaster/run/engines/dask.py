"""The engine of a run on Dask: only names and ids travel to the workers, and what became of each batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from forecaster.run.batch import Batch, Done, Work
from forecaster.run.engines.cluster import connected, each, threads

if TYPE_CHECKING:
    from types import TracebackType

    from distributed import Client

_ENCRYPTED = "tls://"


class Dask:
    """The workers of a scheduler, or one of its own for each core, for as long as the block lasts.

    When a worker is lost its batch is begun again by another one. Raises `MissingExtraError` and
    `EngineError` like `connected` and `each`.
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
        """How many batches the workers work at once."""
        return threads(self._connected(work))

    def __call__(
        self, work: Work[Batch, Any], batches: Sequence[Batch], /
    ) -> Iterator[tuple[Batch, Done | Exception]]:
        """What became of each batch, in the order in which that is known.

        Raises `InvalidOptionError` for work with a secret in it that others could read on the way.
        """
        encrypted = self.scheduler is None or self.scheduler.startswith(_ENCRYPTED)
        task = work.travelling(encrypted=encrypted)
        yield from each(self._connected(work), task, batches, at_once=work.at_once)

    def _connected(self, work: Work[Any, Any]) -> "Client":
        """The client, which stays connected when the run begins again after a lost connection."""
        if self._client is None:
            client = connected(self.scheduler, environ=dict(work.secrets))
            self._client = self._stack.enter_context(client)
        return self._client
