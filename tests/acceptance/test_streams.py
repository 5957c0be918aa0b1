"""Standard output and error that are closed, full, or read by somebody who has enough."""

import subprocess
import sys

import pytest

from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.conftest import bare_environment
from tests.tables import load_golden

PROGRAM = f"{sys.executable} -m forecaster"


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    load_golden(embedded_database)
    return embedded_database


@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-", "2> >(true)", ">/dev/null 2>&1"])
def test_a_log_that_cannot_be_written_does_not_keep_a_run_from_storing(catalogue: Dsn, redirect: str) -> None:
    assert in_shell(f"{PROGRAM} run {redirect}", catalogue).returncode == 0
    assert sql.rows(catalogue, "SELECT count(*) FROM backtest_track_streams_forecast") == [(247 * 24,)]


def test_a_reader_that_has_enough_ends_nothing(catalogue: Dsn) -> None:
    for arguments in ("dump --track-id 1", "run --help", "run -q", "doctor"):
        result = in_shell(f"set -o pipefail; {PROGRAM} {arguments} | head -1", catalogue)
        assert (result.returncode, "Traceback" in result.stderr) == (0, False), arguments


@pytest.mark.parametrize("redirect", [">&-", "</dev/null >&- 2>&-"])
def test_output_that_is_closed(catalogue: Dsn, redirect: str) -> None:
    for arguments in ("run", "plot --track-id 1", "doctor"):
        result = in_shell(f"{PROGRAM} {arguments} {redirect}", catalogue)
        assert (result.returncode, "Traceback" in result.stderr) == (0, False), arguments


def test_a_full_disk_is_an_error_and_no_traceback(catalogue: Dsn) -> None:
    for arguments in ("run", "--help", "doctor"):
        result = in_shell(f"{PROGRAM} {arguments} >/dev/full", catalogue)
        last = result.stderr.splitlines()[-1]
        assert (result.returncode, last) == (
            1,
            "Error: standard output cannot be written: No space left on device",
        )
        assert "Traceback" not in result.stderr
    assert sql.rows(catalogue, "SELECT count(*) FROM backtest_track_streams_forecast") == [(247 * 24,)]


def test_a_chart_on_a_terminal_without_utf8(catalogue: Dsn) -> None:
    result = in_shell(f"PYTHONIOENCODING=latin-1 {PROGRAM} plot --track-id 1", catalogue)
    assert (result.returncode, "Traceback" in result.stderr) == (0, False)
    assert "## 30-day totals  oo forecast" in result.stdout


def in_shell(command: str, dsn: Dsn) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        env={**bare_environment(), "DATABASE_URL": dsn.uri, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
