"""The nine rates: how fast each age group of the catalogue fell lately, over 8, 13 and 26 weeks."""

from dataclasses import dataclass
from typing import NamedTuple

from forecaster.frames.arrays import np, npt
from forecaster.model.calibrated.weeks import WEEKS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LENGTHS = (8, 13, 26)
"""Weeks that the rates look back over."""
GROUPS = ("0-6", "6-12", "12-")
"""Age groups, in months since release."""
GROUP_STARTS = (6, 12)
"""First month of the second and of the third group."""

FEWEST_TRACKS = 3
"""With fewer complete tracks a group has no slope of its own."""
OWN_WEIGHT = 10
"""A group's slope counts by its tracks, the slope of the whole catalogue by this number."""
FEWEST_IN_26 = 20
"""With at most this many tracks that are complete in 26 weeks, 13 weeks are used instead."""

_PER_MONTH = 30 / 7
_BITS = 40
_LARGEST = 2.0**_BITS  # streams per day that count; no track has more, and no sum of them can overflow


class Rates(NamedTuple):
    """The nine rates d_m(group), per month, above 0 where streams fall; and what stands behind them.

    Each of the tables has one row for each of `LENGTHS` with one value for each of `GROUPS`.
    """

    rates: tuple[tuple[float, ...], ...]
    complete: tuple[tuple[int, ...], ...]
    """Number of tracks with a record in each of the weeks."""
    slopes: tuple[tuple[float | None, ...], ...]
    """The groups' own slopes; None where too few tracks are complete."""
    whole: tuple[float, ...]
    """The slope of the whole catalogue, for each of `LENGTHS`."""


@dataclass(frozen=True, eq=False)
class RateSums:
    """Exact sums of weekly means: however the tracks are cut into batches, they are equal to the last bit.

    Each mean is split into a whole part and a rest in units of 2^-40, and both are summed as integers.
    """

    whole: Integers
    """(lengths, groups, weeks)."""
    rest: Integers
    """The same shape, 0 to 2^40 - 1."""
    complete: Integers
    """Number of complete tracks, (lengths, groups)."""

    @classmethod
    def none(cls) -> "RateSums":
        """Return the sums of no track."""
        shape = (len(LENGTHS), len(GROUPS), WEEKS)
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape[:2], np.int64))

    @classmethod
    def of(cls, weeks: Floats, group: Integers, /) -> "RateSums":
        """Sum the weeks of these tracks: (n, 26), NaN where missing. `group`: 0 to 2, or -1 for no age.

        A track with a negative week is not complete: it gets no forecast either.
        """
        sums = cls.none()
        # NaN compares as false. Who has the weeks of a length has those of the shorter ones.
        lengths = np.sum([(weeks[:, :length] >= 0).all(axis=1) for length in LENGTHS], axis=0)
        kind = group * (len(LENGTHS) + 1) + lengths
        kept = np.flatnonzero((group >= 0) & (lengths > 0))
        kept = kept[np.argsort(kind[kept], kind="stable")]
        kinds, starts = np.unique(kind[kept], return_index=True)
        if not len(kinds):
            return sums
        these = np.nan_to_num(weeks[kept]).clip(0, _LARGEST)
        whole = np.floor(these)
        rest = np.rint((these - whole) * 2**_BITS)
        parts = [np.add.reduceat(part.astype(np.int64), starts, axis=0) for part in (whole, rest)]
        for of_kind, number, *of_parts in zip(
            kinds, np.diff(np.append(starts, len(kept))), *parts, strict=True
        ):
            g, complete = divmod(int(of_kind), len(LENGTHS) + 1)
            for i, length in enumerate(LENGTHS[:complete]):
                sums.whole[i, g, :length] += of_parts[0][:length]
                sums.rest[i, g, :length] += of_parts[1][:length]
                sums.complete[i, g] += number
        return sums.carried()

    def __add__(self, other: "RateSums") -> "RateSums":
        return RateSums(
            self.whole + other.whole, self.rest + other.rest, self.complete + other.complete
        ).carried()

    def carried(self) -> "RateSums":
        """Carry what the rests have too much over to the whole parts."""
        return RateSums(self.whole + (self.rest >> _BITS), self.rest & (2**_BITS - 1), self.complete)

    def rates(self) -> Rates:
        """Compute the nine rates."""
        sums = self.whole + self.rest / 2.0**_BITS
        of_all = self.whole.sum(axis=1) + self.rest.sum(axis=1) / 2.0**_BITS
        n = self.complete
        slopes = [
            [_slope(sums[i, g, :length], n[i, g]) for g in range(len(GROUPS))]
            for i, length in enumerate(LENGTHS)
        ]
        whole = [_slope(of_all[i, :length], n[i].sum()) or 0.0 for i, length in enumerate(LENGTHS)]
        rates = [
            [_pooled(slope, int(n[i, g]), whole[i]) for g, slope in enumerate(of_groups)]
            for i, of_groups in enumerate(slopes)
        ]
        if n[-1].sum() <= FEWEST_IN_26:
            rates[-1] = rates[-2]
        return Rates(
            tuple(map(tuple, rates)),
            tuple(tuple(map(int, row)) for row in n),
            tuple(map(tuple, slopes)),
            tuple(whole),
        )


def _slope(sums: Floats, complete: int) -> float | None:
    """Return 30/7 x the median of the falls from week to week; None where it is not known.

    From 0 to 0 nothing falls. From or to 0 the fall is infinite, and counts as the largest or the smallest; a
    median that is infinite is not known.
    """
    if complete < FEWEST_TRACKS:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(sums)
        falls = np.where((sums[1:] == 0) & (sums[:-1] == 0), 0.0, logs[1:] - logs[:-1])
        median = float(np.median(falls))
    return _PER_MONTH * median if np.isfinite(median) else None


def _pooled(slope: float | None, complete: int, whole: float) -> float:
    if slope is None:
        return whole
    return complete / (complete + OWN_WEIGHT) * slope + OWN_WEIGHT / (complete + OWN_WEIGHT) * whole
