"""The house keeps its shape: the order of its parts, the number of arrows between them, short functions."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import forecaster

PACKAGE = Path(forecaster.__file__).parent
ARCHITECTURE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")

# From the bottom to the top: a part imports only those before it.
ORDER = (
    "errors", "process", "frames", "tables", "files", "model", "scoring", "run", "postgres", "parquet",
    "views", "doctor", "setup", "cli", "__init__", "__main__",
)  # fmt: skip
MOST_ARROWS = 70
"""Between parts, without those to the errors."""
MOST_LATE = 15
LONGEST_BODY = 40

TREES = {path: ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Each import of an own module: the statement, and the part that it is from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "forecaster":
            _, _, rest = (node.module or "").partition(".")
            for alias in node.names:
                yield node, (rest or alias.name).split(".")[0]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from ((node, name[1]) for name in names if name[0] == "forecaster" and len(name) > 1)


def arrows() -> set[tuple[str, str]]:
    found = {(part_of(path), part) for path, tree in TREES.items() for _, part in imported(tree)}
    return {(of, to) for of, to in found if of != to}


def bodies() -> Iterator[tuple[str, int]]:
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                has_more = ast.get_docstring(node) and len(node.body) > 1
                first = node.body[1] if has_more else node.body[0]
                yield f"{path.relative_to(PACKAGE)}:{node.name}", (node.end_lineno or 0) - first.lineno + 1


def test_every_part_has_its_place_in_the_order() -> None:
    assert {part_of(path) for path in TREES} == set(ORDER)


def test_imports_point_down() -> None:
    assert [(of, to) for of, to in sorted(arrows()) if ORDER.index(of) <= ORDER.index(to)] == []


def test_there_are_few_arrows() -> None:
    assert len([to for _, to in arrows() if to != "errors"]) <= MOST_ARROWS


def test_imports_stand_at_the_top() -> None:
    late = []
    for path, tree in TREES.items():
        top = {id(node) for node in tree.body}
        top |= {id(node) for block in tree.body if isinstance(block, ast.If) for node in block.body}
        late += [f"{path.name}:{node.lineno}" for node, _ in imported(tree) if id(node) not in top]
    assert len(late) <= MOST_LATE, late


def test_functions_are_short() -> None:
    assert [(name, lines) for name, lines in bodies() if lines > LONGEST_BODY] == []


def test_one_loop_takes_what_became_of_the_batches() -> None:
    """Sessions and engines are given to it; nothing else counts batches."""
    users = [
        str(path.relative_to(PACKAGE))
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.For)
        and isinstance(node.target, ast.Tuple)
        and [name.id for name in node.target.elts if isinstance(name, ast.Name)] == ["batch", "outcome"]
    ]
    assert users == ["run/session.py"]


def test_nothing_is_a_kind_of_session_or_report() -> None:
    """What differs between places is given to them, not inherited."""
    kept = {"Session", "DatabaseSession", "FilesSession", "MemorySession", "Report", "Work", "RunConfig"}
    heirs = [
        node.name
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name) and base.id in kept
    ]
    assert heirs == []


def test_the_document_has_the_same_parts_in_the_same_order() -> None:
    listed = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", ARCHITECTURE, re.MULTILINE)
    assert listed == [part for part in ORDER if not part.startswith("__")]


def test_every_file_that_it_names_is_there() -> None:
    root = PACKAGE.parent
    named = set(re.findall(r"`((?:tests|forecaster|docs|benchmarks)/[\w./]+)`", ARCHITECTURE))
    assert len(named) > 10
    assert sorted(path for path in named if not (root / path).exists()) == []


def test_every_function_on_a_route_is_there() -> None:
    """docs/architecture.md lists them as `module.function`, or `module.Class.method`."""
    routes = re.findall(ROUTE, ARCHITECTURE, re.MULTILINE)
    assert len(routes) > 20
    assert [route for route in routes if route not in MODULE_OF] == []


def test_no_route_comes_back_to_a_module_that_it_has_left() -> None:
    for route in re.split(r"^### ", ARCHITECTURE, flags=re.MULTILINE)[1:]:
        steps = [MODULE_OF[step] for step in re.findall(ROUTE, route, re.MULTILINE)]
        modules = [module for i, module in enumerate(steps) if i == 0 or steps[i - 1] != module]
        assert len(modules) == len(set(modules)), modules


def defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (
                f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            )


ROUTE = r"^\d+\. `([\w.]+)`"
MODULE_OF = {
    f"{module}.{name}": module
    for path, tree in TREES.items()
    for module in [".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")]
    for name in defined(tree)
}
