"""The script of the page is formatted, linted and type-checked, with pinned tools."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import NODE, NPM_REGISTRY, need, need_program

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "forecaster" / "views" / "page" / "script"
SOURCES = sorted(SCRIPT.glob("*.js"))
INSTALLED = ROOT / "node_modules" / ".package-lock.json"
"""What npm writes at the end of an installation."""


@pytest.fixture(scope="module")
def npm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program, that of this environment first, with the tools of the lock file installed."""
    program = shutil.which("npm", path=Path(sys.executable).parent) or need_program("npm", NODE)
    lock = ROOT / "package-lock.json"
    if not INSTALLED.exists() or INSTALLED.stat().st_mtime < lock.stat().st_mtime:
        cache = tmp_path_factory.mktemp("npm")
        done = run(program, "ci", "--cache", str(cache))
        reached = done.returncode == 0 or run(program, "ping", "--cache", str(cache)).returncode == 0
        need(reached, NPM_REGISTRY)
        assert done.returncode == 0, done.stderr
    return program


def run(npm: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(Path(npm).parent), os.environ["PATH"]))  # the tools look for node there
    env = os.environ | {"PATH": path}
    return subprocess.run([npm, *arguments], cwd=ROOT, env=env, check=False, capture_output=True, text=True)


def test_the_script_is_formatted_linted_and_type_checked(npm: str) -> None:
    done = run(npm, "run", "check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_registry_is_named_in_the_lock_file() -> None:
    assert "//" not in re.sub(r'"url": "[^"]*"', "", (ROOT / "package-lock.json").read_text())


def test_no_name_at_the_top_of_a_module_is_in_another() -> None:
    """They share one scope in the page."""
    names = re.compile(r"^(?:export )?(?:async )?(?:const|let|function) (\w+)", re.MULTILINE)
    found = [name for source in SOURCES for name in names.findall(source.read_text())]
    assert len(found) > 50
    assert sorted(found) == sorted(set(found))


def test_every_module_is_in_the_page_of_an_evaluation_or_without() -> None:
    entries = {"page.js", "page_evaluated.js"}
    imported = {name for source in SOURCES for name in re.findall(r'from "\./(\w+\.js)"', source.read_text())}
    assert {source.name for source in SOURCES} == imported | entries
