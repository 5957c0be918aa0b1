"""Fit the own decay rate k of every track to its three points."""

import polars as pl

from forecaster.frames.arrays import np, npt

Array = npt.NDArray[np.float64]

RATE_MAX = 100.0
"""Largest k. Streams that fall by more than exp(-100) per month are zero, so a larger k changes nothing."""

_GRID = np.concatenate([[0.0], np.geomspace(1e-7, RATE_MAX, 128)])
_HALVINGS = 50  # from a bracket of relative width 0.18 to far below 1e-12


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
    rises, explained = _on_grid(z1, z2, y)
    # A maximum lies between a point where the curve rises and the next one where it does not. At the cap the
    # curve may still rise; at 0 it may already fall, which is a maximum of its own because k >= 0.
    turns = rises.copy()
    turns[:, :-1] &= ~rises[:, 1:]
    height = np.where(turns, explained, -1.0)
    height[:, :-1] = np.where(turns[:, :-1], np.maximum(explained[:, :-1], explained[:, 1:]), -1.0)
    best = height.argmax(axis=1)
    low, high = _GRID[best], _GRID[np.minimum(best + 1, len(_GRID) - 1)]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rising = _slope(middle, z1, z2, *y.T) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    k = (low + high) / 2
    at_zero = ~rises[:, 0] & (~turns.any(axis=1) | (explained[:, 0] >= _explained(k, z1, z2, *y.T)))
    return np.where(at_zero, 0.0, k)


def _on_grid(z1: Array, z2: Array, y: Array) -> tuple[npt.NDArray[np.bool_], Array]:
    """Compute whether A^2 / C rises, and its value, for each row (n) and k of the grid: two arrays (n, 129).

    Except for the square, both are linear in y. The weights depend only on the ages, of which there are few
    combinations: all tracks of 11 months or more have the same one.
    """
    ages, which = np.unique(np.stack([z1, z2], axis=1), axis=0, return_inverse=True)
    rises = np.empty((len(y), len(_GRID)), dtype=bool)
    explained = np.empty((len(y), len(_GRID)))
    for number, (a1, a2) in enumerate(ages):
        rows = which == number
        weights = [_slope(_GRID, a1, a2, *unit) for unit in np.eye(3)]
        rises[rows] = y[rows] @ np.stack(weights) > 0
        e1, e2 = np.exp(-_GRID * a1), np.exp(-_GRID * a2)
        a = y[rows] @ np.stack([np.ones_like(e1), e1, e2])
        explained[rows] = a * a / (1 + e1 * e1 + e2 * e2)
    return rises, explained


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
