"""One batch on its way: read, computed, stored; and the three interfaces that carry it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import polars as pl

from forecaster.frames.casting import Fitted
from forecaster.process.signals import Cancel
from forecaster.run.stages import Stages

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

Batch = TypeVar("Batch")
"""What is worked at once: the ids of some tracks or artists, or a bucket of a catalogue in files."""
Batch_contra = TypeVar("Batch_contra", contravariant=True)
Read = TypeVar("Read")
Read_co = TypeVar("Read_co", covariant=True)

Fit = Callable[[pl.DataFrame], tuple[Fitted, dict[int, str]]]
"""Brings rows into a sink's types; also returns the tracks or artists it cannot hold, with the reason."""


@dataclass(frozen=True)
class History:
    """What forecasts of some tracks start from, and what was left out."""

    records: pl.LazyFrame
    """`RECORDS`."""
    facts: pl.LazyFrame
    """`TRACK_FACTS`."""
    mldr: pl.LazyFrame
    """`NEWEST_MLDR`, at least of these tracks' artists."""
    duplicate_rows: int = 0
    """Rows left out because a newer row has the same track and date."""
    unusable_rows: int = 0
    """Rows left out because they are not records; 0 where these are counted for the whole run."""


@dataclass(frozen=True)
class Computed:
    """A batch before it is stored."""

    fitted: Fitted
    """The rows that the sink can hold, in its types."""
    results: int
    """Tracks or artists that they are of."""
    skipped: pl.DataFrame
    refused: dict[int, str]
    """Tracks or artists whose result the sink cannot hold, and why."""
    duplicate_rows: int = 0
    unusable_rows: int = 0
    looking_ahead: int = 0
    """Tracks that have streams after the as-of date."""


@dataclass(frozen=True)
class Done:
    """What became of a batch. Small: it may come from another process."""

    looked_at: int
    """Tracks or artists."""
    results: int
    """Those that got a result."""
    rows: int
    """Stored, or only computed where nothing is to be stored."""
    skipped: pl.DataFrame | None
    """None: they lie in the sink."""
    refused: dict[int, str] = field(default_factory=dict)
    """Tracks or artists whose result the sink cannot hold, and why."""
    taken: list[int] = field(default_factory=list)
    """Those that got a result from another writer meanwhile, and none from this run."""
    duplicate_rows: int = 0
    unusable_rows: int = 0
    looking_ahead: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds in each stage, where the run's own stopwatch has not measured them."""
    is_stored: bool = True
    """False: the write failed, so that only what was computed counts."""
    left_alone: bool = False
    """Whether its results were there and whole."""
    proof: object = None
    """What the sink keeps of the batch, where it keeps something."""


def done_of(
    computed: Computed,
    *,
    taken: Sequence[int] = (),
    results: int | None = None,
    stages: dict[str, float] | None = None,
    is_stored: bool = True,
) -> Done:
    """What became of a batch that was computed and stored, but for what another writer has `taken`."""
    results = computed.results if results is None else results
    rows = len(computed.fitted.rows) * results // computed.results if computed.results else 0
    return Done(
        looked_at=computed.results + len(computed.skipped) + len(computed.refused),
        results=results,
        rows=rows,
        skipped=computed.skipped,
        refused=computed.refused,
        taken=list(taken),
        duplicate_rows=computed.duplicate_rows,
        unusable_rows=computed.unusable_rows,
        looking_ahead=computed.looking_ahead,
        stages=stages or {},
        is_stored=is_stored,
    )


class Catalogue(Protocol[Batch_contra, Read_co]):
    """Where the batches are read from."""

    def read(self, batch: Batch_contra, /) -> Read_co:
        """What a batch is computed from. Raises `ConnectionLostError` for what may be tried again."""
        ...

    @property
    def cancel(self) -> Cancel | None:
        """How a read that goes on is made to come back; None: it comes back by itself."""
        ...

    def travelling(self, *, encrypted: bool) -> "Catalogue[Batch_contra, Read_co]":
        """The same to be sent to another process, without its secrets. Raises `InvalidOptionError`."""
        ...


class Store(Protocol[Batch_contra]):
    """What stores a batch that others are kept from."""

    def store(self, batch: Batch_contra, computed: Computed, stages: Stages, /) -> Done:
        """Store a batch, wholly or not at all."""
        ...


class Sink(Store[Batch_contra], Protocol[Batch_contra]):
    """Where the results are stored."""

    def fit(self, rows: pl.DataFrame, /) -> tuple[Fitted, dict[int, str]]:
        """The rows in the sink's types, and the tracks or artists it cannot hold, with the reason."""
        ...

    def held(self, batch: Batch_contra, /) -> "AbstractContextManager[Store[Batch_contra] | Done]":
        """Keep others from a batch; yields what stores it, or what became of it if it is done already."""
        ...

    @property
    def cancel(self) -> Cancel | None:
        """How a write that goes on is made to come back."""
        ...

    def travelling(self) -> "Sink[Batch_contra]":
        """The same to be sent to another process, without its secrets and connections."""
        ...


@dataclass(frozen=True)
class Work(Generic[Batch, Read]):
    """What is done with every batch."""

    catalogue: Catalogue[Batch, Read]
    compute: Callable[[Read, Fit, Stages], Computed]
    """Takes what was read, how rows are fitted to the sink, and the stopwatch."""
    sink: Sink[Batch]
    stages: Stages | None
    """The run's stopwatch. None: each batch has its own."""
    size: Callable[[Batch], int]
    """How many tracks or artists are in a batch, as far as that is known before it is read."""
    overlaps: bool = False
    """Whether batches may be read and stored while another one is computed."""
    at_once: int | None = None
    """How many batches all workers together may have; None: no limit."""
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """What workers on this machine need in their environment."""

    def __call__(self, batch: Batch) -> Done:
        """Read, compute and store a batch, unless it is done already."""
        with self.sink.held(batch) as held:
            if isinstance(held, Done):
                return held
            stages = self.stages or Stages(announced=False)
            return held.store(batch, self.computed(self.read(batch, stages), stages), stages)

    def read(self, batch: Batch, stages: Stages) -> Read:
        """What the batch is computed from."""
        with stages.stage("read") as stage:
            stage.count = self.size(batch)
            return self.catalogue.read(batch)

    def computed(self, read: Read, stages: Stages) -> Computed:
        """The results of a batch."""
        return self.compute(read, self.sink.fit, stages)

    def travelling(self, *, encrypted: bool) -> "Work[Batch, Read]":
        """The same to be sent to another process. Raises `InvalidOptionError` for a secret in it."""
        catalogue = self.catalogue.travelling(encrypted=encrypted)
        return Work(catalogue, self.compute, self.sink.travelling(), None, self.size)


class Engine(Protocol):
    """Works batches, in any order and place."""

    repeats: bool
    """Whether a batch may be worked twice, as after the loss of a worker."""

    def places(self, work: Work[Any, Any], /) -> int | None:
        """How many batches it works at once; None: in this process."""
        ...

    def __call__(
        self, work: Work[Batch, Any], batches: Sequence[Batch], /
    ) -> Iterator[tuple[Batch, Done | Exception]]:
        """What became of each batch, as soon as it is known."""
        ...
