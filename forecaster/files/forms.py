"""The columns of input files, and how their values are read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl
from polars.datatypes import DataType, DataTypeClass

from forecaster.files.dialect import Forms
from forecaster.frames.schemas import Dtype
from forecaster.tables import LISTENERS, RATES, STREAMS, Column, Table

FIRST_DAY, LAST_DAY = ((day - date(1970, 1, 1)).days for day in (date.min, date.max))
TICKS_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
# From this number on, a float may stand for more than one integer.
INEXACT_FROM: Mapping[DataTypeClass, int] = {pl.Float64: 2**53, pl.Float32: 2**24}

_ISO_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T]00:00(:00(\.0+)?)?(Z|[+-]00(:?00)?)?)?$"
_EXPORT_DAY = r"^[A-Z][a-z]{2} [0-9]{1,2}, [0-9]{4}$"

Reader = Callable[[pl.Expr, DataType], pl.Expr | None]
"""A column and its type -> its values, NULL where invalid; None if the type cannot be used."""


def _integer(column: pl.Expr, dtype: DataType) -> pl.Expr | None:
    if dtype == pl.String:
        # "5.0" is how a column of floats prints an integer. "5.000" may be that, or five thousand.
        return column.str.strip_suffix(".0").cast(pl.Int64, strict=False)
    whole = column.cast(pl.Int64, strict=False)
    if dtype.is_integer():
        return whole
    if dtype.is_decimal():
        return pl.when(whole.cast(dtype, strict=False) == column).then(whole)
    inexact_from = INEXACT_FROM.get(dtype.base_type())
    if inexact_from is None:
        return None
    return pl.when((column == column.floor()) & (column.abs() < inexact_from)).then(whole)


def _integer_from_0(column: pl.Expr, dtype: DataType) -> pl.Expr | None:
    value = _integer(column, dtype)
    return None if value is None else pl.when(value >= 0).then(value)


def _finite_number(column: pl.Expr, dtype: DataType) -> pl.Expr | None:
    if not (dtype == pl.String or dtype.is_numeric()):
        return None
    number = column.cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _day(column: pl.Expr, dtype: DataType) -> pl.Expr | None:
    if dtype == pl.String:
        text = pl.when(column.str.contains(_ISO_DAY)).then(column.str.head(10))
        return _in_calendar(text.str.to_date("%Y-%m-%d", strict=False).to_physical())
    if dtype == pl.Date:
        return _in_calendar(column.to_physical())
    if isinstance(dtype, pl.Datetime) and dtype.time_zone in (None, "UTC"):
        # By integers, because Polars panics at a datetime outside its calendar.
        ticks, per_day = column.to_physical(), TICKS_PER_DAY[dtype.time_unit]
        return _in_calendar(pl.when(ticks % per_day == 0).then(ticks // per_day))
    return None


def _day_of_export(column: pl.Expr, dtype: DataType) -> pl.Expr | None:
    if dtype != pl.String:
        return _day(column, dtype)
    text = pl.when(column.str.contains(_EXPORT_DAY)).then(column)
    return pl.coalesce(
        _in_calendar(text.str.to_date("%b %d, %Y", strict=False).to_physical()), _day(column, dtype)
    )


def _in_calendar(days: pl.Expr) -> pl.Expr:
    """Convert days since 1970 to a date; NULL outside the years 1 to 9999, such as for infinity."""
    return pl.when(days.is_between(FIRST_DAY, LAST_DAY)).then(days).cast(pl.Int32).cast(pl.Date)


@dataclass(frozen=True)
class Field:
    """A column of a file: how its values are read, and what an error says about the expected values."""

    expected: str
    read: Reader
    becomes: Dtype
    may_be_empty: bool = False
    may_be_missing: bool = False
    is_decimal: bool = False


def form_of(table: Table) -> Mapping[str, Field]:
    """Describe the columns of a file for a table: those that this program stores, without created_at."""
    return {column.name: _field(column) for column in table.given}


def _field(column: Column) -> Field:
    expected, read = _expected(column)
    return Field(
        f"{expected}, or nothing" if column.may_be_null else expected,
        read,
        column.dtype,
        may_be_empty=column.may_be_null,
        may_be_missing=column.kind is not None and not column.kind.required,
        is_decimal=column.dtype.is_float(),
    )


def _expected(column: Column) -> tuple[str, Reader]:
    """Describe the values for a column as `init` creates it, and choose their reader."""
    if column.dtype == pl.Date:
        return "a day like 2024-01-31", _day
    if column.dtype.is_float():
        return "a finite number", _finite_number
    if column.least == 0:
        return "an integer of at least 0", _integer_from_0
    return f"an integer of at most {32 if column.dtype == pl.Int32 else 64} bits", _integer


STREAMS_FORM: Mapping[str, Field] = form_of(STREAMS)
LISTENERS_FORM: Mapping[str, Field] = form_of(LISTENERS)
MLDR_FORM: Mapping[str, Field] = form_of(RATES)

_EXPORTED_DAY = Field("a day like Jan 31, 2024 or 2024-01-31", _day_of_export, pl.Date)

# One row per day of one track.
EXPORT_FORM: Mapping[str, Field] = {
    "Date": _EXPORTED_DAY,
    "Value": Field("an integer of at least 0, or nothing", _integer_from_0, pl.Int64, may_be_empty=True),
    "Days from release": STREAMS_FORM["days_from_release"],
}

# One row per day of one artist.
LISTENERS_EXPORT_FORM: Mapping[str, Field] = {
    "Date": _EXPORTED_DAY,
    "Monthly Listeners": LISTENERS_FORM[LISTENERS.counted],
}

STREAMS_WANTED = (
    "expected are cm_track_id, cm_artist_id, date, daily_streams and, if known, days_from_release; "
    "or of one track date and streams; "
    "or of an export Date, Value (all streams so far) and, if known, Days from release"
)
STREAMS_FORMS: Forms = [
    frozenset(names) for names in (("date", "daily_streams"), ("Date", "Value"), ("date", "streams"))
]
LISTENERS_FORMS: Forms = [
    frozenset(names) for names in (("date", "monthly_listeners"), ("Date", "Monthly Listeners"))
]
# Other names for our columns, in lower case and with _ for blanks.
ALSO_CALLED: Mapping[str, frozenset[str]] = {
    "cm_track_id": frozenset({"track_id", "trackid", "chartmetric_track_id"}),
    "cm_artist_id": frozenset({"artist_id", "artistid", "chartmetric_artist_id"}),
    "date": frozenset({"day", "datum", "timestp", "timestamp", "datetime"}),
    "daily_streams": frozenset(
        {"streams", "plays", "streams_per_day", "daily_plays", "stream_count", "play_count", "total_streams"}
    ),
    "monthly_listeners": frozenset({"spotify_monthly_listeners", "monthlylisteners"}),
    "mldr": frozenset({"rate", "decay_rate", "monthly_listener_decay_rate"}),
}
LISTENERS_WANTED = (
    "expected are cm_artist_id, date and monthly_listeners; or of an export Date and Monthly Listeners"
)
