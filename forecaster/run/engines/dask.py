"""The Dask engine: names and ids are sent to the workers, outcomes of batches come back; no rows do."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from forecaster.errors import InvalidOptionError
from forecaster.run.batch import Batch, Done, Work
from forecaster.run.engines.cluster import connected, each, threads

if TYPE_CHECKING:
    from types import TracebackType

    from distributed import Client

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
        return threads(self._connected(work))

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
        task = work.elsewhere(self.scheduler is None or self.scheduler.startswith(_ENCRYPTED))
        yield from each(self._connected(work), task, batches, at_once=work.at_once)

    def _connected(self, work: Work[Any, Any]) -> "Client":
        """Return the client; it stays connected when the run retries after a lost connection."""
        if self._client is None:
            client = connected(self.scheduler, environ=dict(work.secrets))
            self._client = self._stack.enter_context(client)
        return self._client
