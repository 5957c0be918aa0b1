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
    RatedArtists,
    RowsLoss,
    Tried,
)
from forecaster.model.calibrated.fit import fit_row, loss
from forecaster.model.calibrated.past import (
    CANDIDATES,
    MONTHS,
    Candidate,
    Origin,
    PastSums,
    Scores,
    decays_at,
    residual_quantiles,
    score,
    scores,
)
from forecaster.model.calibrated.rates import FEWEST_TRACKS, GROUPS, LENGTHS, Rates
from forecaster.model.calibrated.rows import SHIPPED_ROWS, Rows
from forecaster.model.calibrated.uncertainty import Errors, OwnErrors, prior_errors
from forecaster.model.features import WEEK
from forecaster.model.parameters import DAYS_PER_MONTH, LEVELS

Floats = npt.NDArray[np.float64]

_TINY = 1e-9  # a WAPE of 0 has no logarithm

RowsAsked = Literal["shipped", "fitted", "auto"]

FEWEST_MONTHS = 6
"""A row is fitted only from origins with this many months that are over."""

FEWEST_ORIGINS = 3
"""A model is chosen only from this many origins at which the rates over all 26 weeks were known."""
HANDICAP = {7: 1.0, 30: 1.02}
"""Factor of the loss by level, where a model is chosen: the last week is the surer start, unless measured."""


def calibration_from(sums: PastSums, /, *, as_of: date, rows: RowsAsked = "auto") -> Calibration:
    """Make the calibration of a catalogue from the sums over all its tracks."""
    origins = usable(sums)
    used, rows_loss = _rows(origins, rows)
    return Calibration(
        as_of=as_of,
        tracks=sums.tracks,
        first_day=None if sums.first_day is None else date(1970, 1, 1) + timedelta(sums.first_day),
        rates=sums.now.rates(),
        rows=used,
        rows_loss=rows_loss,
        origins=tuple(as_of - timedelta(DAYS_PER_MONTH * origin.back) for origin in origins),
        # With the shipped rows: a row fitted to these origins would look surer than it is.
        errors=_errors(origins, decays_at(origins, SHIPPED_ROWS)) if origins else (),
        choice=_choice(origins),
        artists=RatedArtists(*map(len, sums.artists)),
    )


def usable(sums: PastSums, /) -> list[Origin]:
    """List the origins, newest first, at which a month is scored and as much is known as at D.

    An origin whose rates look back over fewer weeks says little about forecasts of today.
    """
    now = _lengths_known(sums.now.rates())
    origins = (
        Origin(back, of_origin.rates.rates(), of_origin.bins.cumsum(axis=-1))
        for back, of_origin in enumerate(sums.origins, start=1)
    )
    return [
        origin for origin in origins if _lengths_known(origin.rates) >= max(now, 1) and origin.below[0].any()
    ]


def _lengths_known(rates: Rates) -> int:
    """Count the lengths, 8, 13 and 26 weeks, in which enough tracks are complete."""
    return sum(sum(of_length) >= FEWEST_TRACKS for of_length in rates.complete)


def independent(origins: Sequence[Origin], /, *, months: int) -> float:
    """Count the origins as if they did not overlap, with this many months between them."""
    if not origins:
        return 0.0
    return (origins[-1].back - origins[0].back) / months + 1


def _errors(origins: Sequence[Origin], decays: Sequence[Floats]) -> tuple[ModelErrors, ...]:
    """Return the error figures of each of `CANDIDATES`."""
    scored = [scores(o, decay) for o, decay in zip(origins, decays, strict=True)]
    residuals = np.stack(residual_quantiles(origins, decays), axis=-1)
    return tuple(
        _model_errors(origins, candidate, of_candidate, of_months.tolist())
        for candidate, of_candidate, of_months in zip(
            CANDIDATES, zip(*scored, strict=True), residuals, strict=True
        )
    )


def _model_errors(
    origins: Sequence[Origin],
    candidate: Candidate,
    scored: Sequence[Scores],
    residuals: Sequence[Sequence[float]],
) -> ModelErrors:
    """Return the error figures of one model, from its scores by origin and its residuals by month."""
    own = []
    for month, (number, q80, q95) in enumerate(residuals, start=1):
        if not number:
            continue
        those = [i for i, origin in enumerate(origins) if origin.back >= month]
        one = [_log_ratio(scored[i].actual[month - 1], scored[i].forecast[month - 1]) for i in those]
        all_ = [_log_ratio(scored[i].actual[:month].sum(), scored[i].forecast[:month].sum()) for i in those]
        own.append(
            OwnErrors(
                month,
                len(those),
                independent([origins[i] for i in those], months=month),
                _root_mean_square(one),
                _root_mean_square(all_),
                int(number),
                q80,
                q95,
            )
        )
    errors = Errors(tuple(own), prior_errors(candidate.weight).widened)
    return ModelErrors(candidate.weight, candidate.level, errors)


def _log_ratio(actual: float, forecast: float) -> float | None:
    """Return ln(actual / forecast); None where it is not finite."""
    return math.log(actual / forecast) if actual > 0 and forecast > 0 else None


def _root_mean_square(values: Sequence[float | None]) -> float | None:
    squares = [value * value for value in values if value is not None]
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else None


def _choice(origins: Sequence[Origin]) -> Choice:
    """Choose the model with the least loss on the catalogue's own origins.

    With the shipped rows: a row fitted to these origins would look better than it is.
    """
    origins = [origin for origin in origins if _lengths_known(origin.rates) == len(LENGTHS)]
    if len(origins) < FEWEST_ORIGINS:
        return Choice()
    scored = _scored(origins, SHIPPED_ROWS)
    tried = tuple(
        _tried(candidate, _wapes(of_one)) for candidate, of_one in zip(CANDIDATES, scored, strict=True)
    )
    none = np.zeros((len(GROUPS), MONTHS))
    flat = tuple(
        _tried(still, _wapes([score(origin, still, none) for origin in origins])).loss
        for still in (Candidate(1.0, level) for level in LEVELS)
    )
    best = min(tried, key=_preferred)
    if best.loss is None:
        return Choice(tried=tried, flat=flat)
    return Choice(best.weight, best.level, is_measured=True, tried=tried, flat=flat)


def _preferred(one: Tried) -> tuple[float, float, int]:
    """Order by loss; of equal ones, the even blend from the last week is first."""
    loss = math.inf if one.loss is None else one.loss * HANDICAP[one.level]
    return loss, abs(one.weight - 0.5), one.level


def _tried(candidate: Candidate, wapes: Sequence[float]) -> Tried:
    if not wapes:
        return Tried(candidate.weight, candidate.level, None, None, None)
    # Each origin counts the same: in a mean, the few with large errors would decide.
    typical = _geometric_mean(wapes)
    return Tried(candidate.weight, candidate.level, typical, math.fsum(wapes) / len(wapes), max(wapes))


def _scored(origins: Sequence[Origin], rows: Rows) -> list[tuple[Scores, ...]]:
    """Return the scores at each origin, for each of `CANDIDATES`."""
    each = [scores(o, decay) for o, decay in zip(origins, decays_at(origins, rows), strict=True)]
    return [*zip(*each, strict=True)]


def _wapes(scored: Sequence[Scores]) -> list[float]:
    """Return the WAPE of each origin with streams."""
    return [wape for wape in (of_origin.wape for of_origin in scored) if math.isfinite(wape)]


def _alone(origins: Sequence[Origin], rows: Rows) -> list[float]:
    """Return the WAPE of the calibrated model from the last 7 days, at each origin with streams."""
    at = CANDIDATES.index(Candidate(1.0, WEEK))
    return _wapes(_scored(origins, rows)[at]) if origins else []


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
    fitted = _with_fitted(earlier)
    before, after = (loss(_alone(later, rows)) for rows in (SHIPPED_ROWS, fitted))
    # In the loss the worst origin counts most. It has to be better at a typical one, too.
    is_better = before is not None and after is not None and after < before and _typical(later, fitted) < 1
    rows = _with_fitted(origins) if is_better or asked == "fitted" else SHIPPED_ROWS
    return rows, RowsLoss(asked, len(later), before, after)


def _with_fitted(origins: Sequence[Origin]) -> Rows:
    """Fit a row; it counts by the years between the first and the last origin."""
    if not origins:
        return SHIPPED_ROWS
    n = independent(origins, months=MONTHS) - 1
    return Rows(fit_row(origins), n / (n + 3))


def _typical(origins: Sequence[Origin], rows: Rows) -> float:
    """Return the geometric mean over origins of WAPE / WAPE with the shipped rows."""
    of_rows, shipped = (_alone(origins, those) for those in (rows, SHIPPED_ROWS))
    return _geometric_mean(of_rows) / _geometric_mean(shipped)


def _geometric_mean(wapes: Sequence[float]) -> float:
    return math.exp(math.fsum(math.log(max(wape, _TINY)) for wape in wapes) / len(wapes))
