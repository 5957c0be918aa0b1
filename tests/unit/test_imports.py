"""Data flows one way, and so do imports: who may know whom, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import forecaster
from tests.imports import loaded_by

PACKAGE = Path(forecaster.__file__).parent

# What a computation has no use for: files, processes, the network, the clock, settings, logging, chance.
NOT_PURE = {
    "asyncio", "click", "io", "logging", "multiprocessing", "os", "pathlib", "random", "shutil", "socket",
    "sqlite3", "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "warnings",
}  # fmt: skip
NOT_PURE_CALLS = {"breakpoint", "eval", "exec", "input", "now", "open", "print", "today", "utcnow"}
NOT_PURE_PREFIXES = ("collect", "read_", "scan_", "sink_", "write_")


def name_of(path: Path) -> str:
    """The dotted name of a module of the package."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """The dotted name of everything imported anywhere, inside functions and for type checks too."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                assert node.level == 0, "a relative import: these tests read absolute ones"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            case _:
                pass


def calls(tree: ast.AST) -> Iterator[str]:
    """The last name of everything called: `now` of `datetime.now()`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
                yield name
            case _:
                pass


def is_of(name: str, *packages: str) -> bool:
    """Whether a dotted name is, or lies in, one of the packages."""
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


MODULES = {name_of(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
MODEL = [module for module in MODULES if is_of(module, "forecaster.model")]
POSTGRES = [module for module in MODULES if is_of(module, "forecaster.postgres")]


def importers_of(*packages: str) -> dict[str, list[str]]:
    """Every module that imports something of the packages, and what."""
    found = {
        module: sorted(name for name in imports(tree) if is_of(name, *packages))
        for module, tree in MODULES.items()
    }
    return {module: names for module, names in found.items() if names}


def test_these_tests_see_every_way_to_import_and_to_call() -> None:
    tree = ast.parse(
        "import a.b, c\n"
        "from d.e import f as g\n"
        "if TYPE_CHECKING:\n    import h\n"
        "def late():\n    from i import j\n    datetime.now(); open('k')\n"
    )
    assert set(imports(tree)) == {"a.b", "c", "d.e.f", "h", "i.j"}
    assert set(calls(tree)) == {"now", "open"}
    assert is_of("a.b.c", "x", "a.b")
    assert not is_of("a.bc", "a.b")
    assert {"forecaster", "forecaster.model", "forecaster.model.decay", "forecaster.postgres"} <= set(MODULES)


@pytest.mark.parametrize("module", MODEL)
def test_the_model_knows_only_itself_numpy_schemas_tables_and_errors(module: str) -> None:
    known = [name for name in imports(MODULES[module]) if is_of(name, "forecaster")]
    allowed = ("model", "frames.arrays", "frames.schemas", "tables", "errors")
    assert [name for name in known if not is_of(name, *(f"forecaster.{part}" for part in allowed))] == []


@pytest.mark.parametrize("module", [*MODEL, "forecaster.frames.schemas", "forecaster.tables"])
def test_the_model_only_computes(module: str) -> None:
    tree = MODULES[module]
    assert [name for name in imports(tree) if is_of(name, *NOT_PURE)] == []
    impure = {name for name in calls(tree) if name in NOT_PURE_CALLS or name.startswith(NOT_PURE_PREFIXES)}
    assert impure == ({"collect_schema"} if module == "forecaster.frames.schemas" else set())


def test_the_steps_of_the_model_do_not_know_each_other() -> None:
    steps = {
        f"forecaster.model.{step}"
        for step in ("decay", "eligibility", "features", "multiplier", "projection")
    }
    importers = importers_of(*steps)
    assert {step: importers[step] for step in steps if step in importers} == {}


def test_the_schema_and_the_errors_stand_at_the_bottom() -> None:
    above = {name for name in imports(MODULES["forecaster.frames.schemas"]) if is_of(name, "forecaster")}
    assert all(is_of(name, "forecaster.errors") for name in above)
    assert not any(is_of(name, "forecaster") for name in imports(MODULES["forecaster.errors"]))


@pytest.mark.parametrize("module", POSTGRES)
def test_the_database_side_does_not_know_who_uses_it(module: str) -> None:
    users = ("forecaster.views", "forecaster.cli", "forecaster.files")
    assert [name for name in imports(MODULES[module]) if is_of(name, *users)] == []


def test_only_one_module_imports_connectorx() -> None:
    assert set(importers_of("connectorx")) == {"forecaster.postgres.whole_rows"}


def test_only_the_cluster_imports_dask() -> None:
    importers = importers_of("dask", "distributed")
    at_work = {
        module: [name for name in names if name != "distributed.Client"]
        for module, names in importers.items()
    }
    assert {module for module, names in at_work.items() if names} == {"forecaster.run.engines.cluster"}


def test_files_and_tables_do_not_know_each_other() -> None:
    parquet = [module for module in MODULES if is_of(module, "forecaster.parquet")]
    handed_on = "forecaster.postgres.catalogue.Source"  # the type, for what lays tables out in files
    for module in parquet:
        assert {name for name in imports(MODULES[module]) if is_of(name, "forecaster.postgres")} <= {
            handed_on
        }
    for module in POSTGRES:
        assert not any(is_of(name, "forecaster.parquet") for name in imports(MODULES[module]))


def test_only_the_database_side_imports_adbc() -> None:
    # The type of a connection that is handed on may be named anywhere; what the driver does may not.
    handed_on = "adbc_driver_manager.dbapi.Connection"
    importers = importers_of("adbc_driver_manager", "adbc_driver_postgresql")
    elsewhere = {module: names for module, names in importers.items() if module not in POSTGRES}
    assert {module: names for module, names in elsewhere.items() if names != [handed_on]} == {}


def test_numpy_comes_from_the_module_that_makes_it_known_to_polars() -> None:
    assert {*importers_of("numpy")} == {"forecaster.frames.arrays"}


def test_nobody_imports_the_command_line() -> None:
    outside = {name for name in importers_of("forecaster.cli") if not name.startswith("forecaster.cli")}
    assert outside <= {"forecaster.__main__"}


def test_forecasting_frames_loads_no_database_driver() -> None:
    loaded = loaded_by("from forecaster import build_forecasts")
    assert "polars" in loaded
    assert not {"connectorx", "adbc_driver_manager", "adbc_driver_postgresql", "click"} & loaded


def test_the_package_itself_loads_nothing_heavy() -> None:
    assert not {"polars", "numpy", "click"} & loaded_by("import forecaster")


def test_connecting_early_loads_nothing_heavy() -> None:
    assert not {"polars", "numpy", "pyarrow"} & loaded_by("import forecaster.postgres.early")


def test_a_run_begins_without_what_only_computing_or_files_need() -> None:
    loaded = loaded_by("import forecaster.cli.run")
    assert "polars" in loaded
    assert not {"numpy", "pyarrow", "connectorx", "dask"} & loaded


def test_reading_tracks_loads_no_pandas() -> None:
    wire = "pl.DataFrame({'streams': [bytes(4), None], 'others': [None, None]})"
    loaded = loaded_by(f"import polars as pl, forecaster.postgres.wire as w; w.unpacked({wire})")
    assert "pyarrow" in loaded
    assert "pandas" not in loaded


def test_what_the_driver_is_spared_is_there_for_others() -> None:
    assert "pyarrow" in loaded_by("import forecaster.postgres.connection, pyarrow.dataset as d; d.dataset")


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(hasattr(forecaster, name) for name in forecaster.__all__)
    with pytest.raises(AttributeError, match="'forecaster' has no attribute 'build_forecast'"):
        getattr(forecaster, "build_forecast")  # noqa: B009 - mypy knows that it is not there
