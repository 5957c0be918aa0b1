"""The benchmark of calibrations runs through in its short form. How fast they are is not tested."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.calibrating import LINES
from forecaster.postgres.dsn import Dsn
from tests.conftest import bare_environment

ROOT = Path(__file__).parents[2]


def test_each_command_is_measured_beside_a_plain_run(embedded_database: Dsn, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.calibrating", "--quick", "--out", f"{tmp_path}"]
    environment = bare_environment() | {"HOME": "/nonexistent"}
    url = ["--database-url", embedded_database.uri]
    subprocess.run([*command, *url], cwd=ROOT, env=environment, check=True)
    result = json.loads((tmp_path / "calibrating-quick.json").read_text())
    assert result["tracks"] == 100
    assert [*result["lines"]] == [line.name for line in LINES]
    for [measured] in result["lines"].values():
        assert measured["cpu"] > 0
        assert measured["seconds"] > 0
    page = (tmp_path / "calibrating-quick.md").read_text()
    assert all(f"| {line.name} | " in page for line in LINES)
