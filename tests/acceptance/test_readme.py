"""The README is a promise: its commands are run, and print what it shows.

`UPDATE_README=1 pytest tests/acceptance/test_readme.py` puts into it what they print now.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import yaml

from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import prepare_files
from forecaster.postgres.dsn import Dsn
from forecaster.run.buckets import BucketsConfig, run_buckets
from tests.conftest import bare_environment, short_directory
from tests.parquet import write_catalogue
from tests.tables import initialise

ROOT = Path(__file__).parents[2]
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


def with_command() -> dict[str, str]:
    """Variables with which the command `forecaster` is found."""
    return bare_environment() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


class Clone(NamedTuple):
    """Where the README's commands have been run."""

    home: Path
    environment: dict[str, str]
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """Each console command, run one after the other as a user would in a clone."""
    with short_directory() as directory:
        home, data_dir = tmp_path_factory.mktemp("clone"), directory / "server"
        environment = {
            **with_command(),
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "FORECASTER_DATA_DIR": str(data_dir),
        }
        yield Clone(home, environment, run_commands(home, environment))


def run_commands(home: Path, environment: dict[str, str]) -> dict[str, str]:
    (home / "tests").symlink_to(ROOT / "tests")
    data_dir, outputs = environment["FORECASTER_DATA_DIR"], {}
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
        outputs[match["command"]] = result.stdout.replace(data_dir, SHOWN_DATA_DIR)
    return outputs


def test_commands_print_what_the_readme_shows(clone: Clone) -> None:
    outputs = clone.outputs
    assert len(outputs) >= 6
    if os.environ.get("UPDATE_README"):
        text = README.read_text()
        for match in reversed(list(CONSOLE.finditer(text))):
            if settled(match["output"]) != settled(outputs[match["command"]]):
                text = text[: match.start("output")] + outputs[match["command"]] + text[match.end("output") :]
        README.write_text(text)
    for match in CONSOLE.finditer(README.read_text()):
        assert settled(outputs[match["command"]]) == settled(match["output"]), match["command"]


def test_the_pictures_at_the_top_are_of_these_commands(clone: Clone) -> None:
    top = README.read_text().partition("## Two commands")[0]
    for picture in re.findall(r"!\[[^]]*\]\((\S+)\)", top):
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
    assert next(iter(clone.outputs)) == "forecaster demo"
    commands = re.findall(r"`(forecaster [^`]+)`", top)
    assert [command.split()[1] for command in commands] == ["plot", "report"]
    (clone.home / "report.html").unlink()
    for command in commands:
        subprocess.run(
            command.split(), cwd=clone.home, env=clone.environment, check=True, capture_output=True
        )
    assert (clone.home / "forecast.png").read_bytes().startswith(b"\x89PNG")
    assert "<!doctype html>" in (clone.home / "report.html").read_text()


def test_the_line_for_cron(embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    [line] = re.findall(r"^15 2 \* \* \*  (.+)$", README.read_text(), re.MULTILINE)
    command = line.replace("postgresql://nightly@db/music", f"'{embedded_database.uri}'")
    command = command.replace("/var/log/", f"{tmp_path}/")
    environment = {**with_command(), "HOME": str(tmp_path)}
    result = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"forecast=0 skipped=0 rows=0 seconds=\d+\.\d\d\n", result.stdout)
    assert result.stderr == ""
    assert json.loads((tmp_path / "forecaster.json").read_text())["error"] is None


def test_the_python_example_works_as_shown(tmp_path: Path) -> None:
    example = fenced("python", "build_forecasts")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    check = "assert len(forecasts) == 24 * 247 and len(skipped) == 3\n"
    subprocess.run([sys.executable, "-c", example + check], cwd=tmp_path, check=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a catalogue in 64 buckets."""
    place = tmp_path_factory.mktemp("place")
    prepare_files(find_catalogue(str(write_catalogue(place / "files"))), 64, place / "catalogue")
    return place


class TestWhateverStartsProcesses:
    """What the README hands to schedulers, as these would start it."""

    def started(self, place: Path, command: list[str], **variables: str) -> list[int]:
        """Runs a command of the README; the buckets that are whole afterwards."""
        environment = {**with_command(), "HOME": str(place)}
        subprocess.run(command, cwd=place, env=environment | variables, check=True, capture_output=True)
        manifests = (place / "forecasts" / "manifests").rglob("*.json")
        return sorted(json.loads(path.read_text())["bucket"] for path in manifests)

    def test_kubernetes(self, place: Path) -> None:
        spec = yaml.safe_load(fenced("yaml", "kind: Job"))["spec"]
        [container] = spec["template"]["spec"]["containers"]
        assert (spec["completionMode"], spec["completions"]) == ("Indexed", 64)
        assert 63 in self.started(place, container["command"], JOB_COMPLETION_INDEX="63")

    def test_aws_batch(self, place: Path, tmp_path: Path) -> None:
        aws = tmp_path / "aws"
        aws.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" > {tmp_path}/arguments\n')
        aws.chmod(0o755)
        submit = ["sh", "-euc", fenced("sh", "aws batch")]
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run(submit, env=environment, check=True)
        arguments = (tmp_path / "arguments").read_text().split("\0")
        assert arguments[:2] == ["batch", "submit-job"]
        assert arguments[arguments.index("--array-properties") + 1] == "size=64"
        overrides = json.loads(arguments[arguments.index("--container-overrides") + 1])
        assert 5 in self.started(place, overrides["command"], AWS_BATCH_JOB_ARRAY_INDEX="5")

    def test_slurm(self, place: Path, tmp_path: Path) -> None:
        script = tmp_path / "job.sh"
        script.write_text(fenced("sh", "#SBATCH"))
        assert "#SBATCH --array=0-63\n" in script.read_text()
        variables = {"SLURM_ARRAY_TASK_ID": "17", "SLURM_CPUS_PER_TASK": "1"}
        assert 17 in self.started(place, ["sh", "-eu", str(script)], **variables)

    def test_airflow(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """By stand-ins that take note of what Airflow is told; it is too large to be installed for this."""
        commands: list[str] = []

        class BashOperator:
            def __init__(self, bash_command: str = "", **_options: object) -> None:
                commands.append(bash_command)

            @classmethod
            def partial(cls, **_options: object) -> type["BashOperator"]:
                return cls

            @classmethod
            def expand(cls, bash_command: list[str]) -> list[object]:
                commands.extend(bash_command)
                return []

            def __rrshift__(self, _before: object) -> None:
                """What comes before it."""

        sdk, bash = ModuleType("airflow.sdk"), ModuleType("airflow.providers.standard.operators.bash")
        vars(sdk)["dag"] = lambda **_options: lambda function: function
        vars(bash)["BashOperator"] = BashOperator
        for module in (sdk, bash):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(fenced("python", "airflow"), {})
        assert len(commands) == 65
        self.started(place, ["bash", "-c", commands[0]])
        assert {0, 63} <= set(self.started(place, ["bash", "-c", commands[63]]))
        monkeypatch.chdir(place)
        run_buckets(BucketsConfig("catalogue", Path("forecasts")))
        check = ["bash", "-c", commands[64]]
        assert self.started(place, check) == list(range(64))  # it fails if one is missing


def fenced(language: str, mark: str) -> str:
    """The README's block of code in a language that has a mark in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    [block] = [str(block) for block in blocks if mark in block]
    return block


def test_the_test_command_is_what_ci_runs() -> None:
    commands = [line for line in README.read_text().splitlines() if re.match(r"python3 .*pytest", line)]
    assert len(commands) == 1
    for part in ("pip install", "ruff check", "ruff format --check", "mypy", "pytest"):
        assert part in commands[0]
