"""Fit a row to a catalogue's own past: random local search, all trial rows of a step at once."""

from collections.abc import Sequence

from forecaster.frames.arrays import np, npt
from forecaster.model.calibrated.past import CANDIDATES, MONTHS, Candidate, Origin, errors_at
from forecaster.model.calibrated.rates import Rates
from forecaster.model.calibrated.rows import MIDDLE, SHIPPED, Row

Floats = npt.NDArray[np.float64]

_LOW = np.array([0.0, 0.0, 0.5, 0.0, 0.08, 0.02, 0.0])
_HIGH = np.array([1.0, 1.0, 2.0, 1.0, 0.6, 0.6, 0.08])
_SEED = 7
_TRIALS, _STEPS = 48, 60
_MEAN_WEIGHT = 0.7  # of the mean in the loss; the worst origin has the rest


def loss(wapes: Sequence[float], /) -> float | None:
    """Return 0.7 x the mean and 0.3 x the worst of the origins' WAPEs; None without one."""
    if not wapes:
        return None
    return _MEAN_WEIGHT * sum(wapes) / len(wapes) + (1 - _MEAN_WEIGHT) * max(wapes)


def fit_row(origins: Sequence[Origin], /) -> Row:
    """Search for the row with the least loss over these origins. The same origins give the same row."""
    random = np.random.default_rng(_SEED)
    best = np.array(SHIPPED)
    losses = losses_of(best, origins)
    for step in range(_STEPS):
        reach = 0.3 * 0.93**step
        parents = best[random.integers(len(best), size=_TRIALS)]
        trials = within(parents + reach * (_HIGH - _LOW) * (2 * random.random((_TRIALS, len(_LOW))) - 1))
        rows = np.concatenate([best, trials])
        losses = np.concatenate([losses, losses_of(trials, origins)])
        order = np.argsort(losses, kind="stable")[: len(SHIPPED)]
        best, losses = rows[order], losses[order]
    return Row(*map(float, best[0]))


def within(rows: Floats, /) -> Floats:
    """Move rows into the bounds; the weights of the three rates add up to 1."""
    rows = rows.clip(_LOW, _HIGH)
    excess = np.maximum(rows[:, 0] + rows[:, 1], 1.0)
    rows[:, :2] /= excess[:, None]
    return rows


def losses_of(rows: Floats, origins: Sequence[Origin], /) -> Floats:
    """Compute the loss of each row (n, 7), alone, from the level of the last 7 days."""
    alone = CANDIDATES.index(Candidate(1.0, 7))
    wapes = []
    for origin in origins:
        decays = decays_of(rows, origin.rates)[:, :, : origin.months]
        below = origin.below[:, alone, : origin.months].swapaxes(1, 2)
        errors, streams, _ = errors_at(below[:, None], decays)
        # Along the first axis sums are made one after the other, whatever the number of rows.
        error, actual = (of.reshape(len(rows), -1).T.sum(axis=0) for of in (errors, streams))
        if len(rows) and actual[0] > 0:
            wapes.append(error / actual)
    if not wapes:
        return np.zeros(len(rows))
    of_origins = np.array(wapes)
    losses: Floats = _MEAN_WEIGHT * of_origins.mean(axis=0) + (1 - _MEAN_WEIGHT) * of_origins.max(axis=0)
    return losses


def decays_of(rows: Floats, rates: Rates, /) -> Floats:
    """Compute what `Rows.decays` does, for each row (n, 7) alone: (n, groups, 12)."""
    m8, m26, s, g, cap, theta, r0 = (column[:, None] for column in rows.T)
    d8, d13, d26 = np.array(rates.rates)
    recent = s * (m8 * d8 + (1 - m8 - m26) * d13 + m26 * d26)
    recent = np.minimum(np.where(recent < 0, g * recent, recent), cap)[:, :, None]
    t = np.arange(1, MONTHS + 1) - MIDDLE
    faded = (-np.expm1(-theta * t) / theta)[:, None, :]
    decays: Floats = recent * faded + r0[:, :, None] * (t - faded)
    return decays
