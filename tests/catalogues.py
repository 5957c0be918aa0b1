"""Catalogues to test with: rows as the loops of `reference` take them, and the same rows as frames."""

import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import polars as pl
from hypothesis import strategies as st

from tests.reference import Mldr, Row

DAILY_SCHEMA = pl.Schema(
    {
        "cm_track_id": pl.Int64(),
        "cm_artist_id": pl.Int64(),
        "date": pl.Date(),
        "daily_streams": pl.Float64(),
        "days_from_release": pl.Int64(),
        "id": pl.Int64(),
        "created_at": pl.Datetime("us", "UTC"),
    }
)
MLDR_SCHEMA = pl.Schema(
    {
        "cm_artist_id": pl.Int64(),
        "mldr": pl.Float64(),
        "id": pl.Int64(),
        "created_at": pl.Datetime("us", "UTC"),
    }
)

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


def daily_frame(rows: Iterable[Row]) -> pl.LazyFrame:
    return pl.LazyFrame(list(rows), schema=DAILY_SCHEMA, orient="row")


def mldr_frame(rows: Iterable[Mldr]) -> pl.LazyFrame:
    return pl.LazyFrame(list(rows), schema=MLDR_SCHEMA, orient="row")


def days(
    streams: Iterable[float | None],
    *,
    track: int = 1,
    artist: int | None = 1,
    first: date = date(2023, 1, 1),
    first_age: int | None = None,
) -> list[Row]:
    """One record a day, with ids from 1 in the order of the days; `first_age` is the age on the first."""
    return [
        Row(
            track=track,
            artist=artist,
            date=first + timedelta(days=day),
            streams=value,
            days_from_release=None if first_age is None else first_age + day,
            id=day + 1,
            created_at=EPOCH,
        )
        for day, value in enumerate(streams)
    ]


class Shape(NamedTuple):
    """What a track is like, in few words, so that Hypothesis can make a failing one smaller."""

    records: int = 400
    every: int = 1
    """Days from one record to the next, at most."""
    first_age: int | None = 1
    artists: int = 1
    highest: int = 10_000
    """Streams of the best day; 0 for none at all."""
    dead_for: int = 0
    """Records without a stream at the end."""
    lowest: int = 0
    dirt: int = 0
    """In how many of a hundred records something is wrong: doubled, NULL, NaN."""


shapes = st.builds(
    Shape,
    # The lengths of the three sums and of the longest window, and what is next to them, come up often.
    records=st.one_of(
        st.sampled_from([1, 2, 29, 30, 31, 89, 90, 91, 364, 365, 366, 400]), st.integers(1, 400)
    ),
    every=st.sampled_from([1, 1, 1, 3, 40]),
    first_age=st.one_of(st.none(), st.integers(-40, 400)),
    artists=st.sampled_from([1, 1, 1, 2]),
    highest=st.sampled_from([0, 1, 50, 10_000, 10**6]),
    dead_for=st.sampled_from([0, 0, 0, 30, 90, 400]),
    lowest=st.sampled_from([0, 0, 0, -3]),
    dirt=st.sampled_from([0, 0, 5, 50]),
)


def catalogue(tracks: Iterable[Shape], *, seed: int) -> list[Row]:
    """All rows of all tracks in no order. The track's number is its position, from 1."""
    chance = random.Random(seed)
    rows = [row for number, shape in enumerate(tracks, start=1) for row in _track(number, shape, chance)]
    chance.shuffle(rows)
    return rows


def _track(number: int, shape: Shape, chance: random.Random) -> Iterable[Row]:
    day = date(2019, 1, 1) + timedelta(days=chance.randrange(400))
    first = day
    for record in range(shape.records):
        dead = record >= shape.records - shape.dead_for
        row = Row(
            track=number,
            artist=chance.randint(number, number + shape.artists - 1) % 7 or None,
            date=day,
            streams=0.0 if dead else float(chance.randint(shape.lowest, shape.highest)),
            days_from_release=None if shape.first_age is None else shape.first_age + (day - first).days,
            id=chance.randrange(10**6),
            created_at=EPOCH,
        )
        yield row
        if chance.randrange(100) < shape.dirt:
            yield _spoilt(row, chance)
        day += timedelta(days=chance.randint(1, shape.every))


def _spoilt(row: Row, chance: random.Random) -> Row:
    """Another row for the same day, some of which are to be left out and some to win."""
    fault = chance.choice(
        ["no streams", "no date", "no track", "not a number", "older", "newer", "same time"]
    )
    other = row._replace(id=chance.randrange(10**6), streams=float(chance.randrange(100)))
    match fault:
        case "no streams":
            return other._replace(streams=None)
        case "no date":
            return other._replace(date=None)
        case "no track":
            return other._replace(track=None)
        case "not a number":
            return other._replace(streams=chance.choice([float("nan"), float("inf"), float("-inf")]))
        case "same time":
            return other
        case _:
            return other._replace(created_at=EPOCH + timedelta(days=1 if fault == "newer" else -1))
