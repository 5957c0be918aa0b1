"""Collect lazy frames so that a signal is not kept waiting."""

from collections.abc import Sequence
from functools import partial

import polars as pl

from forecaster.process.signals import interruptible


def collect(frame: pl.LazyFrame, /, *, streaming: bool = False) -> pl.DataFrame:
    """Compute the rows of a frame; Ctrl-C and SIGTERM take effect at once."""
    return interruptible(lambda: frame.collect(engine="streaming" if streaming else "auto"), cancel=None)


def collect_all(frames: Sequence[pl.LazyFrame], /) -> list[pl.DataFrame]:
    """Compute several frames, which share their work."""
    return interruptible(partial(pl.collect_all, frames), cancel=None)
