"""Collect lazy frames so that a signal takes effect at once."""

from collections.abc import Sequence
from functools import partial

import polars as pl

from forecaster.process.signals import interruptible


def collect(frame: pl.LazyFrame, /, *, streaming: bool = False) -> pl.DataFrame:
    """Collect a frame; Ctrl-C and SIGTERM take effect at once."""
    return interruptible(lambda: frame.collect(engine="streaming" if streaming else "auto"), cancel=None)


def collect_all(frames: Sequence[pl.LazyFrame], /) -> list[pl.DataFrame]:
    """Collect several frames that share their work; Ctrl-C and SIGTERM take effect at once."""
    return interruptible(partial(pl.collect_all, frames), cancel=None)
