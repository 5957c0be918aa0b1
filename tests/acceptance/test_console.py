"""What the commands say where there is no terminal: as text or as JSON, loud or quiet."""

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forecaster.cli import progress
from forecaster.cli.console import Console
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from forecaster.run.report import TRACKS, Report
from tests import sql
from tests.conftest import Cli, bare_environment
from tests.logs import unmarked
from tests.tables import load_golden

PROGRAM = f"{sys.executable} -m forecaster"
RESULT = re.compile(r"^forecast=(\d+) skipped=(\d+) rows=(\d+) seconds=\d+\.\d\d$", re.MULTILINE)
OLD = {"FORECASTER_THRESHOLD": "age=off"}
"""The test data ends in 2023."""


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    load_golden(embedded_database)
    return embedded_database


@pytest.fixture
def unlogged() -> Iterator[None]:
    """The handlers that a console in this process sets up are taken away again."""
    yield
    logging.getLogger("forecaster").handlers.clear()


def test_a_line_per_stage_elsewhere(called: Cli, catalogue: Dsn) -> None:
    result = called("run", env={"DATABASE_URL": catalogue.uri, **OLD})
    assert unmarked(result.stderr).splitlines() == [
        f"database: {catalogue}",
        *(f"stage: {stage}" for stage in TRACKS.stages),
    ]
    last = result.stdout.splitlines()[-1]
    match = RESULT.fullmatch(last)
    assert match
    assert match.groups() == ("247", "3", "5928")


def test_quiet_says_one_line(called: Cli, catalogue: Dsn) -> None:
    for quiet in ({"FORECASTER_QUIET": "1"}, {}):
        result = called(
            "run",
            "--replace",
            *(() if quiet else ("-q",)),
            env={"DATABASE_URL": catalogue.uri, **OLD, **quiet},
        )
        assert result.stderr == ""
        assert RESULT.fullmatch(result.stdout.strip())
    result = called("run", "-q", "--schema", "nowhere", env={"DATABASE_URL": catalogue.uri})
    assert result.stderr.startswith("Error: ")


def test_verbose_says_what_each_stage_took(called: Cli, catalogue: Dsn) -> None:
    said = unmarked(called("run", "-v", env={"DATABASE_URL": catalogue.uri}).stderr)
    for stage in ("read", "features", "fit", "projection", "write"):
        assert re.search(rf"^{stage}: \d+\.\d{{3}} s, 250 tracks$", said, re.MULTILINE), said


def test_json_lines(called: Cli, catalogue: Dsn) -> None:
    sql.run(
        catalogue,
        "ALTER TABLE backtest_track_streams_forecast DROP CONSTRAINT IF EXISTS "
        "backtest_track_streams_forecast_cm_track_id_month_key",
    )
    result = called("run", "--log-format", "json", env={"DATABASE_URL": catalogue.uri})
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert [line.get("stage") for line in lines if "stage" in line] == list(TRACKS.stages)
    assert {line["level"] for line in lines} == {"info", "warning"}
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00$", line["time"]) for line in lines)
    failed = called("run", "--log-format", "json", "--schema", "nowhere", env={"DATABASE_URL": catalogue.uri})
    error = json.loads(failed.stderr.splitlines()[-1])
    assert (error["level"], error["exit_code"]) == ("error", 4)
    assert "forecaster init" in error["hint"]


def test_the_report_as_json_and_nothing_else(called: Cli, catalogue: Dsn, tmp_path: Path) -> None:
    env = {"DATABASE_URL": catalogue.uri}
    result = called("run", "--json", "--report", str(tmp_path / "report.json"), env=env)
    report = json.loads(result.stdout)
    assert report["counts"]["forecast"] == 247
    assert report == json.loads((tmp_path / "report.json").read_text())
    # Of a run that fails as well.
    failed = called("run", "--json", "--schema", "nowhere", env=env)
    assert failed.returncode == 4
    assert "does not" in (error := json.loads(failed.stdout)["error"]) or "do not fit" in error


def test_an_error_is_a_paragraph_and_a_traceback_only_where_it_is_asked_for(
    called: Cli, embedded_database: Dsn
) -> None:
    env = {"DATABASE_URL": embedded_database.uri}
    for arguments in (("run",), ("dump", "--track-id", "1"), ("run", "-v")):
        said = called(*arguments, env=env).stderr
        assert "Traceback" not in said
        assert said.count("Error:") == 1
        paragraph = said[said.index("Error:") :]
        assert "\n\n" not in paragraph
        assert "create missing tables with `forecaster init`" in paragraph.splitlines()[-1]
    said = called("run", "-vv", env=env).stderr
    assert "Traceback" in said
    assert "SchemaMismatchError" in said


def test_version(called: Cli) -> None:
    assert re.fullmatch(r"forecaster, version \d+\.\d+\.\d+\n", called("--version").stdout)


@pytest.mark.usefixtures("unlogged")
def test_a_sign_of_life_where_nothing_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.set_up()
    report = Report(pending=10_000)
    with progress.shown(report, console, heartbeat=0.3):
        with report.stages.stage("read") as stage:
            time.sleep(0.8)
            stage.count = 5_000
        with report.stages.stage("write") as stage:
            stage.count = 2_500
        time.sleep(0.8)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("stage: ")] == ["stage: read", "stage: write"]
    signs = [line for line in said if line.startswith("still at work")]
    assert signs[0] == "still at work after 0 s: read"
    assert re.fullmatch(
        r"still at work after \d s: read 5,000, write 2,500 of 10,000 tracks; about \d s left", signs[-1]
    )


@pytest.mark.usefixtures("unlogged")
def test_a_sign_of_life_of_what_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.set_up()
    with progress.doing("draw", console, heartbeat=0.3):
        time.sleep(0.8)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["stage: draw", "still at work after 0 s: draw"]


def test_a_stage_is_said_when_it_begins(called: Cli, catalogue: Dsn) -> None:
    said = unmarked(called("run", "-v", env={"DATABASE_URL": catalogue.uri}).stderr).splitlines()
    for stage in TRACKS.stages:
        ends = [number for number, line in enumerate(said) if re.match(rf"{stage}: \d", line)]
        assert said.index(f"stage: {stage}") < ends[0]


def test_a_wrong_call_is_json_as_well_where_that_is_asked_for(cli: Cli) -> None:
    result = cli("run", "--json", "--log-format", "json", "--horizon", "0")
    assert result.returncode == 2
    assert "--horizon" in json.loads(result.stdout)["error"]
    assert json.loads(result.stderr)["exit_code"] == 2
    result = cli("run", "--bogus", env={"FORECASTER_LOG_FORMAT": "json"})
    assert "bogus" in json.loads(result.stderr)["message"]
    assert result.stdout == ""


def test_json_lines_to_the_end(cli: Cli, catalogue: Dsn) -> None:
    env = {"DATABASE_URL": catalogue.uri, "FORECASTER_LOG_FORMAT": "json"}
    failed = cli("run", "-vv", "--schema", "nowhere", env=env)
    assert "Traceback" in json.loads(failed.stderr.splitlines()[-1])["traceback"]
    with connect(catalogue) as connection:
        take_lock(connection, read_tables(connection, "public"))
        with subprocess.Popen(
            [*PROGRAM.split(), "run", "--wait", "60"],
            stderr=subprocess.PIPE,
            text=True,
            env={**bare_environment(), **env},
        ) as process:
            assert process.stderr
            while "connect" not in process.stderr.readline():
                pass
            time.sleep(0.3)
            process.terminate()
            last = process.stderr.read().splitlines()[-1]
    assert json.loads(last)["message"] == "Interrupted by SIGTERM: nothing is half done"
    assert json.loads(last)["exit_code"] == process.wait() == 143
