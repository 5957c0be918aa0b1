"""One place knows the tables: what a column is follows everywhere from its object, and nothing repeats it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import forecaster
from forecaster.files.forms import form_of
from forecaster.frames.casting import STORED_AS, ColumnInfo
from forecaster.frames.schemas import NUMBER
from forecaster.tables import ACTUALS, ALL_TABLES, FORECASTS, LISTENERS, RATES, STREAMS, TABLES, Column, Table

PACKAGE = Path(forecaster.__file__).parent
ROOT = PACKAGE.parent
MODULES = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text("utf-8"))
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE) != Path("tables.py")
}
PAGES = "\n\n".join(path.read_text("utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
NAMES = {column.name for table in TABLES.values() for column in table.columns}
TYPES = {
    "ID", "NUMBER", "DAY", "DAYS", "ROW_ID", "WHEN", "_INTEGERS", "_NUMBERS", "_ROW_IDS", "_TIMES", "_DAYS",
    "Kind", "Column", "ColumnInfo", "Field",
}  # fmt: skip
# Frames that are no table's: skipped tracks, what a run looked at, and forecasts with their as-of dates.
OTHER_FRAMES = {
    ("frames/schemas.py", "cm_artist_id cm_track_id"),
    ("frames/schemas.py", "cm_artist_id cm_track_id mldr"),
    ("model/mldr.py", "cm_artist_id mldr"),
    ("scoring/windows.py", "cm_track_id forecasted_value month segment_used time_used"),
}

SAVES = Column(
    name="saves",
    types=("integer", "bigint"),
    made_as="integer",
    constraint="NOT NULL",
    kind=NUMBER,
    meaning="times that a listener saved it",
)


def is_type(value: ast.expr) -> bool:
    """Whether an expression is the type of a column: of PostgreSQL, of Polars, or what one is made with."""
    match value:
        case ast.Constant(value=str(text)):
            return text.split("(")[0] in {*STORED_AS, "timestamptz", "timestamp"}
        case ast.Tuple(elts=elements) if elements:
            return all(is_type(element) for element in elements)
        case ast.Attribute(value=ast.Name(id="pl"), attr=name):
            return isinstance(getattr(pl, name), type)
        case ast.Call(func=called):
            return is_type(called)
        case ast.Name(id=name):
            return name in TYPES
        case _:
            return False


def typed_columns(tree: ast.AST) -> Iterator[str]:
    """Of each mapping that gives two or more of the tables' columns a type, the columns."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            typed = [
                key.value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and key.value in NAMES and is_type(value)
            ]
            if len(typed) > 1:
                yield " ".join(sorted(map(str, typed)))


def texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize(
    "mapping",
    [
        "{'cm_track_id': 'bigint', 'x': 1, 'mldr': ('real', 'double precision')}",
        "{'date': pl.Date, 'daily_streams': pl.Datetime('us')}",
        "dict(a={'date': DAY, 'daily_streams': Kind('a number', (), None)})",
        "{'month': ColumnInfo('smallint'), 'time_used': _INTEGERS}",
    ],
)
def test_a_mapping_of_types_is_seen(mapping: str) -> None:
    assert len([*typed_columns(ast.parse(mapping))]) == 1


@pytest.mark.parametrize("values", ["{'date': 1, 'month': text}", "{'date': pl.Date}", "{'x': pl.Date}"])
def test_another_mapping_is_none(values: str) -> None:
    assert [*typed_columns(ast.parse(values))] == []


def test_no_other_module_maps_columns_to_types() -> None:
    found = {(module, columns) for module, tree in MODULES.items() for columns in typed_columns(tree)}
    assert found == OTHER_FRAMES


def test_no_other_module_names_a_table_or_says_which_row_is_the_newest() -> None:
    said = re.compile(rf"\b({'|'.join(TABLES)})\b|NULLS (FIRST|LAST)|CREATE TABLE")
    assert [module for module, tree in MODULES.items() if any(map(said.search, texts(tree)))] == []


def test_a_column_more_is_everywhere_at_once() -> None:
    table = replace(STREAMS, columns=(*STREAMS.columns, SAVES))
    assert "saves integer NOT NULL, UNIQUE" in table.ddl("t", {}, segments=12)
    assert table.contract["saves"] == ("integer", "bigint")
    assert table.frame["saves"] is NUMBER
    assert table.made["saves"] == ColumnInfo("integer")
    assert "saves" in table.written
    assert form_of(table)["saves"].expected == "an integer of at most 32 bits"
    assert table.markdown().endswith("\n| `saves` | integer | bigint | times that a listener saved it |")


def test_a_column_that_may_be_null_is_so_in_rows_and_in_files() -> None:
    table = replace(RATES, columns=(*RATES.columns, replace(SAVES, may_be_null=True)))
    assert "saves" in table.may_be_null
    assert "saves" not in RATES.may_be_null
    assert form_of(table)["saves"].may_be_empty
    assert form_of(table)["saves"].expected.endswith(", or nothing")


@pytest.mark.parametrize("table", ALL_TABLES.values(), ids=ALL_TABLES)
def test_the_manual_has_its_columns(table: Table) -> None:
    assert f"\n\n{table.markdown()}\n\n" in PAGES, f"put this into docs/tables.md:\n\n{table.markdown()}"


@pytest.mark.parametrize("table", ALL_TABLES.values(), ids=ALL_TABLES)
def test_it_is_of_one_piece(table: Table) -> None:
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names)
    assert {*table.key, *table.newest} <= {*names}
    for column in table.columns:
        assert column.made_as in column.types if column.made_as else column.references in TABLES
        assert {*column.types} <= STORED_AS.keys()


def test_what_a_table_of_later_streams_needs() -> None:
    assert ACTUALS == ("cm_track_id", "date", "daily_streams")


def test_whose_the_rows_are() -> None:
    assert [(t.owner, t.owner_noun, t.has_days) for t in (STREAMS, LISTENERS, RATES, FORECASTS)] == [
        ("cm_track_id", "track", True),
        ("cm_artist_id", "artist", True),
        ("cm_artist_id", "artist", False),
        ("cm_track_id", "track", False),
    ]


def test_the_newest_row_first() -> None:
    assert LISTENERS.newest_first("s") == (
        "s.created_at DESC NULLS LAST, s.id DESC NULLS LAST, s.monthly_listeners DESC NULLS LAST"
    )
    assert LISTENERS.newest_first("r", among=["monthly_listeners"]) == "r.monthly_listeners DESC NULLS LAST"


def test_a_record() -> None:
    rows = pl.DataFrame(
        {
            "cm_artist_id": [1, None, 1, 1, 1, 1],
            "date": [0, 0, None, 0, 0, 0],
            "monthly_listeners": [-1.5, 1.0, 1.0, None, float("nan"), float("inf")],
        }
    )
    assert rows.select(LISTENERS.is_record()).to_series().to_list() == [True, *[False] * 5]


@pytest.mark.parametrize(
    ("day", "value", "condition"),
    [
        ("date", "bigint", "monthly_listeners IS NULL OR date IS NULL OR NOT isfinite(date)"),
        ("date NOT NULL", "bigint", "monthly_listeners IS NULL OR NOT isfinite(date)"),
        ("date NOT NULL", "bigint NOT NULL", "NOT isfinite(date)"),
        (
            "date NOT NULL",
            "numeric NOT NULL",
            "NOT isfinite(date) OR abs(monthly_listeners) > 1.7976931348623157e308",
        ),
        (
            "date NOT NULL",
            "real NOT NULL",
            "NOT isfinite(date) OR abs(monthly_listeners::float8) > 1.7976931348623157e308::float8",
        ),
    ],
)
def test_no_record_in_sql_tests_only_what_the_columns_leave_possible(
    day: str, value: str, condition: str
) -> None:
    columns = {
        name: ColumnInfo(type_.removesuffix(" NOT NULL"), not_null="NOT NULL" in type_)
        for name, type_ in (("date", day), ("monthly_listeners", value))
    }
    assert LISTENERS.is_no_record(columns) == f"({condition})"
