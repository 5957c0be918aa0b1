"""The program as a user starts it: a process of its own, with its wall time and its memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.catalogue import Catalogue


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
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        errors = child.stderr.read() if child.stderr else b""
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command} ended with {child.returncode}: {errors.decode()}")
    return seconds, usage.ru_maxrss / 1024
