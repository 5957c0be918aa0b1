"""A cluster of Dask as somebody else has started it, and its processes to kill."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from forecaster.run.config import RunConfig
from forecaster.run.engines.cluster import connected
from forecaster.run.engines.dask import Dask
from forecaster.run.report import Report
from forecaster.run.session import Place, run
from tests.conftest import bare_environment
from tests.faults import LONG, until

BUCKETS = 12

# Workers of `Cluster` are forked from a process that has imported Dask: a third of the processor time. Those
# of the program's own are started as it does.
FORKED = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}

# What it takes to end at its end, whatever is still connected to it.
SCHEDULER = "from distributed.cli.dask_scheduler import main; main()"
WORKER = "from distributed.cli.dask_worker import main; main()"

TIMES = [pytest.param(2, id="short"), pytest.param(20, marks=LONG, id="long")]


@contextmanager
def python(
    code: str, *arguments: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **bare_environment(),
        "HOME": "/nonexistent",
        "POLARS_MAX_THREADS": "1",
        **(env or {}),
    }
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            kill_all(process)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """It and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Cluster:
    """A scheduler and worker processes with nannies, as someone else has started them."""

    def __init__(self, directory: Path, env: dict[str, str] | None = None, workers: int = 2) -> None:
        self.file = directory / "scheduler.json"
        self.env = FORKED | (env or {})
        self.size = workers

    def __enter__(self) -> Self:
        options = ("--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(self.file))
        self._scheduler = python(SCHEDULER, *options)
        self.scheduler = self._scheduler.__enter__()
        until(self.file.exists)
        until(lambda: self.file.stat().st_size > 0)
        self.address = str(json.loads(self.file.read_text())["address"])
        of_workers = (self.address, "--nworkers", str(self.size), "--nthreads", "1", "--no-dashboard")
        self._workers = python(WORKER, *of_workers, env=self.env)
        self._workers.__enter__()
        self.workers()
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.__exit__(None, None, None)
        self._scheduler.__exit__(None, None, None)

    def workers(self) -> list[int]:
        """The process ids of the workers, once all are there."""
        with connected(self.address) as client:
            client.wait_for_workers(self.size, timeout=60)  # another client for each look would cost much
            return sorted(client.run(os.getpid).values())


@contextmanager
def killing(cluster: Cluster, chance: random.Random) -> Iterator[list[int]]:
    """Kill a worker at a random moment meanwhile; who was killed."""
    killed: list[int] = []
    victim = chance.choice(cluster.workers())

    def kill() -> None:
        time.sleep(chance.uniform(0.05, 0.5))
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    thread.join()


def run_over(
    address: str | None, where: Place, config: RunConfig | None = None, report: Report | None = None
) -> Report:
    """Run on the workers of the scheduler at that address, or on some of its own."""
    with Dask(address) as engine:
        return run(where, config, engine, report)
