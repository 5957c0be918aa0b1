"""Run the program as a user does, as a separate process, and measure its wall time and memory."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.catalogue import Catalogue
from forecaster.postgres.dsn import Dsn

# Started by a small process: the peak memory that the system counts for a process begins with the memory of
# the process that started it.
_TIMED = """
import os, sys, time
start = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ,
                       file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - start, usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Measured:
    """One process: seconds from start to end, peak memory, and its own report."""

    seconds: float
    peak_mb: float
    report: dict[str, Any]

    @property
    def stages(self) -> dict[str, float]:
        """Seconds spent in each stage; `start` is the time of the process before and after its run."""
        return {"start": self.seconds - self.report["seconds"], **self.report["stages"]}


def run(catalogue: Catalogue, *arguments: str, dsn: Dsn | None = None, python: str | None = None) -> Measured:
    """Measure `python -m forecaster run` on a catalogue.

    `dsn`: another way to its server. `python`: the interpreter of another version of the program.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.json"
        interpreter = [python, "-P"] if python else [sys.executable]  # not the version in this directory
        command = ("run", "--schema", catalogue.schema, "--report", str(path), *arguments)
        seconds, peak = process([*interpreter, "-m", "forecaster", *command], (dsn or catalogue.dsn).uri)
        return Measured(seconds, peak, json.loads(path.read_text()))


def process(command: list[str], database_url: str = "") -> tuple[float, float]:
    """Run a command; return wall seconds and peak memory (MB). Raises `RuntimeError` if it fails."""
    seconds, peak, _ = with_cpu(command, database_url)
    return seconds, peak


def with_cpu(command: list[str], database_url: str = "") -> tuple[float, float, float]:
    """Do the same, and also return the seconds of processor time of the command itself."""
    environment = {**os.environ, "DATABASE_URL": database_url}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users keep what was compiled once
    timed = subprocess.run(
        [sys.executable, "-S", "-c", _TIMED, *command], env=environment, capture_output=True, check=False
    )
    if timed.returncode:
        raise RuntimeError(f"{command} ended with {timed.returncode}: {timed.stderr.decode()}")
    seconds, peak_kb, cpu = timed.stdout.split()
    return float(seconds), int(peak_kb) / 1024, float(cpu)
