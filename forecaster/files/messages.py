"""Texts for errors about the columns and values of a file."""

import math
from collections.abc import Mapping, Sequence

import polars as pl

from forecaster.files.forms import FIRST_DAY, INEXACT_FROM, LAST_DAY, TICKS_PER_DAY, Field
from forecaster.files.notation import advice_on_days, advice_on_numbers

SHOWN = 5
"""How many offenders an error lists, at most. It always gives their total number."""

_LONGEST_SHOWN = 40  # characters of a value
_MOST_COLUMNS = 20


def shown(value: pl.Series) -> str:
    """Show the only value of the series as it is in the file."""
    if value.null_count():
        return "empty"
    if isinstance(value.dtype, (pl.Date, pl.Datetime)):
        per_day = 1 if isinstance(value.dtype, pl.Date) else TICKS_PER_DAY[value.dtype.time_unit]
        if not FIRST_DAY <= value.to_physical().item() // per_day <= LAST_DAY:
            return "not in the calendar"  # Polars panics when it formats it
    text = value.cast(pl.String).item()
    inexact_from = INEXACT_FROM.get(value.dtype.base_type())
    if inexact_from is not None and inexact_from <= abs(value.item()) < math.inf:
        return f"{text}, as a float not exact"
    return shortened(repr(text) if value.dtype == pl.String else text)


def plain_name(name: str) -> str:
    """Write a name in lower case, with _ for blanks."""
    return "_".join(name.lower().split())


def name_for(column: str, name: str) -> str:
    """Return the name to rename a column to: `streams` also stands for `daily_streams`."""
    return "streams" if column == "daily_streams" and plain_name(name) != column else column


def advice_on_values(
    form: Mapping[str, Field], raw: pl.DataFrame, places: Sequence[tuple[int, str]]
) -> str | None:
    """Advise what to write instead of the values at these rows and columns."""
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
    """List the columns; of many, only the first ones."""
    more = [f"and {len(columns) - _MOST_COLUMNS:,} more"] if len(columns) > _MOST_COLUMNS else []
    return ", ".join([*(shortened(repr(column)) for column in columns[:_MOST_COLUMNS]), *more])


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """List the numbers after their noun; of many, only the first ones."""
    more = ["..."] if len(numbers) > SHOWN else []
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join([*map(str, numbers[:SHOWN]), *more])}"


def shortened(text: str) -> str:
    """Cut a long text off."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
