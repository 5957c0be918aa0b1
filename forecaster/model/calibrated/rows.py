"""The rows of the calibrated model: seven numbers that turn the rates of a group into its decay."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from forecaster.model.calibrated.rates import GROUPS, Rates


class Row(NamedTuple):
    """How the recent rate of a group goes on."""

    m8: float
    """Weight of the rate over 8 weeks; the one over 13 weeks has the rest."""
    m26: float
    """Weight of the rate over 26 weeks."""
    s: float
    """Factor of the recent rate."""
    g: float
    """Factor of growth."""
    cap: float
    """Largest recent rate, per month."""
    theta: float
    """Speed at which the recent rate fades into the long-run rate, per month."""
    r0: float
    """Long-run rate, per month."""


SHIPPED: tuple[Row, ...] = (
    Row(0.2728, 0.7228, 2.0, 0.2515, 0.1236, 0.1391, 0.0328),
    Row(0.3483, 0.6490, 2.0, 0.3688, 0.1316, 0.1200, 0.0476),
    Row(0.6701, 0.3274, 1.198, 1.0, 0.5932, 0.6000, 0.0759),
    Row(1.0, 0.0, 0.5, 0.7705, 0.3747, 0.4585, 0.0121),
)
"""Fitted on long-lived chart songs and listeners of artists, on all sets, on chart songs, on listeners."""

MIDDLE = 0.38
"""Of the first month, in months after the level."""


class Rows(NamedTuple):
    """The rows that a calibration uses: the shipped ones, and perhaps one fitted to the catalogue."""

    fitted: Row | None = None
    weight: float = 0.0
    """Weight of the fitted row in the mean; the shipped ones share the rest."""

    def weighted(self) -> list[tuple[Row, float]]:
        """Return each row with its weight in the mean."""
        shipped = [(row, (1 - self.weight) / len(SHIPPED)) for row in SHIPPED]
        return [*shipped, (self.fitted, self.weight)] if self.fitted else shipped

    def decays(self, rates: Rates, /, *, horizon: int) -> list[list[float]]:
        """Return for each age group the decay up to each month: ln(level / forecast), `horizon` values."""
        return [
            [
                math.fsum(weight * decay_of(row, of_group, month) for row, weight in self.weighted())
                for month in range(1, horizon + 1)
            ]
            for of_group in (list(zip(*rates.rates, strict=True))[g] for g in range(len(GROUPS)))
        ]


SHIPPED_ROWS = Rows()


def recent_rate(row: Row, rates: Sequence[float]) -> tuple[float, float]:
    """Return the mean of `rates` over 8, 13 and 26 weeks, and the recent rate that follows from it."""
    d8, d13, d26 = rates
    mean = row.m8 * d8 + (1 - row.m8 - row.m26) * d13 + row.m26 * d26
    recent = row.s * mean
    if recent < 0:
        recent *= row.g
    return mean, min(recent, row.cap)


def decay_of(row: Row, rates: Sequence[float], month: int) -> float:
    """Return ln(level / forecast) of one row; `rates` over 8, 13 and 26 weeks."""
    _, recent = recent_rate(row, rates)
    t = month - MIDDLE
    faded = -math.expm1(-row.theta * t) / row.theta
    return recent * faded + row.r0 * (t - faded)
