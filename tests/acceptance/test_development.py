"""What a developer starts is what the documents say, and can be read by what reads it."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.documents import README, ROOT, page_named

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^(\w+):$", MAKEFILE, re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCK, re.MULTILINE)
GITHUB = ROOT / ".github"


def recipe(*targets: str) -> list[str]:
    """The commands that make would run."""
    made = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=True)
    return made.stdout.replace("\\\n", "").splitlines()


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


class TestMake:
    def test_check_is_the_readmes_command(self) -> None:
        [command] = re.findall(r"^python3 .*pytest.*$", README.read_text(), re.MULTILINE)
        assert " && ".join(recipe("setup", "check")) == command

    def test_each_target_is_explained_and_none_is_a_file(self) -> None:
        assert re.findall(r"^\| `make (\w+)` \|", page_named("CONTRIBUTING.md"), re.MULTILINE) == TARGETS
        [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
        assert phony.split() == TARGETS

    @pytest.mark.parametrize("target", TARGETS)
    def test_programs_come_with_the_setup(self, target: str) -> None:
        for command in recipe(target):
            used = set(re.findall(r"\.venv/bin/(\S+)", command)) - {"pip", "python", "pre-commit"}
            assert used <= {requirement.name for requirement in required("dev")}


class TestContributing:
    def test_paths_that_it_names_are_there(self) -> None:
        for path in re.findall(r"\btests/[\w/]+(?:\.py)?", page_named("CONTRIBUTING.md")):
            assert (ROOT / path).exists(), path

    def test_coverage_is_what_make_does(self) -> None:
        assert "\n".join(recipe("coverage")) in page_named("CONTRIBUTING.md")

    def test_its_python_can_be_read(self) -> None:
        text = page_named("CONTRIBUTING.md")
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            compile(block, "CONTRIBUTING.md", "exec")


def required(extra: str | None) -> list[Requirement]:
    """What pyproject.toml asks for, with the extras that an extra names."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    found = [Requirement(line) for line in lines]
    parts = [part for of_extra in found if of_extra.name == "forecaster" for part in of_extra.extras]
    return [r for r in found if r.name != "forecaster"] + [r for part in parts for r in required(part)]


class TestLock:
    """`make lock` writes it again."""

    def test_it_is_in_step_with_the_project(self) -> None:
        for requirement in required(None) + required("dev"):
            pinned = [Version(version) for name, version in PINS if name == requirement.name]
            assert pinned, requirement
            assert all(map(requirement.specifier.contains, pinned)), requirement

    def test_each_version_has_hashes(self) -> None:
        entries = re.findall(r"^[a-z].*?(?=^[a-z]|\Z)", LOCK, re.MULTILINE | re.DOTALL)
        assert len(entries) == len(PINS)
        assert [entry for entry in entries if "--hash=sha256:" not in entry] == []

    def test_it_names_no_machine(self) -> None:
        assert not re.search(r"://|--(?:extra-)?index|--find-links|@ ", LOCK)


class TestForms:
    @pytest.mark.parametrize("form", ["bug.yml", "idea.yml", "number.yml"])
    def test_one_asks_for_what_is_needed(self, form: str) -> None:
        content = read(GITHUB / "ISSUE_TEMPLATE" / form)
        assert content.keys() == {"name", "description", "labels", "body"}
        fields = [field for field in content["body"] if field["type"] != "markdown"]
        assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
        assert len({field["id"] for field in fields}) == len(fields)
        assert all(field["attributes"]["label"] for field in fields)
        assert any(field.get("validations", {}).get("required") for field in fields)

    def test_there_are_no_others(self) -> None:
        names = {path.name for path in (GITHUB / "ISSUE_TEMPLATE").iterdir()}
        assert names == {"bug.yml", "idea.yml", "number.yml", "config.yml"}


class TestWorkflow:
    CI = read(GITHUB / "workflows" / "ci.yml")

    def test_which_versions(self) -> None:
        jobs = self.CI["jobs"]
        assert jobs["check"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
        assert jobs["postgresql"]["strategy"]["matrix"]["postgresql"] == ["14", "15", "16", "17", "18"]
        resolutions = [case["resolution"] for case in jobs["dependencies"]["strategy"]["matrix"]["include"]]
        assert resolutions == ["lowest-direct", "highest"]
        assert jobs.keys() >= {"locked", "docs", "wheel"}

    def test_each_step_can_be_started(self) -> None:
        """Targets, files and actions of this repository are there."""
        assert self.CI["permissions"] == {"contents": "read"}
        steps = [step for job in self.CI["jobs"].values() for step in job["steps"]]
        for step in steps:
            assert len(step.keys() & {"uses", "run"}) == 1
            if step.get("uses", "").startswith("./"):
                inputs = read(ROOT / step["uses"] / "action.yml")["inputs"]
                assert step["with"].keys() == inputs.keys()
            for target in re.findall(r"make (\w+)", step.get("run", "")):
                assert target in TARGETS
            for path in re.findall(r"(?:tests/\w+|requirements\.lock)", step.get("run", "")):
                assert (ROOT / path).exists()


def test_each_hook_runs_what_the_setup_installs() -> None:
    [repository] = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"].split()[0] for hook in repository["hooks"]]
    assert {Path(entry).name for entry in entries} <= {requirement.name for requirement in required("dev")}
    assert all(entry.startswith(".venv/bin/") for entry in entries)
