"""The program as a user starts it: a process of its own, with its wall time and its memory."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.catalogue import Catalogue

# By way of a process that is small itself: the largest memory that the system counts for a process begins
# with that of the one that it was started by.
_TIMED = """
import os, sys, time
start = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ,
                       file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - start, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Measured:
    """One process: seconds from start to end, the largest memory it had, and its own report."""

    seconds: float
    peak_mb: float
    report: dict[str, Any]

    @property
    def stages(self) -> dict[str, float]:
        """Seconds at work in each stage; `start` is what the process did before and after its run."""
        return {"start": self.seconds - self.report["seconds"], **self.report["stages"]}


def run(catalogue: Catalogue, *arguments: str) -> Measured:
    """`python -m forecaster run` on a catalogue."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.json"
        command = ("run", "--schema", catalogue.schema, "--report", str(path), *arguments)
        seconds, peak = process([sys.executable, "-m", "forecaster", *command], catalogue.dsn.uri)
        return Measured(seconds, peak, json.loads(path.read_text()))


def process(command: list[str], database_url: str = "") -> tuple[float, float]:
    """Wall seconds and peak memory (MB) of a process, which has to succeed."""
    environment = {**os.environ, "DATABASE_URL": database_url}
    timed = subprocess.run(
        [sys.executable, "-S", "-c", _TIMED, *command], env=environment, capture_output=True, check=False
    )
    if timed.returncode:
        raise RuntimeError(f"{command} ended with {timed.returncode}: {timed.stderr.decode()}")
    seconds, peak_kb = timed.stdout.split()
    return float(seconds), int(peak_kb) / 1024
