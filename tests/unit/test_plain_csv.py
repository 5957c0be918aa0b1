"""A plain CSV is read by the quicker reader, and gives the same rows and errors as the careful one."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError
from forecaster.files import csvfile
from forecaster.files.checked import are_unique
from forecaster.files.dialect import Dialect

LARGE = st.sampled_from([-(2**63), -(2**62), -1, 0, 1, 2**62, 2**63 - 1])


def read_by(reader: str, text: str) -> pl.DataFrame | str | None:
    """Read rows of the columns a, b, c; an error as its text."""
    data, columns = text.encode(), ["a", "b", "c"]
    try:
        if reader == "plain":
            return csvfile._plain_rows(data, columns, ",")
        return csvfile._checked_rows(data, columns, Path("t.csv"), Dialect(), ())
    except BadFileError as error:
        return str(error)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("1-. x\t,", max_size=8), max_size=6))
@example(["1,2", "3,4,5,6"])  # as many separators as three rows of three values
@example(["1,2,3,4", "5,6"])
@example(["", "1,2,3", ",,,,"])
@example(["", ",,", ",,"])
@example(["#,1,2", "\t, ,"])
def test_the_quicker_reader_gives_the_same_rows_or_none(lines: list[str]) -> None:
    text = "\n".join(["a,b,c", *lines, ""])
    plain, careful = read_by("plain", text), read_by("careful", text)
    if isinstance(plain, pl.DataFrame):
        assert isinstance(careful, pl.DataFrame)
        assert_frame_equal(plain, careful)
    elif all(line.count(",") == 2 for line in lines):
        pytest.fail("the quicker reader refuses a file of whole rows")


@pytest.mark.parametrize(
    "text", ['a,b,c\n"1",2,3\n', "a,b,c\r\n1,2,3\r\n", "a,b,c\n1,2\n3,4,5,6\n", "a,b,c\n1,2,3\n\n"]
)
def test_other_files_are_left_to_the_careful_reader(text: str) -> None:
    assert read_by("plain", text) is None


@settings(deadline=None)
@given(st.lists(st.tuples(LARGE, st.integers(-3, 3)), min_size=1, max_size=8))
def test_keys_are_compared_exactly(keys: list[tuple[int, int]]) -> None:
    frame = pl.DataFrame(keys, {"cm_track_id": pl.Int64, "day": pl.Int32}, orient="row")
    for rows in (frame, frame.with_columns(pl.col("day").cast(pl.Date))):
        assert are_unique(rows, ["cm_track_id", "day"]) == (len({*keys}) == len(keys))
        assert are_unique(rows, ["day"]) == (len({day for _, day in keys}) == len(keys))
    assert are_unique(frame.clear(), ["cm_track_id", "day"])
