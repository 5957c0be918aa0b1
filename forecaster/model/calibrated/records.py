"""The records of some tracks as arrays: what was known of them on any day, by sums between rows."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from forecaster.frames.arrays import np, npt
from forecaster.model.parameters import AgeFrom

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LARGEST = sys.float_info.max
"""Sums of finite streams may be too large for a float. They stop here, as the model's do."""

_AT_ONCE = 50_000  # rows that stay in the cache
_EXACT = 2.0**53  # floats are exact for whole numbers up to this


@dataclass(frozen=True, eq=False)
class KnownRecords:
    """One row per track and day, ordered by both. Rows are counted from 0, and tracks too."""

    starts: Integers
    """First row of each track, and the number of rows."""
    day: Integers
    """The day of each row, since 1970."""
    streams: Floats
    artist: pl.Series
    """The artist that each row names, or each track; NULL for none."""
    born: Integers
    """The day from which the age counts, as each row says it, or each track."""
    is_said_once: bool = False
    """Whether a track says these two once, for all of its rows."""

    @classmethod
    def of(cls, records: pl.DataFrame, *, age_from: AgeFrom) -> "KnownRecords":
        """Take `DAILY_STREAMS` of whole tracks, cleaned, ordered by track and date."""
        track, day = records["cm_track_id"], records["date"].to_physical().cast(pl.Int64)
        starts = np.append(np.flatnonzero(track.ne_missing(track.shift()).to_numpy()), len(records))
        days, streams = day.to_numpy(), records["daily_streams"].to_numpy()
        first = np.repeat(days[starts[:-1]], np.diff(starts))
        born = _born(day - records["days_from_release"], first, age_from)
        return cls(starts, days, streams, records["cm_artist_id"], born)

    @classmethod
    def of_tracks(
        cls,
        starts: Integers,
        day: Integers,
        streams: Floats,
        artist: pl.Series,
        released: pl.Series,
        /,
        *,
        age_from: AgeFrom,
    ) -> "KnownRecords":
        """Take tracks of one artist each, which were `released` on one day each; NULL: not known."""
        born = _born(released, day[starts[:-1]], age_from)
        return cls(starts, day, streams, artist, born, is_said_once=True)

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self.starts) - 1

    def parts(self, size: int) -> Iterator["KnownRecords"]:
        """Cut them into those of at most `size` tracks."""
        for at in range(0, len(self), size):
            starts = self.starts[at : at + size + 1]
            rows = slice(starts[0], starts[-1])
            said = slice(at, at + size) if self.is_said_once else rows
            yield KnownRecords(
                starts - starts[0],
                self.day[rows],
                self.streams[rows],
                self.artist[said],
                self.born[said],
                self.is_said_once,
            )

    def said(self, track: Integers, row: Integers) -> Integers:
        """Return where `artist` and `born` have what this row of this track says."""
        return track if self.is_said_once else row

    def totals(self, first: Integers, end: Integers) -> Floats:
        """Sum the streams of the rows from `first` up to, but without, `end`."""
        if self._running is None:
            return totals(self._padded, first, end)
        return self._running[end] - self._running[first]

    def between(self, bounds: Integers) -> Floats:
        """Sum the streams between bounds of rows that follow each other: (n + 1, tracks) -> (n, tracks)."""
        if self._running is None:
            first, end = bounds[:-1].T, bounds[1:].T  # in the order of the rows
            return totals(self._padded, first.ravel(), end.ravel()).reshape(first.shape).T
        return np.diff(self._running[bounds], axis=0)

    @cached_property
    def _running(self) -> Floats | None:
        """Sum the streams before each row, if that is exact.

        If not, each sum is computed from its terms: differences would lose digits of small tracks.
        """
        largest = max(self.streams.max(initial=0), -self.streams.min(initial=0))
        some = np.array_split(self.streams, 1 + len(self.streams) // _AT_ONCE)
        if largest * len(self.streams) >= _EXACT or any((np.rint(part) != part).any() for part in some):
            return None
        running = np.zeros(len(self.streams) + 1)
        np.cumsum(self.streams, out=running[1:])
        return running

    @cached_property
    def _padded(self) -> Floats:
        return np.append(self.streams, 0.0)

    @cached_property
    def negative(self) -> Integers:
        """Number of rows with negative streams before each row."""
        number = np.zeros(len(self.streams) + 1, np.int64)
        is_negative = self.streams < 0
        if is_negative.any():
            np.cumsum(is_negative, out=number[1:])
        return number

    @cached_property
    def changes(self) -> Integers:
        """Number of times that the artist has changed up to each row; NULLs are no artist."""
        if self.is_said_once:
            return np.zeros(len(self.streams), np.int64)
        artist = self.artist
        if artist.has_nulls():
            track = np.repeat(np.arange(len(self)), np.diff(self.starts))
            rows = pl.DataFrame({"artist": artist, "track": track})
            artist = rows.select(pl.col("artist").forward_fill().over("track"))["artist"]
        changed = (artist != artist.shift()).fill_null(value=False)
        return np.cumsum(changed.to_numpy())


class Ends:
    """How many rows there are up to a day: for each track the row after the last one until then.

    The rows of the tracks before it count as well.
    """

    def __init__(self, known: KnownRecords, first: int, last: int) -> None:
        """Take the first and the last day that are asked for."""
        self._starts, self._first = known.starts[:-1], first
        self._lengths = np.diff(known.starts)
        self._begin = known.day[self._starts]
        self._gaps = np.flatnonzero(known.day[known.starts[1:] - 1] - self._begin + 1 != self._lengths)
        self._in_gaps = self._counted(known, last) if len(self._gaps) else None

    def __call__(self, day: int) -> Integers:
        """Return the number up to this day for each track."""
        ends = self._starts + np.clip(day + 1 - self._begin, 0, self._lengths)
        if self._in_gaps is not None:
            ends[self._gaps] = self._in_gaps[day - self._first]
        return ends

    def _counted(self, known: KnownRecords, last: int) -> Integers:
        """Count the rows up to each day, of the tracks of which days are missing: (days, tracks)."""
        has_gap = np.zeros(len(known), bool)
        has_gap[self._gaps] = True
        number, lengths = last - self._first + 1, self._lengths[self._gaps]
        day = known.day[np.repeat(has_gap, self._lengths)]
        cell = np.clip(day - self._first, 0, number) * len(lengths)  # later ones count beyond the last day
        cell += np.repeat(np.arange(len(lengths)), lengths)
        rows = np.bincount(cell, minlength=(number + 1) * len(lengths)).reshape(number + 1, len(lengths))
        rows[0] += self._starts[self._gaps]
        return rows[:number].cumsum(axis=0)


def _born(released: pl.Series, first: Integers, age_from: AgeFrom) -> Integers:
    """Return the day from which ages count: that of release if it is known, else the first with a record."""
    return first if age_from == "first-date" else released.fill_null(pl.Series(first)).to_numpy()


def totals(streams: Floats, first: Integers, end: Integers, /) -> Floats:
    """Sum the streams of the rows from `first` up to, but without, `end`; a zero follows the last row."""
    # Each sum is computed from its terms: differences of running sums would lose digits of small tracks.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.add.reduceat(streams, np.stack([first, end], axis=1).ravel())[::2]
    return np.where(end > first, sums, 0.0).clip(-LARGEST, LARGEST)
