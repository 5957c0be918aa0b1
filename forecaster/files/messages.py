"""What errors say of the columns and values of a file."""

import math
from collections.abc import Mapping, Sequence

import polars as pl

from forecaster.files.forms import FIRST_DAY, INEXACT_FROM, LAST_DAY, TICKS_PER_DAY, Field
from forecaster.files.notation import advice_on_days, advice_on_numbers

SHOWN = 5
"""How many offenders an error lists. How many there are in all it always says."""

_LONGEST_SHOWN = 40  # characters of a value
_MOST_COLUMNS = 20


def shown(value: pl.Series) -> str:
    """The one value of the series, as the file has it."""
    if value.null_count():
        return "empty"
    if isinstance(value.dtype, (pl.Date, pl.Datetime)):
        per_day = 1 if isinstance(value.dtype, pl.Date) else TICKS_PER_DAY[value.dtype.time_unit]
        if not FIRST_DAY <= value.to_physical().item() // per_day <= LAST_DAY:
            return "not in the calendar"  # Polars panics over its text
    text = value.cast(pl.String).item()
    inexact_from = INEXACT_FROM.get(value.dtype.base_type())
    if inexact_from is not None and inexact_from <= abs(value.item()) < math.inf:
        return f"{text}, as a float not exact"
    return shortened(repr(text) if value.dtype == pl.String else text)


def plain_name(name: str) -> str:
    """Write a name in small letters, with _ for blanks."""
    return "_".join(name.lower().split())


def name_for(column: str, name: str) -> str:
    """What to rename it to: a song's own timeline has `streams`."""
    return "streams" if column == "daily_streams" and plain_name(name) != column else column


def advice_on_values(
    form: Mapping[str, Field], raw: pl.DataFrame, places: Sequence[tuple[int, str]]
) -> str | None:
    """What to write instead of the values at these rows and columns."""
    advice: dict[str, None] = {}
    for column in dict.fromkeys(column for _, column in places):
        values = [
            raw[column][row - 1] for row, name in places if name == column and raw[column].dtype == pl.String
        ]
        given = (
            advice_on_days(values)
            if form[column].becomes == pl.Date
            else advice_on_numbers(values, is_decimal=form[column].is_decimal)
        )
        advice |= {given: None} if given else {}
    return "; ".join(advice) or None


def listed(columns: Sequence[str]) -> str:
    """List columns, or the first of many."""
    more = [f"and {len(columns) - _MOST_COLUMNS:,} more"] if len(columns) > _MOST_COLUMNS else []
    return ", ".join([*(shortened(repr(column)) for column in columns[:_MOST_COLUMNS]), *more])


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """List numbers after their noun, or the first of many."""
    more = ["..."] if len(numbers) > SHOWN else []
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join([*map(str, numbers[:SHOWN]), *more])}"


def shortened(text: str) -> str:
    """Cut a long text off."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
