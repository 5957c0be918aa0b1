"""The numbers that a forecast of the calibrated model follows from, in words and tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from forecaster.model.calibrated.forecast import Model
from forecaster.model.calibrated.rates import GROUPS, LENGTHS, OWN_WEIGHT
from forecaster.model.calibrated.rows import Row, decay_of, recent_rate
from forecaster.model.parameters import DAYS_PER_MONTH

_LETTERS = "abcd"


def calibrated_inputs(track: Mapping[str, Any], model: Model) -> Iterator[str]:
    """Yield where the forecast starts, the rates of the track's age group, and the rows."""
    group = track["age_group"]
    yield f"  {'calibration':<27}{model.calibration.id}"
    yield f"  {'weight of the calibrated':<27}{model.weight:g}"
    yield f"  {'level, streams per day':<27}{level_in_words(track, model.level)}"
    yield f"  {'age group, in months':<27}{GROUPS[group]}"
    yield from _rates(model, group)
    yield "  row       mean of d     recent rate b     theta        r0   weight"
    rates = _of_group(model, group)
    for name, row, weight in _rows(model):
        mean, recent = recent_rate(row, rates)
        yield f"  {name:<6}{mean:>13.6f}{recent:>18.6f}{row.theta:>10.4f}{row.r0:>10.4f}{weight:>9.4f}"


def calibrated_months(
    track: Mapping[str, Any], model: Model, forecasts: pl.DataFrame, /, *, shown: int
) -> Iterator[str]:
    """Yield the decays of the first months, ln(level / forecast): of each row, and their mean."""
    rows, rates = [*_rows(model)], _of_group(model, track["age_group"])
    names = "".join(f"{name:>9}" for name, _, _ in rows)
    blend = f"{'production':>11}{'joined':>9}" if model.weight < 1 else ""
    yield f" decay{names}{'mean':>9}{blend}"
    means = model.calibration.decays(horizon=len(forecasts))[track["age_group"]]
    for month, mean in enumerate(means[:shown], start=1):
        decays = "".join(f"{decay_of(row, rates, month):>9.5f}" for _, row, _ in rows)
        yield f"{month:>6}{decays}{mean:>9.5f}{_blend(track, model, mean, month)}"


def level_in_words(track: Mapping[str, Any], days: int) -> str:
    """Write the streams per day that a forecast starts from, and what they are the mean of."""
    last_30 = track["streams_30"] / DAYS_PER_MONTH
    level = last_30 if days == DAYS_PER_MONTH else track["level"]
    if days != DAYS_PER_MONTH and level == last_30:
        return f"{level:,.10g}, from 30 records: the week has gaps"
    return f"{level:,.10g}, from the last {days} days"


def _blend(track: Mapping[str, Any], model: Model, mean: float, month: int) -> str:
    if model.weight == 1:
        return ""
    other = track["production_decays"][month - 1]
    return f"{other:>11.5f}{model.weight * mean + (1 - model.weight) * other:>9.5f}"


def _rates(model: Model, group: int) -> Iterator[str]:
    rates = model.calibration.rates
    yield f"  d = (n x slope + {OWN_WEIGHT} x whole) / (n + {OWN_WEIGHT})"
    yield "  over        tracks n       slope       whole           d"
    for i, weeks in enumerate(LENGTHS):
        slope = rates.slopes[i][group]
        yield (
            f"  {weeks:>2} weeks{rates.complete[i][group]:>12,}{'-' if slope is None else f'{slope:.6f}':>12}"
            f"{rates.whole[i]:>12.6f}{rates.rates[i][group]:>12.6f}"
        )


def _rows(model: Model) -> Iterator[tuple[str, Row, float]]:
    weighted = model.calibration.rows.weighted()
    for number, (row, weight) in enumerate(weighted):
        yield _LETTERS[number] if number < len(_LETTERS) else "own", row, weight


def _of_group(model: Model, group: int) -> Sequence[float]:
    return [of_groups[group] for of_groups in model.calibration.rates.rates]
