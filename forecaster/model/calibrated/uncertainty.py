"""How sure a forecast is: error figures by month ahead, and quantiles of months and of totals.

The error of a month is ln(actual / forecast). One part is shared by all tracks (sigma), one is a track's own
(q, the quantiles of its absolute value). They are kept apart: only the second one averages out in a total.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from forecaster.tables import QUANTILES as QUANTILES  # noqa: PLC0414 - for those who take both

# Month 1 to 12, from the series of other artists.
_Q80 = (0.093, 0.194, 0.265, 0.324, 0.376, 0.420, 0.457, 0.489, 0.518, 0.548, 0.585, 0.608)
_Q95 = (0.185, 0.366, 0.494, 0.595, 0.677, 0.738, 0.797, 0.838, 0.877, 0.912, 0.947, 0.986)
_SIGMA = (0.050, 0.103, 0.146, 0.183, 0.212, 0.238, 0.265, 0.285, 0.298, 0.312, 0.326, 0.344)
_SIGMA_CUMULATED = ((1, 0.050), (3, 0.10), (6, 0.14), (12, 0.20))  # of months 1 to h; linear in ln h between

MEASURED = len(_SIGMA)
"""Months ahead with figures. Later ones are those of the last of them x sqrt(h / 12), an assumption."""

PRIOR_ORIGINS = 3
"""The prior figures count as much as this many independent origins."""
PRIOR_DF = 8
"""Degrees of freedom of totals without origins of the catalogue's own; with n of them, 6 + n."""
_OWN_DF = 6
ENOUGH_RESIDUALS = 20
"""With more residuals than this, the quantiles of the catalogue's own count."""

YOUNG_MONTHS = 6
YOUNG, OLDER = 1.5, 0.95
"""Factors of q for tracks under 6 months old, and for others."""

PRODUCTION_WIDENED = 1.3
"""Factor of the prior figures for the production model: the errors of its totals on demo data, by these."""

_LARGEST_EXPONENT = 700.0  # e^710 is no float

PERCENTS = (80, 95)
"""Shares of the actuals that a range is to hold: the `level` of what follows."""
_Z = {80: 1.2816, 95: 1.9600}


@dataclass(frozen=True)
class OwnErrors:
    """What rolling origins of the catalogue itself show of one month ahead."""

    month: int
    origins: int = 0
    """Number of origins with a month that was over by the as-of day."""
    independent: float = 0.0
    """Origins that do not overlap: days between the first and the last one / (30 x month) + 1."""
    sigma: float | None = None
    """Root of the mean over origins of (ln of total actual / total forecast) squared."""
    sigma_cumulated: float | None = None
    """The same for the total of months 1 to `month`."""
    residuals: int = 0
    """Number of residuals: ln(actual / forecast) of a track, less the median of its origin."""
    q80: float | None = None
    """Quantile of their absolute value."""
    q95: float | None = None


@dataclass(frozen=True)
class Errors:
    """Error figures of one model, by month ahead: prior figures combined with the catalogue's own."""

    own: tuple[OwnErrors, ...] = ()
    """Months 1 to 12, as far as there are origins."""
    widened: float = 1.0
    """Factor of the prior figures of months without own ones."""

    @property
    def independent(self) -> float:
        """Largest number of independent origins of any month. 0: only prior figures."""
        return max((own.independent for own in self.own), default=0.0)

    def sigma(self, month: int) -> float:
        """Return the standard deviation of the shared error of one month."""
        own, measured = self._own(month)
        prior = self._wide(own) * _SIGMA[measured - 1]
        return _root_mean(prior, own.sigma, own.independent) * _later(month)

    def sigma_cumulated(self, month: int) -> float:
        """Return the standard deviation of the shared error of the total of months 1 to `month`."""
        own, measured = self._own(month)
        prior = self._wide(own) * _prior_cumulated(measured)
        return _root_mean(prior, own.sigma_cumulated, own.independent) * _later(month)

    def q(self, level: int, month: int) -> float:
        """Return a quantile (80 or 95) of a track's own absolute error, without the factor of its age."""
        own, measured = self._own(month)
        prior, value = (_Q80, own.q80) if level == PERCENTS[0] else (_Q95, own.q95)
        q = self._wide(own) * prior[measured - 1]
        if value and own.residuals > ENOUGH_RESIDUALS:
            n = own.independent
            q = math.exp((PRIOR_ORIGINS * math.log(q) + n * math.log(value)) / (PRIOR_ORIGINS + n))
        return q * _later(month)

    def df(self, month: int) -> float:
        """Return the degrees of freedom of a total."""
        own, _ = self._own(month)
        return _OWN_DF + own.independent if own.independent else PRIOR_DF

    def half_width(self, level: int, month: int, *, young: bool) -> float:
        """Return half the width of a track's interval, as a logarithm."""
        q = self.q(level, month) * (YOUNG if young else OLDER)
        return math.hypot(q, _Z[level] * self.sigma(month))

    def total_factor(self, level: int, month: int) -> float:
        """Return the factor from the total of months 1 to `month` to the upper end of its interval."""
        return math.exp(student_t(level, self.df(month)) * self.sigma_cumulated(month))

    def spread(self, month: int, *, young: bool) -> float:
        """Return s_v: the standard deviation of the error of a track alone."""
        return self.q(PERCENTS[0], month) * (YOUNG if young else OLDER) / _Z[PERCENTS[0]]

    def _wide(self, own: OwnErrors) -> float:
        return 1.0 if own.origins else self.widened

    def _own(self, month: int) -> tuple[OwnErrors, int]:
        """Return the catalogue's own figures, and the month from 1 to 12 whose prior figures count."""
        measured = min(month, MEASURED)
        none = OwnErrors(month=measured)
        return next((own for own in self.own if own.month == measured), none), measured


def prior_errors(weight: float) -> Errors:
    """Return the error figures of a model without origins of its own: wider for the production model."""
    return Errors(widened=PRODUCTION_WIDENED ** (1 - weight))


def with_quantiles(forecasts: pl.LazyFrame, errors: Errors, /, *, horizon: int) -> pl.LazyFrame:
    """Add the `QUANTILES` of each track's month, streams, not rounded; q50 is the forecast itself.

    `forecasts`: month (1 to `horizon`), time_used and forecasted_value, one row per track and month.
    """
    widths = {
        level: [
            errors.half_width(level, month, young=young)
            for month in range(1, horizon + 1)
            for young in (False, True)
        ]
        for level in PERCENTS
    }
    value = pl.col("forecasted_value")
    signs = {"q025": (-1, 95), "q10": (-1, 80), "q90": (1, 80), "q975": (1, 95)}
    bounds = {
        name: value * _look_up([_factor(sign * width) for width in widths[level]], _cell())
        for name, (sign, level) in signs.items()
    } | {"q50": value}
    return forecasts.with_columns(bounds[name].alias(name) for name in QUANTILES)


def totals(
    forecasts: pl.LazyFrame,
    errors: Errors,
    /,
    *,
    horizon: int,
    by: Sequence[str] = (),
    is_group: bool,
) -> pl.LazyFrame:
    """Sum the months of several tracks, with the quantiles of the sums. Never sums of quantiles.

    `forecasts`: cm_track_id, month, time_used, forecasted_value and the columns `by`, one row per track and
    month. `is_group`: the tracks are a part of the catalogue (an artist, a filter); then their own errors
    count, which do not average out among few tracks. Returns one row per `by` and month, ordered by both:
    month, tracks, total, `QUANTILES`, cumulated (months 1 to `month`) and the quantiles of that, named
    cumulated_q025 and so on.
    """
    months = range(1, horizon + 1)
    spreads = [errors.spread(month, young=young) for month in months for young in (False, True)]
    own = _look_up(spreads, _cell()) * pl.col("forecasted_value")
    # The errors of a track's months are taken to be fully correlated: it stays above or below its forecast.
    so_far = pl.col("value", "own").cum_sum().over(*by, "cm_track_id", order_by="month")
    summed = (
        forecasts.select(*by, "cm_track_id", "month", value="forecasted_value", own=own)
        .with_columns(so_far.name.suffix("_so_far"))
        .group_by(*by, "month")
        .agg(
            tracks=pl.len().cast(pl.Int64),
            total=pl.col("value").sum(),
            cumulated=pl.col("value_so_far").sum(),
            _own=_share("own", "value"),
            _own_so_far=_share("own_so_far", "value_so_far"),
        )
        .sort(*by, "month")
    )
    df = [errors.df(month) for month in months]
    sigma = [errors.sigma(month) for month in months]
    cumulated = [errors.sigma_cumulated(month) for month in months]
    return summed.select(
        *by,
        "month",
        "tracks",
        "total",
        *_bounds("total", sigma, df, own="_own" if is_group else None, prefix=""),
        "cumulated",
        *_bounds("cumulated", cumulated, df, own="_own_so_far" if is_group else None, prefix="cumulated_"),
    )


def track_totals(forecasts: pl.LazyFrame, errors: Errors, /, *, horizon: int) -> pl.LazyFrame:
    """Sum all months of each track, with the quantiles of the sum: those of `totals` in its last month.

    `forecasts` as for `totals`. Returns one row per track, ordered: cm_track_id, cumulated, and its quantiles
    named as there.
    """
    months = range(1, horizon + 1)
    spreads = [errors.spread(month, young=young) for month in months for young in (False, True)]
    summed = (
        forecasts.group_by("cm_track_id")
        .agg(
            month=pl.col("month").max(),
            cumulated=pl.col("forecasted_value").sum(),
            _own=(_look_up(spreads, _cell()) * pl.col("forecasted_value")).sum(),
        )
        .with_columns(
            _own=pl.when(pl.col("cumulated") > 0).then(pl.col("_own") / pl.col("cumulated")).otherwise(0.0)
        )
        .sort("cm_track_id")
    )
    df = [errors.df(month) for month in months]
    sigmas = [errors.sigma_cumulated(month) for month in months]
    bounds = _bounds("cumulated", sigmas, df, own="_own", prefix="cumulated_")
    return summed.select("cm_track_id", "cumulated", *bounds)


def _bounds(
    total: str, sigmas: Sequence[float], dfs: Sequence[float], /, *, own: str | None, prefix: str
) -> list[pl.Expr]:
    """Compute the quantiles of a total from the shared error by month and its tracks' own errors."""
    halves = {}
    for level in PERCENTS:
        shared = [student_t(level, df) * sigma for sigma, df in zip(sigmas, dfs, strict=True)]
        half = _look_up(shared, pl.col("month") - 1)
        halves[level] = half if own is None else (half**2 + (_Z[level] * pl.col(own)) ** 2).sqrt()
    exponents = (-halves[95], -halves[80], pl.lit(0.0), halves[80], halves[95])
    return [
        (pl.col(total) * exponent.exp()).alias(prefix + name)
        for name, exponent in zip(QUANTILES, exponents, strict=True)
    ]


def _factor(exponent: float) -> float:
    return math.exp(min(exponent, _LARGEST_EXPONENT))


def student_t(level: int, df: float, /) -> float:
    """Return the two-sided quantile (80 or 95 %) of Student's t with `df` >= 6 degrees of freedom.

    By Fisher's expansion in 1 / df: at 6 degrees its error is below 1e-4.
    """
    z = {80: 1.2815515655446004, 95: 1.959963984540054}[level]
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / df**power for power, term in enumerate(terms, start=1))


def _cell() -> pl.Expr:
    """Return the position in a list with two values per month: for older tracks and for young ones."""
    age = pl.col("time_used") - pl.col("month") + 1
    return 2 * (pl.col("month") - 1) + (age < YOUNG_MONTHS).cast(pl.Int64)


def _share(own: str, value: str) -> pl.Expr:
    """Return the root of the sum of squares of `own`, relative to the sum of `value`."""
    total = pl.col(value).sum()
    return pl.when(total > 0).then(pl.col(own).pow(2).sum().sqrt() / total).otherwise(0.0)


def _look_up(values: Sequence[float], index: pl.Expr) -> pl.Expr:
    return pl.lit(pl.Series(values)).gather(index)


def _root_mean(prior: float, own: float | None, independent: float) -> float:
    """Combine two standard deviations by their squares, weighted by numbers of independent origins."""
    if own is None:
        return prior
    weighted = PRIOR_ORIGINS * prior**2 + independent * own**2
    return math.sqrt(weighted / (PRIOR_ORIGINS + independent))


def _later(month: int) -> float:
    return math.sqrt(max(month, MEASURED) / MEASURED)


def _prior_cumulated(month: int) -> float:
    """Interpolate linearly in the logarithm of the month."""
    for (low, at_low), (high, at_high) in pairwise(_SIGMA_CUMULATED):
        if month <= high:
            return at_low + (at_high - at_low) * math.log(month / low) / math.log(high / low)
    raise AssertionError(month)
