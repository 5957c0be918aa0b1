"""Tests are easy to find: short files, one per behaviour, and what they share lies outside them."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
FILES = sorted(TESTS.rglob("*.py"))
LONGEST = 400


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted name of each module that is imported, and of each name that is taken from one."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            case _:
                pass


def is_test_module(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "tests" and any(part.startswith("test_") for part in parts)


def test_no_file_of_tests_is_long() -> None:
    lines = {str(path.relative_to(TESTS)): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {path for path, number in lines.items() if number > LONGEST} == set()


def test_no_module_imports_a_module_of_tests() -> None:
    """Code that several of them use lies in a support module, directly in `tests`."""
    found = {
        str(path.relative_to(TESTS)): [*filter(is_test_module, imported(ast.parse(path.read_text("utf-8"))))]
        for path in FILES
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_each_file_of_tests_has_a_name_of_its_own() -> None:
    names = [path.name for path in FILES if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))
