"""Ctrl-C and SIGTERM end the embedded server with the command that uses it."""

import fcntl
import os
import random
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from forecaster.process.signals import GRACE
from tests.faults import SEED, started, until
from tests.interrupts import (
    HEAVY,
    SIGNALS,
    Process,
    assert_interrupted,
    computes,
    interrupt,
    until_it_handles_signals,
)


class TestEmbeddedServer:
    @pytest.mark.parametrize("signum", SIGNALS)
    @pytest.mark.parametrize("file", ["new-*/PG_VERSION", "pgdata/postmaster.pid"])
    def test_while_it_is_made_and_started(self, short_dir: Path, file: str, signum: signal.Signals) -> None:
        with demo(short_dir) as process:
            until(lambda: any(short_dir.glob(file)), process)
            assert_all_gone(process, signum, short_dir)

    def test_while_it_is_used(self, short_dir: Path) -> None:
        with demo(short_dir, f"{HEAVY}\nforecaster.run.made_with.project = heavy") as process:
            until(lambda: computes(process), process)
            assert_all_gone(process, signal.SIGINT, short_dir)

    @pytest.mark.slow
    @pytest.mark.parametrize("signum", SIGNALS)
    def test_while_another_command_starts_it(self, short_dir: Path, signum: signal.Signals) -> None:
        with (short_dir / "start.lock").open("a") as start_lock:
            fcntl.flock(start_lock, fcntl.LOCK_EX)
            with demo(short_dir) as process:
                until(lambda: "start.lock" in opened(process), process)
                ended, seconds = interrupt(process, signum)
        assert_interrupted(ended, signum)
        assert seconds < GRACE

    @pytest.mark.slow
    @pytest.mark.timeout(3600)
    def test_at_any_moment(self, short_dir: Path) -> None:
        chance = random.Random(SEED)
        for number in range(30):
            with demo(short_dir) as process:
                until_it_handles_signals(process)
                time.sleep(chance.uniform(0, 3))
                assert_all_gone(process, SIGNALS[number % 2], short_dir)


def opened(process: Process) -> set[str]:
    """The names of the files that a process has open."""
    found = Path(f"/proc/{process.pid}/fd").iterdir()
    return {Path(os.path.realpath(descriptor)).name for descriptor in found}


def demo(data_dir: Path, before: str = "") -> AbstractContextManager[Process]:
    return started(None, "--data-dir", str(data_dir), before=before, command="demo")


def assert_all_gone(process: Process, signum: signal.Signals, data_dir: Path) -> None:
    ended, _ = interrupt(process, signum)
    if ended.code:  # it was not done before
        assert_interrupted(ended, signum)
    until(lambda: not servers(data_dir))


def servers(data_dir: Path) -> list[psutil.Process]:
    """Live programs of PostgreSQL on the directory."""
    with_arguments = ((p, p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
    return [p for p, arguments in with_arguments if any(str(data_dir) in a for a in arguments[1:])]
