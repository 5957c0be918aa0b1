"""What a file may hold: every row as it is in the file, or an error that names the rows that are not."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.intake import read_mldr, read_streams
from forecaster.files.notation import advice_on_numbers
from forecaster.files.tables import write_table
from tests.intake import DAY, GOOD, HEADER, STREAMS_SCHEMA, frame_file, refusal, saved


def test_the_table_form_comes_out_in_its_types(tmp_path: Path) -> None:
    intake = read_streams(saved(tmp_path, HEADER, *GOOD))
    assert intake.rows.schema == STREAMS_SCHEMA
    assert intake.rows.rows() == [*GOOD.values()]
    assert intake.ignored == ()
    assert intake.left_out.is_empty()


def test_columns_are_known_by_their_names(tmp_path: Path) -> None:
    path = saved(
        tmp_path, "comment,date,daily_streams,cm_artist_id,cm_track_id,Date,Value", "x,2024-02-29,3,2,1,y,z"
    )
    intake = read_streams(path)
    assert intake.rows.schema == STREAMS_SCHEMA
    assert intake.rows.rows() == [(1, 2, DAY, 3, None)]
    assert intake.ignored == ("comment", "Date", "Value")


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_what_was_read_can_be_written_and_read_again(tmp_path: Path, name: str) -> None:
    rows = read_streams(saved(tmp_path, HEADER, *GOOD)).rows
    write_table(rows, tmp_path / f"again-{name}")
    assert_frame_equal(read_streams(tmp_path / f"again-{name}").rows, rows)


def moment(*when: int) -> datetime:
    """Of a clock on the wall, as a Datetime column without a time zone has it."""
    return datetime(*when, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[arg-type, misc]


MIDNIGHT = moment(2024, 2, 29)


@pytest.mark.parametrize(
    ("column", "values", "read"),
    [
        ("cm_track_id", pl.Series([2**53 - 1], dtype=pl.Float64), 2**53 - 1),
        ("cm_track_id", pl.Series([2**24 - 1], dtype=pl.Float32), 2**24 - 1),
        ("cm_track_id", pl.Series([Decimal("9223372036854775807.00")]), 2**63 - 1),
        ("cm_track_id", pl.Series([2**63 - 1], dtype=pl.UInt64), 2**63 - 1),
        ("cm_track_id", pl.Series([-(2**63)], dtype=pl.Int128), -(2**63)),
        ("cm_track_id", pl.Series(["5"], dtype=pl.Categorical), 5),
        ("cm_track_id", pl.Series(["5"], dtype=pl.Enum(["5"])), 5),
        ("daily_streams", pl.Series([None], dtype=pl.Null), None),
        ("daily_streams", pl.Series([""]), None),
        ("daily_streams", pl.Series([None], dtype=pl.Float64), None),
        ("days_from_release", pl.Series([None], dtype=pl.Null), None),
        ("date", pl.Series(["2024-02-29"]), DAY),
        *(("date", pl.Series([MIDNIGHT], dtype=pl.Datetime(u)), DAY) for u in ("ms", "us", "ns")),
        ("date", pl.Series([MIDNIGHT.replace(tzinfo=UTC)]), DAY),
        ("date", pl.Series([moment(1, 1, 1)]), date(1, 1, 1)),
        ("date", pl.Series([moment(1969, 12, 31)]), date(1969, 12, 31)),
    ],
)
def test_other_types_of_parquet_are_read_if_exact(
    tmp_path: Path, column: str, values: pl.Series, read: object
) -> None:
    rows = read_streams(frame_file(tmp_path, **{column: values})).rows
    assert rows.schema == STREAMS_SCHEMA
    assert rows[column].to_list() == [read]


@pytest.mark.parametrize(
    ("column", "values", "shown"),
    [
        ("cm_track_id", pl.Series([0.5]), "0.5"),
        ("cm_track_id", pl.Series([float("nan")]), "NaN"),
        ("cm_track_id", pl.Series([float("inf")]), "inf"),
        ("cm_track_id", pl.Series([2.0**53]), "9007199254740992.0, as a float not exact"),
        ("cm_track_id", pl.Series([2.0**24], dtype=pl.Float32), "16777216.0, as a float not exact"),
        ("cm_track_id", pl.Series([Decimal("1.5")]), "1.5"),
        ("cm_track_id", pl.Series([2**63], dtype=pl.UInt64), "9223372036854775808"),
        ("cm_track_id", pl.Series([None], dtype=pl.Int64), "empty"),
        ("cm_artist_id", pl.Series([None], dtype=pl.Null), "empty"),
        ("daily_streams", pl.Series([1.5]), "1.5"),
        ("daily_streams", pl.Series([float("nan")]), "NaN"),
        ("days_from_release", pl.Series([2**31]), "2147483648"),
        ("days_from_release", pl.Series([2.0**31]), "2147483648.0"),
        ("date", pl.Series([None], dtype=pl.Date), "empty"),
        ("date", pl.Series([moment(2024, 2, 29, 0, 0, 0, 1)]), "2024-02-29 00:00:00.000001"),
        ("date", pl.Series([moment(1969, 12, 31, 12)]), "1969-12-31 12:00:00.000000"),
        ("date", pl.Series([2**31 - 1], dtype=pl.Int32).cast(pl.Date), "not in the calendar"),
        ("date", pl.Series([-719_163], dtype=pl.Int32).cast(pl.Date), "not in the calendar"),
        ("date", pl.Series([2_932_897], dtype=pl.Int32).cast(pl.Date), "not in the calendar"),
        ("date", pl.Series([2**63 - 1]).cast(pl.Datetime("us")), "not in the calendar"),
        ("date", pl.Series([86_400_000 * 2**36]).cast(pl.Datetime("ms")), "not in the calendar"),
    ],
)
def test_values_of_parquet_that_are_not_exact_are_refused(
    tmp_path: Path, column: str, values: pl.Series, shown: str
) -> None:
    first, place = refusal(frame_file(tmp_path, **{column: values}))
    assert "1 value that cannot be stored" in first
    assert re.match(rf"row 1: {column} is {re.escape(shown)}, expected an? ", place)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("cm_track_id", pl.Series([True])),
        ("cm_track_id", pl.Series([b"1"])),
        ("cm_artist_id", pl.Series([DAY])),
        ("daily_streams", pl.Series([[1]])),
        ("daily_streams", pl.Series([{"a": 1}])),
        ("days_from_release", pl.Series([timedelta(1)])),
        ("date", pl.Series([20240229])),
        ("date", pl.Series([MIDNIGHT]).dt.replace_time_zone("Asia/Tokyo")),
    ],
)
def test_types_that_cannot_work_are_refused(tmp_path: Path, column: str, values: pl.Series) -> None:
    first, problem = refusal(frame_file(tmp_path, **{column: values}))
    assert "1 column of a type that cannot work" in first
    assert problem.startswith(f"{column} is {values.dtype}, expected a")


def test_all_missing_columns_are_named(tmp_path: Path) -> None:
    (message,) = refusal(saved(tmp_path, "Date,DAILY_STREAMS, cm_track_id", "1,2,3"))
    assert "lacks the columns cm_track_id, cm_artist_id, date, daily_streams;" in message
    assert "it has 'Date', 'DAILY_STREAMS', ' cm_track_id'" in message
    (message,) = refusal(saved(tmp_path, ",".join(f"column{n}" for n in range(1_000))))
    assert message.endswith("'column19', and 980 more")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str) -> None:
    write_table(pl.DataFrame(schema=STREAMS_SCHEMA), tmp_path / name)
    assert refusal(tmp_path / name) == [f"{tmp_path / name} has no rows"]


BAD_VALUES = {
    "cm_track_id": [
        "", '""', "x", "1.5", "1e3", " 1", "1 ", '"1,000"', "1_000", "1.000", "1.0.0", ".0", "-", "0x1",
        "NULL", "nan", "true", "9223372036854775808", "-9223372036854775809", "٣", "1\u00a0000",
    ],
    "cm_artist_id": ["", "None"],
    "date": [
        "", "2024-02-30", "2023-02-29", "24-02-29", "2024-2-29", "2024-02-29 12:00:00", "2024-02-29 00:00:01",
        "2024-02-29 00:00:00+01:00", "2024-02-29T", "29.02.2024", "02/29/2024", "20240229", "Feb 29, 2024",
        "0000-01-01", "-0001-01-01", "10000-01-01", "+2024-01-01", "infinity", "NaT", " 2024-02-29",
        "2024-02-29x", "2024-13-01", "٢٠٢٤-02-29",
    ],
    "daily_streams": ["x", "1.5", '"1,000"', "1.000", "NaN", "inf", "9223372036854775808", "\\N", " "],
    "days_from_release": ["x", "2147483648", "-2147483649", "1.5"],
}  # fmt: skip


@pytest.mark.parametrize(("column", "text"), [(c, text) for c, texts in BAD_VALUES.items() for text in texts])
def test_a_value_that_cannot_be_stored_is_named(tmp_path: Path, column: str, text: str) -> None:
    values = ["8", "2", "2024-02-29", "3", "4"]
    values[HEADER.split(",").index(column)] = text if '"' in text or "," not in text else f'"{text}"'
    first, place = refusal(saved(tmp_path, HEADER, *GOOD, ",".join(values)))
    assert "1 value that cannot be stored; nothing was stored" in first
    number = len(GOOD) + 1
    shown = repr(text.strip('"')) if text.strip('"') else "empty"
    assert place.startswith(f"row {number} (line {number + 1}): {column} is {shown}, expected an? "[:-4])


def test_the_first_of_many_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    bad = "x,y,z," + "9" * 100 + ","
    first, *places = refusal(saved(tmp_path, HEADER, bad, *GOOD, bad, bad))
    assert "12 values that cannot be stored" in first
    assert [place.partition(" is ")[0] for place in places] == [
        "row 1 (line 2): cm_track_id",
        "row 1 (line 2): cm_artist_id",
        "row 1 (line 2): date",
        "row 1 (line 2): daily_streams",
        "row 8 (line 9): cm_track_id",
        "and 7 more",
    ]
    assert len(places[3]) < 150


def test_the_line_is_left_out_where_it_is_not_the_row(tmp_path: Path) -> None:
    for header, note in (("note", '"two\nlines"'), ('"no\nte"', "x")):
        path = saved(tmp_path, f"{HEADER},{header}", f"1,2,2024-02-29,3,4,{note}", "1,2,x,3,4,y")
        assert refusal(path)[1].startswith("row 2: date is 'x'")


def test_an_empty_line_is_no_row_at_the_end_and_a_bad_one_elsewhere(tmp_path: Path) -> None:
    row = "1,2,2024-02-29,3,4"
    assert read_streams(saved(tmp_path, HEADER, row, "", "", "")).rows.height == 1
    assert refusal(saved(tmp_path, HEADER, "", row))[1].startswith("row 1 (line 2): cm_track_id is empty")
    dates = saved(tmp_path, "date,daily_streams", "2024-02-29,3", "", "2024-03-01,4")
    assert refusal(dates, track_id=1, artist_id=2)[1].startswith("row 2 (line 3): date is empty")


def test_two_rows_for_one_track_and_day_are_refused(tmp_path: Path) -> None:
    days = [f"{track},{artist},{day},{track},4" for track, artist, day in [
        (1, 2, "2024-02-29"),
        (2, 2, "2024-02-29"),
        (1, 2, "2024-03-01"),
        (1, 3, "2024-02-29 00:00:00"),
        *[(7, 7, "2024-01-01")] * 9,
    ]]  # fmt: skip
    first, *cases = refusal(saved(tmp_path, HEADER, *days))
    assert "2 cases of several rows for one track and day" in first
    assert cases == [
        "rows 1, 4 (lines 2, 5): cm_track_id 1, date 2024-02-29",
        "rows 5, 6, 7, 8, 9, ... (lines 6, 7, 8, 9, 10, ...): cm_track_id 7, date 2024-01-01",
    ]


def test_ids_take_the_place_of_columns_that_are_not_there(tmp_path: Path) -> None:
    path = saved(tmp_path, "date,daily_streams", "2024-02-29,3", "2024-03-01,4")
    rows = read_streams(path, track_id=2**63 - 1, artist_id=0).rows
    assert rows.schema == STREAMS_SCHEMA
    assert rows.select("cm_track_id", "cm_artist_id").rows() == [(2**63 - 1, 0)] * 2
    assert "lacks the column cm_artist_id;" in refusal(path, track_id=5)[0]
    assert "several rows" in refusal(
        saved(tmp_path, "date,daily_streams", "2024-02-29,3", "2024-02-29,4"), track_id=5, artist_id=6
    )[0]  # fmt: skip
    path = saved(tmp_path, "cm_track_id,date,daily_streams", "1,2024-02-29,3", "2,2024-02-29,4")
    assert read_streams(path, artist_id=6).rows["cm_artist_id"].to_list() == [6, 6]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"track_id": 1}, "has its own cm_track_id"),
        ({"artist_id": 1}, "has its own cm_artist_id"),
        ({"track_id": 1, "artist_id": 1}, "has its own cm_artist_id and cm_track_id"),
        ({"track_id": 2**63}, "cm_track_id is 9223372036854775808"),
    ],
)
def test_ids_that_cannot_be_honoured_are_refused(tmp_path: Path, ids: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidOptionError, match=said):
        read_streams(saved(tmp_path, HEADER, *GOOD), **ids)


def test_decay_rates(tmp_path: Path) -> None:
    path = saved(tmp_path, "note,mldr,cm_artist_id", "x,0.05,1", "x,-1e-3,2", "x,,3", "x,0,4", "x,.5,5")
    intake = read_mldr(path)
    assert intake.rows.schema == {"cm_artist_id": pl.Int64, "mldr": pl.Float64}
    assert intake.rows.rows() == [(1, 0.05), (2, -0.001), (3, None), (4, 0.0), (5, 0.5)]
    assert intake.ignored == ("note",)
    write_table(pl.DataFrame({"cm_artist_id": [1.0], "mldr": [Decimal("0.05")]}), tmp_path / "t.parquet")
    assert read_mldr(tmp_path / "t.parquet").rows.rows() == [(1, 0.05)]


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "inf", "-Infinity", "1e999", '"0,05"', "5%", " 1", "x", "1_0"]
)
def test_decay_rates_that_are_no_number_are_refused(tmp_path: Path, text: str) -> None:
    path = saved(tmp_path, "cm_artist_id,mldr", "1,0.05", f"2,{text}")
    with pytest.raises(BadFileError) as error:
        read_mldr(path)
    shown = repr(text.strip('"'))
    assert f"row 2 (line 3): mldr is {shown}, expected a finite number, or nothing" in str(error.value)


def test_decay_rates_need_an_artist_each(tmp_path: Path) -> None:
    for lines, said in (
        (["1,0.05", "2,0.1", "1,0.05"], "rows 1, 3 (lines 2, 4): cm_artist_id 1"),
        ([",0.05"], "row 1 (line 2): cm_artist_id is empty"),
        ([], "has no rows"),
    ):
        with pytest.raises(BadFileError, match=re.escape(said)):
            read_mldr(saved(tmp_path, "cm_artist_id,mldr", *lines))
    write_table(pl.DataFrame({"cm_artist_id": [1], "mldr": [True]}), tmp_path / "t.parquet")
    with pytest.raises(BadFileError, match="mldr is Boolean, expected a finite number"):
        read_mldr(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("header", "message", "hint"),
    [
        ("cm_artist_id,mldr", "has no streams: this looks like decay rates", "^give it with --mldr$"),
        (
            "day,cm_artist_id,cm_track_id,streams",
            "lacks the columns date, daily_streams;",
            "^rename 'day' to 'date',",
        ),
        (
            "cm_track_id,cm_artist_id,streams",
            "lacks the columns date, daily_streams;",
            "^expected are cm_track_id",
        ),
        ("song,sum,note", "lacks the columns cm_track_id", "^expected are cm_track_id"),
    ],
)
def test_what_to_do_about_other_columns(tmp_path: Path, header: str, message: str, hint: str) -> None:
    with pytest.raises(BadFileError, match=message) as error:
        read_streams(saved(tmp_path, header, *["1,2,x,3"[: 2 * len(header.split(",")) - 1]] * 2))
    assert re.search(hint, error.value.hint or "")
    assert "'streams' to" not in (error.value.hint or "")


def test_what_to_write_instead_of_separators_of_thousands() -> None:
    for value, instead in (
        ("1,234", "1234"),
        ("-12.345.678", "-12345678"),
        ("1.234,50", "1234.50"),
        ("1,234,567.8", "1234567.8"),
    ):
        advice = advice_on_numbers([value], is_decimal=True)
        assert advice == f"write {instead}, not {value!r}, and decimal numbers with a point"
