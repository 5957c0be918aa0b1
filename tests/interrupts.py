"""Interrupt a process, and see that it ends as it should."""

import signal
import subprocess
import time
from pathlib import Path

import psutil

from tests.faults import Ended, end_of, until
from tests.logs import unmarked

SIGNALS = (signal.SIGINT, signal.SIGTERM)

Process = subprocess.Popen[str]

# A result that takes minutes to compute, and little memory; by one thread, as more are no busier.
HEAVY = """
import os
os.environ["POLARS_MAX_THREADS"] = "1"
import forecaster.postgres.tracks, forecaster.run.forecast, polars as pl
def heavy(*_, **__):
    print("computing", flush=True)
    many = pl.LazyFrame({"a": range(20_000)}).join(pl.LazyFrame({"b": range(20_000)}), how="cross")
    many = many.join(pl.LazyFrame({"c": range(1000)}), how="cross")
    return many.select(forecasted_value=pl.sum_horizontal(pl.all()).sin().sum())
"""


def computes(process: Process) -> bool:
    assert process.stdout
    assert "computing\n" in iter(process.stdout.readline, "")
    program = psutil.Process(process.pid)
    start = program.cpu_times().user
    until(lambda: program.cpu_times().user > start + 0.3, process)
    return True


def interrupt(process: Process, signum: signal.Signals) -> tuple[Ended, float]:
    start = time.monotonic()
    process.send_signal(signum)
    ended = end_of(process)
    return ended, time.monotonic() - start


def assert_interrupted(ended: Ended, signum: signal.Signals) -> None:
    assert ended.code == 128 + signum, ended
    said = [
        line
        for line in unmarked(ended.stderr).splitlines()
        if not line.startswith(("database: ", "stage: ", "waiting for ", "Warning: "))
    ]
    assert said == [f"Interrupted by {signum.name}: nothing is half done"]


def until_it_handles_signals(process: Process) -> None:
    """Before that, which is some milliseconds after Python itself has started, a signal just kills it."""

    def handles_sigterm() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught & 1 << (signal.SIGTERM - 1))

    until(handles_sigterm, process)
