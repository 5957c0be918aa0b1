"""Weekly means: whole weeks before a day, which take the day of the week out."""

import polars as pl

from forecaster.frames.arrays import np, npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

WEEKS = 26
DAYS = 7
FEWEST_DAYS = 6
"""A week with fewer records than this is missing."""


def means_of(sums: Floats | Integers, records: Integers, /) -> Floats:
    """Compute the means of weeks from their sums and numbers of records; NaN where a week is missing."""
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(records >= FEWEST_DAYS, sums / np.maximum(records, 1), np.nan)
    # A sum of finite streams may be too large for a float.
    return means.clip(-np.finfo(np.float64).max, np.finfo(np.float64).max)


def last_week(records: pl.Series, /) -> pl.Series:
    """Compute the mean of the last week of each row, or NaN: fields days and streams (lists), and as_of.

    Days after `as_of` do not count. A row's mean does not depend on the others, to the last bit.
    """
    days, streams, as_of = (records.struct.field(name) for name in ("days", "streams", "as_of"))
    number = days.list.len().fill_null(0)
    has_some = number > 0
    track = np.repeat(np.arange(len(records)), number.to_numpy())
    age = as_of.fill_null(0).to_numpy()[track] - days.filter(has_some).explode().to_numpy()
    is_in = (age >= 0) & (age < DAYS)
    track, known = track[is_in], streams.filter(has_some).explode().to_numpy()[is_in]
    with np.errstate(over="ignore"):
        sums = np.bincount(track, weights=known, minlength=len(records))
    return pl.Series(means_of(sums, np.bincount(track, minlength=len(records))))
