"""What a catalogue's own past says about each model: exact sums, and the losses and errors that follow.

An origin is a day of the past that is forecast from. For each origin, month, age group and model, the months
of all tracks are sorted into bins by ln(actual / base); the base is the forecast without the decay of the
group. So forecasts of any rates and rows follow from the bins, and bins of batches of tracks can be added up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
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
        cls, rates: RateSums, group: Integers, levels: Floats, survival: Floats, actual: Floats, /
    ) -> "OriginSums":
        """Sum the months of tracks with a forecast.

        `group`: (n,), 0 to 2. `levels`: (n, 2), streams per day. `survival`: (n, months), the production
        model's forecast relative to its level. `actual`: (n, months), streams; NaN where a month does not
        count.
        """
        months = actual.shape[1]
        bins = np.zeros((3, len(CANDIDATES), months, len(GROUPS), _BINS))
        is_scored = np.isfinite(actual)
        cell = (np.arange(months) * len(GROUPS) + group[:, None])[is_scored]
        streams = _exact(actual[is_scored])
        for i, candidate in enumerate(CANDIDATES):
            level = DAYS_PER_MONTH * levels[:, LEVELS.index(candidate.level), None]
            base = (level * survival ** (1 - candidate.weight))[is_scored]
            counts, of_bin = _bin_of(streams, base)
            keys = cell[counts] * _BINS + of_bin
            for kind, weights in enumerate((None, streams[counts], _exact(base[counts]))):
                sums = np.bincount(keys, weights=weights, minlength=bins[kind, i].size)
                bins[kind, i] = sums.reshape(bins.shape[2:])
        return cls(rates, bins)

    def __add__(self, other: "OriginSums") -> "OriginSums":
        return OriginSums(self.rates + other.rates, self.bins + other.bins)


@dataclass(frozen=True, eq=False)
class PastSums:
    """Sums over the tracks of a catalogue, or of a part of it: what a calibration is made from."""

    tracks: int
    first_day: int | None
    """The first day with a record, since 1970."""
    now: RateSums
    """As of D."""
    origins: tuple[OriginSums, ...] = ()
    """Those of the origins 30, 60, ... days before D."""

    @classmethod
    def none(cls) -> "PastSums":
        """Return the sums of no track."""
        return cls(0, None, RateSums.none())

    def __add__(self, other: "PastSums") -> "PastSums":
        days = [day for day in (self.first_day, other.first_day) if day is not None]
        pairs = zip_longest(self.origins, other.origins)
        return PastSums(
            self.tracks + other.tracks,
            min(days, default=None),
            self.now + other.now,
            tuple(one + two if one and two else one or two for one, two in pairs),
        )


def added(parts: Sequence[PastSums], /) -> PastSums:
    """Add up the sums of parts of a catalogue."""
    return reduce(PastSums.__add__, parts, PastSums.none())


class Origin(NamedTuple):
    """An origin with the rates that were known there."""

    back: int
    """Months between it and D: so many of its months are over."""
    rates: Rates
    bins: Floats

    @property
    def months(self) -> int:
        """The number of its months that are scored."""
        return min(self.back, MONTHS)


class Scores(NamedTuple):
    """Sums over the tracks of an origin, for each of its months."""

    error: Floats
    """Of |actual - forecast|."""
    actual: Floats
    forecast: Floats

    @property
    def wape(self) -> float:
        """The WAPE over all months; NaN without streams."""
        total = float(self.actual.sum())
        return float(self.error.sum()) / total if total > 0 else math.nan


def score(origin: Origin, candidate: Candidate, decays: Floats, /, *, months: int = MONTHS) -> Scores:
    """Score one candidate; `decays`: (groups, 12), those of the calibrated model."""
    of_candidate = origin.bins[:, CANDIDATES.index(candidate)]
    last = min(months, origin.months)
    sums = np.zeros((3, last))
    for month, group in product(range(last), range(len(GROUPS))):
        fallen = candidate.weight * decays[group, month]
        error, actual, forecast = errors_at(of_candidate[:, month, group], np.array([fallen]))
        sums[:, month] += error[0], actual, forecast[0]
    return Scores(*sums)


def errors_at(bins: Floats, decay: Floats, /) -> tuple[Floats, float, Floats]:
    """Sum |actual - forecast| for each of several decays; also the actual streams, and the forecasts.

    `bins`: (3, bins). The forecast is base x exp(-decay), so the months above it are those in the bins above
    -decay; within a bin, sums are interpolated.
    """
    below = bins[:, :-1].cumsum(axis=1)
    actual, base = float(bins[_ACTUAL].sum()), float(bins[_BASE].sum())
    factor = np.exp(-decay)
    actual_below = np.interp(-decay, _EDGES, below[_ACTUAL])
    base_below = np.interp(-decay, _EDGES, below[_BASE])
    return (actual - 2 * actual_below) - factor * (base - 2 * base_below), actual, factor * base


def residual_quantiles(
    origins: Sequence[Origin], candidate: Candidate, decays: Sequence[Floats], month: int, /
) -> tuple[int, float, float]:
    """Return the number of residuals of one month (from 1), and the quantiles .80 and .95 of their amount.

    A residual is ln(actual / forecast), less the median of its origin. `decays`: (groups, 12) per origin.
    """
    at = CANDIDATES.index(candidate)
    grid = np.linspace(0, 2 * _REACH, 1 + round(2 * _REACH / _WIDTH))
    within = np.zeros(len(grid))
    number = 0.0
    for origin, decay in zip(origins, decays, strict=True):
        counts = origin.bins[_N, at, month - 1]
        shifts = candidate.weight * decay[:, month - 1]
        of_origin = float(counts.sum())
        if not of_origin:
            continue
        points = np.concatenate([_EDGES, _EDGES + shifts.max(), _EDGES + shifts.min()])
        points.sort()
        median = float(np.interp(of_origin / 2, _below(counts, shifts, points), points))
        within += _below(counts, shifts, median + grid) - _below(counts, shifts, median - grid)
        number += of_origin
    if not number:
        return 0, math.nan, math.nan
    q80, q95 = np.interp([0.80 * number, 0.95 * number], within, grid)
    return int(number), float(q80), float(q95)


def _below(counts: Floats, shifts: Floats, x: Floats) -> Floats:
    """Count the residuals below each x: those of each group are shifted by its decay."""
    below = np.zeros(len(x))
    for of_group, shift in zip(counts, shifts, strict=True):
        below += np.interp(x - shift, _EDGES, of_group[:-1].cumsum(), left=0.0, right=of_group.sum())
    return below


def decays_at(origins: Sequence[Origin], rows: Rows, /) -> list[Floats]:
    """Return the decays (groups, 12) at each origin."""
    return [np.array(rows.decays(origin.rates, horizon=MONTHS)) for origin in origins]


def _bin_of(streams: Floats, base: Floats) -> tuple[npt.NDArray[np.bool_], Integers]:
    """Return which months count, and the bin of each of these. A forecast of 0 for 0 is no evidence."""
    counts = (streams > 0) | (base > 0)
    with np.errstate(divide="ignore"):
        ratio = np.log(streams[counts]) - np.log(base[counts])
    return counts, np.searchsorted(_EDGES, ratio, side="right")


def _exact(streams: Floats) -> Floats:
    """Round streams so that their sums are exact, whatever their order."""
    return np.rint(streams.clip(0, 1e15) * _UNIT) / _UNIT
