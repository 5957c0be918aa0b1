"""`init`: what is missing is created, what exists is left alone, and what cannot be promised is said."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from forecaster.errors import DatabaseError, LockedError, SchemaMismatchError
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from forecaster.setup.init import initialise
from forecaster.setup.load import load
from forecaster.tables import ALL_TABLES, CALIBRATED, KEPT
from tests import sql
from tests.tables import create_tables, golden_mldr, golden_streams

TABLE = "backtest_track_streams_forecast"
KEY = f"unique key of {TABLE} on (cm_track_id, month)"
MONTHS = f"INSERT INTO {TABLE} (cm_track_id, month) SELECT {{}}, month FROM generate_series({{}}) AS month"


def is_keyed(dsn: Dsn) -> bool:
    with connect(dsn) as connection:
        return read_tables(connection, "public").is_unique(TABLE, "cm_track_id", "month")


def test_everything_then_nothing(database: Dsn) -> None:
    first = initialise(database, "another schema")
    assert first.created == ["schema another schema", *ALL_TABLES]
    assert first.warnings == []
    again = initialise(database, "another schema")
    assert (again.created, again.warnings) == ([], [])


def test_tables_that_are_there_are_left_as_they_are(database: Dsn) -> None:
    create_tables(database)
    sql.run(database, "DROP TABLE backtest_artist_mldr")
    columns = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = $1"
    )
    before = sql.rows(database, f"{columns} ORDER BY 1, 2", "public")

    assert initialise(database, "public").created == ["backtest_artist_mldr", *KEPT, *CALIBRATED]

    after = sql.rows(database, f"{columns} ORDER BY 1, 2", "public")
    assert [row for row in after if row in before] == before


def test_tables_that_cannot_work_are_named_and_nothing_is_created(database: Dsn) -> None:
    sql.run(database, f"CREATE TABLE {TABLE} (id bigint, month text)")
    with pytest.raises(SchemaMismatchError, match=f"{TABLE}.month: is text"):
        initialise(database, "public")
    assert sql.rows(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


@pytest.mark.parametrize("row_id", ["uuid DEFAULT gen_random_uuid()", "bigint GENERATED ALWAYS AS IDENTITY"])
def test_the_key_is_created_once_the_data_allow_it(database: Dsn, row_id: str) -> None:
    create_tables(database, row_id=row_id, forecast_key="")
    sql.run(database, MONTHS.format(1, "1, 24"))
    sql.run(database, MONTHS.format(2, "1, 24"))
    sql.run(database, MONTHS.format(2, "9, 9"))

    refused = initialise(database, "public")

    assert refused.created == [*KEPT, *CALIBRATED]
    assert not is_keyed(database)
    doubled, no_key = refused.warnings
    assert "with a month twice or NULL: 1, the first is 2;" in doubled
    assert f"the {KEY} is missing, because a month is stored twice" in no_key
    assert "nothing prevents another program from storing a month twice" in no_key

    sql.run(database, f"DELETE FROM {TABLE} WHERE cm_track_id = 2")
    created = initialise(database, "public")
    assert (created.created, created.warnings) == ([KEY], [])
    assert is_keyed(database)
    assert initialise(database, "public").created == []


@pytest.mark.parametrize(
    "key",
    [
        "UNIQUE (month, cm_track_id)",
        "PRIMARY KEY (cm_track_id, month)",
        "UNIQUE (cm_track_id, month) INCLUDE (id)",
    ],
)
def test_a_key_of_another_name_or_order_is_a_key(embedded_database: Dsn, key: str) -> None:
    create_tables(embedded_database, forecast_key=key)
    result = initialise(embedded_database, "public")
    assert (result.created, result.warnings) == ([*KEPT, *CALIBRATED], [])


@pytest.mark.parametrize(
    "not_quite",
    [
        "CREATE UNIQUE INDEX ON {0} (cm_track_id, month, created_at)",
        "CREATE UNIQUE INDEX ON {0} (cm_track_id, month) WHERE month < 13",
        "CREATE UNIQUE INDEX ON {0} (cm_track_id, (month + 1))",
        "CREATE INDEX ON {0} (cm_track_id, month)",
        "ALTER TABLE {0} ADD UNIQUE (cm_track_id, month) DEFERRABLE",
    ],
)
def test_what_is_not_quite_a_key_is_none(embedded_database: Dsn, not_quite: str) -> None:
    create_tables(embedded_database, forecast_key="")
    sql.run(embedded_database, not_quite.format(TABLE))
    assert not is_keyed(embedded_database)
    assert initialise(embedded_database, "public").created == [*KEPT, *CALIBRATED, KEY]
    assert is_keyed(embedded_database)


@pytest.mark.parametrize(
    ("months", "partial"),
    [
        ("1, 24", 0),
        ("1, 23", 1),
        ("2, 25", 1),
        ("1, 47, 2", 1),
        ("1, 400", 0),
    ],
)
def test_partial_tracks_are_said(embedded_database: Dsn, months: str, partial: int) -> None:
    create_tables(embedded_database)
    sql.run(embedded_database, MONTHS.format(7, months))
    sql.run(embedded_database, MONTHS.format("NULL", "1, 3"))
    without_track, *warnings = initialise(embedded_database, "public").warnings
    assert "that name no track: 3;" in without_track
    assert len(warnings) == partial
    assert all("with gaps or fewer than 24 months: 1, the first is 7;" in warning for warning in warnings)


@pytest.mark.parametrize(("whole", "part"), [(400, 100), (12, 10)])
def test_what_most_tracks_have_is_whole(embedded_database: Dsn, whole: int, part: int) -> None:
    """A valuation's 400 months, of which 100 are a part; or twelve, which are none."""
    create_tables(embedded_database)
    for track, months in ((1, whole), (2, whole), (3, part)):
        sql.run(embedded_database, MONTHS.format(track, f"1, {months}"))
    [warning] = initialise(embedded_database, "public").warnings
    assert f"with gaps or fewer than {whole} months: 1, the first is 3;" in warning


@pytest.fixture
def no_owner(database: Dsn) -> Iterator[Dsn]:
    """A user with every right on the tables but that of their owner."""
    role = f"user_{database.dbname}"[:60]
    create_tables(database, forecast_key="")
    sql.run(database, f"CREATE ROLE {role} LOGIN")
    sql.run(database, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    sql.run(database, f"GRANT ALL ON SCHEMA public TO {role}")
    yield replace(database, user=role)
    sql.run(database, f"DROP OWNED BY {role}")
    sql.run(database, f"DROP ROLE {role}")


def test_without_the_right_to_create_the_key_run_works_and_says_what_is_not_guaranteed(
    no_owner: Dsn, database: Dsn
) -> None:
    result = initialise(no_owner, "public")
    assert result.created == [*KEPT, *CALIBRATED]
    [warning] = result.warnings
    assert f"the {KEY} is missing, because this user does not own the table" in warning
    assert "nothing prevents another program from storing a month twice" in warning

    load(database, "public", streams=golden_streams().filter(cm_track_id=1), mldr=golden_mldr())
    report = run(Database(no_owner))
    assert report.results == 1
    [warning] = report.warnings
    assert "has no unique key on (cm_track_id, month)" in warning
    assert "nothing prevents another program from storing a month twice" in warning


def test_a_user_who_may_create_nothing_is_told(no_owner: Dsn, database: Dsn) -> None:
    sql.run(database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    sql.run(database, f"REVOKE CREATE ON SCHEMA public FROM {no_owner.user}")
    sql.run(database, "DROP TABLE backtest_artist_mldr")
    with pytest.raises(DatabaseError, match="permission denied for schema public") as caught:
        initialise(no_owner, "public")
    assert caught.value.hint
    with pytest.raises(DatabaseError, match="permission denied for database"):
        initialise(no_owner, "new")


def test_a_view_gets_no_key(embedded_database: Dsn) -> None:
    create_tables(embedded_database, forecast_key="")
    sql.run(embedded_database, f"ALTER TABLE {TABLE} RENAME TO forecasts")
    sql.run(embedded_database, f"CREATE VIEW {TABLE} AS SELECT * FROM forecasts")
    [warning] = initialise(embedded_database, "public").warnings
    assert "because it is a view" in warning


def test_the_key_is_not_made_under_a_run(embedded_database: Dsn) -> None:
    create_tables(embedded_database, forecast_key="")
    with connect(embedded_database) as other:
        take_lock(other, read_tables(other, "public"))
        with pytest.raises(LockedError):
            initialise(embedded_database, "public")
    assert not is_keyed(embedded_database)


def test_two_at_once(database: Dsn) -> None:
    """Each creates everything, or finds it, or is told; at the end it is there once."""
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(initialise, database, "fresh") for _ in range(2)]
        failed = [call.exception() for call in both if call.exception()]
    assert len(failed) < 2
    assert all(isinstance(error, DatabaseError) for error in failed)
    again = initialise(database, "fresh")
    assert (again.created, again.warnings) == ([], [])
