"""What is stored is what was given, or nothing is: types, values, counts, and rows of other programs."""

import math
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import RFC_4122, UUID

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forecaster.errors import DatabaseError, WriteRefusedError
from forecaster.frames.casting import STORED_AS, ColumnInfo
from forecaster.model import build_forecasts
from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import Connection, connect, execute
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.forecasts import Stored, fit, ingest, store_forecasts
from forecaster.postgres.tables import (
    FORECAST_TABLE,
    MLDR_TABLE,
    STREAMS_TABLE,
    Tables,
    read_tables,
)
from forecaster.run import batch as chunk_module
from forecaster.run.session import RunConfig, run
from forecaster.setup.load import load
from tests import sql
from tests.conftest import ServerNamed, new_database
from tests.faults import LONG
from tests.tables import create_tables, golden_mldr, golden_streams, made_once

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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


@pytest.fixture(scope="module", params=STORED_AS)
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
        with connect(dsn) as beside:
            yield dsn, Tables("public", {"probe": columns}, ()), type_, beside


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
    dsn, tables, type_, beside = probe
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
    with connect(dsn, beside=beside) as connection:
        if refused.any():
            with pytest.raises(WriteRefusedError, match="none was stored"):
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


TRACKS = (1, 2, 3, 4, 5)
COUNTS = (
    f"SELECT cm_track_id::bigint, count(*), count(DISTINCT month) FROM {FORECAST_TABLE} GROUP BY 1 ORDER BY 1"
)
KEYS = {"with the key": "UNIQUE (cm_track_id, month)", "without": ""}


def filled(dsn: Dsn, forecast_key: str = KEYS["with the key"]) -> Dsn:
    """Five pending tracks, which can all be forecast."""

    def make(new: Dsn) -> None:
        create_tables(new, forecast_key=forecast_key)
        few = golden_streams().filter(pl.col("cm_track_id").is_in(TRACKS))
        load(new, "public", streams=few, mldr=golden_mldr())

    made_once(dsn, f"five_{'with' if forecast_key else 'without'}_key", make)
    return dsn


@pytest.fixture(params=KEYS.values(), ids=[*KEYS])
def catalogue(request: pytest.FixtureRequest, database: Dsn) -> Dsn:
    return filled(database, request.param)


@pytest.fixture(params=KEYS.values(), ids=[*KEYS])
def embedded_catalogue(request: pytest.FixtureRequest, embedded_database: Dsn) -> Dsn:
    return filled(embedded_database, request.param)


def whole(*tracks: int) -> list[tuple[int, int, int]]:
    return [(track, 24, 24) for track in tracks]


def foreign_rows(track: int, *, months: str = "1, 24") -> str:
    """An INSERT as another program might do it."""
    return (
        f"INSERT INTO {FORECAST_TABLE} (cm_track_id, month, forecasted_value) "
        f"SELECT {track}, month, -7 FROM generate_series({months}) AS month"
    )


def add_trigger(dsn: Dsn, table: str, body: str) -> None:
    sql.run(
        dsn,
        f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$",
    )
    sql.run(dsn, f"CREATE TRIGGER meddle BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION meddle()")


AGAIN = "IF pg_trigger_depth() = 1 {} THEN INSERT INTO {} SELECT NEW.*; END IF;"


@pytest.mark.parametrize(
    "body",
    [
        "IF NEW.cm_track_id = 2 AND NEW.month = 3 THEN RETURN NULL; END IF;",
        "IF NEW.cm_track_id = 2 THEN RETURN NULL; END IF;",
        "RETURN NULL;",
        AGAIN.format("AND NEW.cm_track_id = 2 AND NEW.month = 3", FORECAST_TABLE),
        AGAIN.format("", FORECAST_TABLE),
        "NEW.month := 1 + NEW.month % 2;",
        "IF NEW.month = 3 THEN NEW.month := -3; END IF;",
        "NEW.cm_track_id := NEW.cm_track_id / 2;",
    ],
    ids=[
        "one month",
        "one track",
        "all",
        "doubles one month",
        "doubles all",
        "other months",
        "a month before the first",
        "other tracks",
    ],
)
def test_a_trigger_that_changes_what_is_written_leaves_nothing(embedded_catalogue: Dsn, body: str) -> None:
    add_trigger(embedded_catalogue, FORECAST_TABLE, body)
    with pytest.raises(WriteRefusedError, match="would not hold the 24 months that were written; nothing"):
        run(RunConfig(embedded_catalogue))
    assert sql.rows(embedded_catalogue, COUNTS) == []
    # Without the trigger, the next run does it all.
    sql.run(embedded_catalogue, f"DROP TRIGGER meddle ON {FORECAST_TABLE}")
    assert run(RunConfig(embedded_catalogue)).forecast == len(TRACKS)
    assert sql.rows(embedded_catalogue, COUNTS) == whole(*TRACKS)


@pytest.mark.parametrize("table", [STREAMS_TABLE, MLDR_TABLE])
@pytest.mark.parametrize("body", ["IF NEW.cm_artist_id = 1 THEN RETURN NULL; END IF;", "double"])
def test_rows_of_files_are_counted_by_the_server(embedded_database: Dsn, table: str, body: str) -> None:
    create_tables(embedded_database)
    add_trigger(embedded_database, table, AGAIN.format("", table) if body == "double" else body)
    streams = golden_streams().filter(pl.col("cm_artist_id") == 1)
    with pytest.raises(WriteRefusedError, match=rf"{table}: the server stored [0-9,]+ rows instead of"):
        load(embedded_database, "public", streams=streams, mldr=golden_mldr())
    for each in (STREAMS_TABLE, MLDR_TABLE):
        assert sql.rows(embedded_database, f"SELECT count(*) FROM {each}") == [(0,)]


def test_rows_of_a_partitioned_table_are_counted(database: Dsn) -> None:
    create_tables(database)
    sql.run(database, f"DROP TABLE {MLDR_TABLE}")
    sql.run(
        database,
        f"CREATE TABLE {MLDR_TABLE} (id bigint, cm_artist_id bigint, mldr float8, created_at timestamptz, "
        "backtest_artist_daily_training_data_id bigint) PARTITION BY HASH (cm_artist_id)",
    )
    for part in range(2):
        sql.run(
            database,
            f"CREATE TABLE part_{part} PARTITION OF {MLDR_TABLE} "
            f"FOR VALUES WITH (MODULUS 2, REMAINDER {part})",
        )
    rates = golden_mldr()
    assert load(database, "public", streams=None, mldr=rates).mldr == len(rates)
    assert load(database, "public", streams=None, mldr=rates.head(3)).mldr == 3
    assert sql.rows(database, f"SELECT count(*) FROM {MLDR_TABLE}") == [(len(rates) + 3,)]


def after_the_read(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Have something happen between what a run read and what it writes."""

    def then_store(*arguments: Any, **options: Any) -> Stored:
        happens()
        return store_forecasts(*arguments, **options)

    monkeypatch.setattr(chunk_module, "store_forecasts", then_store)


@pytest.mark.parametrize("months", ["1, 24", "5, 6"], ids=["a whole track", "a part of one"])
def test_tracks_that_another_program_stored_meanwhile_stay_its_own(
    catalogue: Dsn, monkeypatch: pytest.MonkeyPatch, months: str
) -> None:
    def store_two() -> None:
        for track in (2, 5):
            sql.run(catalogue, foreign_rows(track, months=months))

    after_the_read(monkeypatch, store_two)

    report = run(RunConfig(catalogue))

    assert (report.pending, report.forecast, report.rows, report.taken) == (5, 3, 72, [2, 5])
    theirs = 24 if months == "1, 24" else 2
    assert sql.rows(catalogue, COUNTS) == [
        (track, theirs, theirs) if track in (2, 5) else (track, 24, 24) for track in TRACKS
    ]
    of_another = (
        f"SELECT DISTINCT cm_track_id::bigint FROM {FORECAST_TABLE} WHERE forecasted_value = -7 ORDER BY 1"
    )
    assert sql.rows(catalogue, of_another) == [(2,), (5,)]


def test_a_forecast_is_replaced_at_the_second_attempt_too(embedded_database: Dsn) -> None:
    dsn = filled(embedded_database)
    run(RunConfig(dsn))
    sql.run(dsn, "CREATE SEQUENCE attempts")  # it goes on although what it was for is rolled back
    once = "IF nextval('attempts') = 1 THEN RAISE EXCEPTION 'as if' USING ERRCODE = '40P01'; END IF;"
    add_trigger(dsn, FORECAST_TABLE, once)
    report = run(RunConfig(dsn, parameters=Parameters(horizon=12), replace=True))
    assert (report.rows, report.taken) == (12 * len(TRACKS), [])
    assert sql.rows(dsn, COUNTS) == [(track, 12, 12) for track in TRACKS]


def test_ids_of_ours_are_random_ones(embedded_database: Dsn) -> None:
    """As RFC 9562 has them: of version 4."""
    create_tables(embedded_database, row_id="uuid NOT NULL")
    load(embedded_database, "public", streams=golden_streams().head(100), mldr=golden_mldr())
    ids = [UUID(text) for (text,) in sql.rows(embedded_database, f"SELECT id::text FROM {STREAMS_TABLE}")]
    assert len(set(ids)) == 100
    assert {(id_.version, id_.variant) for id_ in ids} == {(4, RFC_4122)}


def test_ids_that_the_server_makes_are_left_to_it(embedded_database: Dsn) -> None:
    of_the_server = "6b1d0c5e-0000-4000-8000-000000000000"
    create_tables(embedded_database, row_id=f"uuid NOT NULL DEFAULT '{of_the_server}'")
    few = golden_streams().filter(pl.col("cm_track_id").is_in(TRACKS))
    load(embedded_database, "public", streams=few, mldr=golden_mldr())
    run(RunConfig(embedded_database))
    ids = sql.rows(embedded_database, f"SELECT DISTINCT id::text FROM {FORECAST_TABLE}")
    assert ids == [(of_the_server,)]


def test_tracks_of_another_program_are_told_of_all_chunks(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(embedded_database)
    left = [2, 5]

    def store_two() -> None:
        while left:
            sql.run(embedded_database, foreign_rows(left.pop()))

    after_the_read(monkeypatch, store_two)
    monkeypatch.setattr("forecaster.run.session.CHUNK", 1)
    monkeypatch.setattr("forecaster.run.session._IN_ONE_PASS", 1)
    assert run(RunConfig(embedded_database)).taken == [2, 5]


def test_all_tracks_were_stored_by_another_program_meanwhile(
    embedded_catalogue: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store_all() -> None:
        for track in TRACKS:
            sql.run(embedded_catalogue, foreign_rows(track))

    after_the_read(monkeypatch, store_all)
    report = run(RunConfig(embedded_catalogue))
    assert (report.forecast, report.rows, report.taken) == (0, 0, list(TRACKS))
    assert sql.rows(embedded_catalogue, COUNTS) == whole(*TRACKS)


def wait_until_blocked(dsn: Dsn, *calls: Future[Any]) -> None:
    """Until each of the calls waits for a lock in the database."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
    while sql.rows(dsn, waiting, dsn.dbname) != [(len(calls),)]:
        assert not any(call.done() for call in calls)
        time.sleep(0.01)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("months", ["1, 24", "13, 24"], ids=["a whole track", "the later half"])
def test_another_program_is_in_the_middle_of_storing_a_track(
    usual_database: Dsn, months: str, end: str
) -> None:
    """Its rows are not committed when we come to them, so that we wait for what becomes of them."""
    filled(usual_database)
    with connect(usual_database) as other, ThreadPoolExecutor(1) as pool:
        execute(other, foreign_rows(3, months=months))
        running = pool.submit(run, RunConfig(usual_database))
        wait_until_blocked(usual_database, running)
        getattr(other, end)()
        report = running.result()

    assert report.taken == ([3] if end == "commit" else [])
    rows = 24 if months == "1, 24" or end == "rollback" else 12
    assert sql.rows(usual_database, COUNTS) == [(t, rows, rows) if t == 3 else (t, 24, 24) for t in TRACKS]


def test_a_deadlock_with_another_program_is_no_failure(embedded_database: Dsn) -> None:
    dsn = filled(embedded_database)
    # Ours has stored track 1 and comes to track 4; the other has stored track 4, and comes to track 1.
    pause = "IF NEW.cm_track_id = 4 THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;"
    add_trigger(dsn, FORECAST_TABLE, f"IF NEW.forecasted_value >= 0 THEN {pause} END IF;")
    sql.run(dsn, f"ALTER DATABASE {dsn.dbname} SET deadlock_timeout = '10ms'")
    with connect(dsn) as gate, connect(dsn) as other, ThreadPoolExecutor(2) as pool:
        execute(other, foreign_rows(4))
        execute(gate, "SELECT pg_advisory_xact_lock(1)")
        running = pool.submit(run, RunConfig(dsn))
        wait_until_blocked(dsn, running)
        execute(other, "SET deadlock_timeout = '1h'")
        blocked = pool.submit(execute, other, foreign_rows(1))
        wait_until_blocked(dsn, running, blocked)
        gate.rollback()
        blocked.result()
        other.commit()
        report = running.result()
    assert report.taken == [1, 4]
    assert sql.rows(dsn, COUNTS) == whole(*TRACKS)


def test_a_sequence_that_lags_behind_is_named(embedded_catalogue: Dsn) -> None:
    """As after a restore. It must not be taken for a forecast that another program stored."""
    sql.run(embedded_catalogue, f"ALTER TABLE {FORECAST_TABLE} ADD PRIMARY KEY (id)")
    sql.run(
        embedded_catalogue,
        f"INSERT INTO {FORECAST_TABLE} (id, cm_track_id, month) "
        "SELECT id, 77, id FROM generate_series(1, 200) AS id",
    )
    with pytest.raises(DatabaseError, match=f'unique constraint "{FORECAST_TABLE}_pkey"'):
        run(RunConfig(embedded_catalogue))
    assert sql.rows(embedded_catalogue, COUNTS) == [(77, 200, 200)]


def test_ids_too_large_for_the_forecast_table_are_refused_by_name(embedded_catalogue: Dsn) -> None:
    for column in ("cm_track_id", "cm_artist_id"):
        sql.run(embedded_catalogue, f"ALTER TABLE {FORECAST_TABLE} ALTER {column} TYPE integer")
    far = golden_streams().filter(pl.col("cm_track_id") == 1).with_columns(pl.col("cm_track_id") + 2**40)
    load(embedded_catalogue, "public", streams=far, mldr=None)

    report = run(RunConfig(embedded_catalogue))

    assert report.refused == {2**40 + 1: "cm_track_id: a value that does not fit integer"}
    assert sql.rows(embedded_catalogue, COUNTS) == whole(*TRACKS)


def test_a_numeric_column_has_room_for_any_forecast(database: Dsn) -> None:
    create_tables(database, value="numeric", streams_key="UNIQUE (cm_track_id, date)")
    days = [date(2020, 1, 1) + timedelta(n) for n in range(400)]
    huge = pl.DataFrame(
        {"cm_track_id": 1, "cm_artist_id": 1, "date": days, "daily_streams": 2**62},
        schema_overrides={"cm_track_id": pl.Int64, "cm_artist_id": pl.Int64},
    )
    load(database, "public", streams=huge, mldr=pl.DataFrame({"cm_artist_id": [1], "mldr": [0.0]}))

    assert run(RunConfig(database)).forecast == 1

    values = [
        v
        for (v,) in sql.rows(database, f"SELECT forecasted_value::text FROM {FORECAST_TABLE} ORDER BY month")
    ]
    expected = build_forecasts(
        huge.lazy(), pl.LazyFrame({"cm_artist_id": [1], "mldr": [0.0]})
    ).forecasts.collect()
    assert [float(v) for v in values] == expected["forecasted_value"].to_list()
    assert float(values[0]) > 2**63


FORECASTS = pl.Schema(
    {
        "month": pl.Int64(),
        "forecasted_value": pl.Float64(),
        "segment_used": pl.Int64(),
        "time_used": pl.Int64(),
        "cm_track_id": pl.Int64(),
        "cm_artist_id": pl.Int64(),
        "training_data_id": pl.Int64(),
        "created_at": pl.Datetime("us", "UTC"),
    }
)


def forecasts(**changes: Any) -> pl.DataFrame:
    """One month of tracks 7, 8 and 9, with something else in that of track 8."""
    usual: dict[str, Any] = dict.fromkeys(FORECASTS, 1) | {"created_at": EPOCH}
    rows = [usual | {"cm_track_id": track} | (changes if track == 8 else {}) for track in (7, 8, 9)]
    return pl.DataFrame(rows, schema=FORECASTS, strict=False)


@pytest.mark.parametrize("column", FORECASTS)
def test_a_forecast_without_a_value_is_refused_whatever_the_table_lets_through(
    embedded_database: Dsn, column: str
) -> None:
    create_tables(embedded_database, value="double precision")
    with connect(embedded_database) as connection:
        tables = read_tables(connection, "public")
    fitted = fit(forecasts(**{column: None}), tables, FORECAST_TABLE)
    refused = [mask.to_list() for mask in fitted.problems.values()]
    assert refused == ([] if column == "training_data_id" else [[False, True, False]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"forecasted_value": math.nan}, "forecasted_value: a value that does not fit double precision"),
        ({"forecasted_value": math.inf}, "forecasted_value: a value that does not fit double precision"),
        ({"month": 2**15}, "month: a value that does not fit smallint"),
        ({"segment_used": 2**31}, "segment_used: a value that does not fit integer"),
        ({"training_data_id": None, "time_used": None}, "time_used: NULL, where there has to be a value"),
    ],
)
def test_which_track_cannot_be_stored_and_why(embedded_database: Dsn, changes: Any, reason: str) -> None:
    create_tables(embedded_database, value="double precision")
    with connect(embedded_database) as connection:
        tables = read_tables(connection, "public")
    assert fit(forecasts(**changes), tables, FORECAST_TABLE).by("cm_track_id") == {8: reason}


@pytest.mark.parametrize("type_", ["numeric(9)", "numeric(12, 3)", "few"])
def test_a_numeric_column_of_limited_precision(embedded_database: Dsn, type_: str) -> None:
    sql.run(embedded_database, "CREATE DOMAIN few AS numeric(11, 2)")
    create_tables(embedded_database, value=type_)
    with connect(embedded_database) as connection:
        tables = read_tables(connection, "public")
        refused = fit(forecasts(forecasted_value=10**9), tables, FORECAST_TABLE).by("cm_track_id")
        assert refused == {8: "forecasted_value: a value that does not fit numeric"}
        assert ingest(connection, tables, FORECAST_TABLE, forecasts(forecasted_value=10**9 - 1)) == 3
        connection.commit()
    largest = f"SELECT max(forecasted_value)::bigint FROM {FORECAST_TABLE}"
    assert sql.rows(embedded_database, largest) == [(10**9 - 1,)]
