"""One batch: read, compute, store; and the three interfaces for it: catalogue, sink and engine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import polars as pl

from forecaster.frames.casting import Fitted
from forecaster.process.signals import Cancel
from forecaster.run.plausible import Observed
from forecaster.run.stages import Stages

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

Batch = TypeVar("Batch")
"""A unit of work: the ids of some tracks or artists, or a bucket of a catalogue in files."""
Batch_contra = TypeVar("Batch_contra", contravariant=True)
Read = TypeVar("Read")
Read_co = TypeVar("Read_co", covariant=True)

Fit = Callable[[pl.DataFrame], tuple[Fitted, dict[int, str]]]
"""Casts rows to the types of a sink; also returns the tracks or artists that it cannot hold, with reason."""


@dataclass(frozen=True)
class History:
    """The input for the forecasts of some tracks, and the number of rows left out of it."""

    records: pl.LazyFrame
    """`RECORDS`."""
    facts: pl.LazyFrame
    """`TRACK_FACTS`."""
    mldr: pl.LazyFrame
    """`NEWEST_MLDR` of at least the artists of these tracks."""
    duplicate_rows: int = 0
    """Rows left out because a newer row has the same track and date."""
    unusable_rows: int = 0
    """Rows left out because they are not records; 0 if the run counts them once for all batches."""


@dataclass(frozen=True)
class Computed:
    """A computed batch that is not stored yet."""

    fitted: Fitted
    """The rows that the sink can hold, in its types."""
    results: int
    """Number of tracks or artists that have such rows."""
    skipped: pl.DataFrame
    refused: dict[int, str]
    """Tracks or artists whose result the sink cannot hold, with the reason."""
    duplicate_rows: int = 0
    unusable_rows: int = 0
    looking_ahead: int = 0
    """Number of tracks that have streams after the as-of date."""
    known: pl.DataFrame = field(default_factory=pl.DataFrame)
    """What each forecast was made from: `KNOWN`, one row per track of the batch."""
    observed: Observed = field(default_factory=Observed)
    intervals: pl.DataFrame = field(default_factory=pl.DataFrame)
    """One row per forecast: cm_track_id, and a list of months for each quantile. Without columns: none."""


@dataclass(frozen=True)
class Done:
    """The outcome of a batch. Small, because it may come from another process."""

    processed: int
    """Number of tracks or artists in the batch."""
    results: int
    """Number of tracks or artists that got a result."""
    rows: int
    """Rows stored, or only computed in a dry run."""
    skipped: pl.DataFrame | None
    """None: the sink has them."""
    refused: dict[int, str] = field(default_factory=dict)
    """Tracks or artists whose result the sink cannot hold or the server refuses, with the reason."""
    taken: list[int] = field(default_factory=list)
    """Tracks or artists for which another writer stored a result in the meantime; this run stores none."""
    duplicate_rows: int = 0
    unusable_rows: int = 0
    looking_ahead: int = 0
    observed: Observed = field(default_factory=Observed)
    """What the checks of plausibility know about the tracks."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds in each stage, unless the stopwatch of the run has measured them."""
    is_stored: bool = True
    """False if the write failed, so that only what was computed counts."""
    left_alone: bool = False
    """Whether the results were stored and complete before this run, so that it computed nothing."""
    proof: object = None
    """The record that the sink keeps of the batch, such as a manifest; None if it keeps none."""


def done_of(
    computed: Computed,
    *,
    taken: Sequence[int] = (),
    refused: Mapping[int, str] = MappingProxyType({}),
    results: int | None = None,
    stages: dict[str, float] | None = None,
    is_stored: bool = True,
) -> Done:
    """Return the outcome of a batch that was computed, and stored except for `taken` and `refused` ids."""
    results = computed.results if results is None else results
    rows = len(computed.fitted.rows) * results // computed.results if computed.results else 0
    return Done(
        processed=computed.results + len(computed.skipped) + len(computed.refused),
        results=results,
        rows=rows,
        skipped=computed.skipped,
        refused=computed.refused | dict(refused),
        taken=list(taken),
        duplicate_rows=computed.duplicate_rows,
        unusable_rows=computed.unusable_rows,
        looking_ahead=computed.looking_ahead,
        observed=computed.observed,
        stages=stages or {},
        is_stored=is_stored,
    )


class Catalogue(Protocol[Batch_contra, Read_co]):
    """The source of the batches."""

    def read(self, batch: Batch_contra, /) -> Read_co:
        """Read the input of a batch. Raises `ConnectionLostError` if a retry makes sense."""
        ...


class Store(Protocol[Batch_contra]):
    """Stores a batch that no other process can store at the same time."""

    def store(self, batch: Batch_contra, computed: Computed, stages: Stages, /) -> Done:
        """Store a batch completely or not at all."""
        ...


class Sink(Protocol[Batch_contra]):
    """The destination of the results."""

    def fit(self, rows: pl.DataFrame, /) -> tuple[Fitted, dict[int, str]]:
        """Cast rows to the types of the sink.

        Also returns the tracks or artists whose rows the sink cannot hold, with the reason.
        """
        ...

    def held(self, batch: Batch_contra, /) -> "AbstractContextManager[Store[Batch_contra] | Done]":
        """Hold a batch exclusively; yields its store, or its outcome if it is already done.

        Raises `LockedError` if another process holds it.
        """
        ...


@dataclass(frozen=True)
class Work(Generic[Batch, Read]):
    """What a run does with every batch."""

    catalogue: Catalogue[Batch, Read]
    compute: Callable[[Read, Fit, Stages], Computed]
    """Takes what was read, the `fit` of the sink, and the stopwatch."""
    sink: Sink[Batch]
    stages: Stages | None
    """The stopwatch of the run. None: each batch has its own."""
    size: Callable[[Batch], int]
    """Number of tracks or artists in a batch, as far as it is known before reading; else 0."""
    overlaps: bool = False
    """Whether batches may be read and stored while another one is computed."""
    at_once: int | None = None
    """Maximum number of batches that all workers together process at once; None: no limit."""
    cancel_read: Cancel | None = None
    """How to make a running read return; None: it returns by itself."""
    cancel_write: Cancel | None = None
    """How to make a running write return; None: it returns by itself."""
    elsewhere: "Callable[[bool], Work[Batch, Read]] | None" = None
    """Makes a copy without secrets and connections, to send to other processes; None: impossible.

    Takes whether what is sent is encrypted. Raises `InvalidOptionError` for a secret that must not be sent.
    """
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Environment variables that workers on this machine need."""

    def __call__(self, batch: Batch) -> Done:
        """Read, compute and store a batch unless it is already done."""
        with self.sink.held(batch) as held:
            if isinstance(held, Done):
                return held
            stages = self.stages or Stages(announced=False)
            return held.store(batch, self.computed(self.read(batch, stages), stages), stages)

    def stored(self, batch: Batch, computed: Computed, stages: Stages) -> Done:
        """Store a batch that was computed before it is held."""
        with self.sink.held(batch) as held:
            return held if isinstance(held, Done) else held.store(batch, computed, stages)

    def read(self, batch: Batch, stages: Stages) -> Read:
        """Read the input of a batch, and measure the time."""
        with stages.stage("read") as stage:
            stage.count = self.size(batch)
            return self.catalogue.read(batch)

    def computed(self, read: Read, stages: Stages) -> Computed:
        """Compute the results of a batch."""
        return self.compute(read, self.sink.fit, stages)


class Engine(Protocol):
    """Executes batches, in any order, in this process or in others."""

    repeats: bool
    """Whether a batch may be executed twice, for example after the loss of a worker."""

    def places(self, work: Work[Any, Any], /) -> int | None:
        """Number of batches that it executes at once; None if it executes them in this process."""
        ...

    def __call__(
        self, work: Work[Batch, Any], batches: Sequence[Batch], /
    ) -> Iterator[tuple[Batch, Done | Exception]]:
        """Yield each batch with its outcome, or its error, as soon as it is known."""
        ...
