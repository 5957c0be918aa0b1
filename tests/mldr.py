"""The decay rates of artists by loops, and a search that may find nothing better."""

import math
from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from forecaster.model.mldr_fit import RATE_MAX

Array = npt.NDArray[np.float64]
Record = tuple[date, float]

ONE_SIDE = np.geomspace(1e-6, RATE_MAX, 1_500)
SCAN = np.concatenate([-ONE_SIDE[::-1], [0.0], ONE_SIDE])


# The model's section 9 as loops, one artist at a time: written from its description, not from the code.


class Months(NamedTuple):
    """Steps 1 to 5 of one artist."""

    values: list[float]
    anomalies: int


def months_of(records: Iterable[Record]) -> Months:
    kept = sorted(records)[::7]
    first, last = month_number(kept[0][0]), month_number(kept[-1][0])
    sums = [0.0] * (last - first + 1)
    for i, (day, _) in enumerate(kept):
        window = [value for _, value in kept[max(i - 3, 0) : i + 1]]
        sums[month_number(day) - first] += sum(window) / len(window)
    q1, q3 = quantile(sums, 0.25), quantile(sums, 0.75)
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    values = list(sums)
    for t in range(1, len(sums) - 1):
        if not low <= sums[t] <= high:
            values[t] = (values[t - 1] + sums[t + 1]) / 2
    return Months(values, sum(not low <= value <= high for value in sums))


def month_number(day: date) -> int:
    return day.year * 12 + day.month


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    below, rest = divmod((len(ordered) - 1) * q, 1)
    low, high = ordered[int(below)], ordered[min(int(below) + 1, len(ordered) - 1)]
    return low + (high - low) * rest


def sse(b: float, y: Array) -> float:
    """Squared distance of the months from a exp(-b t) with the best a, summed residual by residual."""
    return float(errors_of(np.array([b]), y)[0])


def errors_of(b: Array, y: Array) -> Array:
    """`sse` for each b."""
    # From the end at which the curve is highest, so that nothing overflows.
    t = np.arange(len(y)) - np.where(b >= 0, 0, len(y) - 1)[:, None]
    w = np.exp(-b[:, None] * t)
    residuals = y - (w @ y / (w * w).sum(axis=1))[:, None] * w
    result: Array = (residuals * residuals).sum(axis=1)
    return result


def smallest_sse(y: Array) -> float:
    """The best of a dense scan of both signs, and of SciPy between the neighbours of the scan's best."""
    errors = errors_of(SCAN, y)
    best = int(np.argmin(errors))
    bounds = (SCAN[max(best - 1, 0)], SCAN[min(best + 1, len(SCAN) - 1)])
    found = minimize_scalar(sse, bounds=bounds, args=(y,), method="bounded", options={"xatol": 1e-14})
    return min(float(errors[best]), float(found.fun))


def assert_best(b: float, months: Sequence[float]) -> None:
    assert max(months) > 0
    y = np.array(months) / max(months)
    # Where there is no rate, the limit: nothing but the first or the last month is met.
    ours, best = sse(max(min(b, RATE_MAX), -RATE_MAX), y), smallest_sse(y)
    # Both are off by the rounding of each residual, which is that of the months themselves.
    rounding = 1e-15 * math.sqrt(best * float(y @ y)) + 1e-28 * float(y @ y)
    assert ours <= best * (1 + 1e-9) + rounding, (b, months)
