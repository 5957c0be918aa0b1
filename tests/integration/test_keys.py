"""What counts as a key: only what keeps each row of a table from being there twice."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.stored import has_key
from forecaster.postgres.tables import Tables, read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.init import initialise as init
from forecaster.setup.load import load
from tests import sql
from tests.faults import FORECAST, STREAMS, clear
from tests.forecasts import stored
from tests.tables import DROP_DAY_KEY, create_tables, golden_mldr, golden_streams, initialise

LISTENERS = "backtest_artist_daily_training_data"
TRACKS = pl.col("cm_track_id") <= 4


def tables_of(dsn: Dsn) -> Tables:
    with connect(dsn) as connection:
        return read_tables(connection, "public")


def streams_key(dsn: Dsn) -> bool:
    return tables_of(dsn).has_day_key(STREAMS)


ON = f"ON {STREAMS} (cm_track_id, date"
ADD = f"ALTER TABLE {STREAMS} ADD UNIQUE"


@pytest.mark.parametrize(
    ("statement", "is_key"),
    [
        (f"CREATE UNIQUE INDEX k {ON})", True),
        (f"CREATE UNIQUE INDEX k {ON}) INCLUDE (daily_streams)", True),
        (f"CREATE UNIQUE INDEX k {ON} DESC NULLS LAST)", True),
        (f"{ADD} (cm_track_id, date)", True),
        (f"{ADD} NULLS NOT DISTINCT (cm_track_id, date)", True),
        (f"{ADD} (cm_track_id, date) DEFERRABLE", False),
        (f"{ADD} (cm_track_id, date) DEFERRABLE INITIALLY DEFERRED", False),
        (f"CREATE INDEX k {ON})", False),
        (f"CREATE UNIQUE INDEX k {ON}, cm_artist_id)", False),
        (f"CREATE UNIQUE INDEX k ON {STREAMS} (cm_track_id) INCLUDE (date)", False),
        (f"CREATE UNIQUE INDEX k {ON}) WHERE cm_track_id > 2", False),
        (f"CREATE UNIQUE INDEX k ON {STREAMS} (cm_track_id, (date + 0))", False),
        (f"CREATE INDEX k ON {STREAMS} USING hash (cm_track_id)", False),
        (f"ALTER TABLE {STREAMS} ADD EXCLUDE (cm_track_id WITH =, date WITH =)", False),
    ],
)
def test_indexes(embedded_database: Dsn, statement: str, is_key: bool) -> None:  # noqa: FBT001
    create_tables(embedded_database)
    sql.run(embedded_database, statement)
    assert streams_key(embedded_database) == is_key


def test_an_index_that_is_not_valid(embedded_database: Dsn) -> None:
    create_tables(embedded_database, streams_key="UNIQUE (cm_track_id, date)")
    for sign in ("indisvalid", "indisready", "indislive"):
        its = f"indrelid = '{STREAMS}'::regclass AND indnatts = 2"
        change = f"UPDATE pg_index SET {sign} = $1::boolean WHERE {its}"
        sql.run(embedded_database, change, "false")
        assert not streams_key(embedded_database)
        sql.run(embedded_database, change, "true")
    assert streams_key(embedded_database)


def test_partitions(embedded_database: Dsn) -> None:
    """A key of the whole is one; keys of all its parts are none."""
    dsn = embedded_database
    create_tables(dsn)
    sql.run(dsn, f"ALTER TABLE {STREAMS} RENAME TO plain")
    sql.run(dsn, f"CREATE TABLE {STREAMS} (LIKE plain) PARTITION BY HASH (cm_track_id)")
    for part in range(2):
        values = f"FOR VALUES WITH (MODULUS 2, REMAINDER {part})"
        sql.run(dsn, f"CREATE TABLE part{part} PARTITION OF {STREAMS} {values}")
        sql.run(dsn, f"CREATE UNIQUE INDEX key{part} ON part{part} (cm_track_id, date)")
    assert not streams_key(dsn)
    sql.run(dsn, f"CREATE UNIQUE INDEX whole ON ONLY {STREAMS} (cm_track_id, date)")
    assert not streams_key(dsn)
    for part in range(2):
        sql.run(dsn, f"ALTER INDEX whole ATTACH PARTITION key{part}")
    assert streams_key(dsn)


def with_heir(dsn: Dsn, table: str, rows: str) -> None:
    """A table that inherits, with rows of its own: each a change of one of its parent's."""
    sql.run(dsn, f"CREATE TABLE heir_of_{table[9:]} () INHERITS ({table})")
    sql.run(dsn, f"INSERT INTO heir_of_{table[9:]} {rows}")


def test_streams_that_others_inherit(embedded_database: Dsn) -> None:
    """The key binds only the rows of the table itself: of two for one day the newest counts, as ever."""
    dsn = embedded_database
    initialise(dsn)
    load(dsn, "public", streams=golden_streams().filter(TRACKS), mldr=golden_mldr())
    [(rows,)] = sql.rows(dsn, f"SELECT count(*) FROM {STREAMS} WHERE cm_track_id = 1")
    columns = "id, cm_track_id, cm_artist_id, date, daily_streams, days_from_release, created_at"
    newer = columns.replace("daily_streams", "daily_streams * 100")
    newer = newer.replace("created_at", "created_at + interval '1 day'").replace("id,", "id + 1000000,", 1)
    heir = f"({columns}) SELECT {newer} FROM ONLY {STREAMS} WHERE cm_track_id = 1"
    with_heir(dsn, STREAMS, heir)

    assert not streams_key(dsn)
    assert run(Database(dsn)).duplicate_rows == rows
    with_the_key = stored(dsn)
    clear(dsn)
    sql.run(dsn, DROP_DAY_KEY)
    assert run(Database(dsn)).duplicate_rows == rows
    assert_frame_equal(with_the_key, stored(dsn))
    # A parent that has lost its heirs is again as good as any.
    sql.run(dsn, f"ALTER TABLE {STREAMS} ADD UNIQUE (cm_track_id, date)")
    sql.run(dsn, f"DROP TABLE heir_of_{STREAMS[9:]}")
    assert streams_key(dsn)


def test_forecasts_that_others_inherit(embedded_database: Dsn) -> None:
    """What is stored in the heir is stored: no track gets its months again, and `init` makes no more keys."""
    dsn = embedded_database
    initialise(dsn)
    load(dsn, "public", streams=golden_streams().filter(TRACKS), mldr=golden_mldr())
    run(Database(dsn), RunConfig(ids=(1,)))
    with_heir(dsn, FORECAST, f"SELECT * FROM ONLY {FORECAST}")
    assert not has_key(tables_of(dsn))

    report = run(Database(dsn))

    assert report.pending == 3
    assert any(f"other tables inherit from {FORECAST}" in warning for warning in report.warnings)
    assert any("a month twice or NULL: 1, the first is 1" in warning for warning in report.warnings)
    indexes = f"SELECT count(*) FROM pg_index WHERE indrelid = '{FORECAST}'::regclass"
    before = sql.rows(dsn, indexes)
    for _ in range(2):
        assert any(
            "because other tables inherit from it" in warning for warning in init(dsn, "public").warnings
        )
    assert sql.rows(dsn, indexes) == before
    assert run(Database(dsn), RunConfig(replace=True)).rows == 4 * 24
    assert sql.rows(dsn, f"SELECT count(*) FROM {FORECAST}") == [(4 * 24,)]


@pytest.mark.parametrize("date", ["date", "timestamptz"])
def test_listeners_of_one_day_twice(embedded_database: Dsn, date: str) -> None:
    """In a table that inherits; and, on a timestamp column, in spite of the key."""
    dsn = embedded_database
    create_tables(dsn, row_id="uuid DEFAULT gen_random_uuid()", date=date)
    sql.run(dsn, f"ALTER TABLE {LISTENERS} ADD UNIQUE (cm_artist_id, date)")
    target, later = LISTENERS, "5 hours"
    if date == "date":
        target, later = "heir", "0"
        sql.run(dsn, f"CREATE TABLE heir () INHERITS ({LISTENERS})")
    falling = "1000000 / (1 + extract(epoch FROM d - '2024-01-01')::int / 86400)"
    # Of the first artist there are other rows for the same days, which are newer: those of the third.
    for table, artist, listeners, hours in (
        (LISTENERS, 1, "1000", "0"),
        (LISTENERS, 2, "1000", "0"),
        (LISTENERS, 3, falling, "0"),
        (target, 1, falling, later),
    ):
        sql.run(
            dsn,
            f"INSERT INTO {table} (cm_artist_id, date, monthly_listeners, created_at) SELECT {artist}, "
            f"d + '{hours}'::interval, {listeners}, now() FROM generate_series('2024-01-01'::timestamptz, "
            "'2024-06-30', '1 day') d",
        )

    report = run(ArtistRates(dsn))

    rates = dict(sql.rows(dsn, "SELECT cm_artist_id, mldr FROM backtest_artist_mldr"))
    assert (report.duplicate_rows, report.results) == (182, 3)
    assert rates[1] == rates[3] != rates[2]
