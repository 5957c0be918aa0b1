"""What `conform` lets through, what it makes of it, and what it says about the rest."""

from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest

from forecaster.errors import SchemaMismatchError
from forecaster.frames.schemas import conform
from forecaster.tables import ARTIST_MLDR, DAILY_STREAMS

DAY = date(2024, 2, 29)


def daily(**columns: pl.Series | None) -> pl.LazyFrame:
    """One good row, with the columns given replaced, added or (None) left out."""
    good = {
        "cm_track_id": pl.Series([1]),
        "cm_artist_id": pl.Series([2]),
        "date": pl.Series([DAY]),
        "daily_streams": pl.Series([3]),
    }
    return pl.LazyFrame({name: column for name, column in (good | columns).items() if column is not None})


def conformed(**columns: pl.Series | None) -> pl.DataFrame:
    return conform(daily(**columns), DAILY_STREAMS, name="daily_streams").collect()


def complaint(**columns: pl.Series | None) -> str:
    with pytest.raises(SchemaMismatchError) as error:
        conform(daily(**columns), DAILY_STREAMS, name="daily_streams")
    assert error.value.exit_code == 4
    return str(error.value)


def test_columns_come_out_in_their_order_and_types() -> None:
    shuffled = conformed(
        created_at=pl.Series([datetime(2024, 3, 1, tzinfo=UTC)]),
        id=pl.Series(["0b8f"]),
        days_from_release=pl.Series([10], dtype=pl.Int16),
        extra=pl.Series(["not asked for"]),
    ).select(pl.all().reverse())
    again = conform(shuffled.lazy(), DAILY_STREAMS, name="daily_streams").collect()
    assert again.schema == {
        "cm_track_id": pl.Int64,
        "cm_artist_id": pl.Int64,
        "date": pl.Date,
        "daily_streams": pl.Float64,
        "days_from_release": pl.Int64,
        "id": pl.String,
        "created_at": pl.Datetime("us", "UTC"),
    }
    assert again.rows() == [(1, 2, DAY, 3.0, 10, "0b8f", datetime(2024, 3, 1, tzinfo=UTC))]


def test_a_missing_optional_column_is_null() -> None:
    frame = conformed()
    assert frame.columns == list(DAILY_STREAMS)
    assert frame.select("days_from_release", "id", "created_at").rows() == [(None, None, None)]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32])
def test_every_integer_that_fits_is_an_id(dtype: type[pl.DataType]) -> None:
    assert conformed(cm_track_id=pl.Series([5], dtype=dtype))["cm_track_id"].to_list() == [5]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([7], dtype=pl.UInt64),
        pl.Series([7], dtype=pl.Int128),
        pl.Series([7], dtype=pl.Float32),
        pl.Series([Decimal("7.0")], dtype=pl.Decimal(38, 10)),
    ],
)
def test_every_kind_of_number_counts_streams_and_days(values: pl.Series) -> None:
    frame = conformed(daily_streams=values, days_from_release=values)
    assert frame.select("daily_streams", "days_from_release").rows() == [(7.0, 7)]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_datetime_is_its_day(unit: pl._typing.TimeUnit, zone: str | None) -> None:
    last_moment = pl.Series([datetime(2024, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC)]).cast(
        pl.Datetime(unit, zone)
    )
    assert conformed(date=last_moment)["date"].to_list() == [DAY]


@pytest.mark.parametrize("milliseconds", [-(2**63) + 1, 2**63 - 1])
def test_a_datetime_beyond_all_dates_is_null(milliseconds: int) -> None:
    too_far = pl.Series([milliseconds]).cast(pl.Datetime("ms"))
    assert conformed(date=too_far)["date"].to_list() == [None]


@pytest.mark.parametrize("days", [2**31, -(2**31) - 1, 2**63 - 1, -(2**63), float("nan"), 1e300])
def test_an_age_beyond_all_ages_is_unknown(days: float) -> None:
    assert conformed(days_from_release=pl.Series([days]))["days_from_release"].to_list() == [None]


@pytest.mark.parametrize("days", [2**31 - 1, -(2**31), 0, None])
def test_any_other_age_is_kept(days: int | None) -> None:
    ages = pl.Series([days], dtype=pl.Int64)
    assert conformed(days_from_release=ages)["days_from_release"].to_list() == [days]


def test_a_column_without_a_type_is_null() -> None:
    nothing = pl.Series([None], dtype=pl.Null)
    frame = conformed(**dict.fromkeys(DAILY_STREAMS, nothing))
    assert frame.schema["date"] == pl.Date
    assert frame.rows() == [(None,) * len(DAILY_STREAMS)]


def test_a_frame_without_rows_stays_without_rows() -> None:
    empty = conform(daily().limit(0), DAILY_STREAMS, name="daily_streams").collect()
    assert (empty.columns, empty.height) == (list(DAILY_STREAMS), 0)


def test_all_offenders_are_named_in_order() -> None:
    message = complaint(
        cm_artist_id=None,
        cm_track_id=pl.Series(["1"]),
        created_at=pl.Series(["yesterday"]),
        date=pl.Series(["2024-02-29"]),
        daily_streams=pl.Series([True]),
    )
    assert message == (
        "daily_streams: "
        "column cm_artist_id is missing (expected an integer of at most 64 bits, signed); "
        "column cm_track_id is String (expected an integer of at most 64 bits, signed); "
        "column created_at is String (expected a datetime); "
        "column daily_streams is Boolean (expected a number); "
        "column date is String (expected a date or a datetime)"
    )


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("cm_track_id", pl.Series([1], dtype=pl.UInt64)),
        ("cm_track_id", pl.Series([1.0])),
        ("cm_artist_id", pl.Series([1], dtype=pl.Int128)),
        ("date", pl.Series([20240229])),
        ("daily_streams", pl.Series(["3"])),
        ("days_from_release", pl.Series([DAY])),
        ("id", pl.Series([1.0])),
        ("created_at", pl.Series([1])),
    ],
)
def test_a_type_that_cannot_work_is_refused(column: str, values: pl.Series) -> None:
    message = complaint(**{column: values})
    assert f"column {column} is {values.dtype} (expected" in message
    assert message.count("column ") == 1


def test_the_frame_is_named() -> None:
    with pytest.raises(SchemaMismatchError, match=r"^mldr of today: column mldr is missing"):
        conform(pl.LazyFrame({"cm_artist_id": [1]}), ARTIST_MLDR, name="mldr of today")
