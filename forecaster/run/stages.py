"""The stopwatch of a run: what goes on just now, for how long, and how many are done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl

from forecaster.frames.collecting import collect
from forecaster.process.logs import log


@dataclass
class Stage:
    """A stage that goes on just now."""

    count: int = 0
    """How many tracks or artists it will be done with at its end."""


@dataclass
class Stages:
    """The stages of a run, or of one batch in another process."""

    names: tuple[str, ...] = ()
    """What the run consists of, in the order in which the stages begin."""
    unit: str = "tracks"
    """What a stage counts."""
    announced: bool = True
    """Whether a log line says when a stage begins."""
    seconds: dict[str, float] = field(default_factory=dict)
    """At work in each stage. Some go on at the same time, so the sum may exceed that of the run."""
    active: dict[str, int] = field(default_factory=dict)
    """For each stage that has begun, in how many places it goes on just now."""
    done: dict[str, int] = field(default_factory=dict)
    """How many each stage is done with."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Add the time spent inside to the stage's seconds, and its count to what it is done with."""
        start = time.perf_counter()
        if name not in self.active and self.announced:
            log.info("stage: %s", name, extra={"stage": name, "begins": True})
        self.active[name] = self.active.get(name, 0) + 1
        stage = Stage()
        try:
            yield stage
            self.done[name] = self.done.get(name, 0) + stage.count
        finally:
            seconds = time.perf_counter() - start
            self.active[name] -= 1
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            counted = f", {stage.count:,} {self.unit}" if stage.count else ""
            log.debug("%s: %.3f s%s", name, seconds, counted, extra={"stage": name})

    def checkpoint(self, name: str, frame: pl.LazyFrame, /) -> pl.LazyFrame:
        """Compute a stage of the model here and now, so that its time is its own."""
        with self.stage(name) as stage:
            rows = collect(frame)
            stage.count = len(rows)
        return rows.lazy()

    def add(self, seconds: dict[str, float], count: int = 0) -> None:
        """Add what another process has measured for a batch of so many."""
        for name, spent in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            if count:
                self.active.setdefault(name, 1)
                self.done[name] = self.done.get(name, 0) + count
