"""Schemas of the frames that modules exchange: grain and columns, and `conform`.

Grains, in the order of the data flow: (track, day) -> (track) -> (track, month).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl
from polars.datatypes import DataType, DataTypeClass

from forecaster.errors import SchemaMismatchError

Dtype = DataType | DataTypeClass

_IDS = (pl.Int64, pl.Int32, pl.Int16, pl.Int8, pl.UInt32, pl.UInt16, pl.UInt8)
_NUMBERS = (*_IDS, pl.UInt64, pl.Int128, pl.Float64, pl.Float32, pl.Decimal)
_TIMES = (pl.Datetime, pl.Date)


@dataclass(frozen=True)
class Kind:
    """Types that an input column may have (`accepts`; `expected` in messages) and the type it `becomes`."""

    expected: str
    accepts: tuple[DataTypeClass, ...]
    becomes: Dtype | None
    required: bool = True
    convert: Callable[[pl.Expr], pl.Expr] = field(default=lambda column: column)


ID = Kind("an integer of at most 64 bits, signed", _IDS, pl.Int64)
NUMBER = Kind("a number", _NUMBERS, pl.Float64)
# A datetime too far away for a date becomes NULL.
DAY = Kind("a date or a datetime", _TIMES, pl.Date, convert=lambda column: column.cast(pl.Date, strict=False))
# More than 2^31 days cannot be an age, so they count as unknown.
DAYS = Kind(
    "an integer",
    _NUMBERS,
    pl.Int64,
    required=False,
    convert=lambda column: column.cast(pl.Int32, strict=False),
)
ROW_ID = Kind("an integer or a string", (*_IDS, pl.String), None, required=False)
WHEN = Kind("a datetime", _TIMES, None, required=False)

# The input of the model's steps. One row per track: the streams of its last 365 records, oldest first.
RECORDS: tuple[str, ...] = ("cm_track_id", "streams")

# The same with the days of these records, in days since 1970 (Int32): only where the model needs them.
RECORDS_WITH_DAYS: tuple[str, ...] = (*RECORDS, "days")

# One row per track; `has_several_artists` refers to its last 365 records.
TRACK_FACTS: tuple[str, ...] = (
    "cm_track_id",
    "cm_artist_id",
    "training_data_id",
    "first_date",
    "last_date",
    "days_from_release",
    "has_several_artists",
)

# One row per artist.
NEWEST_MLDR: tuple[str, ...] = ("cm_artist_id", "mldr")

# One row per track without a forecast.
SKIPPED = pl.Schema(
    {
        "cm_track_id": pl.Int64,
        "cm_artist_id": pl.Int64,
        "reason": pl.String,
        "months_since_release": pl.Int64,
    }
)

# One row per track that a run looked at: what its forecast was made from, or would have been.
KNOWN = pl.Schema(
    {
        "cm_track_id": pl.Int64,
        "cm_artist_id": pl.Int64,
        "as_of": pl.Date,  # the day before month 1
        "last_date": pl.Date,  # the last day with a record
        "mldr": pl.Float64,
    }
)

# One row per artist without an MLDR.
RATELESS = pl.Schema({"cm_artist_id": pl.Int64, "reason": pl.String, "records": pl.Int64, "months": pl.Int64})


def check(*frames: tuple[str, pl.LazyFrame, Mapping[str, Kind]]) -> None:
    """Raise `SchemaMismatchError` that names every missing column, and every wrong type, of all frames."""
    problems = [
        f"{name}: {'; '.join(found)}"
        for name, frame, columns in frames
        if (found := _problems(frame, columns))
    ]
    if problems:
        raise SchemaMismatchError("; ".join(problems))


def conform(frame: pl.LazyFrame, columns: Mapping[str, Kind], /, *, name: str) -> pl.LazyFrame:
    """Select `columns` in their order and final types; a missing optional column becomes NULLs.

    Raises `SchemaMismatchError` like `check`.
    """
    check((name, frame, columns))
    schema = frame.collect_schema()
    return frame.select(
        _conformed(schema.get(column), column, spec).alias(column) for column, spec in columns.items()
    )


def _problems(frame: pl.LazyFrame, columns: Mapping[str, Kind]) -> list[str]:
    schema = frame.collect_schema()
    return sorted(filter(None, (_problem(schema.get(name), name, spec) for name, spec in columns.items())))


def _problem(dtype: DataType | None, column: str, spec: Kind) -> str | None:
    if dtype is None:
        return f"column {column} is missing (expected {spec.expected})" if spec.required else None
    if dtype.base_type() in (*spec.accepts, pl.Null):
        return None
    return f"column {column} is {dtype} (expected {spec.expected})"


def _conformed(dtype: DataType | None, column: str, spec: Kind) -> pl.Expr:
    if dtype is None or dtype == pl.Null:
        return pl.lit(None, dtype=spec.becomes or pl.Int64)
    converted = spec.convert(pl.col(column))
    return converted if spec.becomes is None else converted.cast(spec.becomes)
