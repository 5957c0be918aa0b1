"""The README is a promise: its commands are run, and print what it shows.

`UPDATE_README=1 pytest tests/test_readme.py` puts into it what they print now.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from forecaster.dsn import Dsn
from tests.tables import initialise

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

CONSOLE = re.compile(r"^```console\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN_DATA_DIR = "~/.local/share/forecaster"


def settled(text: str) -> str:
    """Without what differs from one time and machine to the next: seconds, rates, sizes, versions."""
    text = re.sub(r"^(ok      (?:versions|server version): ).*$", r"\1…", text, flags=re.MULTILINE)
    text = re.sub(r"\(\d+\.\d\d MB\)", "(… MB)", text)
    text = re.sub(r"(?<=seconds=)\d+\.\d\d$", "…", text, flags=re.MULTILINE)
    text = re.sub(r"^(seconds +).*$", r"\1…", text, flags=re.MULTILINE)
    return re.sub(r"^(tracks per second +).*$", r"\1…", text, flags=re.MULTILINE)


def run_commands(data_dir: Path, home: Path) -> dict[str, str]:
    """Output of each console command, run one after the other as a user would in a clone."""
    (home / "tests").symlink_to(ROOT / "tests")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "FORECASTER_DATA_DIR": str(data_dir),
    }
    outputs = {}
    for match in CONSOLE.finditer(README.read_text()):
        result = subprocess.run(
            match["command"],
            shell=True,
            cwd=home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{match['command']}\n{result.stdout}"
        outputs[match["command"]] = result.stdout.replace(str(data_dir), SHOWN_DATA_DIR)
    return outputs


def test_commands_print_what_the_readme_shows(short_dir: Path, tmp_path: Path) -> None:
    outputs = run_commands(short_dir / "server", tmp_path)
    assert len(outputs) >= 6
    if os.environ.get("UPDATE_README"):
        text = README.read_text()
        for match in reversed(list(CONSOLE.finditer(text))):
            if settled(match["output"]) != settled(outputs[match["command"]]):
                text = text[: match.start("output")] + outputs[match["command"]] + text[match.end("output") :]
        README.write_text(text)
    for match in CONSOLE.finditer(README.read_text()):
        assert settled(outputs[match["command"]]) == settled(match["output"]), match["command"]


def test_the_pictures_at_the_top_are_of_these_commands(short_dir: Path, tmp_path: Path) -> None:
    top = README.read_text().partition("## Two commands")[0]
    for picture in re.findall(r"!\[[^]]*\]\((\S+)\)", top):
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
    commands = ["forecaster demo -q", *re.findall(r"`(forecaster [^`]+)`", top)]
    assert [command.split()[1] for command in commands] == ["demo", "plot", "report"]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "FORECASTER_DATA_DIR": str(short_dir / "server"),
    }
    for command in commands:
        subprocess.run(command.split(), cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG")
    assert "<!doctype html>" in (tmp_path / "report.html").read_text()


def test_the_line_for_cron(embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    [line] = re.findall(r"^15 2 \* \* \*  (.+)$", README.read_text(), re.MULTILINE)
    command = line.replace("postgresql://nightly@db/music", f"'{embedded_database.uri}'")
    command = command.replace("/var/log/", f"{tmp_path}/")
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    result = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"forecast=0 skipped=0 rows=0 seconds=\d+\.\d\d\n", result.stdout)
    assert result.stderr == ""
    assert json.loads((tmp_path / "forecaster.json").read_text())["error"] is None


def test_the_python_example_works_as_shown(tmp_path: Path) -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    check = "assert len(forecasts) == 24 * 247 and len(skipped) == 3\n"
    subprocess.run([sys.executable, "-c", example + check], cwd=tmp_path, check=True)


def test_the_test_command_is_what_ci_runs() -> None:
    commands = [line for line in README.read_text().splitlines() if re.match(r"python3 .*pytest", line)]
    assert len(commands) == 1
    for part in ("pip install", "ruff check", "ruff format --check", "mypy", "pytest"):
        assert part in commands[0]
