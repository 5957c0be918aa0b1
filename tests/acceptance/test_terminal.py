"""What a terminal gets: a picture while the work lasts, colours, and the cursor back at the end."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from forecaster.cli.console import color_of
from forecaster.postgres.dsn import Dsn
from forecaster.run.report import TRACKS
from tests import sql
from tests.conftest import Cli, bare_environment
from tests.tables import load_golden

ESCAPE = "\x1b["
RESULT = re.compile(r"^forecast=(\d+) skipped=(\d+) rows=(\d+) seconds=\d+\.\d\d$", re.MULTILINE)


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    load_golden(embedded_database)
    return embedded_database


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
    for stage in TRACKS.stages:
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


def test_a_terminal_shows_the_id_of_a_run_once(catalogue: Dsn, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    arguments = ("run", "--report", str(file))
    _, shown = on_terminal(*arguments, env={"DATABASE_URL": catalogue.uri})
    log_id = json.loads(file.read_text())["log_id"]
    assert re.findall(rf"(\S*) *{log_id}(.*)\r\n", shown) == [("run:", "")]
    _, shown = on_terminal(*arguments, "-q", env={"DATABASE_URL": catalogue.uri})
    assert json.loads(file.read_text())["log_id"] not in shown


def test_a_dumb_terminal_gets_lines(catalogue: Dsn) -> None:
    _, shown = on_terminal("run", env={"DATABASE_URL": catalogue.uri, "TERM": "dumb"})
    assert "stage: read" in shown
    assert ESCAPE not in shown


def test_whether_to_colour() -> None:
    assert color_of("auto", {}) is None
    assert color_of("auto", {"NO_COLOR": ""}) is None
    assert color_of("auto", {"NO_COLOR": "1"}) is False
    assert color_of("always", {"NO_COLOR": "1"}) is True
    assert color_of("never", {}) is False
