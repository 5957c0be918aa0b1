"""Whether a calibration from elsewhere can be computed with: types, shapes, and the range of its numbers."""

from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from datetime import date
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from forecaster.model.calibrated.rates import GROUPS, LENGTHS, Rates
from forecaster.model.calibrated.uncertainty import MEASURED
from forecaster.model.parameters import LEVELS

if TYPE_CHECKING:
    from forecaster.model.calibrated.calibration import Calibration

_STEEPEST = 1_000.0  # rate per month: a fall from 10^15 streams to one within a week is 150
_WIDEST = 1_000.0  # error as a logarithm: from the largest float to the smallest one is 1,450
_LARGEST_OF_ROW, _SLOWEST = 10.0, 0.001  # the numbers of a row, and its theta, which divides
_LARGEST = 2**63 - 1


def is_sound(calibration: "Calibration", /) -> bool:
    """Whether every value has its type, every table its shape, and every number can be computed with."""
    return has_type(calibration, type(calibration)) and all(_conditions(calibration))


def has_type(value: object, hint: Any, /) -> bool:  # noqa: ANN401 - a type as annotations have it
    """Whether a value has the type of an annotation; no number is huge, and no count below 0."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(has_type(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(has_type(item, arguments[0]) for item in value)
    if is_dataclass(hint) or hasattr(hint, "_fields"):
        parts = get_type_hints(hint).items()
        return isinstance(value, hint) and all(has_type(getattr(value, name), part) for name, part in parts)
    return _is_scalar(value, hint)


def _is_scalar(value: object, kind: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        is_small = abs(value) <= _LARGEST
        return is_small and (kind is float or (kind is int and type(value) is int and value >= 0))
    return type(value) is kind


def _conditions(calibration: "Calibration") -> Iterator[bool]:
    """Yield what must hold of a calibration with the right types."""
    yield from _of_rates(calibration.rates)
    yield all(day < calibration.as_of for day in calibration.origins)
    yield calibration.first_day is None or date.min < calibration.first_day <= calibration.as_of
    fitted, weight = calibration.rows
    yield 0 <= weight <= 1
    yield fitted is None or (_within(fitted, _LARGEST_OF_ROW) and fitted.theta >= _SLOWEST)
    models = [(one.weight, one.level) for one in calibration.errors]
    for weight, level in [(calibration.choice.weight, calibration.choice.level), *models]:
        yield 0 <= weight <= 1 and level in LEVELS
    for of_model in calibration.errors:
        yield 0 < of_model.errors.widened <= _WIDEST
        for own in of_model.errors.own:
            yield 1 <= own.month <= MEASURED and own.independent >= 0
            figures = (own.sigma, own.sigma_cumulated, own.q80, own.q95)
            yield all(figure is None or 0 <= figure <= _WIDEST for figure in figures)


def _of_rates(rates: Rates) -> Iterator[bool]:
    for table in (rates.rates, rates.complete, rates.slopes):
        yield [len(row) for row in table] == [len(GROUPS)] * len(LENGTHS)
    yield len(rates.whole) == len(LENGTHS)
    yield all(_within(row, _STEEPEST) for row in (*rates.rates, rates.whole))
    yield all(_within((slope for slope in row if slope is not None), _STEEPEST) for row in rates.slopes)


def _within(numbers: Iterable[float], most: float) -> bool:
    return all(abs(number) <= most for number in numbers)
