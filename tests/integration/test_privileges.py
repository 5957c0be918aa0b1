"""The rights that the manual grants are enough, and one that is missing is named."""

from collections.abc import Iterator
from dataclasses import replace

import polars as pl
import pytest

from forecaster.errors import DatabaseError
from forecaster.postgres.connection import connect
from forecaster.postgres.diagnosis import diagnose
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.forecasts import store_forecasts
from forecaster.postgres.pruning import prune
from forecaster.postgres.rows import fit
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.documents import fenced
from tests.tables import golden_mldr, golden_streams, initialise

FEW = pl.col("cm_track_id") <= 10


def granted() -> list[str]:
    """The statements of docs/tables.md, for its user `nightly`."""
    lines = fenced("sql", "GRANT CONNECT").splitlines()
    return [line.partition(" -- ")[0].rstrip().removesuffix(";") for line in lines if line]


@pytest.fixture
def nightly(database: Dsn) -> Iterator[Dsn]:
    """A user with no rights yet, in a database with the three tables and a few tracks."""
    name = f"nightly_{database.dbname}"[:60]
    initialise(database)
    load(database, "public", streams=golden_streams().filter(FEW), mldr=golden_mldr())
    sql.run(database, f"REVOKE ALL ON DATABASE {database.dbname} FROM PUBLIC")
    sql.run(database, f"CREATE ROLE {name} LOGIN")
    yield replace(database, user=name)
    sql.run(database, f"DROP OWNED BY {name}")
    sql.run(database, f"DROP ROLE {name}")


def grant(database: Dsn, nightly: Dsn, *, but: str = "nothing") -> None:
    for statement in granted():
        if but not in statement:
            own = statement.replace("nightly", nightly.user).replace(" music ", f" {database.dbname} ")
            sql.run(database, own)


def test_they_are_the_least(nightly: Dsn, database: Dsn) -> None:
    assert len(granted()) == 13
    grant(database, nightly, but="DELETE")

    report = run(Database(nightly))

    assert report.results == 10
    # The way around the rows of another program, by a temporary table, needs no more.
    with connect(nightly) as connection:
        tables = read_tables(connection, "public")
        table = "backtest_track_streams_forecast"
        rows = pl.read_database_uri(f"SELECT * FROM {table} WHERE cm_track_id <= 2", database.uri).drop("id")
        sql.run(database, f"DELETE FROM {table} WHERE cm_track_id = 1")
        rows = rows.with_columns(pl.col("created_at") + pl.duration(microseconds=1))  # of another run
        stored = store_forecasts(connection, tables, fit(rows, tables, table), horizon=24, replace=False)
    assert (stored.rows, stored.taken) == (24, [2])


def test_ids_from_a_sequence_need_usage_of_it(nightly: Dsn, database: Dsn) -> None:
    table = "backtest_track_streams_forecast"
    sql.run(database, "CREATE SEQUENCE numbers")
    sql.run(database, f"ALTER TABLE {table} ALTER id DROP IDENTITY")
    sql.run(database, f"ALTER TABLE {table} ALTER id SET DEFAULT nextval('numbers')")
    grant(database, nightly)
    with pytest.raises(DatabaseError, match="permission denied for sequence numbers") as caught:
        run(Database(nightly))
    assert (caught.value.hint or "").startswith("grant the privilege to this user, or add a policy")
    assert sql.rows(database, f"SELECT count(*) FROM {table}") == [(0,)]
    sql.run(database, f"GRANT USAGE ON SEQUENCE numbers TO {nightly.user}")
    assert run(Database(nightly)).results == 10


def test_ids_that_are_uuids_need_no_more(nightly: Dsn, database: Dsn) -> None:
    table = "backtest_track_streams_forecast"
    sql.run(database, f"ALTER TABLE {table} DROP id, ADD id uuid PRIMARY KEY DEFAULT gen_random_uuid()")
    grant(database, nightly, but="DELETE")
    assert run(Database(nightly)).results == 10


def test_to_look_takes_no_right_to_write(nightly: Dsn, database: Dsn) -> None:
    for statement in granted():
        if "TEMPORARY" not in statement and "DELETE" not in statement:
            own = statement.replace("nightly", nightly.user).replace(" music ", f" {database.dbname} ")
            sql.run(database, own.replace(", INSERT", ""))
    assert run(Database(nightly), RunConfig(dry_run=True)).results == 10
    assert diagnose(nightly, "public", RunConfig(), None).track["cm_track_id"] == 1
    days = golden_streams().filter(pl.col("cm_track_id") == 50)
    with pytest.raises(DatabaseError, match=r"lacks rights .* INSERT on backtest_track_daily_training_data"):
        load(nightly, "public", streams=days, mldr=None)
    with pytest.raises(DatabaseError, match=r"lacks rights .* INSERT on backtest_artist_mldr"):
        load(nightly, "public", streams=None, mldr=golden_mldr())


def test_the_grants_of_the_hint_are_what_is_missing(nightly: Dsn, database: Dsn) -> None:
    sql.run(database, f"GRANT CONNECT, TEMPORARY ON DATABASE {database.dbname} TO {nightly.user}")
    with pytest.raises(DatabaseError) as caught:
        run(Database(nightly), RunConfig(replace=True))
    assert caught.value.hint
    for statement in caught.value.hint.split("; "):
        sql.run(database, statement)
    assert run(Database(nightly), RunConfig(replace=True)).results == 10


def test_where_no_other_program_stores_forecasts_no_temporary_table_is_needed(
    nightly: Dsn, database: Dsn
) -> None:
    sql.run(database, f"REVOKE TEMPORARY ON DATABASE {database.dbname} FROM PUBLIC")
    grant(database, nightly, but="TEMPORARY")
    assert run(Database(nightly)).results == 10


def test_replace_needs_delete(nightly: Dsn, database: Dsn) -> None:
    grant(database, nightly, but="DELETE")
    run(Database(nightly))
    with pytest.raises(DatabaseError, match=r"lacks rights .* DELETE on backtest_track_streams_forecast"):
        run(Database(nightly), RunConfig(replace=True))
    grant(database, nightly)
    assert run(Database(nightly), RunConfig(replace=True)).results == 10


def test_old_rows_of_the_history_are_removed_with_what_is_granted(nightly: Dsn, database: Dsn) -> None:
    grant(database, nightly)
    for _ in range(2):
        run(Database(nightly), RunConfig(replace=True))
    assert prune(nightly, "public", keep=1, dry_run=False).rows == 10


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("INSERT", "INSERT on backtest_track_streams_forecast"),
        ("backtest_artist_mldr", "SELECT on backtest_artist_mldr"),
        ("USAGE", "USAGE on the schema"),
        ("CONNECT", "permission denied for database"),
    ],
)
def test_a_missing_right_is_named_and_nothing_is_stored(
    nightly: Dsn, database: Dsn, missing: str, said: str
) -> None:
    # Everyone may use the schema public before PostgreSQL 15 takes that away.
    sql.run(database, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for statement in granted():
        own = statement.replace("nightly", nightly.user).replace(" music ", f" {database.dbname} ")
        if missing == "INSERT":
            own = own.replace("SELECT, INSERT", "SELECT")
        elif missing in own:
            continue
        sql.run(database, own)
    with pytest.raises(Exception, match=said) as caught:
        run(Database(nightly))
    assert type(caught.value).__module__ == "forecaster.errors"
    assert sql.rows(database, "SELECT count(*) FROM backtest_track_streams_forecast") == [(0,)]
