"""Each run has an id, in its report and in each line of its log."""

import json
import re
import signal
from pathlib import Path

import pytest

from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from tests.conftest import Cli
from tests.faults import started
from tests.logs import MARK
from tests.tables import load_golden


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    load_golden(embedded_database)
    return embedded_database


def log_id(path: Path) -> str:
    found: str = json.loads(path.read_text())["log_id"]
    assert re.fullmatch("[0-9a-f]{8}", found)
    return found


def test_each_line_of_text_ends_with_it(called: Cli, catalogue: Dsn, tmp_path: Path) -> None:
    env = {"DATABASE_URL": catalogue.uri}
    result = called("run", "-v", "--report", "r.json", env=env, cwd=tmp_path)
    first = log_id(tmp_path / "r.json")
    assert len(result.stderr.splitlines()) > 10
    assert all(line.endswith(f" [{first}]") for line in result.stderr.splitlines())
    assert first not in result.stdout
    called("run", "--report", "r.json", env=env, cwd=tmp_path)
    assert log_id(tmp_path / "r.json") != first


@pytest.mark.parametrize("command", ["run", "mldr"])
def test_an_error_has_it_before_its_hint(called: Cli, tmp_path: Path, command: str) -> None:
    env = {"DATABASE_URL": "postgresql://127.0.0.1:1/music"}
    result = called(command, "-q", "--report", "r.json", env=env, cwd=tmp_path)
    assert result.returncode == 3
    first, *hint = result.stderr.splitlines()
    assert first.startswith("Error: ")
    assert first.endswith(f" [{log_id(tmp_path / 'r.json')}]")
    assert hint
    assert not MARK.search("\n".join(hint))


def test_each_json_line_has_it(called: Cli, catalogue: Dsn, tmp_path: Path) -> None:
    env = {"DATABASE_URL": catalogue.uri, "FORECASTER_LOG_FORMAT": "json"}
    for more, code in ((), 0), (("--schema", "nowhere"), 4):
        result = called("run", *more, "--report", "r.json", env=env, cwd=tmp_path)
        assert result.returncode == code
        runs = {json.loads(line)["run"] for line in result.stderr.splitlines()}
        assert runs == {log_id(tmp_path / "r.json")}
        assert not MARK.search(result.stderr)


def test_what_is_said_before_the_run_has_it(called: Cli, tmp_path: Path) -> None:
    env = {"DATABASE_URL": "postgresql://127.0.0.1:1/music", "FORECASTER_RUN_REPROT": "r.json"}
    result = called("run", "--report", "r.json", env=env, cwd=tmp_path)
    [line] = [line for line in result.stderr.splitlines() if "FORECASTER_RUN_REPROT" in line]
    assert line.endswith(f" [{log_id(tmp_path / 'r.json')}]")


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_last_words_have_it(catalogue: Dsn, tmp_path: Path, form: str) -> None:
    report = tmp_path / "r.json"
    arguments = ("--wait", "600", "--report", str(report), "--log-format", form)
    with connect(catalogue) as other:
        take_lock(other, read_tables(other, "public"))
        with started(catalogue, *arguments) as process:
            assert process.stderr
            while "connect" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            last = process.communicate(timeout=60)[1].splitlines()[-1]
    if form == "json":
        assert json.loads(last)["run"] == log_id(report)
    else:
        assert last == f"Interrupted by SIGTERM: nothing is half done [{log_id(report)}]"


def test_commands_that_are_no_runs_have_none(called: Cli, catalogue: Dsn, tmp_path: Path) -> None:
    env = {"DATABASE_URL": catalogue.uri}
    called("run", env=env)
    result = called("report", "--out", "r.html", env=env, cwd=tmp_path)
    assert result.stderr.splitlines()
    assert not MARK.search(result.stderr)
