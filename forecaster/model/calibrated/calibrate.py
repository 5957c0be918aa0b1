"""Make a calibration from the sums of a catalogue's past: rows, error figures and the choice of a model."""

import math
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Literal

from forecaster.frames.arrays import np, npt
from forecaster.model.calibrated.calibration import (
    Calibration,
    Choice,
    ModelErrors,
    RowsLoss,
    Tried,
    prior_errors,
)
from forecaster.model.calibrated.fit import fit_row, loss
from forecaster.model.calibrated.past import (
    CANDIDATES,
    MONTHS,
    Candidate,
    Origin,
    PastSums,
    decays_at,
    residual_quantiles,
    score,
)
from forecaster.model.calibrated.rates import FEWEST_TRACKS, GROUPS
from forecaster.model.calibrated.rows import SHIPPED_ROWS, Rows
from forecaster.model.calibrated.uncertainty import Errors, OwnErrors
from forecaster.model.features import WEEK
from forecaster.model.parameters import DAYS_PER_MONTH, LEVELS

Floats = npt.NDArray[np.float64]

RowsAsked = Literal["shipped", "fitted", "auto"]

FEWEST_MONTHS = 6
"""A model is chosen, and a row fitted, only from origins with this many months that are over."""


def calibration_from(sums: PastSums, /, *, as_of: date, rows: RowsAsked = "auto") -> Calibration:
    """Make the calibration of a catalogue from the sums over all its tracks."""
    origins = usable(sums)
    used, rows_loss = _rows(origins, rows)
    decays = decays_at(origins, used)
    return Calibration(
        as_of=as_of,
        tracks=sums.tracks,
        first_day=None if sums.first_day is None else date(1970, 1, 1) + timedelta(sums.first_day),
        rates=sums.now.rates(),
        rows=used,
        rows_loss=rows_loss,
        origins=tuple(as_of - timedelta(DAYS_PER_MONTH * origin.back) for origin in origins),
        errors=tuple(_errors(origins, decays, candidate) for candidate in CANDIDATES) if origins else (),
        choice=_choice(origins, decays),
    )


def usable(sums: PastSums, /) -> list[Origin]:
    """List the origins, newest first, at which the rates are known and a month is scored."""
    origins = (
        Origin(back, of_origin.rates.rates(), of_origin.bins)
        for back, of_origin in enumerate(sums.origins, start=1)
    )
    return [
        origin
        for origin in origins
        if sum(origin.rates.complete[0]) >= FEWEST_TRACKS and origin.bins[0].any()
    ]


def independent(origins: Sequence[Origin], /, *, months: int) -> float:
    """Count the origins as if they did not overlap, with this many months between them."""
    if not origins:
        return 0.0
    return (origins[-1].back - origins[0].back) / months + 1


def _errors(origins: Sequence[Origin], decays: Sequence[Floats], candidate: Candidate) -> ModelErrors:
    scores = [score(o, candidate, decay) for o, decay in zip(origins, decays, strict=True)]
    own = []
    for month in range(1, MONTHS + 1):
        those = [i for i, origin in enumerate(origins) if origin.back >= month]
        if not those:
            continue
        number, q80, q95 = residual_quantiles(
            [origins[i] for i in those], candidate, [decays[i] for i in those], month
        )
        if not number:
            continue
        one = [_log_ratio(scores[i].actual[month - 1], scores[i].forecast[month - 1]) for i in those]
        all_ = [_log_ratio(scores[i].actual[:month].sum(), scores[i].forecast[:month].sum()) for i in those]
        own.append(
            OwnErrors(
                month,
                len(those),
                independent([origins[i] for i in those], months=month),
                _root_mean_square(one),
                _root_mean_square(all_),
                number,
                q80,
                q95,
            )
        )
    widened = prior_errors(candidate.weight).widened
    return ModelErrors(candidate.weight, candidate.level, Errors(tuple(own), widened))


def _log_ratio(actual: float, forecast: float) -> float | None:
    """Return ln(actual / forecast); None where it is not finite."""
    return math.log(actual / forecast) if actual > 0 and forecast > 0 else None


def _root_mean_square(values: Sequence[float | None]) -> float | None:
    squares = [value * value for value in values if value is not None]
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else None


def _choice(origins: Sequence[Origin], decays: Sequence[Floats]) -> Choice:
    """Choose the model with the least loss on the catalogue's own origins."""
    enough = [i for i, origin in enumerate(origins) if origin.months >= FEWEST_MONTHS]
    if not enough:
        return Choice()
    those = [origins[i] for i in enough]
    tried = tuple(_tried(those, [decays[i] for i in enough], candidate) for candidate in CANDIDATES)
    flat = [Candidate(1.0, level) for level in LEVELS]
    level = tuple(_tried(those, [np.zeros((len(GROUPS), MONTHS))] * len(those), one).loss for one in flat)
    best = min(tried, key=lambda one: math.inf if one.loss is None else one.loss)
    if best.loss is None:
        return Choice(tried=tried, flat=level)
    return Choice(best.weight, best.level, is_measured=True, tried=tried, flat=level)


def _tried(origins: Sequence[Origin], decays: Sequence[Floats], candidate: Candidate) -> Tried:
    wapes = _wapes(origins, decays, candidate)
    mean = math.fsum(wapes) / len(wapes) if wapes else None
    return Tried(candidate.weight, candidate.level, loss(wapes), mean, max(wapes, default=None))


def _wapes(origins: Sequence[Origin], decays: Sequence[Floats], candidate: Candidate) -> list[float]:
    """Return the WAPE of each origin with streams."""
    wapes = (score(o, candidate, decay).wape for o, decay in zip(origins, decays, strict=True))
    return [wape for wape in wapes if math.isfinite(wape)]


def _rows(origins: Sequence[Origin], asked: RowsAsked) -> tuple[Rows, RowsLoss]:
    """Fit a row to the catalogue, and use it where that is better on origins held out in time."""
    last = max((origin.back for origin in origins), default=0)
    held_back = last // 2
    # What was known `held_back` months before D: earlier origins, and only their months that were over then.
    earlier = [origin._replace(back=origin.back - held_back) for origin in origins if origin.back > held_back]
    later = [origin for origin in origins if origin.back <= held_back]
    can_fit = any(origin.months >= FEWEST_MONTHS for origin in earlier)
    if asked == "shipped" or not (can_fit or (asked == "fitted" and origins)):
        return SHIPPED_ROWS, RowsLoss(asked)
    before, after = (_loss_of(later, rows) for rows in (SHIPPED_ROWS, _with_fitted(earlier)))
    is_better = before is not None and after is not None and after < before
    rows = _with_fitted(origins) if is_better or asked == "fitted" else SHIPPED_ROWS
    return rows, RowsLoss(asked, len(later), before, after)


def _with_fitted(origins: Sequence[Origin]) -> Rows:
    """Fit a row; it counts by the number of independent years."""
    if not origins:
        return SHIPPED_ROWS
    n = independent(origins, months=MONTHS)
    return Rows(fit_row(origins), n / (n + 3))


def _loss_of(origins: Sequence[Origin], rows: Rows) -> float | None:
    return loss(_wapes(origins, decays_at(origins, rows), Candidate(1.0, WEEK)))
