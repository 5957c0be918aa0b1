"""The stopwatch of a run: active stages, their seconds, and the number of tracks or artists done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl

from forecaster.frames.collecting import collect
from forecaster.process.logs import log


@dataclass
class Stage:
    """An active stage."""

    count: int = 0
    """Number of tracks or artists that are done when the stage ends."""


@dataclass
class Stages:
    """The stages of a run, or of one batch in another process."""

    names: tuple[str, ...] = ()
    """The stages of the run, in the order in which they begin."""
    unit: str = "tracks"
    """What a stage counts."""
    announced: bool = True
    """Whether a log line says when a stage begins."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent in each stage. Stages overlap, so the sum may exceed the seconds of the run."""
    active: dict[str, int] = field(default_factory=dict)
    """For each stage that has begun, how many times it is active at the moment."""
    done: dict[str, int] = field(default_factory=dict)
    """Number of tracks or artists, or of buckets, done by each stage."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Add the time spent in the block to the seconds of the stage, and its count to those done."""
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
            unit = self.unit.removesuffix("s") if stage.count == 1 else self.unit
            counted = f", {stage.count:,} {unit}" if stage.count else ""
            log.debug("%s: %.3f s%s", name, seconds, counted, extra={"stage": name})

    def checkpoint(self, name: str, frame: pl.LazyFrame, /) -> pl.LazyFrame:
        """Collect a stage of the model, so that its time is measured separately."""
        with self.stage(name) as stage:
            rows = collect(frame)
            stage.count = len(rows)
        return rows.lazy()

    def add(self, seconds: dict[str, float], count: int = 0) -> None:
        """Add the seconds that another process has measured for a batch of `count` tracks or artists."""
        for name, spent in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            if count:
                self.active.setdefault(name, 1)
                self.done[name] = self.done.get(name, 0) + count
