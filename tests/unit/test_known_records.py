"""Records as arrays: what they say of a day, and of a stretch of days, agrees with the rows one by one."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from forecaster.model.calibrated.records import Ends, KnownRecords

FIRST = date(2024, 1, 1)
DAY = (FIRST - date(1970, 1, 1)).days


def rows(streams: float, **columns: Any) -> pl.DataFrame:
    """Three tracks of 40 days, the second with gaps, the third later; each day has more than the last."""
    number = range(120)
    frame = pl.DataFrame(
        {
            "cm_track_id": [1 + n // 40 for n in number],
            "cm_artist_id": [7] * 120,
            "date": [FIRST + timedelta(n % 40 + 15 * (n >= 80)) for n in number],
            "daily_streams": [streams * (n + 1) for n in number],
            "days_from_release": [100 + n % 40 + 15 * (n >= 80) for n in number],
        }
    ).with_columns(**columns)
    return frame.filter((pl.col("cm_track_id") != 2) | (pl.col("date").dt.day() % 3 > 0))


def bounds_of(known: KnownRecords, *days: int) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    ends = Ends(known, days[0], days[-1])
    return np.stack([ends(day) for day in days])


def until(frame: pl.DataFrame, day: int) -> list[int]:
    """Count the rows of each track up to a day."""
    last = FIRST + timedelta(day)
    return [len(frame.filter((pl.col("cm_track_id") == t) & (pl.col("date") <= last))) for t in (1, 2, 3)]


def test_rows_are_counted_up_to_each_day() -> None:
    frame = rows(1.0)
    known = KnownRecords.of(frame, age_from="release")
    ends = Ends(known, DAY - 3, DAY + 50)
    for day in range(-3, 51):
        assert (ends(DAY + day) - known.starts[:-1]).tolist() == until(frame, day)
    # A stretch that begins, and one that ends, amid the records.
    assert Ends(known, DAY + 20, DAY + 22)(DAY + 21).tolist() == ends(DAY + 21).tolist()


@pytest.mark.parametrize("streams", [1.0, 0.1, 1e300, -3.0])
def test_streams_are_summed_between_days(streams: float) -> None:
    """Whole numbers from running sums, others from their terms."""
    frame = rows(streams)
    known = KnownRecords.of(frame, age_from="release")
    bounds = bounds_of(known, *range(DAY - 1, DAY + 60, 6))
    expected = [
        [
            frame.filter(
                (pl.col("cm_track_id") == track)
                & (pl.col("date") >= FIRST + timedelta(day))
                & (pl.col("date") < FIRST + timedelta(day + 6))
            )["daily_streams"].sum()
            for track in (1, 2, 3)
        ]
        for day in range(0, 60, 6)
    ]
    assert known.between(bounds) == pytest.approx(np.array(expected), rel=1e-14)
    sums = known.totals(bounds[:-1].ravel(), bounds[1:].ravel())
    assert sums == pytest.approx(np.array(expected).ravel(), rel=1e-14)


def test_a_small_track_keeps_its_digits_beside_a_large_one() -> None:
    large = pl.when(pl.col("cm_track_id") == 1).then(1e15).otherwise(0.1)
    known = KnownRecords.of(rows(1.0, daily_streams=large), age_from="release")
    start = known.starts[2]
    assert known.totals(np.array([start]), np.array([start + 3])).tolist() == [0.1 + 0.1 + 0.1]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_parts_say_the_same(size: int) -> None:
    known = KnownRecords.of(rows(1.0), age_from="release")
    parts = [*known.parts(size)]
    assert [len(part) for part in parts] == {1: [1, 1, 1], 2: [2, 1]}.get(size, [3])
    sums = [part.between(bounds_of(part, DAY + 9, DAY + 30)) for part in parts]
    whole = known.between(bounds_of(known, DAY + 9, DAY + 30))
    assert np.concatenate(sums, axis=1).tolist() == whole.tolist()


@pytest.mark.parametrize("age_from", ["release", "first-date"])
def test_what_a_track_says_once_is_as_good_as_in_each_row(age_from: Any) -> None:
    frame = rows(1.0, days_from_release=pl.when(pl.col("cm_track_id") < 3).then("days_from_release"))
    known = KnownRecords.of(frame, age_from=age_from)
    born = pl.Series([DAY - 100, DAY - 100, None])
    artist = pl.Series([7, 7, 7])
    once = KnownRecords.of_tracks(known.starts, known.day, known.streams, artist, born, age_from=age_from)
    track = np.repeat(np.arange(3), np.diff(known.starts))
    row = np.arange(len(frame))
    assert once.born[once.said(track, row)].tolist() == known.born[known.said(track, row)].tolist()
    assert once.artist.gather(once.said(track, row)).to_list() == known.artist.to_list()
    assert once.changes.tolist() == known.changes.tolist() == [0] * len(frame)
    assert known.born[-1] == DAY + 15  # the first day of a track whose release is not known
    [*parts] = once.parts(2)
    assert [part.born.tolist() for part in parts] == [once.born[:2].tolist(), once.born[2:].tolist()]


def test_changes_of_the_artist_and_negative_streams_are_counted() -> None:
    artist = pl.when(pl.col("date") == FIRST + timedelta(20)).then(None).when(
        (pl.col("cm_track_id") == 3) & (pl.col("date") > FIRST + timedelta(30))
    ).then(8).otherwise("cm_artist_id")  # fmt: skip
    negative = pl.when(pl.col("date") == FIRST + timedelta(3)).then(-1.0).otherwise("daily_streams")
    known = KnownRecords.of(rows(1.0, cm_artist_id=artist, daily_streams=negative), age_from="release")
    first, last = known.starts[:-1], known.starts[1:] - 1
    assert (known.changes[last] - known.changes[first]).tolist() == [0, 0, 1]
    # The second track has no record on that day, the third begins later.
    assert (known.negative[last + 1] - known.negative[first]).tolist() == [1, 1, 0]
