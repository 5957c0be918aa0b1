"""Data directories of the embedded server, and processes that use them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import connectorx
import psutil
import pytest

from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.faults import until

IS_ROOT = os.geteuid() == 0
as_root_only = pytest.mark.skipif(not IS_ROOT, reason="only root can run the server as another user")

# Uses the directory until its input ends.
HOLDER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job started with &
from pathlib import Path
from forecaster.postgres.embedded import running_server
with running_server(Path(sys.argv[1])):
    signal.siginterrupt(signal.SIGINT, True)  # Polars makes Ctrl-C not end a read
    print("up", flush=True)
    sys.stdin.read()
"""


@contextmanager
def moved(source: Path, target: Path) -> Iterator[Path]:
    source.rename(target)
    yield target
    target.rename(source)


def copied(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", "--", source, target], check=True)
    return target


@contextmanager
def holder(data_dir: Path, script: str = HOLDER) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the directory, until it is told to end or is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        yield process


def wait_until_up(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "up\n"


def pid_file(data_dir: Path) -> Path:
    return data_dir / "pgdata" / "postmaster.pid"


def server_pid(data_dir: Path) -> int:
    return int(pid_file(data_dir).read_text().split("\n")[0])


def is_running(pid: int) -> bool:
    try:
        command: list[str] = psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False
    return command != []  # a zombie, and one that is just ending, has none


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(pid))


def assert_answers(dsn: Dsn) -> None:
    assert sql.rows(dsn, "SELECT 1") == [(1,)]
    assert connectorx.read_sql(dsn.uri, "SELECT 1", return_type="polars").rows() == [(1,)]
