"""What an export of a service may hold: totals become daily streams, or an error names the rows."""

import random
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecaster.errors import InvalidOptionError
from forecaster.files.intake import read_streams
from forecaster.files.tables import read_table, write_table
from tests.intake import DAY, STREAMS_SCHEMA, refusal, saved

EXPORT = Path(__file__).parents[3] / "shared" / "data" / "track_stream_thyme_free_as_a_bird.csv"


def export(directory: Path, *records: tuple[str, object, object]) -> Path:
    lines = [f'"{day}",Song,{"" if v is None else v},{"" if n is None else n}' for day, v, n in records]
    return saved(directory, "Date,Track Name,Value,Days from release", *lines)


def test_an_export_becomes_daily_streams(tmp_path: Path) -> None:
    path = export(
        tmp_path,
        ("Jan 2, 2024", 10, 1),
        ("Jan 04, 2024", 35, 3),
        ("2024-01-03", 20, 2),
        ("Jan 6, 2024", 40, 5),
        ("Jan 7, 2024", None, 6),
        ("Jan 8, 2024", 50, 7),
        ("Jan 9, 2024", 50, None),
    )
    intake = read_streams(path, track_id=5, artist_id=6)
    assert intake.rows.schema == STREAMS_SCHEMA
    assert intake.rows.rows() == [
        (5, 6, date(2024, 1, 2), 10, 1),
        (5, 6, date(2024, 1, 3), 10, 2),
        (5, 6, date(2024, 1, 4), 15, 3),
        (5, 6, date(2024, 1, 9), 0, None),
    ]
    assert intake.ignored == ("Track Name",)
    assert intake.left_out.rows() == [
        (4, date(2024, 1, 6), "no Value of the day before"),
        (5, date(2024, 1, 7), "no Value"),
        (6, date(2024, 1, 8), "no Value of the day before"),
    ]


def daily_by_hand(records: list[tuple[date, int | None, int | None]]) -> dict[date, int]:
    """The definition, record by record."""
    values = {day: value for day, value, _ in records if value is not None}
    first = min(day for day, _, _ in records)
    daily = {}
    for day, value, age in records:
        if value is not None and day - timedelta(1) in values:
            daily[day] = value - values[day - timedelta(1)]
        elif value is not None and day == first and age == 1:
            daily[day] = value
    return daily


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.none() | st.integers(0, 9), st.none() | st.integers(1, 3)),
        min_size=1,
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_daily_streams_of_an_export_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, int | None, int | None]],
    shuffle: random.Random,
) -> None:
    day, so_far, records = DAY, 0, []
    for gap, more, age in steps:
        day, so_far = day + timedelta(gap), so_far + (more or 0)
        records.append((day, None if more is None else so_far, age))
    daily = daily_by_hand(records)
    lines = [(f"{day:%b %d, %Y}", value, age) for day, value, age in records]
    shuffle.shuffle(lines)
    path = export(tmp_path_factory.mktemp("export"), *lines)
    if not daily:
        assert "no day whose streams are known" in refusal(path, track_id=1, artist_id=2)[0]
        return
    intake = read_streams(path, track_id=1, artist_id=2)
    assert dict(intake.rows.select("date", "daily_streams").iter_rows()) == daily
    assert intake.rows["date"].is_sorted()
    assert {*intake.rows["date"]} | {*intake.left_out["date"]} == {day for day, _, _ in records}
    assert intake.rows.height + intake.left_out.height == len(records)


def test_an_export_without_a_count_of_days_begins_on_its_second_day(tmp_path: Path) -> None:
    path = saved(tmp_path, "Date,Value", '"Jan 31, 2024",100', '"Feb 1, 2024",130')
    intake = read_streams(path, track_id=5, artist_id=6)
    assert intake.rows.rows() == [(5, 6, date(2024, 2, 1), 30, None)]
    assert intake.left_out.rows() == [(1, date(2024, 1, 31), "no Value of the day before")]


def test_an_export_whose_count_falls_is_refused(tmp_path: Path) -> None:
    values = [
        ("Jan 1, 2024", 50, 1),
        ("Jan 4, 2024", 48, 4),
        ("Jan 3, 2024", None, 3),
        ("Jan 2, 2024", 49, 2),
    ]
    first, *places = refusal(export(tmp_path, *values), track_id=5, artist_id=6)
    assert "2 records with a smaller Value than the record before" in first
    assert places == ["row 2 (line 3): Value is 48, after 49", "row 4 (line 5): Value is 49, after 50"]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (("Jan 1, 24", 1, 1), "Date is 'Jan 1, 24', expected a day like Jan 31, 2024"),
        (("January 1, 2024", 1, 1), "Date is 'January 1, 2024'"),
        (("Jan 32, 2024", 1, 1), "Date is 'Jan 32, 2024'"),
        (("Jan 1, 2024", -1, 1), "Value is '-1', expected an integer of at least 0"),
        (("Jan 1, 2024", "1.5", 1), "Value is '1.5'"),
        (("Jan 1, 2024", 1, "x"), "Days from release is 'x'"),
        (("", 1, 1), "Date is empty"),
    ],
)
def test_values_of_an_export_are_checked(
    tmp_path: Path, record: tuple[str, object, object], said: str
) -> None:
    path = export(tmp_path, ("Dec 31, 2023", 1, 1), record)
    assert refusal(path, track_id=5, artist_id=6)[1].startswith(f"row 2 (line 3): {said}")


def test_two_records_of_an_export_for_one_day_are_refused(tmp_path: Path) -> None:
    path = export(tmp_path, ("Jan 1, 2024", 1, 1), ("2024-01-01", 1, 1))
    assert refusal(path, track_id=5, artist_id=6)[1] == "rows 1, 2 (lines 2, 3): Date 2024-01-01"


@pytest.mark.parametrize("ids", [{}, {"track_id": 1}, {"artist_id": 1}])
def test_an_export_does_not_say_what_it_is_about(tmp_path: Path, ids: dict[str, int]) -> None:
    with pytest.raises(InvalidOptionError, match="does not name its track and artist") as error:
        read_streams(export(tmp_path, ("Jan 1, 2024", 1, 1)), **ids)
    assert error.value.hint == "give both --track-id and --artist-id"


@pytest.mark.skipif(not EXPORT.exists(), reason="the export of a real track is not here")
def test_the_export_of_a_real_track(tmp_path: Path) -> None:
    intake = read_streams(EXPORT, track_id=60_300_793, artist_id=1)
    table = read_table(EXPORT)
    values = table["Value"].cast(pl.Int64)
    rows = intake.rows
    assert rows.height == table.height == 1_303
    assert intake.left_out.is_empty()
    assert rows["date"].to_list() == [date(2021, 9, 16) + timedelta(n) for n in range(1_303)]
    assert rows["days_from_release"].to_list() == [*range(1, 1_304)]
    assert rows["daily_streams"].cum_sum().to_list() == values.to_list()
    change = table["Daily Change"].cast(pl.Float64)
    assert change.is_not_null().sum() > 1_000
    # Where the service put in a day, its change is a fraction and its Value is rounded.
    assert (rows["daily_streams"] - change).abs().max() < 1  # type: ignore[operator]
    assert (rows["daily_streams"] == change).sum() > 600
    assert intake.ignored == (
        "Track Name", "Track URL", "Daily Change", "Extrapolated data", "Interpolated data",
    )  # fmt: skip
    # Cut off at the front it begins on a day whose streams nobody knows, and all else stays the same.
    write_table(table[100:], tmp_path / "later.parquet")
    later = read_streams(tmp_path / "later.parquet", track_id=60_300_793, artist_id=1)
    assert_frame_equal(later.rows, rows[101:])
    assert later.left_out["row"].to_list() == [1]
