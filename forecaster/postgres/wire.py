"""Numbers packed by the server: those of a track as 4-byte integers, and those that are none as floats."""

import sys
from array import array
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from types import ModuleType

    import pyarrow as pa

    from forecaster.frames.arrays import np

    _Numbers = np.ndarray[tuple[int], np.dtype[np.generic]]
    _Floats = np.ndarray[tuple[int], np.dtype[np.float64]]
    _Ends = np.ndarray[tuple[int], np.dtype[np.int64]]

# Stands in the integers for a number that is none of 32 bits: the next of `others`.
_ELSEWHERE = -(2**31)
_LARGEST, _LARGEST_SHORT = 2**31 - 1, 2**15 - 1
_SHORT = ("smallint", "integer")


def whole(value: str, type_: str) -> str:
    """SQL expression: a finite number as integer; NULL if it is none of 32 bits.

    `type_`: that of `value` on the server. A negative zero becomes zero.
    """
    if type_ in _SHORT:
        return f"nullif({value}::int4, {_ELSEWHERE})"
    is_whole = "" if type_ == "bigint" else f" AND {value} = trunc({value})"
    return f"CASE WHEN {value} BETWEEN -{_LARGEST} AND {_LARGEST}{is_whole} THEN {value}::int4 END"


def packed(value: str, whole: str) -> str:
    """SQL aggregates of the numbers of a group, in the order of its rows: streams, others (both bytea).

    `value`: a finite float; `whole`: the same number by the function of that name. NULL for no rows.
    """
    return (
        f"string_agg(int4send(coalesce({whole}, {_ELSEWHERE})), '') AS streams, "
        f"string_agg(float8send({value}), '') FILTER (WHERE {whole} IS NULL) AS others"
    )


def packed_days(since: str) -> str:
    """SQL aggregate of the days of a group, in the order of its rows: days (bytea).

    `since`: the number of days up to the last one, which comes first. More than 32,767 count as that many.
    NULL for no rows, and for days of which none is missing.
    """
    sent = f"string_agg(int2send(least({since}, {_LARGEST_SHORT})::int2), '')"
    return f"CASE WHEN max({since}) >= count(*) THEN {sent} END AS days"


def packed_on_days(day: str, value: str, whole: str) -> str:
    """SQL aggregates of the numbers of a group with their days: records, others (both bytea).

    As of `packed`, but each integer is the low half of one of 8 bytes, whose high half is the `day`, a bigint
    of at most 31 bits.
    """
    both = f"({day} << 32) + coalesce({whole}, {_ELSEWHERE})"
    return (
        f"string_agg(int8send({both}), '') AS records, "
        f"string_agg(float8send({value}), '') FILTER (WHERE {whole} IS NULL) AS others"
    )


def packed_ids(id_: str) -> str:
    """SQL aggregate of the ids of all rows: ids (bytea). NULL for no rows."""
    return f"string_agg(int8send({id_}), '') AS ids"


def unpacked_ids(wire: pl.DataFrame) -> pl.Series:
    """Unpack what `packed_ids` sent, of one statement or several."""
    numbers = array("q", b"".join(wire["ids"].drop_nulls()))  # all at once would be objects of Python
    if sys.byteorder == "little":
        numbers.byteswap()
    return pl.Series("id", numbers, dtype=pl.Int64)


def unpacked(wire: pl.DataFrame) -> pl.DataFrame:
    """Unpack what `packed` sent: `streams` becomes a list of Float64, empty for NULL; `others` is dropped.

    With what `packed_days` sent, and `last_day` (since 1970), `days` becomes a list of Int32 as long as that.
    """
    np = _numpy()
    numbers, ends = _numbers(wire["streams"], ">i4")
    values = numbers.astype(np.float64)
    values[numbers == _ELSEWHERE] = _numbers(wire["others"], ">f8")[0]
    found = wire.drop("others").with_columns(_lists("streams", values, ends))
    return found.with_columns(_lists("days", _days(wire, ends), ends)) if "days" in wire.columns else found


def unpacked_on_days(wire: pl.DataFrame) -> tuple["_Ends", "_Floats", "_Ends"]:
    """Unpack what `packed_on_days` sent: days, streams, and where each row begins, and the last one ends."""
    np = _numpy()
    sent, ends = _numbers(wire["records"], ">i8")
    both = sent.astype(np.int64)
    numbers = both.astype(np.int32)  # the low half
    values = numbers.astype(np.float64)
    values[numbers == _ELSEWHERE] = _numbers(wire["others"], ">f8")[0]
    both -= numbers
    both >>= 32
    return both, values, ends


def _days(wire: pl.DataFrame, ends: "_Ends") -> "_Numbers":
    """Unpack what `packed_days` sent, one day for each of the streams."""
    np = _numpy()
    sizes = np.diff(ends)
    since = np.arange(ends[-1]) - np.repeat(ends[:-1], sizes)  # if no day is missing
    since[np.repeat(wire["days"].is_not_null().to_numpy(), sizes)] = _numbers(wire["days"], ">i2")[0]
    last = np.repeat(wire["last_day"].cast(pl.Int64).fill_null(0).to_numpy(), sizes)
    days: _Numbers = (last - since).astype(np.int32)
    return days


def _lists(name: str, values: "_Numbers", ends: "_Ends") -> pl.Series:
    """Make a column of lists of all values, of which each ends where the next one begins."""
    import pyarrow as pa  # noqa: PLC0415

    # From buffers: to convert an array of NumPy, pyarrow would import pandas.
    type_ = pa.int32() if values.dtype.kind == "i" else pa.float64()
    inner = pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(values)])
    lists = pa.Array.from_buffers(
        pa.large_list(type_), len(ends) - 1, [None, pa.py_buffer(ends)], children=[inner]
    )
    return pl.Series(_Exported(lists)).alias(name)


class _Exported:
    """An array of Arrow, for Polars: for one of pyarrow's own classes, it would import `pyarrow.compute`."""

    def __init__(self, array: "pa.Array") -> None:
        self.array = array

    def __arrow_c_array__(self, requested_schema: object = None) -> Any:  # noqa: ANN401
        return self.array.__arrow_c_array__(requested_schema)


def _numbers(column: pl.Series, dtype: str) -> tuple["_Numbers", "_Ends"]:
    """Return the numbers of all rows, and where in them each row begins, and the last one ends."""
    np = _numpy()
    binary = column.cast(pl.Binary).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = binary.buffers()
    ends = np.frombuffer(offsets, np.int64)[binary.offset :][: len(binary) + 1]
    numbers = np.frombuffer(data or b"", dtype, count=0 if data is None else -1)
    size = numbers.dtype.itemsize
    return numbers[ends[0] // size : ends[-1] // size], (ends - ends[0]) // size


def _numpy() -> "ModuleType":
    """Import NumPy, which takes long: while the server is asked."""
    from forecaster.frames.arrays import np  # noqa: PLC0415

    return np
