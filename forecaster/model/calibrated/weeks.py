"""Weekly means: whole weeks before a day, which take the day of the week out."""

import polars as pl

from forecaster.frames.arrays import np, npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

WEEKS = 26
DAYS = 7
FEWEST_DAYS = 6
"""A week with fewer records than this is missing."""


def weekly_means(
    track: Integers,
    day: Integers,
    streams: Floats,
    /,
    *,
    as_of: Integers | int,
    tracks: int,
    weeks: int = WEEKS,
) -> Floats:
    """Compute the means of the last weeks of each track, newest first; NaN where a week is missing.

    One value per record: its `track` (counted from 0), `day` (since 1970, in ascending order per track) and
    `streams`. Week j is the 7 days up to `as_of` - 7 j; `as_of` is one day, or one for each track. Days after
    it do not count. Returns (`tracks`, `weeks`). A track's means do not depend on the others, to the last
    bit.
    """
    at = as_of if isinstance(as_of, int) else as_of[track]
    week = (at - day) // DAYS
    is_in = (week >= 0) & (week < weeks)
    cell = track[is_in] * weeks + week[is_in]
    records = np.bincount(cell, minlength=tracks * weeks)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = np.bincount(cell, weights=streams[is_in], minlength=tracks * weeks)
    return means_of(sums, records).reshape(tracks, weeks)


def means_of(sums: Floats | Integers, records: Integers, /) -> Floats:
    """Compute the means of weeks from their sums and numbers of records; NaN where a week is missing."""
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(records >= FEWEST_DAYS, sums / np.maximum(records, 1), np.nan)
    # A sum of finite streams may be too large for a float.
    return means.clip(-np.finfo(np.float64).max, np.finfo(np.float64).max)


def last_week(records: pl.Series, /) -> pl.Series:
    """Compute the mean of the last week of each row, or NaN: fields days and streams (lists), and as_of."""
    days, streams, as_of = (records.struct.field(name) for name in ("days", "streams", "as_of"))
    number = days.list.len().fill_null(0)
    has_some = number > 0
    means = weekly_means(
        np.repeat(np.arange(len(records)), number.to_numpy()),
        days.filter(has_some).explode().to_numpy(),
        streams.filter(has_some).explode().to_numpy(),
        as_of=as_of.fill_null(0).to_numpy(),
        tracks=len(records),
        weeks=1,
    )
    return pl.Series(means[:, 0])
