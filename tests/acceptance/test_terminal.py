"""What the commands say: on a terminal and elsewhere, in colour or not, as text or as JSON, loud or quiet."""

import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import polars as pl
import pytest

from forecaster.cli import main, progress
from forecaster.cli.console import Console, color_of
from forecaster.cli.options import Option
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from forecaster.run.report import RunReport
from tests import sql
from tests.conftest import Cli, bare_environment
from tests.tables import load_golden

PROGRAM = f"{sys.executable} -m forecaster"
ESCAPE = "\x1b["
RESULT = re.compile(r"^forecast=(\d+) skipped=(\d+) rows=(\d+) seconds=\d+\.\d\d$", re.MULTILINE)


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    load_golden(embedded_database)
    return embedded_database


@pytest.fixture
def unlogged() -> Iterator[None]:
    """The handlers that a console in this process sets up are taken away again."""
    yield
    logging.getLogger("forecaster").handlers.clear()


def on_terminal(*arguments: str, env: Mapping[str, str], interrupt_at: str = "") -> tuple[int, str]:
    """Exit code and all that a terminal gets; SIGINT is sent once it shows `interrupt_at`."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "forecaster", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**bare_environment(), "TERM": "xterm", "COLUMNS": "100", "LC_ALL": "C.UTF-8", **env},
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.05)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if interrupt_at and interrupt_at.encode() in shown:
                process.send_signal(signal.SIGINT)
                interrupt_at = ""
    os.close(ours)
    return process.wait(timeout=10), shown.decode()


def test_a_terminal_gets_a_picture_and_then_the_table(catalogue: Dsn) -> None:
    code, shown = on_terminal("run", env={"DATABASE_URL": catalogue.uri})
    assert code == 0, shown
    assert ESCAPE in shown
    for stage in RunReport.STAGES:
        assert stage in shown
    assert re.search(r"\d+ of 250 tracks", shown)
    assert "stage: " not in shown
    # The cursor, hidden for the picture, is there again.
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") > 0
    assert "tracks pending       250" in shown
    assert RESULT.search(shown.replace("\r", ""))


def test_a_forced_end_gives_the_cursor_back(catalogue: Dsn) -> None:
    sql.run(catalogue, "ALTER TABLE backtest_track_streams_forecast ADD CHECK (pg_sleep(0.01) IS NULL)")
    code, shown = on_terminal("run", env={"DATABASE_URL": catalogue.uri}, interrupt_at="write")
    assert code == 130, shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")
    assert "Interrupted by SIGINT" in shown


@pytest.mark.parametrize(
    ("arguments", "env", "coloured"),
    [
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        (("--color", "never"), {}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
        ((), {"FORECASTER_COLOR": "never"}, False),
    ],
)
def test_colours_on_a_terminal(
    embedded_database: Dsn, arguments: tuple[str, ...], env: Mapping[str, str], *, coloured: bool
) -> None:
    code, shown = on_terminal("run", "-q", *arguments, env={"DATABASE_URL": embedded_database.uri, **env})
    assert code == 4
    assert ("\x1b[31m" in shown) == coloured
    assert "Error:" in shown


def test_without_a_terminal_there_are_colours_only_if_they_are_asked_for(
    called: Cli, embedded_database: Dsn
) -> None:
    env = {"DATABASE_URL": embedded_database.uri}
    assert ESCAPE not in called("run", env=env).stderr
    assert "\x1b[31m" in called("run", "--color", "always", env=env).stderr


def test_no_colour_in_the_picture_but_the_picture(catalogue: Dsn) -> None:
    _, shown = on_terminal("run", "--dry-run", env={"DATABASE_URL": catalogue.uri, "NO_COLOR": "1"})
    assert "of 250 tracks" in shown
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)


def test_a_dumb_terminal_gets_lines(catalogue: Dsn) -> None:
    _, shown = on_terminal("run", env={"DATABASE_URL": catalogue.uri, "TERM": "dumb"})
    assert "stage: read" in shown
    assert ESCAPE not in shown


def test_a_line_per_stage_elsewhere(called: Cli, catalogue: Dsn) -> None:
    result = called("run", env={"DATABASE_URL": catalogue.uri})
    assert result.stderr.splitlines() == [
        f"database: {catalogue}",
        *(f"stage: {stage}" for stage in RunReport.STAGES),
    ]
    last = result.stdout.splitlines()[-1]
    match = RESULT.fullmatch(last)
    assert match
    assert match.groups() == ("247", "3", "5928")


def test_quiet_says_one_line(called: Cli, catalogue: Dsn) -> None:
    for quiet in ({"FORECASTER_QUIET": "1"}, {}):
        result = called(
            "run", "--replace", *(() if quiet else ("-q",)), env={"DATABASE_URL": catalogue.uri, **quiet}
        )
        assert result.stderr == ""
        assert RESULT.fullmatch(result.stdout.strip())
    result = called("run", "-q", "--schema", "nowhere", env={"DATABASE_URL": catalogue.uri})
    assert result.stderr.startswith("Error: ")


def test_verbose_says_what_each_stage_took(called: Cli, catalogue: Dsn) -> None:
    said = called("run", "-v", env={"DATABASE_URL": catalogue.uri}).stderr
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
    assert [line.get("stage") for line in lines if "stage" in line] == list(RunReport.STAGES)
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
        assert "`forecaster init` creates" in paragraph.splitlines()[-1]
    said = called("run", "-vv", env=env).stderr
    assert "Traceback" in said
    assert "SchemaMismatchError" in said


def test_each_option_is_a_variable_and_says_so() -> None:
    variables = set()
    for name, command in main.commands.items():
        text = " ".join(click.Context(command, info_name=name).get_help().split())
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name != "help":
                assert isinstance(parameter, Option), (name, parameter.name)
                assert parameter.envvar == "DATABASE_URL" or str(parameter.envvar).startswith("FORECASTER_")
                assert f"env var: {parameter.envvar}" in text, (name, parameter.name)
                variables.add(parameter.envvar)
    of_all, of_one = (
        {"DATABASE_URL", "FORECASTER_HORIZON"},
        {"FORECASTER_RUN_DRY_RUN", "FORECASTER_MLDR_REPORT"},
    )
    assert of_all | of_one <= variables


def test_options_by_variables(called: Cli, catalogue: Dsn, tmp_path: Path) -> None:
    result = called(
        "run",
        env={
            "DATABASE_URL": catalogue.uri,
            "FORECASTER_HORIZON": "3",
            "FORECASTER_RUN_TRACK_ID": "1 2 5",
            "FORECASTER_RUN_SKIPPED": str(tmp_path / "skipped.csv"),
            "FORECASTER_AGE_FROM": "first-date",
        },
    )
    assert result.returncode == 0, result.stderr
    rows = sql.rows(catalogue, "SELECT DISTINCT cm_track_id FROM backtest_track_streams_forecast")
    skipped = pl.read_csv(tmp_path / "skipped.csv")
    assert len(rows) + len(skipped) == 3
    [(months,)] = sql.rows(catalogue, "SELECT max(month) FROM backtest_track_streams_forecast")
    assert months == 3
    refused = called("run", env={"DATABASE_URL": catalogue.uri, "FORECASTER_HORIZON": "0"})
    assert refused.returncode == 2
    assert "FORECASTER_HORIZON" in refused.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(called: Cli, shell: str) -> None:
    script = called("completion", shell)
    assert script.returncode == 0, script.stderr
    assert "_FORECASTER_COMPLETE" in script.stdout
    words = {"bash": ("forecaster run --hor", "2"), "zsh": ("forecaster run --hor", "2")}
    typed, at = words.get(shell, ("forecaster run", "--hor"))
    program = str(Path(sys.executable).with_name("forecaster"))
    completed = subprocess.run(
        [program],
        env={
            **bare_environment(),
            "_FORECASTER_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": typed,
            "COMP_CWORD": at,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--horizon" in completed.stdout


def test_completion_in_a_real_bash(called: Cli, tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(called("completion", "bash").stdout)
    script = f"""
        source {tmp_path / "completion"}
        COMP_WORDS=(forecaster pl); COMP_CWORD=1
        _forecaster_completion forecaster; echo "${{COMPREPLY[@]}}" """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "plot"


def test_version(called: Cli) -> None:
    assert re.fullmatch(r"forecaster, version \d+\.\d+\.\d+\n", called("--version").stdout)


@pytest.mark.usefixtures("unlogged")
def test_a_sign_of_life_where_nothing_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.set_up()
    report = RunReport(pending=10_000)
    with progress.shown(report, console, heartbeat=0.3):
        with report.stage("read") as stage:
            time.sleep(0.8)
            stage.count = 5_000
        with report.stage("write") as stage:
            stage.count = 2_500
        time.sleep(0.8)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("stage: ")] == ["stage: read", "stage: write"]
    signs = [line for line in said if line.startswith("still at work")]
    assert signs[0] == "still at work after 0 s: read"
    assert re.fullmatch(
        r"still at work after \d s: read 5,000, write 2,500 of 10,000 tracks; about \d s left", signs[-1]
    )


def test_whether_to_colour() -> None:
    assert color_of("auto", {}) is None
    assert color_of("auto", {"NO_COLOR": ""}) is None
    assert color_of("auto", {"NO_COLOR": "1"}) is False
    assert color_of("always", {"NO_COLOR": "1"}) is True
    assert color_of("never", {}) is False


@pytest.mark.usefixtures("unlogged")
def test_a_sign_of_life_of_what_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.set_up()
    with progress.doing("draw", console, heartbeat=0.3):
        time.sleep(0.8)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["stage: draw", "still at work after 0 s: draw"]


def test_a_stage_is_said_when_it_begins(called: Cli, catalogue: Dsn) -> None:
    said = called("run", "-v", env={"DATABASE_URL": catalogue.uri}).stderr.splitlines()
    for stage in RunReport.STAGES:
        ends = [number for number, line in enumerate(said) if re.match(rf"{stage}: \d", line)]
        assert said.index(f"stage: {stage}") < ends[0]


def test_what_is_set_for_one_command_does_not_change_another(called: Cli, catalogue: Dsn) -> None:
    env = {"DATABASE_URL": catalogue.uri, "FORECASTER_PLOT_TRACK_ID": "1", "FORECASTER_PLOT_OUT": "x.png"}
    assert "forecast=247 " in called("run", "-q", env=env).stdout


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
