"""Which index of the streams `doctor` proposes, by what the server knows, and which one it has dropped."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.examinations import examined, execute, is_well, paste, the
from tests.faults import STREAMS, clear
from tests.forecasts import stored
from tests.tables import DROP_DAY_KEY, create_tables, golden_mldr, golden_streams, initialise, load_golden

ROOT = Path(__file__).parents[2]
INDEX = "index of the streams"
KEY = "key of the streams"
COVERING = "(cm_track_id, date) INCLUDE (days_from_release, daily_streams, cm_artist_id, id)"
RANDOM = "uuid DEFAULT gen_random_uuid()"
PLAIN = f"ALTER TABLE {STREAMS} ADD CONSTRAINT plain UNIQUE (cm_track_id, date)"


def claim(dsn: Dsn, *, rows: float = 6.7e6, pages: int = 70_000, visible: int = 70_000) -> None:
    """The statistics of a large table, with the tracks in no order."""
    facts = f"reltuples = {rows}, relpages = {pages}, relallvisible = {visible}"
    sql.run(dsn, f"UPDATE pg_class SET {facts} WHERE oid = '{STREAMS}'::regclass")


@pytest.fixture
def by_day(embedded_database: Dsn) -> Dsn:
    """A table of an earlier `init`: with the plain key, and rows that came day by day, of many tracks."""
    initialise(embedded_database)
    execute(
        embedded_database,
        DROP_DAY_KEY,
        PLAIN,
        f"ALTER TABLE {STREAMS} ALTER cm_track_id SET (n_distinct = 8459)",
    )
    streams = golden_streams().sort("date", "daily_streams")
    load(embedded_database, "public", streams=streams, mldr=golden_mldr())
    sql.run(embedded_database, f"ANALYZE {STREAMS}")
    return embedded_database


def test_a_small_table_has_what_it_needs(by_day: Dsn) -> None:
    result = examined(by_day)
    assert is_well(KEY, result)
    assert not [finding for finding in result.findings if finding.about == INDEX]


def test_a_plain_key_where_rows_lie_by_day(by_day: Dsn) -> None:
    """The statements are run: then doctor says nothing more, and runs give the same rows."""
    run(Database(by_day))
    expected = stored(by_day)
    claim(by_day)
    finding = the(INDEX, examined(by_day))
    assert finding.fix == f'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."{STREAMS}" {COVERING};'
    [now, then] = map(float, re.findall(r"([\d.]+) s\b", finding.found))
    assert now > 1.5 * then
    assert re.search(r"it makes plain superfluous \([\d.]+ MB\)", finding.found)

    paste(by_day, finding.fix)
    claim(by_day)
    result = examined(by_day)
    assert is_well(INDEX, result)
    [drop] = [finding for finding in result.findings if finding.about == INDEX]
    assert drop.found.startswith("plain can be dropped, as another key holds its columns and more")
    assert drop.fix == f'ALTER TABLE "public"."{STREAMS}" DROP CONSTRAINT "plain";'

    paste(by_day, drop.fix)
    claim(by_day)
    result = examined(by_day)
    assert is_well(KEY, result)
    assert not [finding for finding in result.findings if finding.about == INDEX]
    clear(by_day)
    run(Database(by_day))
    assert stored(by_day).equals(expected)


def test_pages_that_are_not_known_to_be_visible(by_day: Dsn) -> None:
    execute(
        by_day, f"CREATE UNIQUE INDEX ON {STREAMS} {COVERING}", f"ALTER TABLE {STREAMS} DROP CONSTRAINT plain"
    )
    claim(by_day, visible=10_000)
    finding = the(INDEX, examined(by_day))
    assert finding.fix == f'VACUUM (ANALYZE) "public"."{STREAMS}";'
    paste(by_day, finding.fix)
    assert not [finding for finding in examined(by_day).findings if finding.about == INDEX]


def test_a_key_that_is_needed_stays(by_day: Dsn) -> None:
    execute(
        by_day,
        f"CREATE UNIQUE INDEX ON {STREAMS} {COVERING}",
        "CREATE TABLE heard (track bigint, day date)",
        f"ALTER TABLE heard ADD FOREIGN KEY (track, day) REFERENCES {STREAMS} (cm_track_id, date)",
    )
    assert [f.fix for f in examined(by_day).findings if f.about == INDEX] == []


def partition(dsn: Dsn, *, of: int) -> None:
    """The streams in ranges of days, each with a name that has to be quoted."""
    create_tables(dsn, row_id=RANDOM)
    statements = [
        f"ALTER TABLE {STREAMS} RENAME TO plain",
        f"CREATE TABLE {STREAMS} (LIKE plain INCLUDING DEFAULTS) PARTITION BY RANGE (date)",
    ]
    starts = [
        "MINVALUE",
        *(f"'{2015 + number // 12}-{number % 12 + 1:02}-01'" for number in range(of - 1)),
        "MAXVALUE",
    ]
    statements += [
        f'CREATE TABLE "P {number}" PARTITION OF {STREAMS} FOR VALUES FROM ({start}) TO ({end})'
        for number, (start, end) in enumerate(pairwise(starts))
    ]
    execute(dsn, *statements)
    load(dsn, "public", streams=golden_streams(), mldr=golden_mldr())
    sql.run(dsn, "ANALYZE")


def test_few_partitions_get_the_key_one_by_one(embedded_database: Dsn) -> None:
    dsn = embedded_database
    partition(dsn, of=2)
    finding = the(KEY, examined(dsn))
    statements = (finding.fix or "").split(";\n")
    assert [re.sub(r"\d{4,}", "N", statement.rstrip(";")) for statement in statements] == [
        f'CREATE UNIQUE INDEX "backtest_streams_key_N" ON ONLY "public"."{STREAMS}" {COVERING}',
        f'CREATE UNIQUE INDEX CONCURRENTLY "backtest_streams_key_N" ON "public"."P 0" {COVERING}',
        f'CREATE UNIQUE INDEX CONCURRENTLY "backtest_streams_key_N" ON "public"."P 1" {COVERING}',
        *['ALTER INDEX "public"."backtest_streams_key_N" ATTACH PARTITION "public"."backtest_streams_key_N"']
        * 2,
    ]
    paste(dsn, finding.fix)
    result = examined(dsn)
    assert is_well(KEY, result)
    assert is_well("indexes", result)
    assert not [finding for finding in result.findings if finding.about == INDEX]


@pytest.mark.parametrize("by", ["many", "created_at"])
def test_no_key_where_it_would_not_help(embedded_database: Dsn, by: str) -> None:
    """A lookup in each of many partitions takes longer than one pass; and a key needs the column."""
    if by == "many":
        partition(embedded_database, of=120)
    else:
        create_tables(embedded_database, row_id=RANDOM)
        execute(
            embedded_database,
            f"ALTER TABLE {STREAMS} RENAME TO plain",
            f"CREATE TABLE {STREAMS} (LIKE plain INCLUDING DEFAULTS) PARTITION BY RANGE (created_at)",
            f"CREATE TABLE part PARTITION OF {STREAMS} DEFAULT",
        )
        load(embedded_database, "public", streams=golden_streams(), mldr=golden_mldr())
    result = examined(embedded_database)
    assert is_well(KEY, result)
    [found] = [finding.found for finding in result.findings if finding.about == KEY]
    assert ("with 120 partitions, one pass" in found) == (by == "many")
    assert ("by other columns" in found) == (by == "created_at")


def test_rows_that_repeat_a_day(embedded_database: Dsn) -> None:
    """They are deleted first; an index that failed on them is named, with what makes it valid."""
    dsn = embedded_database
    create_tables(dsn)
    load(dsn, "public", streams=golden_streams().head(1000), mldr=golden_mldr())
    columns = "cm_track_id, cm_artist_id, date, daily_streams"
    sql.run(dsn, f"INSERT INTO {STREAMS} ({columns}) SELECT {columns} FROM {STREAMS} LIMIT 3")
    finding = the(KEY, examined(dsn))
    assert "rows that repeat a day, and have to be deleted first: 3" in finding.found
    _, create = (finding.fix or "").split("; ")
    with pytest.raises(Exception, match="could not create unique index"):
        execute(dsn, create)
    result = examined(dsn)
    assert "REINDEX INDEX" in (the("indexes", result).fix or "")
    delete, *_ = (the(KEY, result).fix or "").split("; ")
    execute(dsn, delete)
    paste(dsn, the("indexes", result).fix)
    result = examined(dsn)
    assert is_well(KEY, result)
    assert is_well("indexes", result)


def test_the_page_says_which_key() -> None:
    """What `init` makes and what `doctor` proposes."""
    words = " ".join((ROOT / "docs" / "tables.md").read_text().split())
    assert f"UNIQUE {COVERING}" in words
    assert f"CREATE UNIQUE INDEX CONCURRENTLY ON {STREAMS} {COVERING};" in words


def test_a_large_table_without_a_key(by_day: Dsn) -> None:
    """What the key would save is said where it is all that is to do, and much."""
    sql.run(by_day, f"ALTER TABLE {STREAMS} DROP CONSTRAINT plain")
    assert "expected" not in the(KEY, examined(by_day)).found
    claim(by_day)
    found = the(KEY, examined(by_day)).found
    without, by_key = map(float, re.findall(r"([\d.]+) s\b", found))
    assert without > 2 * by_key > 0
    assert found.endswith("s with the key")
    sql.run(by_day, f"CREATE TABLE child () INHERITS ({STREAMS})")
    assert "expected" not in the(KEY, examined(by_day)).found


def test_large_tables_without_statistics(embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    load_golden(embedded_database)
    sql.run(embedded_database, f"ALTER TABLE {STREAMS} SET (autovacuum_enabled = off)")
    sql.run(embedded_database, "UPDATE pg_class SET relpages = 0, reltuples = -1")
    assert INDEX not in {finding.about for finding in examined(embedded_database).findings}
    monkeypatch.setattr("forecaster.doctor.indexes._LARGE", 0)
    finding = the(INDEX, examined(embedded_database))
    assert (finding.level, finding.fix) == ("warning", f'ANALYZE "public"."{STREAMS}";')
    assert "no statistics" in finding.found
    sql.run(embedded_database, f"{finding.fix}")
    assert INDEX not in {finding.about for finding in examined(embedded_database).findings}
