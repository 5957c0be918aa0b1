"""The shell completes commands and options, and does not wait for what only a run needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Cli, bare_environment

# For each shell: what it hands over after `forecaster run --hor`, and after `forecaster pl`.
WORDS = {
    "bash": (("forecaster run --hor", "2"), ("forecaster pl", "1")),
    "zsh": (("forecaster run --hor", "2"), ("forecaster pl", "1")),
    "fish": (("forecaster run", "--hor"), ("forecaster", "pl")),
}
PROGRAM = (
    "import sys\n"
    "from forecaster.__main__ import start\n"
    "try:\n    start()\n"
    "finally:\n    print('polars' in sys.modules, file=sys.stderr)\n"
)


def completed(shell: str, words: tuple[str, str]) -> str:
    """What the shell gets; nothing heavy is loaded for it."""
    typed, at = words
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
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
    assert result.stderr == "False\n"
    return result.stdout


@pytest.mark.parametrize("shell", WORDS)
def test_options_and_commands_are_completed(called: Cli, shell: str) -> None:
    script = called("completion", shell)
    assert script.returncode == 0, script.stderr
    assert "_FORECASTER_COMPLETE" in script.stdout
    option, command = WORDS[shell]
    assert "--horizon" in completed(shell, option)
    assert "plot" in completed(shell, command)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_command_is_completed_with_its_help(shell: str) -> None:
    assert "Draw one track" in completed(shell, WORDS[shell][1])


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
