"""What a catalogue's own past says about each model: exact sums, and the losses and errors that follow.

An origin is a day of the past that is forecast from. For each origin, month, age group and model, the months
of all tracks are sorted into bins by ln(actual / base); the base is the forecast without the decay of the
group. So forecasts of any rates and rows follow from the bins, and bins of batches of tracks can be added up.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product, zip_longest
from typing import NamedTuple

from forecaster.frames.arrays import np, npt
from forecaster.model.calibrated.calibration import WEIGHTS
from forecaster.model.calibrated.rates import GROUPS, Rates, RateSums
from forecaster.model.calibrated.rows import Rows
from forecaster.model.parameters import DAYS_PER_MONTH, LEVELS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MONTHS = 12
"""Months ahead that an origin is scored on, at most."""


class Candidate(NamedTuple):
    """A model that an origin is forecast with."""

    weight: float
    level: int


CANDIDATES = tuple(Candidate(weight, level) for weight, level in product(WEIGHTS, LEVELS))

_WIDTH = 0.02  # of a bin
_REACH = 4.0  # the first and the last bin have everything below -4 and above 4
_EDGES = np.linspace(-_REACH, _REACH, 1 + round(2 * _REACH / _WIDTH))
_BINS = len(_EDGES) + 1
_UNIT = 16.0  # streams are summed in units of 1/16, exactly, up to 2^49 of them per bin
_N, _ACTUAL, _BASE = range(3)


@dataclass(frozen=True, eq=False)
class OriginSums:
    """Sums over the tracks of one origin."""

    rates: RateSums
    bins: Floats
    """(3, candidates, months, groups, bins): number of months, their actual streams, and their base."""

    @classmethod
    def of(
        cls, rates: RateSums, group: Integers, levels: Floats, decay: Floats, actual: Floats, /
    ) -> "OriginSums":
        """Sum the months of tracks with a forecast.

        `group`: (n,), 0 to 2. `levels`: (n, 2), streams per day. `decay`: (n, months), that of the production
        model: ln(level / forecast). `actual`: (n, months), streams; NaN where a month does not count.
        """
        shape = (3, len(CANDIDATES), actual.shape[1], len(GROUPS), _BINS)
        bins = np.empty((*shape[:2], math.prod(shape[2:])))
        # A month without streams, of a track without any before, says nothing.
        says_something = np.isfinite(actual) & ((actual > 0) | (levels.max(axis=1, initial=0) > 0)[:, None])
        track, month = np.nonzero(says_something)
        months = _Months.of((month * len(GROUPS) + group[track]) * _BINS, actual[track, month])
        starts = [(DAYS_PER_MONTH * level, _log(DAYS_PER_MONTH * level)) for level in levels.T]
        fallen = decay[track, month]
        for number, weight in enumerate(WEIGHTS):
            own = (1 - weight) * fallen
            left = np.exp(-own)
            for at, (start, log) in enumerate(starts, number * len(LEVELS)):
                months.sum_up(bins[:, at], start[track] * left, log[track] - own)
        bins[_ACTUAL:] /= _UNIT
        return cls(rates, bins.reshape(shape))

    def take(self, other: "OriginSums") -> "OriginSums":
        """Add in place, as the bins are large: the result replaces both."""
        bins = self.bins
        bins += other.bins
        return OriginSums(self.rates + other.rates, bins)


class _Months(NamedTuple):
    """The months that count, of all tracks of an origin."""

    cell: Integers
    """The first bin of each."""
    units: Floats
    """Its streams."""
    log: Floats
    """Their logarithm."""
    none: Integers
    """Those without streams."""

    @classmethod
    def of(cls, cell: Integers, streams: Floats) -> "_Months":
        units = _units(streams)
        return cls(cell, units, _log(units / _UNIT), np.flatnonzero(units == 0))

    def sum_up(self, sums: Floats, base: Floats, log: Floats) -> None:
        """Sort them into the bins of a model by `log`, that of their base; `sums`: (3, bins)."""
        with np.errstate(invalid="ignore"):
            position = ((self.log - log) / _WIDTH + (_REACH / _WIDTH + 1)).clip(0, _BINS - 1)
            key, units, of_base = self.cell + position.astype(np.int64), self.units, _units(base)
        # A forecast of 0 for 0 is no evidence.
        if len(gone := self.none[base[self.none] == 0]):
            key, units, of_base = np.delete(key, gone), np.delete(units, gone), np.delete(of_base, gone)
        for kind, weights in enumerate((None, units, of_base)):
            sums[kind] = np.bincount(key, weights, minlength=sums.shape[1])


class ArtistsSeen(NamedTuple):
    """The artists of some tracks, as `RatedArtists` counts them. Those of several tracks count once."""

    every: set[int]
    known: set[int]
    undated: set[int]

    @classmethod
    def none(cls) -> "ArtistsSeen":
        """Return no artist."""
        return cls(set(), set(), set())

    def take(self, other: "ArtistsSeen") -> "ArtistsSeen":
        """Add in place."""
        for mine, theirs in zip(self, other, strict=True):
            mine.update(theirs)
        return self


@dataclass(frozen=True, eq=False)
class PastSums:
    """Sums over the tracks of a catalogue, or of a part of it: what a calibration is made from."""

    tracks: int
    first_day: int | None
    """The first day with a record, since 1970."""
    now: RateSums
    """As of D."""
    artists: ArtistsSeen
    origins: tuple[OriginSums, ...] = ()
    """Those of the origins 30, 60, ... days before D."""

    @classmethod
    def none(cls) -> "PastSums":
        """Return the sums of no track."""
        return cls(0, None, RateSums.none(), ArtistsSeen.none())

    def take(self, other: "PastSums", origins: Iterable[OriginSums] | None = None) -> "PastSums":
        """Add in place what is large: the result replaces both. `origins`: those of the other, one by one."""
        days = [day for day in (self.first_day, other.first_day) if day is not None]
        pairs = zip_longest(self.origins, other.origins if origins is None else origins)
        return PastSums(
            self.tracks + other.tracks,
            min(days, default=None),
            self.now + other.now,
            self.artists.take(other.artists),
            tuple(one.take(two) if one and two else one or two for one, two in pairs),
        )


class Origin(NamedTuple):
    """An origin with the rates that were known there."""

    back: int
    """Months between it and D: so many of its months are over."""
    rates: Rates
    below: Floats
    """The sums over each bin and those below it: (3, candidates, months, groups, bins)."""

    @property
    def months(self) -> int:
        """The number of its months that are scored."""
        return min(self.back, MONTHS)


class Scores(NamedTuple):
    """Sums over the tracks of an origin, for each of its months (the last axis)."""

    error: Floats
    """Of |actual - forecast|."""
    actual: Floats
    forecast: Floats

    @property
    def wape(self) -> float:
        """The WAPE over all months; NaN without streams."""
        total = float(self.actual.sum())
        return float(self.error.sum()) / total if total > 0 else math.nan


def scores(origin: Origin, decays: Floats, /) -> list[Scores]:
    """Score each of `CANDIDATES`; `decays`: (groups, 12), those of the calibrated model."""
    last = origin.months
    weights = np.array([candidate.weight for candidate in CANDIDATES])
    fallen = weights[:, None, None] * decays.T[:last]
    of_groups = errors_at(origin.below[:, :, :last], fallen)
    # One after the other: in any other order, the last digits would be others.
    error, actual, forecast = (of[..., 0] + of[..., 1] + of[..., 2] for of in of_groups)
    return [Scores(*of_one) for of_one in zip(error, actual, forecast, strict=True)]


def score(origin: Origin, candidate: Candidate, decays: Floats, /) -> Scores:
    """Score one candidate."""
    return scores(origin, decays)[CANDIDATES.index(candidate)]


def errors_at(below: Floats, decay: Floats, /) -> tuple[Floats, Floats, Floats]:
    """Sum |actual - forecast| for each decay; also the actual streams, and the forecasts.

    `below`: (3, ..., bins), `decay`: (...), or with more axes before. The forecast is base x exp(-decay), so
    the months above it are those in the bins above -decay; within a bin, sums are interpolated.
    """
    actual, base = below[_ACTUAL, ..., -1], below[_BASE, ..., -1]
    factor = np.exp(-decay)
    actual_below, base_below = (_interpolated(below[kind], -decay) for kind in (_ACTUAL, _BASE))
    error = (actual - 2 * actual_below) - factor * (base - 2 * base_below)
    return error, np.broadcast_to(actual, error.shape), factor * base


def residual_quantiles(
    origins: Sequence[Origin], decays: Sequence[Floats], /
) -> tuple[Floats, Floats, Floats]:
    """Return the number of residuals, and the quantiles .80 and .95 of their amount: (candidates, months).

    A residual is ln(actual / forecast), less the median of its origin. `decays`: (groups, 12) per origin.
    """
    counts = np.zeros((len(origins), len(CANDIDATES), MONTHS, len(GROUPS), _BINS))
    for of_origin, origin in zip(counts, origins, strict=True):
        of_origin[:, : origin.months] = origin.below[_N, :, : origin.months]
    weights = np.array([candidate.weight for candidate in CANDIDATES])
    shifts = weights[:, None, None] * np.stack([decay.T for decay in decays])[:, None]
    median = _medians(counts, shifts)

    def within(amount: Floats) -> Floats:
        inside = _below(counts, shifts, median + amount) - _below(counts, shifts, median - amount)
        of_all: Floats = inside.sum(axis=0)
        return of_all

    number = counts[..., -1].sum(axis=(0, -1))
    amounts, none = np.linspace(0, 2 * _REACH, 1 + round(2 * _REACH / _WIDTH)), np.zeros(number.shape)
    q80, q95 = (_inverse(within, amounts, [none], share * number) for share in (0.80, 0.95))
    return number, q80, q95


def _medians(counts: Floats, shifts: Floats) -> Floats:
    """Return the median residual of each origin, candidate and month."""
    shifted = (np.zeros(counts.shape[:-2]), shifts.max(axis=-1), shifts.min(axis=-1))
    half = counts[..., -1].sum(axis=-1) / 2
    return _inverse(lambda x: _below(counts, shifts, x), _EDGES, shifted, half)


def _inverse(
    function: Callable[[Floats], Floats], points: Floats, shifts: Iterable[Floats], values: Floats
) -> Floats:
    """Return where a function that never falls reaches `values`, interpolated between points.

    These are all `points` + each of the `shifts`, which have the shape of the values.
    """
    lower, higher = np.full(values.shape, -np.inf), np.full(values.shape, np.inf)
    for shift in shifts:

        def at(index: Integers, shift: Floats = shift) -> Floats:
            return function(points[index] + shift)

        number = _number_up_to(at, len(points), values)
        last, following = number - 1, np.minimum(number, len(points) - 1)
        lower = np.where(number > 0, np.maximum(lower, points[last] + shift), lower)
        higher = np.where(number < len(points), np.minimum(higher, points[following] + shift), higher)
    start, end = np.where(np.isinf(lower), higher, lower), np.where(np.isinf(higher), lower, higher)
    at_start, at_end = function(start), function(end)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (end - start) / (at_end - at_start) * (values - at_start) + start
    return np.where((at_start < values) & (values < at_end), found, start)


def _number_up_to(function: Callable[[Integers], Floats], most: int, values: Floats) -> Integers:
    """Count the indices, from 0, at which a function that never falls is up to `values`: 0 to `most`."""
    low, high = np.zeros(values.shape, np.int64), np.full(values.shape, most)
    for _ in range(most.bit_length()):
        middle = (low + high) // 2
        is_up_to = (function(np.minimum(middle, most - 1)) <= values) & (middle < most)
        low, high = np.where(is_up_to, middle + 1, low), np.where(is_up_to, high, middle)
    return low


def _below(counts: Floats, shifts: Floats, x: Floats) -> Floats:
    """Count the residuals below each x: those of each group are shifted by its decay."""
    at = x[..., None] - shifts
    inside = _interpolated(counts, at)
    inside = np.where(at < _EDGES[0], 0.0, np.where(at > _EDGES[-1], counts[..., -1], inside))
    return inside[..., 0] + inside[..., 1] + inside[..., 2]


def _interpolated(below: Floats, at: Floats) -> Floats:
    """Interpolate sums between the edges of the bins, as `numpy.interp` does, for one value each."""
    step = (np.searchsorted(_EDGES, at, side="right") - 1).clip(0, len(_EDGES) - 2)
    lower, upper = (np.take_along_axis(below, (step + more)[..., None], axis=-1)[..., 0] for more in (0, 1))
    low, high = _EDGES[step], _EDGES[step + 1]
    within = np.where(at >= high, upper, (upper - lower) / (high - low) * (at - low) + lower)
    return np.where(at < low, lower, within)


def decays_at(origins: Sequence[Origin], rows: Rows, /) -> list[Floats]:
    """Return the decays (groups, 12) at each origin."""
    return [np.array(rows.decays(origin.rates, horizon=MONTHS)) for origin in origins]


def _log(values: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        log: Floats = np.log(values)
    return log


def _units(streams: Floats) -> Floats:
    """Round streams to units, so that their sums are exact, whatever their order."""
    return np.rint(streams.clip(0, 1e15) * _UNIT)
