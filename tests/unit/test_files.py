"""Files come in: what was written comes back, and what is damaged is refused with its place."""

import csv
import gzip
import io
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.tables import check_output_path, read_table, write_table
from tests.files import TYPED, refusal, saved

AS_TEXT = [
    ("1", "2024-02-29", "0.1", "a,b"),
    ("9223372036854775807", None, "1e-300", 'say "x"'),
    (None, "0001-01-01", "-2.5", "two\nlines"),
]


@pytest.mark.parametrize("name", ["t.parquet", "T.PARQUET"])
def test_parquet_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    write_table(TYPED, tmp_path / name)
    assert_frame_equal(read_table(tmp_path / name), TYPED)


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.csv.gz", "t.Csv.GZ"])
def test_csv_comes_back_as_text(tmp_path: Path, name: str) -> None:
    write_table(TYPED, tmp_path / name)
    back = read_table(tmp_path / name)
    assert back.schema == dict.fromkeys(TYPED.columns, pl.String)
    assert back.rows() == AS_TEXT
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.lower().endswith("gz")


def test_a_name_is_a_name_and_no_pattern(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "year=2024"):
        directory.mkdir(exist_ok=True)
        for number, name in enumerate(["a1.parquet", "a[1].parquet", "a*.parquet", "a*.csv", "a?.csv"]):
            write_table(pl.DataFrame({"a": [str(number)]}), directory / name)
        assert read_table(directory / "a[1].parquet").rows() == [("1",)]
        assert read_table(directory / "a*.parquet").rows() == [("2",)]
        assert read_table(directory / "a*.csv").rows() == [("3",)]


@st.composite
def tables_of_text(draw: st.DrawFn) -> pl.DataFrame:
    # No zero bytes, which no text file has, and no byte order mark, which is none inside of a name.
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=4)
    text |= st.text('a,"\n\r ', max_size=4)
    columns = draw(st.lists(text, min_size=1, max_size=3, unique=True))
    height = draw(st.integers(0, 4))
    values = st.lists(st.none() | text, min_size=height, max_size=height)
    return pl.DataFrame({column: draw(values) for column in columns}, dict.fromkeys(columns, pl.String))


@settings(max_examples=100, deadline=None)
@given(tables_of_text())
@example(pl.DataFrame({" ": []}, {" ": pl.String}))
@example(pl.DataFrame({",": [None]}, {",": pl.String}))
@example(pl.DataFrame({"": [None, "", None]}, {"": pl.String}))
@example(pl.DataFrame({'a"': ["1", None], "b\r\n": ["\r", None]}))
@example(pl.DataFrame({"a": [None, "", "NULL"], "b": [None, "nan", "1.0"]}))
def test_any_text_comes_back_exactly(tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame) -> None:
    path = tmp_path_factory.mktemp("text") / "t.csv"
    write_table(frame, path)
    assert_frame_equal(read_table(path), frame)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["", "a,b\n", '"a",b\r\n']), st.text('ab,,"\n\n\r', max_size=24))
@example("a,b\n", '1,"2\n3,4"\n')
@example("a,b\n", 'x,y"\n1,2\n"z,4\n')
@example("a,b\n", 'x"y,z"w\n')
@example("a,b\n", '"1"2,3\n')
@example("a,b\n", '1,2\n3,"4')
@example("a,b\n", "1,2\r3,4\n")
@example("a,b\n", "1,2\n\n3,4\n\n\n")
@example("a\n", "\n")
def test_no_other_reader_sees_other_values(
    tmp_path_factory: pytest.TempPathFactory, names: str, text: str
) -> None:
    """Where a file is not refused, Python's reader finds the same values in it, and as many in every row."""
    try:
        frame = read_table(saved(tmp_path_factory.mktemp("csv") / "t.csv", names + text))
    except BadFileError:
        return
    header, *rows = csv.reader(io.StringIO(names + text, newline=""), strict=True)
    assert frame.columns == header
    while len(header) > 1 and rows[-1:] == [[]]:
        rows.pop()
    # An empty line is a row of NULLs to us, and of no values to Python.
    assert [[value or "" for value in row] for row in frame.rows()] == [
        row or [""] * len(header) for row in rows
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["", "1", '"x"', '"a,b"', '"a\nb"', '"a""b"']), min_size=2, max_size=2)
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
    st.integers(0, 2),
)
def test_every_well_formed_file_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str, mark: str, ends: int
) -> None:
    text = mark + end.join(["a,b", *map(",".join, rows)]) + ends * end
    frame = read_table(saved(tmp_path_factory.mktemp("csv") / "t.csv", text))
    assert frame.columns == ["a", "b"]
    assert frame.rows() == [
        tuple(value.strip('"').replace('""', '"') if value else None for value in row) for row in rows
    ]


def test_blocks_of_the_reader_show_neither_in_values_nor_in_numbers(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [f"{number}\n\n\n" for number in range(200_000)], "b": "x"})
    write_table(frame, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").stat().st_size > 2 * 2**20
    assert_frame_equal(read_table(tmp_path / "t.csv"), frame)
    path = saved(tmp_path / "ragged.csv", "a,b\n" + "1,2\n" * 600_000 + "3\n")
    assert "row 600001 (line 600002) has 1 value" in str(refusal(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no column names"),
        ("\n\n", "has no column names"),
        ("\ufeff", "has no column names"),
        ("\na,b\n1,2\n", "has no column names"),
        ("a,b\n1,2\n3\n", "row 2 (line 3) has 1 value, the header has 2"),
        ("a,b\n1,2\n3,4,5\n6\n", "row 2 (line 3) has 3 values, the header has 2"),
        ('a,b\n"1\n1",2\n3,4,5\n', "row 2 has 3 values"),
        ("a,b,a,c,c\n", "several columns have the same name: 'a', 'c'"),
        ('a,b\n1,"2\n3,4\n', "line 3: unexpected end of data"),
        ('a,"b\n1,2\n', "line 2: unexpected end of data"),
        ('a,b\n1,2\n3,"4', "line 3: unexpected end of data"),
        ('a,b\n"1"2,3\n', "line 2: ',' expected after '\"'"),
        ('a,b\n1,"x\n2,y\n3,"z"\n4,"x\n5,y\n6,"z"\n', "line 4: ',' expected after '\"'"),
        (b"a,b\n1,caf\xe9\n", "line 2: byte 0xe9 is not UTF-8 text"),
        (b"a,caf\xe9\n1,2\n", "line 1: byte 0xe9 is not UTF-8 text"),
        (b"a,b\n1,\xed\xa0\x80\n", "line 2: byte 0xed is not UTF-8 text"),
        (b"a,b\n1,2\n\0,4\n", "line 3: byte 0x00 is not UTF-8 text"),
        (b"\xe9,b\n1,2\n", "line 1: byte 0xe9 is not UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16") + b"3", "is not UTF-16 text"),
        ("a,b\n1,2\n".encode("utf-32"), "line 1: byte 0x00 is not UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1: byte 0x00 is not UTF-8 text"),
        (bytes(range(1, 128)) * 9, "row 2 has 2 values, the header has 1"),
        (bytes(range(256)) * 9, "is not UTF-8 text"),
    ],
)
def test_a_damaged_csv_is_refused_with_its_place(tmp_path: Path, content: bytes | str, said: str) -> None:
    assert said in str(refusal(saved(tmp_path / "t.csv", content)))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert "does not exist" in str(refusal(path))
    assert "does not exist" in str(refusal(path / name))
    path.mkdir()
    assert "is not a regular file" in str(refusal(path))
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    assert "does not exist" in str(refusal(tmp_path / "loop.csv"))
    assert "too long" in str(refusal(tmp_path / ("n" * 300 + name)))


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet"])
def test_a_file_that_is_cut_off_is_refused_wherever(tmp_path: Path, name: str) -> None:
    write_table(TYPED, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for length in (*range(0, len(whole), 17), len(whole) - 1):
        error = refusal(saved(tmp_path / f"cut{name}", whole[:length]))
        assert "cannot be read" in str(error) or "has no column names" in str(error)
    assert error.hint == "it is damaged, incomplete, or not what its ending says"


def test_no_damage_to_a_parquet_file_is_more_than_a_refusal(tmp_path: Path) -> None:
    """Polars panics over some of these files, which is no `Exception`."""
    write_table(TYPED, tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        with suppress(BadFileError):
            read_table(saved(tmp_path / "damaged.parquet", bytes(damaged)))
            refused -= 1
        refused += 1
    assert refused > len(whole) // 2


def test_a_file_that_is_not_what_its_ending_says_is_refused(tmp_path: Path) -> None:
    write_table(TYPED, tmp_path / "t.parquet")
    refusal(saved(tmp_path / "t.csv", (tmp_path / "t.parquet").read_bytes()))
    refusal(saved(tmp_path / "zip.csv", gzip.compress(b"a,b\n1,2\n")))
    refusal(saved(tmp_path / "head.csv.gz", gzip.compress(b"a,b\n1,2\n")[:10] + b"\xff" * 20))
    for name in ("t.parquet", "t.csv.gz"):
        error = refusal(saved(tmp_path / name, "a,b\n1,2\n"))
        assert error.hint == "it is damaged, incomplete, or not what its ending says"


@pytest.mark.parametrize("name", ["t", "t.", "t.json", "t.csv.zip", "t.gz", "csv", ".parquets"])
def test_an_unknown_ending_is_refused_before_anything_is_done(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, "as it was") if name[-1] != "." else tmp_path / name
    for use in (read_table, check_output_path, lambda path: write_table(TYPED, path)):
        with pytest.raises(InvalidOptionError, match=r"ending.*does not say") as error:
            use(path)
        assert error.value.hint == "known are .csv, .csv.gz, .parquet"
    assert [p.read_text() for p in tmp_path.iterdir()] == ["as it was"] * (name[-1] != ".")
