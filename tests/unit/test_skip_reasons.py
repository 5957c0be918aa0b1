"""Tracks that get no forecast, and why."""

from datetime import timedelta

import pytest

from tests.building import FIRST, OLD_ENOUGH, assert_partition, build
from tests.catalogues import days
from tests.reference import Mldr


@pytest.mark.parametrize(
    ("mldr", "reason"),
    [
        ([], "no_mldr"),
        ([Mldr(2, 0.05)], "no_mldr"),
        ([Mldr(None, 0.05)], "no_mldr"),
        ([Mldr(1, None)], "no_mldr"),
        ([Mldr(1, float("nan"))], "no_mldr"),
        ([Mldr(1, float("inf"))], "no_mldr"),
        ([Mldr(1, float("-inf"))], "no_mldr"),
        ([Mldr(1, 0.05, id=1), Mldr(1, None, id=2)], "no_mldr"),
        ([Mldr(1, None, id=1), Mldr(1, 0.05, id=2)], None),
        ([Mldr(1, -3.0)], None),
        ([Mldr(1, 0.0)], None),
    ],
)
def test_a_track_needs_the_decay_rate_of_its_artist(mldr: list[Mldr], reason: str | None) -> None:
    assert build(days(OLD_ENOUGH), mldr).reasons.get(1) == reason


@pytest.mark.parametrize(("last_age", "reason"), [(-5, "too_young"), (29, "too_young"), (30, None)])
def test_a_track_must_be_thirty_days_old(last_age: int, reason: str | None) -> None:
    assert build(days([10.0] * 5, first_age=last_age - 4)).reasons.get(1) == reason


@pytest.mark.parametrize(
    ("position", "reason"), [(0, None), (1, "negative_streams"), (365, "negative_streams")]
)
def test_no_negative_streams_in_the_last_365_records(position: int, reason: str | None) -> None:
    streams = [10.0] * 366
    streams[position] = -1.0
    assert build(days(streams)).reasons.get(1) == reason


@pytest.mark.parametrize(
    ("position", "reason"), [(0, None), (1, "several_artists"), (364, "several_artists")]
)
def test_one_artist_in_the_last_365_records(position: int, reason: str | None) -> None:
    rows = days([10.0] * 366)
    rows[position] = rows[position]._replace(artist=2)
    built = build(rows)
    assert built.reasons.get(1) == reason
    assert {*built.forecasts["cm_artist_id"], *built.skipped["cm_artist_id"]} == {1}


def test_the_reasons_come_in_a_fixed_order() -> None:
    *rest, last = days([10.0, -1.0, 10.0], first_age=1)
    everything = [*rest, last._replace(artist=2)]  # too young, negative streams and two artists
    assert build(everything, []).reasons == {1: "no_mldr"}
    assert build(everything).reasons == {1: "too_young"}
    day = FIRST + timedelta(days=100)
    assert build(everything, as_of=day).reasons == {1: "negative_streams"}
    positive = [row._replace(streams=10.0) for row in everything]
    assert build(positive, as_of=day).reasons == {1: "several_artists"}
    assert build([row._replace(artist=2) for row in positive], as_of=day).reasons == {}


def test_a_skipped_track_is_described() -> None:
    assert build(days([10.0], track=7, artist=3, first_age=65), []).skipped.rows(named=True) == [
        {"cm_track_id": 7, "cm_artist_id": 3, "reason": "no_mldr", "months_since_release": 2}
    ]


def test_a_track_without_a_usable_row_is_not_lost() -> None:
    (row,) = days([10.0])
    useless = [
        row._replace(track=2, streams=None),
        row._replace(track=3, date=None),
        row._replace(track=4, streams=float("nan")),
        row._replace(track=None),
    ]
    built = build([*useless, *days(OLD_ENOUGH)])
    assert_partition(built, {1, 2, 3, 4}, horizon=24)
    assert built.reasons == dict.fromkeys([2, 3, 4], "no_mldr")
