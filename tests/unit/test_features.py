"""Cleaning, sums and ages, against loops over the rows of one track at a time."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forecaster.frames.schemas import RECORDS, TRACK_FACTS, conform
from forecaster.model.features import clean, last_streams, looks_ahead, track_facts, track_features
from forecaster.model.parameters import AgeFrom
from forecaster.tables import DAILY_STREAMS
from tests import reference
from tests.catalogues import EPOCH, Shape, catalogue, daily_frame, days, shapes
from tests.reference import Row


def cleaned(rows: list[Row]) -> pl.LazyFrame:
    return clean(conform(daily_frame(rows), DAILY_STREAMS, name="daily_streams"))


def features(
    rows: list[Row], *, age_from: AgeFrom = "release", as_of: date | None = None
) -> dict[int, reference.Features]:
    daily = cleaned(rows)
    frame = track_features(last_streams(daily), track_facts(daily), age_from=age_from, as_of=as_of).collect()
    assert frame["cm_track_id"].is_unique().all()
    return {
        row["cm_track_id"]: reference.Features(
            streams_30=row["streams_30"],
            streams_90=row["streams_90"],
            streams_365=row["streams_365"],
            as_of=row["as_of"],
            m=row["months_since_release"],
            training_data_id=row["training_data_id"],
            artist=row["cm_artist_id"],
            negative=row["has_negative_streams"],
            several_artists=row["has_several_artists"],
        )
        for row in frame.iter_rows(named=True)
    }


def months_after(age_in_days: int) -> int:
    """Months of a track with one record, on a day so many days after it."""
    day = date(2023, 1, 1)
    return features(days([5.0], first=day), as_of=day + timedelta(days=age_in_days))[1].m


@given(
    tracks=st.lists(shapes, min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
    age_from=st.sampled_from(["release", "first-date"]),
    as_of=st.one_of(st.none(), st.dates(date(2018, 1, 1), date(2030, 1, 1))),
)
# The last record but one of every sum is the first of the next longer one.
@example(
    tracks=[Shape(records=n) for n in (1, 29, 30, 31, 89, 90, 91, 364, 365, 366, 400)],
    seed=1,
    age_from="release",
    as_of=None,
)
# Tracks that turn a month older on their last record's day, or will on the next.
@example(
    tracks=[Shape(records=1, first_age=age) for age in (-1, 0, 29, 30, 31, 59, 60, 359, 360)],
    seed=2,
    age_from="release",
    as_of=None,
)
@example(tracks=[Shape(first_age=None)], seed=3, age_from="release", as_of=None)  # no age: the first date
@example(tracks=[Shape(records=1)], seed=4, age_from="release", as_of=date(2018, 1, 1))  # before its birth
@example(tracks=[Shape(dirt=100, artists=2, lowest=-3)] * 3, seed=5, age_from="first-date", as_of=None)
@settings(max_examples=60, deadline=None)
def test_features_are_those_of_the_loop(
    tracks: list[Shape], seed: int, age_from: AgeFrom, as_of: date | None
) -> None:
    rows = catalogue(tracks, seed=seed)
    expected = {
        track: reference.features(records, age_from=age_from, as_of=as_of)
        for track, records in reference.clean(rows).items()
    }
    # Whole numbers of streams: sums are equal, not just near.
    assert features(rows, age_from=age_from, as_of=as_of) == expected


@given(tracks=st.lists(shapes, min_size=1, max_size=3), seed=st.integers(0, 2**32))
@example(tracks=[Shape(dirt=100)], seed=0)  # every day twice
@example(tracks=[Shape(records=1, dirt=100)] * 40, seed=0)  # tracks that lose their only record
@settings(max_examples=60, deadline=None)
def test_cleaned_rows_are_those_of_the_loop(tracks: list[Shape], seed: int) -> None:
    rows = catalogue(tracks, seed=seed)
    expected = [row for records in reference.clean(rows).values() for row in records]
    got = cleaned(rows).sort("cm_track_id", "date").collect()
    assert [Row(*row) for row in got.iter_rows()] == sorted(expected, key=lambda row: (row.track, row.date))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"created_at": EPOCH, "id": 9}, {"created_at": EPOCH + timedelta(microseconds=1), "id": 1}),
        ({"created_at": None, "id": 9}, {"created_at": EPOCH, "id": 1}),  # no time is the oldest time
        ({"created_at": EPOCH, "id": 9}, {"created_at": EPOCH, "id": 10}),
        ({"created_at": EPOCH, "id": None}, {"created_at": EPOCH, "id": 1}),
        ({"created_at": None, "id": None, "streams": 1.0}, {"created_at": None, "id": None, "streams": 2.0}),
    ],
)
def test_which_of_two_rows_for_one_day_stays(first: dict[str, object], second: dict[str, object]) -> None:
    (row,) = days([5.0])
    loser, winner = row._replace(**first), row._replace(**second)  # type: ignore[arg-type]
    for order in ([loser, winner], [winner, loser]):
        assert [Row(*kept) for kept in cleaned(order).collect().iter_rows()] == [winner]


def test_a_row_that_is_no_record_does_not_displace_one() -> None:
    (row,) = days([5.0])
    newer = row._replace(created_at=EPOCH + timedelta(days=1), id=99)
    wrong = [newer._replace(streams=value) for value in (None, float("nan"), float("inf"), float("-inf"))]
    wrong += [newer._replace(date=None), newer._replace(track=None)]
    assert [Row(*kept) for kept in cleaned([*wrong, row]).collect().iter_rows()] == [row]


def test_text_ids_decide_too() -> None:
    frame = daily_frame(days([1.0, 2.0])).with_columns(date=date(2023, 1, 1), id=pl.Series(["a", "b"]))
    kept = clean(conform(frame, DAILY_STREAMS, name="daily_streams")).collect()
    assert kept.select("daily_streams", "id").rows() == [(2.0, "b")]


@pytest.mark.parametrize(
    ("age_in_days", "months"),
    [(-31, -2), (-30, -1), (-1, -1), (0, 0), (29, 0), (30, 1), (59, 1), (60, 2), (364, 12), (14_610, 487)],
)
def test_a_month_is_thirty_days(age_in_days: int, months: int) -> None:
    assert months_after(age_in_days) == months


def test_the_age_is_counted_on_from_the_last_record() -> None:
    rows = days([5.0] * 40, first_age=100)
    on_the_last_day = date(2023, 1, 1) + timedelta(days=39)
    assert features(rows)[1].m == 139 // 30
    assert features(rows, as_of=on_the_last_day + timedelta(days=11))[1].m == 150 // 30
    assert features(rows, age_from="first-date")[1].m == 39 // 30


def test_only_the_age_of_the_last_record_counts() -> None:
    *earlier, last = days([5.0] * 70, first_age=1000)
    assert features([*earlier, last._replace(days_from_release=None)])[1].m == 69 // 30


def test_facts_look_back_a_year_of_records_and_no_further() -> None:
    oldest, *rest = days([1.0] * 366)
    strange = oldest._replace(artist=2, streams=-5.0)
    a_year_on = features([strange, *rest])[1]
    assert (a_year_on.negative, a_year_on.several_artists, a_year_on.streams_365) == (False, False, 365.0)
    a_day_earlier = features([strange, *rest[:-1]])[1]
    assert (a_day_earlier.negative, a_day_earlier.several_artists) == (True, True)
    # But for the row that names the track's data: always the very first.
    assert a_year_on.training_data_id == a_day_earlier.training_data_id == 1


def test_an_unknown_artist_is_not_another_artist() -> None:
    unknown, *rest = days([1.0] * 3)
    assert not features([unknown._replace(artist=None), *rest])[1].several_artists


def test_the_columns_are_those_of_the_schema() -> None:
    daily = cleaned(days([1.0]))
    assert tuple(last_streams(daily).collect_schema()) == RECORDS
    assert tuple(track_facts(daily).collect_schema()) == TRACK_FACTS


def test_sums_beyond_the_largest_float_stay_finite() -> None:
    found = features(days([1.7e308] * 400))[1]
    assert found.streams_30 == found.streams_365 == pytest.approx(1.797e308, rel=1e-3)


def test_days_as_far_apart_as_a_date_can_be() -> None:
    extremes = pl.Series([-(2**31), 2**31 - 1], dtype=pl.Int32).cast(pl.Date)
    frame = daily_frame(days([1.0, 1.0])).with_columns(date=extremes)
    daily = clean(conform(frame, DAILY_STREAMS, name="daily_streams"))
    months = track_features(last_streams(daily), track_facts(daily), age_from="first-date", as_of=None)
    assert months.collect()["months_since_release"].to_list() == [(2**32 - 1) // 30]


def test_only_streams_after_an_as_of_date_are_worth_a_word() -> None:
    day = date(2024, 1, 1)
    assert not [*looks_ahead(0, day), *looks_ahead(0, None), *looks_ahead(3, None)]
    (sentence,) = looks_ahead(1_234, day)
    assert "after --as-of 2024-01-01: 1,234;" in sentence
