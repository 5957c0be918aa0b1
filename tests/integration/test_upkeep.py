"""After many rows were loaded, the server knows that the index of the key tells which of them count."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import Tables
from forecaster.postgres.upkeep import vacuum
from forecaster.setup.load import load
from tests import sql
from tests.faults import STREAMS
from tests.roles import granted
from tests.tables import golden_mldr, golden_streams, initialise

FACTS = f"SELECT relallvisible > 0, reltuples::int8 FROM pg_class WHERE oid = '{STREAMS}'::regclass"


@pytest.fixture
def tables(embedded_database: Dsn) -> Dsn:
    """As `init` makes them. Nobody else vacuums them; what was committed is on disk, as VACUUM needs it."""
    sql.run(embedded_database, f"ALTER DATABASE {embedded_database.dbname} SET synchronous_commit = on")
    initialise(embedded_database)
    return embedded_database


def test_many_rows(tables: Dsn) -> None:
    streams = golden_streams()
    load(tables, "public", streams=streams, mldr=golden_mldr())
    assert sql.rows(tables, FACTS) == [(True, len(streams))]


def test_few_rows_are_left_to_the_server(tables: Dsn) -> None:
    """Few in number, or few for the size of the table: a night's."""
    load(tables, "public", streams=golden_streams().filter(pl.col("cm_track_id") <= 4))
    assert sql.rows(tables, FACTS) == [(False, -1)]
    sql.run(tables, f"UPDATE pg_class SET reltuples = 1e6 WHERE oid = '{STREAMS}'::regclass")
    later = golden_streams().with_columns(pl.col("date") + timedelta(days=10_000)).head(20_000)
    load(tables, "public", streams=later)
    assert sql.rows(tables, FACTS) == [(False, 1_000_000)]


def test_a_user_who_may_not(tables: Dsn, capfd: pytest.CaptureFixture[str]) -> None:
    streams = golden_streams()
    with granted(tables, "SELECT, INSERT") as other:
        assert load(other, "public", streams=streams).streams == len(streams)
    assert sql.rows(tables, FACTS) == [(False, -1)]
    assert capfd.readouterr() == ("", "")


def test_a_long_wait_is_said(tables: Dsn, caplog: pytest.LogCaptureFixture) -> None:
    for rows in (10_000, 999_999):
        with caplog.at_level("INFO", "forecaster"):
            vacuum(tables, Tables("public", {}, ()), STREAMS, rows)
    assert caplog.messages == []
    with caplog.at_level("INFO", "forecaster"):
        vacuum(tables, Tables("public", {}, ()), STREAMS, 1_000_000)
    assert caplog.messages == [f"vacuuming {STREAMS}, so that runs read it fast"]


def test_a_server_that_refuses(tables: Dsn) -> None:
    """It does so later: what is stored stays stored."""
    sql.run(tables, f"INSERT INTO {STREAMS} SELECT n, n, n, 'today' FROM generate_series(1, 99999) n")
    hurried = replace(tables, parameters=(("options", "-c statement_timeout=1ms"),))
    vacuum(hurried, Tables("public", {}, ()), STREAMS, 10**9)
    assert sql.rows(tables, FACTS) == [(False, -1)]
    vacuum(tables, Tables("public", {}, ()), STREAMS, 10**9)
    assert sql.rows(tables, FACTS) == [(True, 99999)]
