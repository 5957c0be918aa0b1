"""Fit the decay rate of every artist's monthly listeners."""

import polars as pl

from forecaster.frames.arrays import np, npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

WINDOW = 4  # kept values that are averaged
RATE_MAX = 100.0
"""Largest rate, up or down. Listeners that fall by more than exp(-100) a month are zero."""

_BLOCK = 1_024  # artists in one padded array
_GRID = np.concatenate([[0.0], np.geomspace(1e-4, RATE_MAX, 128)])
_LOST_IN_ROUNDING = 15.0  # above this b, adding exp(-2 b) to 1 hardly changes a float
_STEPS = 60  # enough for bisection alone to reach the precision of a float; Newton needs about five


def rates_of_struct(histories: pl.Series) -> pl.Series:
    """Fit the rate of each artist: `histories` has the fields kept, kept_months, months and reason.

    NaN for those with a reason to have no rate.
    """
    artists = histories.struct.unnest()
    rates = np.full(artists.height, np.nan)
    months = artists["months"].to_numpy()
    # By length, so that hardly any padding is needed.
    rows = np.flatnonzero(artists["reason"].is_null().to_numpy())
    rows = rows[np.argsort(months[rows], kind="stable")]
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        sums = _monthly_sums(artists[block])
        rates[block] = fit_rates(without_anomalies(sums, months[block]), months[block])
    return pl.Series(rates)


def _monthly_sums(artists: pl.DataFrame) -> Array:
    """Sum the means of the kept values per month: (months, artists), 0 after an artist's last month.

    Each artist has its own unit, a power of two: no sum is too large for a float, and no digit is lost.
    """
    kept, month = artists["kept"].explode().to_numpy(), artists["kept_months"].explode().to_numpy()
    counts = artists["kept"].list.len().to_numpy().astype(np.intp)
    starts = np.cumsum(counts) - counts
    artist = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(kept)) - starts[artist]
    _, unit = np.frexp(np.maximum.reduceat(kept, starts))
    values = np.ldexp(kept, -unit[artist])
    means = values.copy()
    for back in range(1, WINDOW):
        means[back:] += np.where(place[back:] >= back, values[:-back], 0.0)
    means /= np.minimum(place + 1, WINDOW)
    shape = (int(month.max()) + 1, len(counts))
    sums = np.bincount(month * shape[1] + artist, weights=means, minlength=shape[0] * shape[1])
    return np.asarray(sums, dtype=np.float64).reshape(shape)


def without_anomalies(sums: Array, months: npt.NDArray[np.int64], /) -> Array:
    """Replace each month outside 1.5 interquartile ranges, except the first and the last of an artist.

    `sums`: (months, artists), of which an artist's first `months[artist]` count. A month is replaced by the
    mean of the month before it (already replaced) and the month after it.
    """
    height = len(sums)
    counts = np.arange(height)[:, None] < months
    ordered = np.sort(np.where(counts, sums, np.inf), axis=0)
    q1, q3 = _quantile(ordered, months, 0.25), _quantile(ordered, months, 0.75)
    reach = 1.5 * (q3 - q1)
    replaced = (sums < q1 - reach) | (sums > q3 + reach)
    result = sums.copy()
    for month in range(1, height - 1):
        between = (result[month - 1] + sums[month + 1]) / 2
        result[month] = np.where(replaced[month] & (month < months - 1), between, sums[month])
    return result


def _quantile(ordered: Array, months: npt.NDArray[np.int64], q: float) -> Array:
    """Compute the quantile of each column's first `months` values, by linear interpolation."""
    place = (months - 1) * q
    below = place.astype(np.intp)
    column = np.arange(ordered.shape[1])
    low, high = ordered[below, column], ordered[np.minimum(below + 1, months - 1), column]
    result: Array = low + (high - low) * (place - below)
    return result


def fit_rates(y: Array, months: npt.NDArray[np.int64], /) -> Array:
    """Fit b of y = a exp(-b t), t = 0, 1, 2, ..., by least squares, for every column at once.

    `y`: (months, n), not negative, of which a column's first `months[column]` (at least 2) count and all
    others are 0. Returns (n,), per month: NaN where y is zero throughout, +inf or -inf where the best curve
    falls or rises by more than exp(100) a month.

    For a given b, the best a follows by linear least squares. With w = exp(-b t), A = sum(y w) and
    C = sum(w^2), it remains to maximise A^2 / C over b. A growing curve is a decaying one with time reversed,
    so that no w is larger than 1: column n + i is column i backwards, and all b are >= 0.
    """
    n = y.shape[1]
    top = y.max(axis=0, initial=0.0)
    both = _both_ways(y / np.where(top > 0, top, 1.0), months)
    months = np.tile(months, 2)
    column, low, high = _brackets(both, months)
    y, ones = both[:, column], (np.arange(len(y))[:, None] < months[column]).astype(np.float64)
    rate = _turning_points(y, ones, low, high)
    explained = _moments(np.exp(-rate), y)[0] ** 2 / _moments(np.exp(-2 * rate), ones)[0]
    # Of equal ones the first: decay before growth.
    order = np.lexsort((-explained, column % n))
    _, first = np.unique(column[order] % n, return_index=True)
    best = order[first]
    found = np.where(rate[best] < RATE_MAX, rate[best], np.inf)
    return np.where(top > 0, np.where(column[best] < n, found, -found), np.nan)


def _both_ways(y: Array, months: npt.NDArray[np.int64]) -> Array:
    """Return (months, 2n): every column as it is, then every column backwards from its last month."""
    source = months - 1 - np.arange(len(y))[:, None]
    backwards = np.take_along_axis(y, np.maximum(source, 0), axis=0)
    return np.concatenate([y, np.where(source >= 0, backwards, 0.0)], axis=1)


def _brackets(y: Array, months: npt.NDArray[np.int64]) -> tuple[Indices, Array, Array]:
    """Bracket the maxima of A^2 / C over b >= 0: return their columns, and a b below and above each.

    A^2 / C rises with b where the mean age weighted by w^2 is greater than the one weighted by y w.
    """
    n = y.shape[1] // 2
    age = np.arange(len(y))[:, None]
    w = np.exp(-_GRID * age)
    mean_age = np.cumsum(age * w * w, axis=0) / np.cumsum(w * w, axis=0)
    rises = mean_age[months - 1] * (y.T @ w) > y.T @ (age * w)
    # After an empty second month the third one decides, up to half the first. At half both sides are equal in
    # floats, from where exp(-2 b) is lost in rounding; in truth the left one is greater.
    to_the_cap = (y[1] == 0) & (2 * y[2:3].sum(axis=0) <= y[0])
    rises |= to_the_cap[:, None] & (_GRID > _LOST_IN_ROUNDING)
    column, cell = np.nonzero(rises[:, :-1] & ~rises[:, 1:])
    at_zero = np.flatnonzero(~rises[:n, 0] & ~rises[n:, 0])
    at_cap = np.flatnonzero(rises[:, -1])
    ends = [np.zeros(len(at_zero)), np.full(len(at_cap), RATE_MAX)]
    return (
        np.concatenate([column, at_zero, at_cap]),
        np.concatenate([_GRID[cell], *ends]),
        np.concatenate([_GRID[cell + 1], *ends]),
    )


def _turning_points(y: Array, ones: Array, low: Array, high: Array) -> Array:
    """Find the maximum of A^2 / C between `low` and `high`, by Newton's method kept inside the bracket.

    It solves log(mean age by w^2 / mean age by y w) = 0, nearly linear in b, however steep the curve.
    """
    rate = (low + high) / 2
    moving = np.ones(len(rate), dtype=bool)
    for _ in range(_STEPS):
        with np.errstate(divide="ignore", invalid="ignore"):
            mean_w, variance_w = _mean_and_variance(np.exp(-2 * rate), ones)
            mean_y, variance_y = _mean_and_variance(np.exp(-rate), y)
            excess = np.log(mean_w / mean_y)
            newton = rate - excess / (variance_y / mean_y - 2 * variance_w / mean_w)
        low, high = np.where(excess > 0, rate, low), np.where(excess > 0, high, rate)
        inside = (newton > low) & (newton < high)
        target = np.where(moving, np.where(inside, newton, (low + high) / 2), rate)
        moving = np.abs(target - rate) > 1e-13 * rate + 1e-15
        rate = target
        if not moving.any():
            break
    return rate


def _mean_and_variance(x: Array, weights: Array) -> tuple[Array, Array]:
    """Compute mean and variance of the age t with the weights `weights[t]` x^t, per column."""
    total, first, second = _moments(x, weights)
    mean = first / total
    return mean, second / total + mean - mean * mean


def _moments(x: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Sum `weights[t]` x^t times 1, t and t (t - 1) over t, per column.

    By Horner's rule, month by month: zeros after a column's last month change no digit, so the result of a
    column does not depend on the other columns.
    """
    total, first, second = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for weight in weights[::-1]:
        second = second * x + first
        first = first * x + total
        total = total * x + weight
    return total, first * x, 2 * second * x * x
