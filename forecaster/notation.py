"""Numbers and days as people and spreadsheets write them: read where that is certain, else what to write."""

import re
from collections.abc import Iterable

import polars as pl

# With the blanks and quotes that stand between thousands somewhere.
_BETWEEN_THOUSANDS = str.maketrans("", "", ".,'_ \u00a0\u2009\u202f\u2019")
_BLANKS = str.maketrans("\u00a0\u2009\u202f", "   ")

_WITH_COMMA = r"^[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?$"
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}([.,][0-9]{3})+")
_ONE_COMMA = r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$"
_WHOLE_WITH_COMMA = r"^([+-]?[0-9]+),0$"
_DECIMAL = re.compile(r"[+-]?[0-9]*[.,]([0-9]+)")
_DOTTED_DAY = r"^[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4}$"
_DAY_OR_MONTH = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-][0-9]{2,4}\b")
_MOST_MONTHS = 12


def has_decimal_commas(values: pl.Series) -> bool:
    """Whether any number has one, and none has a point."""
    return bool(values.str.contains(_WITH_COMMA).any() and not values.str.contains(".", literal=True).any())


def doubtful_comma(values: pl.Series) -> str | None:
    """The first number with a comma, if each of their commas may as well be between thousands."""
    with_comma = values.filter(values.str.contains(_WITH_COMMA))
    return str(with_comma[0]) if with_comma.str.contains(_ONE_COMMA).all() else None


def whole_with_points(values: pl.Series) -> pl.Series | None:
    """Whole numbers that are written as `1000,0` with a point; None if there are none."""
    if not values.str.contains(_WHOLE_WITH_COMMA).any():
        return None
    return values.str.replace(_WHOLE_WITH_COMMA, "${1}.0")


def days_of_dots(values: pl.Series) -> pl.Series | None:
    """Days that are written as `31.01.2024` as `2024-01-31`; None if there are none."""
    dotted = values.str.contains(_DOTTED_DAY)
    if not dotted.any():
        return None
    days = values.set(~dotted, None).str.to_date("%d.%m.%Y", strict=False)
    return days.dt.strftime("%Y-%m-%d").fill_null(values)


def readable(text: str) -> str:
    """`text` with the blanks that have codes of their own as plain ones."""
    return text.translate(_BLANKS)


def is_no_whole_number(value: object) -> bool:
    """Whether it is a number with decimals that can be nothing else."""
    decimal = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
    return bool(decimal and decimal[1].strip("0") and not _is_of_thousands(str(value)))


def advice_on_numbers(values: Iterable[object], *, is_decimal: bool) -> str | None:
    """What to write instead of numbers that cannot be read."""
    texts = [value for value in values if isinstance(value, str)]
    if any(map(_is_of_thousands, texts)):
        return "remove the separators of thousands" + (
            ", and write decimal numbers with a point" if is_decimal else ""
        )
    if any(map(_DECIMAL.fullmatch, texts)):
        return "write decimal numbers with a point" if is_decimal else "write whole numbers, without decimals"
    return None


def _is_of_thousands(text: str) -> bool:
    digits = text.translate(_BETWEEN_THOUSANDS).lstrip("+-")
    if len(text.lstrip("+-")) == len(digits) or not digits.isdecimal():
        return False
    return bool(_THOUSANDS.fullmatch(text) or not _DECIMAL.fullmatch(text))


def advice_on_days(values: Iterable[object]) -> str | None:
    """What to write instead of days that cannot be read; their format, where only one is possible."""
    texts = [value for value in values if isinstance(value, str)]
    numbers = [(int(day[1]), int(day[2])) for day in map(_DAY_OR_MONTH.match, texts) if day]
    day_first = any(first > _MOST_MONTHS for first, _ in numbers)
    month_first = any(second > _MOST_MONTHS for _, second in numbers)
    if day_first != month_first:
        order = "day, month and year" if day_first else "month, day and year"
        return f"write days as 2024-01-31: these seem to be {order}"
    if numbers:
        return "write days as 2024-01-31: these may have the day or the month first"
    return "write days as 2024-01-31" if texts else None
