"""Cast rows to the types of a table's columns: the same values, or the reason why a row cannot be stored."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from forecaster.errors import WriteRefusedError
from forecaster.frames.schemas import Dtype

# The Polars type for a column of each type. The PostgreSQL driver copies bits without checking: a frame of
# another type would be stored as other numbers, without an error.
STORED_AS: Mapping[str, Dtype] = {
    "smallint": pl.Int16,
    "integer": pl.Int32,
    "bigint": pl.Int64,
    "real": pl.Float32,
    "double precision": pl.Float64,
    "double precision[]": pl.List(pl.Float64),
    "real[]": pl.List(pl.Float32),
    "numeric": pl.Decimal(38, 0),
    "uuid": pl.Binary,
    "text": pl.String,
    "jsonb": pl.String,
    "date": pl.Date,
    "timestamp with time zone": pl.Datetime("us", "UTC"),
    "timestamp without time zone": pl.Datetime("us"),
}

# Days since 1970. Beyond them the driver's arithmetic overflows, and a day can become 'infinity'.
_FIRST_DAY, _LAST_DAY = -2_440_588, 2_145_042_905  # PostgreSQL's: 24 November 4714 BC, 31 December 5874897
_CALENDAR = [(day - date(1970, 1, 1)).days for day in (date.min, date.max)]
_LAST_US = 2**63 - 1  # Polars' last microsecond, in the year 294247
_US_PER_DAY = 86_400_000_000
_US_PER_TICK = {"us": 1, "ms": 1_000}
_UUID_BYTES = 16
_DECIMAL_DIGITS = 38


@dataclass(frozen=True)
class ColumnInfo:
    """What a column of a table accepts."""

    type: str
    not_null: bool = False
    has_default: bool = False
    generated: bool = False
    digits: int | None = None
    """Maximum digits before the point, for a numeric column of limited precision; else None."""


@dataclass(frozen=True)
class Fitted:
    """Rows in the types of a table's columns."""

    rows: pl.DataFrame
    problems: Mapping[str, pl.Series]
    """Rows that cannot be stored: "column: reason" -> Boolean mask over the rows."""
    given: pl.DataFrame
    """The rows before the cast."""

    def by(self, column: str) -> dict[int, str]:
        """Map each id in `column` that has a row that cannot be stored to its first reason."""
        reasons: dict[int, str] = {}
        for reason, mask in self.problems.items():
            ids = self.given[column].filter(mask).unique().sort()
            reasons |= dict.fromkeys(ids.to_list(), reason) | reasons
        return reasons


def fit(
    rows: pl.DataFrame, columns: Mapping[str, ColumnInfo], *, may_be_null: Collection[str] = ()
) -> Fitted:
    """Cast rows to the types of the columns of the same names, with the same values.

    A value that a column cannot hold exactly (too large, a fraction, not finite) is a problem of its row, and
    so is a NULL where a value is required. Some conversions may lose precision, because such a column is
    meant for it: a float becomes the nearest value of a real column and is rounded to the scale of a numeric
    column, and an instant becomes its day in a date column. Raises `WriteRefusedError` for a column whose
    type cannot hold values of this kind at all.
    """
    fitted: dict[str, pl.Series] = {}
    problems: dict[str, pl.Series] = {}
    wrong = []
    for column in rows.columns:
        info = columns[column]
        values = _converted(rows[column], info)
        if values is None:
            wrong.append(f"{column}: {rows[column].dtype} cannot be stored as {info.type}")
            continue
        required = info.not_null or column not in may_be_null
        fitted[column] = values
        problems |= _problems(rows[column], values, info.type, required=required)
    if wrong:
        raise WriteRefusedError("; ".join(wrong))
    return Fitted(pl.DataFrame(fitted), problems, rows)


def fit_or_refuse(
    rows: pl.DataFrame, fit: Callable[[pl.DataFrame], Fitted], *, by: str
) -> tuple[Fitted, dict[int, str]]:
    """Cast the rows of all tracks or artists of which every row fits; the others are refused.

    `by` is the column with the id of the track or artist. Also returns the first reason for each refused one.
    """
    fitted = fit(rows)
    refused = fitted.by(by)
    if refused:  # again from the start: without the refused rows the others can keep more digits
        unfit = pl.Series(list(refused), dtype=pl.Int64).implode()
        fitted = fit(rows.filter(~pl.col(by).is_in(unfit)))
    return fitted, refused


def _converted(values: pl.Series, info: ColumnInfo) -> pl.Series | None:
    """Cast values, with NULL for those that the type cannot hold; None if it can hold none of this kind."""
    dtype, target = values.dtype, STORED_AS[info.type]
    converted = None
    if dtype == pl.Null or (dtype.is_decimal() and target.is_decimal()):
        converted = values.cast(target) if dtype == pl.Null else values
    elif dtype == target == pl.Binary:
        converted = _where(values.bin.size() == _UUID_BYTES, values)
    elif dtype.is_numeric() and target.is_numeric() and not dtype.is_decimal():
        converted = _number(values, target)
    elif dtype == target == pl.Date:
        converted = _where(values.to_physical().is_between(_FIRST_DAY, _LAST_DAY), values)
    elif isinstance(dtype, pl.Date | pl.Datetime) and target.is_temporal():
        us = _microseconds(values)
        converted = (us // _US_PER_DAY).cast(pl.Int32).cast(pl.Date) if target == pl.Date else us.cast(target)
    if converted is not None and info.digits is not None:
        before_point = converted.cast(pl.String).str.extract(r"^-?0*([0-9]*)")
        converted = _where(before_point.str.len_chars() <= info.digits, converted)
    return converted


def _number(values: pl.Series, target: Dtype) -> pl.Series:
    if values.dtype.is_float():
        values = _where(values.is_finite(), values)
    if target.is_decimal():
        fitted = _decimal(values)
        back = fitted.cast(pl.String)
    else:
        back = fitted = values.cast(target, strict=False)
        if target == pl.Float32 and values.dtype.is_float():
            return _where(fitted.is_finite(), fitted)
    return _where(back.cast(values.dtype, strict=False) == values, fitted)


def _decimal(values: pl.Series) -> pl.Series:
    """Cast to decimals with as many digits after the point as fit; floats by their shortest text."""
    if not values.dtype.is_float():
        return values.cast(pl.Decimal(_DECIMAL_DIGITS, 0), strict=False)
    sizes = values.abs().cast(pl.Float64)
    largest = sizes.filter(sizes < 10.0**_DECIMAL_DIGITS).max()
    before_point = math.floor(math.log10(largest)) + 1 if isinstance(largest, float) and largest >= 1 else 1
    scale = _DECIMAL_DIGITS - before_point
    return values.cast(pl.String).cast(pl.Decimal(_DECIMAL_DIGITS, scale), strict=False)


def _microseconds(values: pl.Series) -> pl.Series:
    """Microseconds since 1970; NULL beyond the timestamps of the server.

    Computed by arithmetic, because Polars overflows or panics for days outside its calendar.
    """
    ticks, dtype = values.to_physical().cast(pl.Int64), values.dtype
    if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns":
        return _where(ticks % 1_000 == 0, ticks // 1_000)
    per_tick = _US_PER_TICK[dtype.time_unit] if isinstance(dtype, pl.Datetime) else _US_PER_DAY
    in_range = ticks.is_between(_FIRST_DAY * _US_PER_DAY // per_tick, _LAST_US // per_tick)
    return _where(in_range, ticks) * per_tick


def _where(condition: pl.Series, values: pl.Series) -> pl.Series:
    """Keep the values for which the condition holds; the others become NULL."""
    return pl.select(pl.when(condition).then(values).alias(values.name)).to_series()


def _problems(values: pl.Series, fitted: pl.Series, type_: str, *, required: bool) -> dict[str, pl.Series]:
    found = {f"{values.name}: a value that does not fit {type_}": fitted.is_null() & values.is_not_null()}
    if required:
        found[f"{values.name}: NULL, but a value is required"] = values.is_null()
    return {problem: mask for problem, mask in found.items() if mask.any()}


def described(rows: pl.DataFrame) -> str:
    """Describe the first row as text: each column with its value."""
    return ", ".join(f"{values.name} {_shown(values.head(1))}" for values in rows)


def _shown(value: pl.Series) -> str:
    """Convert a single value to text; Polars panics for a day outside its calendar."""
    if isinstance(value.dtype, pl.Date | pl.Datetime) and value.null_count() == 0:
        days = _microseconds(value) // _US_PER_DAY
        if not days.is_between(_CALENDAR[0], _CALENDAR[1]).fill_null(value=False).item():
            return "outside the years 1 to 9999"
    return str(value.item())
