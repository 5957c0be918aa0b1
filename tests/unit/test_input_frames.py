"""Rows, columns and types of the frames that come in: which count, and which are refused."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecaster import ForecasterError, build_forecasts
from forecaster.errors import SchemaMismatchError
from tests.building import MLDR, OLD_ENOUGH, assert_partition, build, collected
from tests.catalogues import EPOCH, daily_frame, days, mldr_frame
from tests.faults import LONG
from tests.reference import Mldr, Row


def test_useless_rows_change_nothing() -> None:
    good = days(OLD_ENOUGH)
    later = good[-1].date
    assert later is not None
    newest = good[-1]._replace(date=later + timedelta(days=1), created_at=EPOCH + timedelta(days=9))
    useless = [newest._replace(streams=value) for value in (None, float("nan"), float("inf"))]
    useless += [newest._replace(date=None), newest._replace(track=None)]
    assert build([*useless, *good]).forecasts.equals(build(good).forecasts)


def test_of_two_rows_for_one_day_the_newest_counts() -> None:
    good = days(OLD_ENOUGH)
    older = [row._replace(streams=1e6, created_at=EPOCH - timedelta(days=1), id=10**6) for row in good]
    lower_id = [row._replace(streams=1e6, id=-1) for row in good]
    undated = [row._replace(streams=1e6, created_at=None, id=10**6) for row in good]
    assert build([*older, *good, *lower_id, *undated]).forecasts.equals(build(good).forecasts)


def test_rows_that_differ_in_nothing_that_decides_still_give_one_answer() -> None:
    good = [row._replace(id=None, created_at=None) for row in days(OLD_ENOUGH)]
    twice = [*good, *(row._replace(streams=20.0) for row in good)]
    first, second = build(twice).forecasts, build(twice[::-1]).forecasts
    assert first.equals(second)
    assert first.equals(build([row._replace(streams=20.0) for row in good]).forecasts)


def test_exact_copies_count_once() -> None:
    good = days(OLD_ENOUGH)
    assert build(good * 3).forecasts.equals(build(good).forecasts)


# Columns and types


def test_all_missing_and_unusable_columns_are_named_at_once() -> None:
    wrong = pl.LazyFrame({"cm_artist_id": ["one"], "date": ["2024-01-01"], "id": [1.5]})
    with pytest.raises(SchemaMismatchError) as error:
        build_forecasts(wrong, mldr_frame([]))
    for offender in ("cm_track_id is missing", "daily_streams is missing", "cm_artist_id is String"):
        assert offender in str(error.value)
    for offender in ("date is String", "id is Float64"):
        assert offender in str(error.value)
    assert str(error.value).startswith("daily_streams: ")
    with pytest.raises(
        SchemaMismatchError, match=r"^artist_mldr: column cm_artist_id is missing .*; .*mldr is"
    ):
        build_forecasts(daily_frame([]), pl.LazyFrame({"mldr": ["fast"]}))


@pytest.mark.parametrize(
    "types",
    [
        {
            "cm_track_id": pl.Int32,
            "cm_artist_id": pl.Int32,
            "daily_streams": pl.Int32,
            "days_from_release": pl.Int32,
        },
        {"cm_track_id": pl.UInt32, "cm_artist_id": pl.Int16, "daily_streams": pl.UInt64},
        {"daily_streams": pl.Decimal(38, 10), "days_from_release": pl.Decimal(38, 10)},
        {"daily_streams": pl.Float32, "days_from_release": pl.Float64},
        {"daily_streams": pl.Int128, "days_from_release": pl.Int16},
        {"date": pl.Datetime("us")},
        {"date": pl.Datetime("ns", "UTC")},
        {"date": pl.Datetime("ms"), "created_at": pl.Date},
        {"id": pl.String},
    ],
)
def test_other_types_give_the_same_forecast(types: dict[str, pl.DataType]) -> None:
    rows = days([float(10 + day % 7) for day in range(100)], first_age=100)
    mldr = mldr_frame(MLDR).with_columns(pl.col("cm_artist_id").cast(types.get("cm_artist_id", pl.Int64)))
    other = collected(build_forecasts(daily_frame(rows).cast(types), mldr))  # type: ignore[arg-type]
    same = pl.exclude("training_data_id")
    assert other.forecasts.select(same).equals(build(rows).forecasts.select(same))
    assert other.forecasts["training_data_id"].unique().cast(pl.Int64).to_list() == [1]


def test_only_the_needed_columns_are_needed() -> None:
    rows = days(OLD_ENOUGH)
    needed = daily_frame(rows).select("daily_streams", "date", "cm_artist_id", "cm_track_id")
    built = collected(build_forecasts(needed, mldr_frame(MLDR).select("mldr", "cm_artist_id")))
    assert built.forecasts["training_data_id"].null_count() == 24
    assert built.forecasts.drop("training_data_id").equals(build(rows).forecasts.drop("training_data_id"))


def test_decimal_decay_rates() -> None:
    rows, mldr = days(OLD_ENOUGH), mldr_frame([Mldr(1, 0.25)])
    other = collected(build_forecasts(daily_frame(rows), mldr.cast({"mldr": pl.Decimal(38, 10)})))
    assert other.forecasts.equals(build(rows, [Mldr(1, 0.25)]).forecasts)


@pytest.mark.parametrize(
    ("rows", "mldr"), [([], []), ([], MLDR), (days(OLD_ENOUGH), [])], ids=["both", "streams", "mldr"]
)
def test_empty_frames(rows: list[Row], mldr: list[Mldr]) -> None:
    built = build(rows, mldr)
    assert_partition(built, {1} if rows else set(), horizon=24)
    # The types stay those of a frame with rows, so that whatever comes next can rely on them.
    full = build(days(OLD_ENOUGH))
    assert built.forecasts.schema == full.forecasts.schema
    assert built.skipped.schema == full.skipped.schema


def test_frames_without_any_type() -> None:
    nothing = pl.Series([], dtype=pl.Null)
    streams = pl.LazyFrame(dict.fromkeys(("cm_track_id", "cm_artist_id", "date", "daily_streams"), nothing))
    mldr = pl.LazyFrame(dict.fromkeys(("cm_artist_id", "mldr"), nothing))
    assert_partition(collected(build_forecasts(streams, mldr)), set(), horizon=24)


# Whatever may come in

# For every column what it usually holds, and whatever it can hold: the ends of its type and beyond.
INTEGERS = st.one_of(
    st.integers(-2, 400),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([None, 2**31 - 1, -(2**31), 2**31, 2**62, 2**63 - 1, -(2**63)]),
)
FLOATS = st.one_of(
    st.floats(),
    st.sampled_from([None, 1.7976931348623157e308, -1.7976931348623157e308, 5e-324, 2.0**62, 2.0**63]),
)
MOMENTS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
USUAL_AND_WILD = {
    "cm_track_id": (st.integers(1, 3), INTEGERS),
    "cm_artist_id": (st.sampled_from([1, 1, 1, 2]), INTEGERS),
    "date": (
        st.integers(19_000, 19_400),
        # The ends of what a date can hold, those of Python's dates, and the turn of the epoch.
        st.one_of(
            st.integers(-(2**31), 2**31 - 1),
            st.sampled_from([None, -(2**31), 2**31 - 1, -719_162, 2_932_896, 0, -1]),
        ),
    ),
    "daily_streams": (st.one_of(st.integers(0, 1000).map(float), st.floats(0, 1e9)), FLOATS),
    "days_from_release": (st.integers(20, 2_000), INTEGERS),
    "id": (st.integers(1, 9), INTEGERS),
    "created_at": (st.integers(0, 3), MOMENTS),
    "mldr": (st.floats(-0.1, 0.5), FLOATS),
}
TIMES = [pl.Datetime(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC")]
TYPES: dict[str, list[pl.DataType]] = {
    "cm_track_id": [pl.Int64()],
    "cm_artist_id": [pl.Int64(), pl.Int32()],
    "date": [pl.Date(), *TIMES],
    "daily_streams": [pl.Float64(), pl.Float32(), pl.Int64(), pl.UInt64(), pl.Int128()],
    "days_from_release": [pl.Int64(), pl.Int32(), pl.Float64(), pl.UInt64()],
    "id": [pl.Int64(), pl.String()],
    "created_at": [*TIMES, pl.Date()],
    "mldr": [pl.Float64(), pl.Float32()],
}
OPTIONAL = ["days_from_release", "id", "created_at"]


@st.composite
def any_rows(draw: st.DrawFn, columns: Sequence[str], lengths: st.SearchStrategy[int]) -> pl.DataFrame:
    """A few rows, each repeated on the days that follow, so that the long windows are filled too."""
    wild = draw(st.sets(st.sampled_from(columns), max_size=2))
    cells = st.tuples(*[USUAL_AND_WILD[column][column in wild] for column in columns])
    runs = draw(st.lists(st.tuples(cells, lengths), min_size=1, max_size=4))
    frame = pl.DataFrame(
        [row for row, _ in runs],
        schema={name: pl.Float64() if name in ("daily_streams", "mldr") else pl.Int64() for name in columns},
        orient="row",
    )
    days_on = pl.Series([[*range(length)] for _, length in runs], dtype=pl.List(pl.Int64))
    if "date" in columns:
        day = (pl.col("date") + pl.col("days_on")).clip(upper_bound=2**31 - 1)
        frame = frame.with_columns(days_on=days_on).explode("days_on").with_columns(date=day)
    return frame.select(typed(name, draw(st.sampled_from(TYPES[name]))) for name in columns).drop(
        draw(st.sets(st.sampled_from([name for name in OPTIONAL if name in columns])))
    )


def typed(column: str, dtype: pl.DataType) -> pl.Expr:
    """The column as it may arrive; what the type cannot hold is NULL."""
    if column == "date" and dtype != pl.Date:
        return (pl.col(column) * 86_400_000).cast(pl.Datetime("ms")).cast(dtype, strict=False)
    if dtype == pl.Date:
        return pl.col(column).cast(pl.Int32, strict=False).cast(pl.Date)
    return pl.col(column).cast(dtype, strict=False)


whatever = given(
    streams=any_rows(
        [name for name in USUAL_AND_WILD if name != "mldr"], st.sampled_from([1, 1, 2, 40, 370])
    ),
    mldr=any_rows(["cm_artist_id", "mldr", "id", "created_at"], st.just(1)),
    options=st.fixed_dictionaries(
        {
            "horizon": st.sampled_from([1, 2, 24, 400]),
            # The usual days end in 2023.
            "as_of": st.one_of(st.none(), st.dates(date(2024, 1, 1)), st.dates()),
            "influence": st.one_of(st.none(), st.floats(0, allow_infinity=False), st.integers(0, 10**30)),
        }
    ),
)


def assert_survives(
    streams: pl.DataFrame,
    mldr: pl.DataFrame,
    options: dict[str, Any],
    engine: Literal["in-memory", "streaming"],
) -> None:
    try:
        built = collected(build_forecasts(streams.lazy(), mldr.lazy(), **options), engine=engine)
    except ForecasterError:
        return
    horizon, forecasts = options["horizon"], built.forecasts
    assert_partition(built, {*streams["cm_track_id"].drop_nulls()}, horizon=horizon)
    assert forecasts.drop("training_data_id").null_count().sum_horizontal().item() == 0
    values, times = (
        forecasts[column].to_numpy().reshape(-1, horizon) for column in ("forecasted_value", "time_used")
    )
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert (np.diff(values) <= 0).all()  # a track only ever decays
    assert (times[:, :1] >= 1).all()
    assert (np.diff(times) == 1).all()
    assert forecasts["segment_used"].is_between(1, 12).all()


@pytest.mark.parametrize("examples", [60, pytest.param(2_000, marks=LONG)])
@pytest.mark.parametrize(
    ("engine", "age_from"), [("in-memory", "release"), ("in-memory", "first-date"), ("streaming", "release")]
)
def test_whatever_comes_in_is_forecast_or_skipped(
    engine: Literal["in-memory", "streaming"], age_from: str, examples: int
) -> None:
    @whatever
    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def it_survives(streams: pl.DataFrame, mldr: pl.DataFrame, options: dict[str, Any]) -> None:
        assert_survives(streams, mldr, options | {"age_from": age_from}, engine)

    it_survives()


def test_the_columns_that_both_frames_lack_are_one_error() -> None:
    with pytest.raises(SchemaMismatchError, match=r"daily_streams: column date .*; artist_mldr: column mldr"):
        build_forecasts(daily_frame([]).drop("date"), mldr_frame([]).drop("mldr"))
