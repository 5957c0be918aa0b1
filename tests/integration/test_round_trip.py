"""What comes back is what was put in, or it is refused: every type of frames and of columns."""

import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forecaster.errors import WriteRefusedError
from forecaster.frames.casting import STORED_AS, ColumnInfo
from forecaster.postgres.connection import Connection, connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rows import fit, ingest
from forecaster.postgres.tables import Tables
from forecaster.tables import MLDR_TABLE
from tests import sql
from tests.conftest import ServerNamed, new_database
from tests.faults import LONG

DAY_US = 86_400_000_000

# How the server says a value of each type, in a form that loses nothing.
READ_BACK = {
    "smallint": "c::text",
    "integer": "c::text",
    "bigint": "c::text",
    "numeric": "c::text",
    "real": "c::float8::text",  # the shortest digits of a real are those of another float8
    "double precision": "c::text",
    "uuid": "encode(uuid_send(c), 'hex')",
    "date": "CASE WHEN isfinite(c) THEN (c - DATE '1970-01-01')::text ELSE c::text END",
    # Microseconds since 2000. extract() is not exact that far away.
    "timestamp with time zone": "encode(timestamptz_send(c), 'hex')",
    "timestamp without time zone": "encode(timestamp_send(c), 'hex')",
}  # fmt: skip

INTEGERS = {
    pl.Int8: (-(2**7), 2**7 - 1),
    pl.Int16: (-(2**15), 2**15 - 1),
    pl.Int32: (-(2**31), 2**31 - 1),
    pl.Int64: (-(2**63), 2**63 - 1),
    pl.Int128: (-(2**127), 2**127 - 1),
    pl.UInt8: (0, 2**8 - 1),
    pl.UInt16: (0, 2**16 - 1),
    pl.UInt32: (0, 2**32 - 1),
    pl.UInt64: (0, 2**64 - 1),
}
TICKS_PER_DAY = {"ms": 86_400_000, "us": DAY_US, "ns": 1000 * DAY_US}


def edges(low: int, high: int) -> st.SearchStrategy[int]:
    """Whole numbers, and often ones that are next to where a type ends or a float is no longer exact."""
    near = [
        s * 2**p + d for p in (7, 8, 15, 16, 24, 31, 32, 53, 63, 64, 126) for s in (-1, 1) for d in (-1, 0, 1)
    ]
    return st.one_of(
        st.sampled_from([n for n in (*near, low, high, 0) if low <= n <= high]), st.integers(low, high)
    )


class Given(NamedTuple):
    """A series to be stored, in a form whose text is safe: Polars panics over that of days far away."""

    dtype: pl.DataType
    values: list[Any]
    """Of days and instants their number."""

    def series(self) -> pl.Series:
        if not self.dtype.is_temporal():
            return pl.Series("c", self.values, dtype=self.dtype, strict=True)
        storage = pl.Int32 if self.dtype == pl.Date else pl.Int64
        return pl.Series("c", self.values, dtype=storage, strict=True).cast(self.dtype)


def given_as(dtype: pl.DataType, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Given]:
    several = st.lists(st.one_of(values, values, values, st.none()), min_size=1, max_size=12)
    return several.map(lambda numbers: Given(dtype, numbers))


DAYS = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-800_000, 3_000_000),
    # Around the first and last days of PostgreSQL, and where the driver's arithmetic would overflow.
    st.sampled_from([
        -2_440_589, -2_440_588, 2_145_042_905, 2_145_042_906, -(2**31) + 10_956, -(2**31) + 10_957,
        106_751_990, 106_751_991, -106_751_992,
    ]),
)  # fmt: skip
INSTANTS = st.one_of(
    edges(-(2**63), 2**63 - 1),
    st.integers(-(10**17), 10**17),
    st.sampled_from([
        -2_440_588 * DAY_US, -2_440_588 * DAY_US - 1, 946_684_800_000_000 - 2**63, -2_440_588 * 86_400_000,
        1_700_000_000_000_000_001, (2**63 - 1) // 1000, (2**63 - 1) // 1000 + 1,
    ]),
)  # fmt: skip
SMALL_WHOLE = st.integers(-999, 999).map(float)
GIVEN = st.one_of(
    *(given_as(dtype(), edges(*limits)) for dtype, limits in INTEGERS.items()),
    given_as(pl.Float64(), st.one_of(st.floats(), edges(-(2**64), 2**64).map(float), SMALL_WHOLE)),
    given_as(pl.Float32(), st.one_of(st.floats(width=32), SMALL_WHOLE)),
    given_as(pl.Decimal(38, 4), st.decimals(-(10**9), 10**9, places=4)),
    given_as(pl.Boolean(), st.booleans()),
    given_as(pl.String(), st.one_of(st.text(), st.sampled_from(["1", "2024-01-01", "0" * 32, "NaN"]))),
    given_as(pl.Binary(), st.one_of(st.binary(min_size=16, max_size=16), st.binary(max_size=20))),
    given_as(pl.Null(), st.none()),
    given_as(pl.List(pl.Int64), st.lists(st.integers(0, 9))),
    given_as(pl.Categorical(), st.sampled_from(["a", "1"])),
    given_as(pl.Date(), DAYS),
    given_as(pl.Time(), st.integers(0, 1000 * DAY_US - 1)),
    *(
        given_as(dtype, INSTANTS)
        for unit in ("ms", "us", "ns")
        for dtype in (pl.Datetime(unit), pl.Datetime(unit, "UTC"), pl.Duration(unit))
    ),
    given_as(pl.Datetime("us", "Asia/Kolkata"), INSTANTS),
)  # fmt: skip


def meaning(values: pl.Series) -> list[Any]:
    """The values as Python has them without loss: numbers, bytes, days and microseconds since 1970."""
    dtype = values.dtype
    if isinstance(dtype, pl.Date):
        return values.cast(pl.Int32).to_list()
    if isinstance(dtype, pl.Datetime):
        per_us = Fraction(TICKS_PER_DAY[dtype.time_unit], DAY_US)
        return [None if n is None else n / per_us for n in values.cast(pl.Int64).to_list()]
    return values.to_list()


def told(text: str | None, type_: str) -> Any:
    """What the server says it has."""
    if text is None:
        return None
    if type_ == "uuid":
        return bytes.fromhex(text)
    if type_.startswith("timestamp"):
        return int.from_bytes(bytes.fromhex(text), signed=True) + 10_957 * DAY_US
    return float(text) if type_ in ("real", "double precision") else Decimal(text)


def expected(value: Any, dtype: pl.DataType, type_: str) -> Any:
    """The value as it has to be stored; None if it has to be refused."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if dtype.is_numeric():
        return expected_number(value, dtype, type_)
    if type_ == "uuid":
        return value if len(value) == 16 else None
    if type_ == "date" and dtype == pl.Date:
        return value if -2_440_588 <= value <= 2_145_042_905 else None
    us = value * DAY_US if dtype == pl.Date else value
    if us != int(us) or not -2_440_588 * DAY_US <= us < 2**63:
        return None
    return us // DAY_US if type_ == "date" else us


def expected_number(value: Any, dtype: pl.DataType, type_: str) -> Any:
    if type_ == "numeric":
        exact = Decimal(pl.Series([value], dtype=dtype).cast(pl.String).item())  # of a float the shortest
        return exact if abs(exact) < 10**38 else None
    if type_ == "real" and dtype.is_float():
        with suppress(OverflowError):
            return struct.unpack("<f", struct.pack("<f", value))[0]
        return None
    if type_ in ("real", "double precision"):
        stored = float(value) if type_ == "double precision" else float(np.float32(value))
        return stored if stored == value else None
    half = 2 ** {"smallint": 15, "integer": 31, "bigint": 63}[type_]
    return value if value == int(value) and -half <= value < half else None


def of_one_kind(dtype: pl.DataType, type_: str) -> bool:
    """Whether values of the dtype can be stored in a column of the type at all."""
    if type_ == "uuid":
        return dtype == pl.Binary
    if type_ in ("date", "timestamp with time zone", "timestamp without time zone"):
        return isinstance(dtype, pl.Date | pl.Datetime)
    return dtype.is_numeric() and (type_ == "numeric" or not dtype.is_decimal())


Probe = tuple[Dsn, Tables, str, Connection]


OWN = ("text", "jsonb", "double precision[]", "real[]")
"""Types of the history and of intervals alone, into which no rows of users are converted."""


@pytest.fixture(scope="module", params=[type_ for type_ in STORED_AS if type_ not in OWN])
def probe(request: pytest.FixtureRequest, server_named: ServerNamed) -> Iterator[Probe]:
    """A table with one column of each type that forecasters' tables may have, and one connection."""
    type_: str = request.param
    with new_database(server_named("embedded")) as dsn:
        sql.run(dsn, f"CREATE TABLE probe (n bigint, c {type_})")
        columns = {
            "id": ColumnInfo("bigint", not_null=False, has_default=True, generated=False),
            "n": ColumnInfo("bigint", not_null=False, has_default=False, generated=False),
            "c": ColumnInfo(type_, not_null=False, has_default=False, generated=False),
        }
        with connect(dsn) as other:
            yield dsn, Tables("public", {"probe": columns}, ()), type_, other


@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=LONG)])
def test_what_comes_back_is_what_was_put_in_or_it_is_refused(probe: Probe, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(given_values=GIVEN)
    @example(
        Given(pl.Float64(), [2.0**63, -(2.0**63), 2.0**53 + 2, 0.1, -0.0, 1e300, 5e-324, math.nan, math.inf])
    )
    @example(Given(pl.Float64(), [0.1 + 0.2, 1.2345678901234567e-8, 123456.78901234567, -1e-9]))
    @example(Given(pl.Int64(), [2**63 - 1, -(2**63), 2**53 + 1, 2**24 + 1, 40000, None]))
    @example(Given(pl.Date(), [-2_147_472_691, -2_147_472_692, 0]))  # would be -infinity and infinity
    @example(Given(pl.Datetime("us", "UTC"), [946_684_800_000_000 - 2**63]))  # would be -infinity
    @example(Given(pl.Binary(), [b"0123456789abcdef", b"0123456789abcde", b""]))
    def it_does(given_values: Given) -> None:
        assert_comes_back(probe, given_values)

    it_does()


def assert_comes_back(probe: Probe, given_values: Given) -> None:
    dsn, tables, type_, other = probe
    values = given_values.series()
    rows = pl.DataFrame({"n": pl.int_range(len(values), eager=True), "c": values})
    if values.dtype != pl.Null and not of_one_kind(values.dtype, type_):
        with pytest.raises(WriteRefusedError, match=r"c: .* cannot be stored as"):
            fit(rows, tables, "probe")
        return
    wanted = [expected(value, values.dtype, type_) for value in meaning(values)]

    refused = pl.Series([False] * len(rows))
    for mask in fit(rows, tables, "probe").problems.values():
        refused |= mask

    if type_ == "numeric" and values.dtype.is_float():
        # There may be no room for all digits of the smallest beside those of the largest.
        assert all(is_refused for is_refused, value in zip(refused, wanted, strict=True) if value is None)
    else:
        assert refused.to_list() == [value is None for value in wanted]
    with connect(dsn, like=other) as connection:
        if refused.any():
            with pytest.raises(WriteRefusedError, match="no row was stored"):
                ingest(connection, tables, "probe", rows)
        assert ingest(connection, tables, "probe", rows.filter(~refused)) == len(rows) - refused.sum()
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {READ_BACK[type_]} FROM probe ORDER BY n")
            stored = [told(text, type_) for (text,) in cursor.fetchall()]
    assert stored == [value for value, is_refused in zip(wanted, refused, strict=True) if not is_refused]


@pytest.mark.parametrize("largest", [1.5, 1e6, 9e18, 1e200])
def test_a_numeric_column_takes_all_digits_of_what_is_usual(largest: float) -> None:
    rates = [0.1 + 0.2, -1 / 3, 1e-9, 1.2345678901234567e-3, largest]
    column = ColumnInfo("numeric", not_null=False, has_default=False, generated=False)
    fitted = fit(
        pl.DataFrame({"mldr": rates}), Tables("public", {MLDR_TABLE: {"mldr": column}}, ()), MLDR_TABLE
    )
    refused = [mask.to_list() for mask in fitted.problems.values()]
    assert refused == ([[False] * 4 + [True]] if largest > 1e38 else [])
    assert [float(digits) for digits in fitted.rows["mldr"][:4]] == rates[:4]
