"""Numbers and days as people and spreadsheets write them: read them if unambiguous, else advise."""

import re
from collections.abc import Iterable

import polars as pl

_SEPARATOR = "[.,'_ \u00a0\u2009\u202f\u2019]"  # separators of thousands, from all countries
_BLANKS = str.maketrans("\u00a0\u2009\u202f", "   ")

_WITH_COMMA = r"^[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?$"
_THOUSANDS = re.compile(
    f"[+-]?[1-9][0-9]{{0,2}}({_SEPARATOR}[0-9]{{2,3}}){{0,9}}{_SEPARATOR}[0-9]{{3}}([.,][0-9]{{1,20}})?"
)
_ONE_COMMA = r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$"
_WHOLE_WITH_COMMA = r"^([+-]?[0-9]+),0$"
_DECIMAL = re.compile(r"[+-]?[0-9]*[.,]([0-9]+)")
_DAY_OR_MONTH = re.compile(r"([0-9]{1,2})([/.-])([0-9]{1,2})[/.-][0-9]{2,4}\b")
_MOST_MONTHS = 12
_LONGEST_SHOWN = 40


def has_decimal_commas(values: pl.Series) -> bool:
    """Whether some numbers have a comma, and no value has a point."""
    return bool(values.str.contains(_WITH_COMMA).any() and not values.str.contains(".", literal=True).any())


def doubtful_comma(values: pl.Series) -> str | None:
    """Return the first number with a comma, if every comma may also separate thousands."""
    with_comma = values.filter(values.str.contains(_WITH_COMMA))
    return str(with_comma[0]) if with_comma.str.contains(_ONE_COMMA).all() else None


def whole_with_points(values: pl.Series) -> pl.Series | None:
    """Replace the comma of whole numbers like `1000,0` by a point; None without such numbers."""
    if not values.str.contains(_WHOLE_WITH_COMMA).any():
        return None
    return values.str.replace(_WHOLE_WITH_COMMA, "${1}.0")


def advice_on_numbers(values: Iterable[object], *, is_decimal: bool) -> str | None:
    """Advise what to write instead of numbers that cannot be read."""
    texts = [value for value in values if isinstance(value, str)]
    if thousands := next(filter(_THOUSANDS.fullmatch, texts), None):
        shown = thousands.translate(_BLANKS)[:_LONGEST_SHOWN]
        others = ", and decimal numbers with a point" if is_decimal else ""
        return f"write {_without_separators(thousands)[:_LONGEST_SHOWN]}, not {shown!r}{others}"
    decimals = [*filter(None, map(_DECIMAL.fullmatch, texts))]
    if is_decimal and decimals:
        return "write decimal numbers with a point"
    broken = next((number[0] for number in decimals if number[1].strip("0")), None)
    if broken:
        return f"{broken[:_LONGEST_SHOWN]!r} is not a whole number, and only whole numbers can be stored"
    return "write whole numbers, without decimals" if decimals else None


def _without_separators(number: str) -> str:
    """Write a number without separators of thousands. A different last separator is the decimal point."""
    *thousands, last = re.findall(_SEPARATOR, number)
    whole, _, decimals = number.rpartition(last) if {last} < {last, *thousands} else (number, "", "")
    return ".".join(filter(None, (re.sub(_SEPARATOR, "", whole), decimals)))


def advice_on_days(values: Iterable[object]) -> str | None:
    """Advise what to write instead of days that cannot be read; name their format where it is certain."""
    texts = [value for value in values if isinstance(value, str)]
    found = [*filter(None, map(_DAY_OR_MONTH.match, texts))]
    # With dots, the day always comes first.
    day_first = any(day[2] == "." or int(day[1]) > _MOST_MONTHS for day in found)
    month_first = any(int(day[3]) > _MOST_MONTHS for day in found)
    if day_first != month_first:
        order = "day, month and year" if day_first else "month, day and year"
        return f"write days as 2024-01-31: these seem to be {order}"
    if found:
        return "write days as 2024-01-31: these may have the day or the month first"
    return "write days as 2024-01-31" if texts else None
