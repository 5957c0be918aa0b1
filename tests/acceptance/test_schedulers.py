"""What the pages hand to schedulers, as these would start it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import prepare_files
from forecaster.parquet.session import Files
from forecaster.run.session import run
from tests.conftest import with_command
from tests.documents import fenced
from tests.parquet import write_catalogue


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a catalogue in 64 buckets."""
    place = tmp_path_factory.mktemp("place")
    prepare_files(find_catalogue(str(write_catalogue(place / "files"))), 64, place / "catalogue")
    return place


class TestSchedulers:
    """Each starts the buckets that its page says."""

    def started(self, place: Path, command: list[str], **variables: str) -> list[int]:
        """Runs a command of the page; the buckets that are whole afterwards."""
        environment = {**with_command(), "HOME": str(place)}
        subprocess.run(command, cwd=place, env=environment | variables, check=True, capture_output=True)
        manifests = (place / "forecasts" / "manifests").rglob("*.json")
        return sorted(json.loads(path.read_text())["bucket"] for path in manifests)

    def test_kubernetes(self, place: Path) -> None:
        spec = yaml.safe_load(fenced("yaml", "kind: Job"))["spec"]
        [container] = spec["template"]["spec"]["containers"]
        assert (spec["completionMode"], spec["completions"]) == ("Indexed", 64)
        [volume] = container["volumeMounts"]
        assert [volume["name"]] == [one["name"] for one in spec["template"]["spec"]["volumes"]]
        variables = {
            one["name"]: one["value"].replace(volume["mountPath"], str(place)) for one in container["env"]
        }
        assert 63 in self.started(place, container["command"], JOB_COMPLETION_INDEX="63", **variables)

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
        run(Files("catalogue", Path("forecasts")))
        check = ["bash", "-c", commands[64]]
        assert self.started(place, check) == list(range(64))  # it fails if one is missing
