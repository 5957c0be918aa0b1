"""Fit the own decay rate k of every track to its three points."""

import polars as pl

from forecaster.frames.arrays import np, npt

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

RATE_MAX = 100.0
"""Largest k. Streams that fall by more than exp(-100) per month are zero, so a larger k changes nothing."""

_GRID = np.concatenate([[0.0], np.geomspace(1e-7, RATE_MAX, 128)])
_HALVINGS = 50  # from a bracket of relative width 0.18 to far below 1e-12
_AT_ONCE = 256  # rows on the grid: they stay in the cache, and are too few to be worth threads


def fit_struct(points: pl.Series) -> pl.Series:
    """Fit the rate of each track: `points` has the fields x0, x1, x2, y0, y1, y2."""
    columns = points.struct.unnest().to_numpy()
    return pl.Series(fit_decay_rates(columns[:, :3], columns[:, 3:]))


def fit_decay_rates(x: Array, y: Array) -> Array:
    """Fit k >= 0 of y = S0 exp(-k x), S0 >= 0, by least squares, for every row at once.

    `x`, `y`: (n, 3), ages in months, ascending, and streams >= 0. Returns (n,). An invalid row (NaN, negative
    streams) gets some finite k. For a given k, the best S0 follows by linear least squares. With
    z = x - x[0], e = exp(-k z), A = sum(y e) and C = sum(e^2), it remains to maximise A^2 / C over k alone.
    """
    scale = np.abs(y).max(axis=1, keepdims=True, initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.nan_to_num(np.where(scale > 0, y / scale, 0.0))
    z1, z2 = x[:, 1] - x[:, 0], x[:, 2] - x[:, 0]
    two_ages = ~(z1 > 0)
    k = np.empty(len(x))
    k[two_ages] = _through_two_ages(z2[two_ages], y[two_ages])
    k[~two_ages] = _through_three_ages(z1[~two_ages], z2[~two_ages], y[~two_ages])
    return k


def _through_two_ages(z2: Array, y: Array) -> Array:
    """Fit exactly: the two older points have the same age, so the curve meets their mean and the newest."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        k = np.log((y[:, 0] + y[:, 1]) / 2 / y[:, 2]) / z2
    return np.clip(np.nan_to_num(k, nan=0.0, posinf=RATE_MAX, neginf=0.0), 0.0, RATE_MAX)


def _through_three_ages(z1: Array, z2: Array, y: Array) -> Array:
    """Scan a geometric grid for the best bracket of a maximum, then bisect it by the sign of the slope."""
    best, rises, turns = _brackets(z1, z2, y)
    k = np.zeros(len(y))  # where nothing turns, the curve falls from 0 on
    z1, z2, y = (values[turns] for values in (z1, z2, y))
    best, rises = best[turns], rises[turns]
    low, high = _GRID[best], _GRID[np.minimum(best + 1, len(_GRID) - 1)]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rising = _slope(middle, z1, z2, *y.T) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    found = (low + high) / 2
    at_zero = ~rises & (_explained(np.zeros(1), z1, z2, *y.T) >= _explained(found, z1, z2, *y.T))
    k[turns] = np.where(at_zero, 0.0, found)
    return k


def _brackets(z1: Array, z2: Array, y: Array) -> tuple[Indices, Bools, Bools]:
    """Find for each row the step of the grid with the highest maximum.

    Also returns whether the curve rises from 0 on, and whether it has a maximum above 0 at all. The weights
    of the slope depend only on the ages, of which there are few combinations: all tracks of 11 months or more
    have the same one.
    """
    ages, which = np.unique(z1 + 1j * z2, return_inverse=True)
    best = np.empty(len(y), dtype=np.intp)
    rises, turns = np.empty(len(y), dtype=bool), np.empty(len(y), dtype=bool)
    for number, both in enumerate(ages):
        a1, a2 = both.real, both.imag
        weights = np.stack([_slope(_GRID, a1, a2, *unit) for unit in np.eye(3)])
        of_ages = np.flatnonzero(which == number)
        for start in range(0, len(of_ages), _AT_ONCE):
            rows = of_ages[start : start + _AT_ONCE]
            best[rows], rises[rows], turns[rows] = _highest(y[rows], weights, a1, a2)
    return best, rises, turns


def _highest(y: Array, weights: Array, a1: float, a2: float) -> tuple[Indices, Bools, Bools]:
    """Do what `_brackets` does for rows of the same ages; `weights` (3, 129): of the slope, linear in y."""
    rises = y @ weights > 0
    # A maximum lies between a point where the curve rises and the next one where it does not. At the cap the
    # curve may still rise; at 0 it may already fall, which is a maximum of its own because k >= 0.
    turns = rises.copy()
    turns[:, :-1] &= ~rises[:, 1:]
    best = turns.argmax(axis=1)
    number = turns.sum(axis=1)
    several = np.flatnonzero(number > 1)
    if len(several):
        explained = _explained_on_grid(y[several], a1, a2)
        height = np.where(turns[several], explained, -1.0)
        higher = np.maximum(explained[:, :-1], explained[:, 1:])
        height[:, :-1] = np.where(turns[several, :-1], higher, -1.0)
        best[several] = height.argmax(axis=1)
    return best, rises[:, 0], number > 0


def _explained_on_grid(y: Array, a1: float, a2: float) -> Array:
    """Compute A^2 / C for each row (n) and k of the grid: (n, 129). A is linear in y."""
    e1, e2 = np.exp(-_GRID * a1), np.exp(-_GRID * a2)
    a = y @ np.stack([np.ones_like(e1), e1, e2])
    result: Array = a * a / (1 + e1 * e1 + e2 * e2)
    return result


def _explained(k: Array, z1: Array, z2: Array, y0: Array, y1: Array, y2: Array) -> Array:
    """Compute A^2 / C: the part of sum(y^2) that k explains."""
    e1, e2 = np.exp(-k * z1), np.exp(-k * z2)
    a = y0 + y1 * e1 + y2 * e2
    result: Array = a * a / (1 + e1 * e1 + e2 * e2)
    return result


def _slope(k: Array, z1: Array, z2: Array, y0: Array, y1: Array, y2: Array) -> Array:
    """Compute the sign of d(A^2 / C)/dk, multiplied out, without the terms that cancel."""
    e1, e2 = np.exp(-k * z1), np.exp(-k * z2)
    return (
        y0 * (z1 * e1 * e1 + z2 * e2 * e2)
        + (z2 - z1) * e1 * e2 * (y1 * e2 - y2 * e1)
        - z1 * y1 * e1
        - z2 * y2 * e2
    )
