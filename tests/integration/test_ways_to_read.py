"""However the rows lie and are read, the numbers are the same; the way is chosen by what the server knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from itertools import pairwise

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.model.features import WINDOW
from forecaster.postgres import statements
from forecaster.postgres.catalogue import Source, open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.layout import READ, Layout
from forecaster.postgres.tracks import BATCH, Forecasts
from tests import sql
from tests.tables import create_tables

STREAMS = "backtest_track_daily_training_data"
KEY = "UNIQUE (cm_track_id, date)"
COVERING = f"{KEY} INCLUDE ({', '.join(READ[2:])})"
LAST = "DATE '2024-12-31'"
# Per track: artist, streams and day of row n, and the numbers of its rows. The newest row has number 0.
TRACKS = {
    1: ("1", "n", f"{LAST} - n", "0, 799"),
    2: ("1", "n", f"{LAST} - n - CASE WHEN n >= 200 THEN 2000 ELSE 0 END", "0, 599"),  # a gap of years
    3: ("1", "n", "DATE '2020-01-01' - n", "0, 500"),  # ended before the window of a scan
    4: ("1", "n", f"{LAST} - n", "0, 9"),
    5: ("1", "NULL::bigint", f"{LAST} - n", "0, 500"),  # no record
    6: ("1 + n / 100", "n", f"{LAST} - n", "0, 500"),  # other artists in the records that count
    7: ("1 + n / 380", "n", f"{LAST} - n", "0, 500"),  # before these, but in the window of a scan
    8: ("1", "CASE WHEN n % 7 > 0 THEN n END", f"{LAST} - n", "0, 800"),  # a record is missing each week
    9: ("NULL::bigint", "n", f"{LAST} - 3 * n", "0, 600"),
    10: ("1", "n", "DATE '2999-12-31' - n", "0, 500"),  # looks ahead
    11: (
        "1",
        "n",
        f"CASE n WHEN 0 THEN DATE 'infinity' WHEN 1 THEN '-infinity' ELSE {LAST} - n END",
        "0, 9",
    ),
}
IDS = pl.Series([*TRACKS, 12], dtype=pl.Int64)  # the last one has no rows
BY_TRACK, BY_DAY = "1, 3", "3, md5(concat(cm_track_id, date))"
CHEAP_INDEX = Layout(pages=10**7, rows=1e9, tracks=1e6, correlation=1, visible=1)
CHEAP_SCAN = Layout(pages=1, rows=1, tracks=1, correlation=0, visible=0)
CHEAP_WINDOW = Layout(pages=10, rows=1_000, tracks=1, correlation=0, visible=0, shared=1)
"""A scan costs little, and finding the first record of a track by index less than scanning all of them."""


def make(dsn: Dsn, *, key: str, order: str, parts: int = 0, cm_id: str = "bigint") -> None:
    """The tracks in a table, or in partitions of a month and those for what lies before and after."""
    create_tables(dsn, streams_key="" if parts else key, cm_id=cm_id)
    if parts:
        sql.run(dsn, f"ALTER TABLE {STREAMS} RENAME TO plain")
        sql.run(
            dsn,
            f"CREATE TABLE {STREAMS} (LIKE plain INCLUDING DEFAULTS INCLUDING IDENTITY"
            f"{f', {key}' if key else ''}) PARTITION BY RANGE (date)",
        )
        sql.run(dsn, f"CREATE TABLE old PARTITION OF {STREAMS} DEFAULT")
        months = [f"'{2023 + n // 12}-{1 + n % 12}-1'" for n in range(parts + 1)]
        for n, (first, end) in enumerate(pairwise(months)):
            part = f"p{n} PARTITION OF {STREAMS} FOR VALUES FROM ({first}) TO ({end})"
            sql.run(dsn, f"CREATE TABLE {part}")
    rows = " UNION ALL ".join(
        f"SELECT {track}::bigint AS cm_track_id, {artist} AS cm_artist_id, {day} AS date, "
        f"{streams} AS daily_streams, n AS days_from_release, 1000 * {track} + n AS id "
        f"FROM generate_series({numbers}) AS g (n)"
        for track, (artist, streams, day, numbers) in TRACKS.items()
    )
    names = "cm_track_id, cm_artist_id, date, daily_streams, days_from_release, id"
    sql.run(dsn, f"INSERT INTO {STREAMS} ({names}) SELECT {names} FROM ({rows}) r ORDER BY {order}")
    sql.run(dsn, f"VACUUM ANALYZE {STREAMS}")


@contextmanager
def read_by(dsn: Dsn, layout: Layout | None = None) -> Iterator[Source]:
    with open_source(dsn, "public") as source:
        known = source.tables.layout if layout is None else layout
        yield replace(source, tables=replace(source.tables, layout=known))


def plain(dsn: Dsn, until: str = "9999-12-31") -> pl.DataFrame:
    """The streams that count of each track, and their days, as a plain SELECT finds them, oldest first."""
    rows = sql.rows(
        dsn,
        f"""SELECT cm_track_id::bigint, array_agg(daily_streams::float8 ORDER BY date),
                   array_agg(date - DATE '1970-01-01' ORDER BY date) FROM (
                SELECT *, row_number() OVER (PARTITION BY cm_track_id ORDER BY date DESC) AS n FROM {STREAMS}
                WHERE daily_streams IS NOT NULL AND isfinite(date) AND date <= '{until}') r
            WHERE n <= {WINDOW} GROUP BY 1 ORDER BY 1""",
    )
    lists: dict[str, pl.DataType] = {"streams": pl.List(pl.Float64), "days": pl.List(pl.Int32)}
    return pl.DataFrame(rows, schema={"cm_track_id": pl.Int64(), **lists}, orient="row")


@pytest.fixture(scope="module")
def facts() -> dict[int, tuple[int | None, bool, int | None]]:
    """Per track the id of its earliest record, whether it has several artists, and its newest artist."""
    return {
        1: (1799, False, 1),
        2: (2599, False, 1),
        3: (3500, False, 1),
        4: (4009, False, 1),
        5: (None, False, None),
        6: (6500, True, 1),
        7: (7500, False, 1),
        8: (8800, False, 1),
        9: (9600, False, None),
        10: (10500, False, 1),
        11: (11009, False, 1),
        12: (None, False, None),
    }


@pytest.mark.parametrize(
    ("key", "order", "parts", "cm_id"),
    [
        (KEY, BY_TRACK, 0, "bigint"),
        (KEY, BY_DAY, 0, "integer"),
        (COVERING, BY_DAY, 0, "bigint"),
        ("", BY_DAY, 0, "smallint"),
        (KEY, BY_DAY, 24, "bigint"),
        (COVERING, BY_DAY, 24, "bigint"),
        ("", BY_DAY, 24, "integer"),
    ],
)
def test_numbers_are_the_same_in_every_layout_by_every_reader(
    database: Dsn,
    key: str,
    order: str,
    parts: int,
    cm_id: str,
    facts: dict[int, tuple[int | None, bool, int | None]],
) -> None:
    make(database, key=key, order=order, parts=parts, cm_id=cm_id)
    expected = plain(database)
    days = []
    until = date(2024, 6, 30)
    cut = plain(database, f"{until}")
    for layout in [CHEAP_INDEX, CHEAP_SCAN, CHEAP_WINDOW]:
        assert layout.costs_of_first(len(IDS) / 2).favour_index == (layout is not CHEAP_SCAN)
        with read_by(database, layout) as source:
            assert source.scans(len(IDS)) == (not key or layout is not CHEAP_INDEX)
            if key:
                assert (source.scanned_after(IDS) is None) == (layout is CHEAP_INDEX)
            history = source.history(IDS)
            days.append(source.days(IDS).sort("cm_track_id", "date"))
            assert source.tracks().to_list() == [*TRACKS]
            assert source.last_day() == date(2999, 12, 31)
            with_days = source.history(IDS, with_days=True)
            known = source.history(IDS, with_days=True, until=until)
        assert_frame_equal(history.records.sort("cm_track_id").collect(), expected.drop("days"))
        assert_frame_equal(with_days.records.sort("cm_track_id").collect(), expected)
        assert_frame_equal(with_days.facts.collect(), history.facts.collect())
        assert_frame_equal(known.records.sort("cm_track_id").collect(), cut)
        ends = known.facts.drop_nulls("last_date").sort("cm_track_id").collect()["last_date"]
        assert ends.to_physical().to_list() == cut["days"].list.last().to_list()
        found = history.facts.sort("cm_track_id").collect()
        names = ("cm_track_id", "training_data_id", "has_several_artists", "cm_artist_id")
        assert {track: tuple(others) for track, *others in found.select(names).iter_rows()} == facts
        assert found.filter(cm_track_id=2)["first_date"].dt.to_string().item() == "2017-11-19"
        assert found.filter(cm_track_id=7)["days_from_release"].item() == 0
        assert history.duplicates == 0
    assert_frame_equal(days[0], days[1])
    assert_frame_equal(days[0], days[2])


def test_weekly_rows_are_looked_up_at_once(embedded_database: Dsn) -> None:
    """In the days that a scan keeps, such tracks have too few records: all would be looked up as well."""
    create_tables(embedded_database, streams_key=KEY)
    for days, expected in [(1, True), (7, False)]:
        sql.run(embedded_database, f"TRUNCATE {STREAMS}")
        sql.run(
            embedded_database,
            f"INSERT INTO {STREAMS} (cm_track_id, date, daily_streams) "
            f"SELECT track, {LAST} - {days} * n, n "
            "FROM generate_series(0, 420) n, generate_series(1, 50) track",
        )
        tracks = pl.Series(range(1, 51))
        with read_by(embedded_database, CHEAP_SCAN) as source:
            assert source.scans(len(tracks))
            after = source.scanned_after(tracks)
            assert (after is not None) == expected
            assert source.history(tracks).records.collect()["streams"].list.len().to_list() == [WINDOW] * 50
            assert source.scanned_after(pl.Series([99])) is None  # no record


@pytest.mark.parametrize("cm_id", ["smallint", "integer", "bigint"])
def test_a_scan_compares_ids_in_the_type_of_the_column(embedded_database: Dsn, cm_id: str) -> None:
    """Else the server cannot look them up in a hash. What the column cannot hold is in no row."""
    make(embedded_database, key=KEY, order=BY_DAY, cm_id=cm_id)
    ids = pl.Series([*range(-40, 40), 2**15, 2**31, -(2**63), 2**63 - 1], dtype=pl.Int64)
    for other in ("indexscan", "indexonlyscan", "bitmapscan"):
        sql.run(embedded_database, f"ALTER DATABASE {embedded_database.dbname} SET enable_{other} = off")
    with read_by(embedded_database, CHEAP_SCAN) as source:
        plan = sql.rows(embedded_database, f"EXPLAIN {statements.days_in_one_pass(source.tables, ids)}")
        assert set(source.days(ids)["cm_track_id"]) == {*TRACKS} - {5}
        assert len(source.history(ids).facts.collect()) == len(ids)
        assert source.stored(ids).is_empty()
        assert source.forecasts(ids).is_empty()
        assert source.cutoffs(ids).is_empty()
    [filtered] = [line for (line,) in plan if "cm_track_id = ANY" in line]
    assert f"::{cm_id}[]" in filtered


def test_a_day_that_is_a_timestamp_is_read_in_one_pass(embedded_database: Dsn) -> None:
    create_tables(embedded_database, date="timestamptz", streams_key=KEY)
    with read_by(embedded_database, CHEAP_INDEX) as source:
        assert source.scans(1)


def enlarge(dsn: Dsn, factor: int, *, pages: int = 70_000, visible: float = 1) -> None:
    """Let the server believe that the table is so many times as large."""
    sql.run(
        dsn,
        f"UPDATE pg_class SET reltuples = {factor} * reltuples, relpages = {pages}, "
        f"relallvisible = {int(visible * pages)} WHERE relname = '{STREAMS}'",
    )


def ways(dsn: Dsn) -> dict[int, bool]:
    """Whether a scan reads so many tracks."""
    with read_by(dsn) as source:
        return {tracks: source.scans(tracks) for tracks in (1, 85, 8459)}


INDEX, BY_NUMBER = dict.fromkeys((1, 85, 8459), False), {1: False, 85: False, 8459: True}


@pytest.mark.parametrize(
    ("key", "order", "visible", "expected"),
    [
        (KEY, BY_TRACK, 1, INDEX),
        (KEY, BY_DAY, 1, BY_NUMBER),
        (COVERING, BY_DAY, 1, INDEX),
        (COVERING, BY_DAY, 0, BY_NUMBER),  # each page is read all the same
        (COVERING, BY_TRACK, 0, INDEX),
    ],
)
def test_the_way_follows_order_number_and_index(
    embedded_database: Dsn, key: str, order: str, visible: float, expected: dict[int, bool]
) -> None:
    make(embedded_database, key=key, order=order)
    assert ways(embedded_database) == INDEX  # all of it is in the server's memory
    enlarge(embedded_database, 1000, visible=visible)
    assert ways(embedded_database) == expected
    with read_by(embedded_database) as source:
        most = 8 * BATCH if expected[8459] else BATCH
        assert Forecasts().batch_size(8459, source, None, is_far=False) == most
        assert Forecasts().batch_size(85, source, None, is_far=False) == BATCH


def test_without_statistics_the_size_of_the_table_decides(embedded_database: Dsn) -> None:
    """Rows that were stored in an existing index change no statistics."""
    create_tables(embedded_database, streams_key=KEY)
    sql.run(embedded_database, f"ALTER TABLE {STREAMS} SET (autovacuum_enabled = false)")
    sql.run(
        embedded_database,
        f"INSERT INTO {STREAMS} (cm_track_id, date) SELECT n % 85, {LAST} - n / 85 "
        "FROM generate_series(0, 9999) n",
    )
    assert sql.rows(embedded_database, f"SELECT relpages FROM pg_class WHERE relname = '{STREAMS}'") == [(0,)]
    with read_by(embedded_database) as source:
        layout = source.tables.layout
    assert layout
    assert 50 < layout.pages < 200
    assert layout.rows == 100 * layout.pages
    assert ways(embedded_database) == INDEX  # all of it is in the server's memory


def test_partitions_count_as_one_table(embedded_database: Dsn) -> None:
    make(embedded_database, key=COVERING, order=BY_DAY, parts=24)
    with read_by(embedded_database) as source:
        layout = source.tables.layout
    assert layout
    [[rows]] = sql.rows(embedded_database, f"SELECT count(*) FROM {STREAMS}")
    assert (layout.parts, layout.is_covered, layout.rows) == (25, True, rows)
    assert 0 < layout.correlation < 0.5


def test_many_partitions_make_lookups_cost_more(embedded_database: Dsn) -> None:
    make(embedded_database, key=KEY, order=BY_DAY, parts=24)
    [[pages]] = sql.rows(
        embedded_database, "SELECT sum(relpages)::int FROM pg_class WHERE relname LIKE 'p_%'"
    )
    assert pages
    with read_by(embedded_database) as source:
        layout = source.tables.layout
    assert layout
    many = replace(layout, parts=120)
    assert many.costs(8459).index > layout.costs(8459).index
    assert not replace(many, tracks=8459).costs_of_ids().favour_index
    assert layout.with_covering_index().costs(8459).index < layout.costs(8459).index


def test_the_covering_index_is_all_that_is_read(embedded_database: Dsn) -> None:
    make(embedded_database, key=COVERING, order=BY_DAY)
    for other in ("seqscan", "bitmapscan"):  # cheaper for a table that is small
        sql.run(embedded_database, f"ALTER DATABASE {embedded_database.dbname} SET enable_{other} = off")
    with read_by(embedded_database) as source:
        statement = statements.history_by_index(source.tables, IDS)
    plan = "\n".join(line for (line,) in sql.rows(embedded_database, f"EXPLAIN {statement}"))
    assert plan.count("Index Only Scan") == 3
