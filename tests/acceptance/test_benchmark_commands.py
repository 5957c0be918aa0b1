"""The benchmark of the other commands runs through in its short form. How fast they are is not tested."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import bare_environment, short_directory

ROOT = Path(__file__).parents[2]


def test_each_command_is_measured_with_its_floor(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.commands", "--quick", "--out", str(tmp_path)]
    with short_directory() as data_dir:
        environment = bare_environment() | {"HOME": "/nonexistent"}
        subprocess.run(
            [*command, "--data-dir", str(data_dir / "server")], cwd=ROOT, env=environment, check=True
        )
    result = json.loads((tmp_path / "commands-quick.json").read_text())
    assert result["tracks"] == 100
    commands = [line["name"] for line in result["lines"]]
    assert [name.replace(",", "").split()[0] for name in commands] == [
        *("load", "load", "load", "run", "mldr", "evaluate", "export", "report")
    ]
    for line in result["lines"]:
        [measured] = line["rounds"]
        assert 0 < measured["copies"] < measured["floor"]
        assert measured["seconds"] > 0
    page = (tmp_path / "commands-quick.md").read_text()
    assert all(f"| {name} | " in page and f"- {name}: " in page for name in commands)
