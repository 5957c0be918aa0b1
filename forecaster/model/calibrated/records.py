"""The records of some tracks as arrays: what was known of them on any day, by sums between rows."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from forecaster.frames.arrays import np, npt
from forecaster.frames.schemas import conform
from forecaster.model.parameters import AgeFrom
from forecaster.tables import DAILY_STREAMS, STREAMS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LARGEST = sys.float_info.max
"""Sums of finite streams may be too large for a float. They stop here, as the model's do."""

_COLUMNS = {name: kind for name, kind in DAILY_STREAMS.items() if name not in ("id", "created_at")}
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
    """The artist that each row names; NULL for none."""
    born: Integers
    """The day from which the age of the track counts, as each row says it."""

    @classmethod
    def of(cls, records: pl.DataFrame, *, age_from: AgeFrom) -> "KnownRecords":
        """Take `DAILY_STREAMS` of whole tracks, cleaned, ordered by track and date."""
        frame = conform(records.lazy(), _COLUMNS, name="days").filter(STREAMS.is_record()).collect()
        track, day = frame["cm_track_id"], frame["date"].to_physical().cast(pl.Int64)
        starts = np.append(np.flatnonzero(track.ne_missing(track.shift()).to_numpy()), len(frame))
        return cls._of(
            starts,
            day.to_numpy(),
            frame["daily_streams"].to_numpy(),
            frame["cm_artist_id"],
            day - frame["days_from_release"],
            age_from,
        )

    @classmethod
    def of_tracks(
        cls,
        starts: Integers,
        day: Integers,
        streams: Floats,
        artist: pl.Series,
        born: pl.Series,
        /,
        *,
        age_from: AgeFrom,
    ) -> "KnownRecords":
        """Take tracks of one artist each, which were `born` (released) on one day each; NULL: not known."""
        track = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        return cls._of(starts, day, streams, artist.gather(track), born.gather(track), age_from)

    @classmethod
    def _of(
        cls,
        starts: Integers,
        day: Integers,
        streams: Floats,
        artist: pl.Series,
        released: pl.Series,
        age_from: AgeFrom,
    ) -> "KnownRecords":
        first = np.repeat(day[starts[:-1]], np.diff(starts))
        born = first if age_from == "first-date" else released.fill_null(pl.Series(first)).to_numpy()
        return cls(starts, day, streams, artist, born)

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self.starts) - 1

    def parts(self, size: int) -> Iterator["KnownRecords"]:
        """Cut them into those of at most `size` tracks."""
        for at in range(0, len(self), size):
            starts = self.starts[at : at + size + 1]
            rows = slice(starts[0], starts[-1])
            yield KnownRecords(
                starts - starts[0], self.day[rows], self.streams[rows], self.artist[rows], self.born[rows]
            )

    def ends(self, first: int, last: int) -> Integers:
        """Count the rows up to each day from the first to the last: (days, tracks).

        The rows of earlier tracks count as well, so it is the row after the last one of the track until then.
        """
        days = last - first + 1
        position = np.clip(self.day - first, 0, days)  # later ones are counted beyond the last day
        position *= len(self)
        position += np.repeat(np.arange(len(self)), np.diff(self.starts))
        number = np.bincount(position, minlength=(days + 1) * len(self)).reshape(days + 1, len(self))
        number[0] += self.starts[:-1]
        return number[:days].cumsum(axis=0)

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
        is_whole = (np.rint(self.streams) == self.streams).all()
        if not is_whole or np.abs(self.streams).sum() >= _EXACT:
            return None
        return np.concatenate([[0.0], np.cumsum(self.streams)])

    @cached_property
    def _padded(self) -> Floats:
        return np.append(self.streams, 0.0)

    @cached_property
    def negative(self) -> Integers:
        """Number of rows with negative streams before each row."""
        return np.concatenate([[0], np.cumsum(self.streams < 0)])

    @cached_property
    def changes(self) -> Integers:
        """Number of times that the artist has changed up to each row; NULLs are no artist."""
        artist = self.artist
        if artist.has_nulls():
            track = np.repeat(np.arange(len(self)), np.diff(self.starts))
            rows = pl.DataFrame({"artist": artist, "track": track})
            artist = rows.select(pl.col("artist").forward_fill().over("track"))["artist"]
        changed = (artist != artist.shift()).fill_null(value=False)
        return np.cumsum(changed.to_numpy())


def totals(streams: Floats, first: Integers, end: Integers, /) -> Floats:
    """Sum the streams of the rows from `first` up to, but without, `end`; a zero follows the last row."""
    # Each sum is computed from its terms: differences of running sums would lose digits of small tracks.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.add.reduceat(streams, np.stack([first, end], axis=1).ravel())[::2]
    return np.where(end > first, sums, 0.0).clip(-LARGEST, LARGEST)
