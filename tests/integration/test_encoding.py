"""Names are the same to both drivers, whatever the encodings of the server, the database and the user."""

from collections.abc import Iterator
from dataclasses import replace

import polars as pl
import pytest

from forecaster.errors import DatabaseError, ForecasterError, SchemaMismatchError
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from forecaster.setup.init import initialise
from forecaster.setup.load import load
from tests import sql
from tests.conftest import ServerNamed
from tests.tables import golden_mldr, golden_streams

NAME = "müsik"
FEW = pl.col("cm_track_id") <= 3


def utf8(dsn: Dsn) -> Dsn:
    """For the tests' own statements."""
    return replace(dsn, parameters=(("options", "-c client_encoding=UTF8"),))


def new(server: Dsn, encoding: str, setting: str = "") -> Dsn:
    dbname = f"in_{encoding}_{setting}".lower()
    sql.run(server, f"CREATE DATABASE {dbname} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    if setting:
        sql.run(server, f"ALTER DATABASE {dbname} SET client_encoding = '{setting}'")
    return replace(server, dbname=dbname)


@pytest.fixture(params=["LATIN1", "SQL_ASCII", "EUC_JP", "UTF8 LATIN1", "LATIN1 WIN1252", "UTF8 SQL_ASCII"])
def encoded(request: pytest.FixtureRequest, server_named: ServerNamed) -> Iterator[Dsn]:
    """A database in an encoding, which has its clients in another one."""
    server = server_named("embedded")
    dsn = new(server, *request.param.split())
    yield dsn
    sql.run(server, f"DROP DATABASE {dsn.dbname} WITH (FORCE)")


def test_a_schema_is_called_what_was_said(encoded: Dsn) -> None:
    initialise(encoded, NAME)
    assert sql.rows(utf8(encoded), "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'm%'") == [
        (NAME,)
    ]
    load(encoded, NAME, streams=golden_streams().filter(FEW), mldr=golden_mldr())
    assert run(Database(encoded, NAME)).results == 3
    with open_source(encoded, NAME) as source:
        assert source.forecasts().height == 3 * 24
    assert initialise(encoded, NAME).created == []


def test_each_connection_has_the_encoding(encoded: Dsn) -> None:
    """Also one beside another, and one for which the user has asked for another."""
    asked = replace(encoded, parameters=(("options", "-c client_encoding=LATIN1"),))
    setting = "SELECT current_setting('client_encoding') AS setting"
    with connect(asked) as one, connect(asked, like=one) as other:
        assert [query(c, setting).item() for c in (one, other)] == ["UTF8", "UTF8"]


def test_a_name_of_a_user_and_of_columns(encoded: Dsn) -> None:
    """What the server says of them is as readable."""
    initialise(encoded, NAME)
    with pytest.raises(DatabaseError, match="größe"), connect(encoded) as connection:
        query(connection, 'SELECT "größe"')
    sql.run(utf8(encoded), f'ALTER TABLE "{NAME}".backtest_artist_mldr ADD "größe" text NOT NULL')
    with pytest.raises(SchemaMismatchError, match="größe: is NOT NULL"):
        load(encoded, NAME, mldr=golden_mldr())


def test_a_name_that_the_server_cannot_hold(server_named: ServerNamed) -> None:
    server = server_named("embedded")
    dsn = new(server, "LATIN1")
    try:
        for action in (lambda: initialise(dsn, "音楽"), lambda: run(Database(dsn, "音楽"))):
            with pytest.raises(
                SchemaMismatchError, match="cannot hold the name '音楽': its encoding"
            ) as caught:
                action()
            assert "UTF8" in (caught.value.hint or "")
        assert sql.rows(dsn, "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_|^inf|^pub'") == []
    finally:
        sql.run(server, f"DROP DATABASE {dsn.dbname} WITH (FORCE)")


def test_a_name_that_is_too_long_only_there(server_named: ServerNamed) -> None:
    """The server would cut it off, and then it would be another one."""
    server = server_named("embedded")
    dsn = new(server, "EUC_JP")
    try:
        with pytest.raises(SchemaMismatchError, match="93 bytes in the database's encoding"):
            initialise(dsn, "é" * 31)
        assert initialise(dsn, "é" * 21).created[0] == f"schema {'é' * 21}"
    finally:
        sql.run(server, f"DROP DATABASE {dsn.dbname} WITH (FORCE)")


def test_names_in_no_encoding(server_named: ServerNamed) -> None:
    """A database that takes any bytes may have some that are no text for us."""
    server = server_named("embedded")
    dsn = new(server, "SQL_ASCII")
    try:
        initialise(dsn, "public")
        table = "backtest_artist_mldr"
        sql.run(dsn, f"DO $$ BEGIN EXECUTE E'ALTER TABLE {table} ADD \"gr\\xf6sse\" int'; END $$")
        with pytest.raises(ForecasterError) as caught:
            run(Database(dsn))
        assert "UTF8" in (caught.value.hint or "")
    finally:
        sql.run(server, f"DROP DATABASE {dsn.dbname} WITH (FORCE)")
