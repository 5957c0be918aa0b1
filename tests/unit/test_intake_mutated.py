"""A file with bytes flipped and lines moved gives its exact rows, or an error that names one."""

import csv
import io
import re
from datetime import date
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forecaster.errors import BadFileError
from forecaster.files.intake import read_streams
from tests.intake import HEADER

BASE = "\n".join(
    [
        HEADER + ",note",
        *(f"{t},{t % 2},2024-02-{d:02},{t * d},{d},n" for t in (1, 2, 30) for d in (1, 2, 28)),
        '4,0,"2024-02-29",,,"a ""note"", quoted"',
        "",
    ]
).encode()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The file with bytes flipped, and lines and columns dropped, doubled and swapped."""
    data = bytearray(BASE)
    for _ in range(draw(st.integers(0, 3))):
        change = draw(
            st.sampled_from(["flip", "insert", "delete", "cut", "drop", "double", "swap", "columns"])
        )
        lines = bytes(data).split(b"\n")
        position, other = draw(st.integers(0, len(data))), draw(st.integers(0, len(lines) - 1))
        byte = draw(st.sampled_from(b'0123456789-,."\n\r aZ\xe9\0') | st.integers(0, 255))
        line = draw(st.integers(0, len(lines) - 1))
        match change:
            case "flip":
                data[position : position + 1] = bytes([byte])
            case "insert":
                data[position:position] = bytes([byte])
            case "delete":
                del data[position : position + 1]
            case "cut":
                del data[position:]
            case "drop":
                data = bytearray(b"\n".join(lines[:line] + lines[line + 1 :]))
            case "double":
                data = bytearray(b"\n".join(lines[: line + 1] + lines[line:]))
            case "swap":
                lines[line], lines[other] = lines[other], lines[line]
                data = bytearray(b"\n".join(lines))
            case _:
                first, second = draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
                data = bytearray(b"\n".join(swapped(row, first, second) for row in lines))
    return bytes(data)


def swapped(line: bytes, first: int, second: int) -> bytes:
    values = line.split(b",")
    if max(first, second) < len(values):
        values[first], values[second] = values[second], values[first]
    return b",".join(values)


def rows_by_hand(data: bytes) -> list[tuple[Any, ...]]:
    """The rows of a file that is in order, by Python's own CSV reader, `int` and `date`.

    They begin below the first line with the names of all columns that a row needs.
    """
    table = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True) if row]
    needed = {*HEADER.split(",")} - {"days_from_release"}
    above = next(number for number, row in enumerate(table) if needed <= {*row})
    names = table[above]
    rows = [dict(zip(names, values, strict=True)) for values in table[above + 1 :]]

    def integer(text: str) -> int | None:
        return int(text.removesuffix(".0")) if text else None

    return [
        (
            integer(row["cm_track_id"]),
            integer(row["cm_artist_id"]),
            date.fromisoformat(row["date"]),
            integer(row["daily_streams"]),
            integer(row.get("days_from_release", "")),
        )
        for row in rows
    ]


@settings(max_examples=100, deadline=None)
@given(mutated())
@example(BASE)
@example(BASE.replace(b"2024-02-28", b"2024-02-27"))
@example(BASE.replace(b"days_from_release", b"days"))
@example(BASE[:-1])
@example(HEADER.replace("date", "0ate").encode() + b",note\n" + BASE)
@example(HEADER.replace(",", "0", 1).encode() + b",note\n" + BASE)
def test_a_mutated_file_gives_its_exact_rows_or_an_error_that_names_one(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("mutated") / "t.csv"
    path.write_bytes(data)
    intake = said = None
    try:
        intake = read_streams(path)
    except BadFileError as error:
        said = str(error)
    if intake is None:
        assert data != BASE
        assert said
        assert re.search(r"row \d|rows \d|line \d|column|has no rows", said), said
        return
    assert intake.rows.rows() == rows_by_hand(data)
    keys = intake.rows.select("cm_track_id", "cm_artist_id", "date")
    assert keys.null_count().row(0) == (0, 0, 0)
    assert keys.select("cm_track_id", "date").is_unique().all()
