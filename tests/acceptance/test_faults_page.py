"""Each fault that docs/faults.md tells of is caused by a test that exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "faults.md").read_text())))


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_the_tests_it_names_are_there(file: str) -> None:
    [path] = (ROOT / "tests").rglob(file)
    tree = ast.parse(path.read_text())
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert {test for of, test in NAMED if of == file} <= there


def test_each_row_names_one() -> None:
    rows = [line for line in (ROOT / "docs" / "faults.md").read_text().splitlines() if line.startswith("| ")]
    without = [row for row in rows if "::test_" not in row and not row.startswith("| what was tried")]
    assert not without
