"""A server that nothing can be stored on is refused before anything is read; what stores nothing goes on."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from forecaster.doctor import examine
from forecaster.errors import DatabaseError
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.embedded import running_server
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.init import initialise as init
from forecaster.setup.load import load
from tests import sql
from tests.conftest import BINARIES, SETTINGS, new_database, short_directory
from tests.faults import FORECAST
from tests.tables import golden_mldr, golden_streams, initialise

FEW = pl.col("cm_track_id") <= 3
STORES: dict[str, Callable[[Dsn], object]] = {
    "run": lambda dsn: run(Database(dsn)),
    "run --replace": lambda dsn: run(Database(dsn), RunConfig(replace=True)),
    "mldr": lambda dsn: run(ArtistRates(dsn)),
    "load": lambda dsn: load(dsn, "public", streams=golden_streams().filter(~FEW)),
    "init": lambda dsn: init(dsn, "public"),
    "init of another schema": lambda dsn: init(dsn, "another"),
}


def fill(dsn: Dsn) -> None:
    initialise(dsn)
    load(dsn, "public", streams=golden_streams().filter(FEW), mldr=golden_mldr())


def assert_nothing_can_be_stored(dsn: Dsn, said: str, fix: str) -> None:
    for name, store in STORES.items():
        with pytest.raises(DatabaseError, match=said) as caught:
            store(dsn)
        assert fix in (caught.value.hint or ""), name
    assert run(Database(dsn), RunConfig(dry_run=True)).results == 3
    assert run(ArtistRates(dsn), RunConfig(dry_run=True)).pending == 0
    [finding] = [f for f in examine(dsn, "public", Parameters()).findings if f.about == "read-only"]
    assert (finding.level, (finding.fix or "").rstrip(";")) == (
        "error",
        (caught.value.hint or "").rstrip(";"),
    )


@pytest.mark.parametrize("by", ["database", "user", "database user", "client"])
def test_transactions_that_are_read_only(embedded_database: Dsn, by: str) -> None:
    dsn = embedded_database
    fill(dsn)
    role = f"role_{dsn.dbname}"[:60]
    sql.run(dsn, f"CREATE ROLE {role} SUPERUSER LOGIN")
    try:
        on = "SET default_transaction_read_only = on"
        statement = {
            "database": f"ALTER DATABASE {dsn.dbname} {on}",
            "user": f"ALTER ROLE {role} {on}",
            "database user": f"ALTER ROLE {role} IN DATABASE {dsn.dbname} {on}",
        }
        user = replace(dsn, user=role)
        if by == "client":
            user = replace(user, parameters=(("options", "-c default_transaction_read_only=on"),))
            fix = "PGOPTIONS"
        else:
            sql.run(dsn, statement[by])
            fix = f"BEGIN READ WRITE; ALTER {'DATABASE' if by == 'database' else 'ROLE'} "
        assert_nothing_can_be_stored(user, f"default_transaction_read_only is on, by {by}", fix)
    finally:
        sql.run(replace(dsn, dbname="postgres"), f"DROP ROLE {role}")


def test_nothing_is_read_and_no_lock_is_taken(embedded_database: Dsn) -> None:
    dsn = embedded_database
    fill(dsn)
    sql.run(dsn, f"ALTER DATABASE {dsn.dbname} SET default_transaction_read_only = on")
    report = Report()
    with pytest.raises(DatabaseError, match="does not accept writes"):
        run(Database(dsn), report=report)
    assert list(report.stages.seconds) == ["connect"]


def test_a_standby() -> None:
    """A copy of a server that goes on recovering, and lets itself be read."""
    binaries = BINARIES["postgresql-15"]
    if not binaries or not binaries.is_dir():
        pytest.skip("takes the programs of PostgreSQL 15")
    with short_directory() as directory, short_directory() as other:
        with running_server(directory, binaries=binaries, settings=SETTINGS) as server:
            with new_database(server) as dsn:
                fill(dsn)
                sql.run(server, f"ALTER DATABASE {dsn.dbname} RENAME TO music")
                sql.run(server, "CREATE DATABASE " + dsn.dbname)  # which is dropped at the end
            sql.run(server, "CHECKPOINT")
        pgdata = Path(server.host)
        copy = other / "pgdata"
        subprocess.run(["cp", "-a", pgdata, copy], check=True)
        (copy / "standby.signal").touch()
        shutil.chown(copy / "standby.signal", pgdata.owner(), pgdata.group())
        with running_server(other, binaries=binaries, settings=SETTINGS | {"hot_standby": "on"}) as standby:
            music = replace(standby, dbname="music")
            assert_nothing_can_be_stored(music, "the server is a standby", "connect to the primary server")
            assert sql.rows(music, f"SELECT count(*) FROM {FORECAST}") == [(0,)]
