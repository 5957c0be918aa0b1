"""Who may not see all rows is told so by every command that reads; who may not store, before any work."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from forecaster.doctor import examine
from forecaster.errors import DatabaseError
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import STREAMS_TABLE
from tests import sql
from tests.conftest import Cli
from tests.faults import STREAMS
from tests.roles import granted
from tests.tables import GOLDEN, golden_mldr, golden_streams, initialise

MLDR, LISTENERS = "backtest_artist_mldr", "backtest_artist_daily_training_data"
FEW = pl.col("cm_track_id") <= 3
SAID = "row security policies decide which rows this user sees in "


@pytest.fixture
def owner(embedded_database: Dsn) -> Dsn:
    """Three tracks, of which policies show two."""
    dsn = embedded_database
    initialise(dsn)
    listeners = pl.read_parquet(GOLDEN / "artist_listeners.parquet").filter(pl.col("cm_artist_id") == 1)
    load(
        dsn,
        "public",
        streams=golden_streams().filter(FEW),
        mldr=golden_mldr(),
        listeners=listeners.select(
            pl.col("cm_artist_id").cast(pl.Int64), "date", pl.col("monthly_listeners").cast(pl.Int64)
        ),
    )
    sql.run(dsn, f"CREATE POLICY two ON {STREAMS} FOR SELECT USING (cm_track_id < 3)")
    return dsn


@pytest.fixture
def user(owner: Dsn) -> Iterator[Dsn]:
    with granted(owner, "SELECT, INSERT, DELETE") as user:
        yield user


def police(owner: Dsn, *tables: str) -> None:
    for table in tables:
        sql.run(owner, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def filtered(dsn: Dsn) -> set[str]:
    with connect(dsn) as connection:
        return set(read_tables(connection, "public").filtered)


def test_whose_rows(owner: Dsn, user: Dsn) -> None:
    assert filtered(user) == set()
    police(owner, STREAMS)
    assert (filtered(user), filtered(owner)) == ({STREAMS_TABLE}, set())
    sql.run(owner, f"ALTER TABLE {STREAMS} OWNER TO {user.user}")
    assert filtered(user) == set()
    sql.run(owner, f"ALTER TABLE {STREAMS} FORCE ROW LEVEL SECURITY")
    assert filtered(user) == {STREAMS_TABLE}
    sql.run(owner, f"ALTER ROLE {user.user} BYPASSRLS")
    assert filtered(user) == set()


def test_a_view_shows_what_its_owner_sees(owner: Dsn, user: Dsn) -> None:
    """Or its user, if it says so; through another view as well. Policies of parts do not count."""
    sql.run(owner, f"ALTER TABLE {STREAMS} RENAME TO below")
    sql.run(owner, "CREATE VIEW between AS SELECT * FROM below")
    sql.run(owner, f"CREATE VIEW {STREAMS} AS SELECT * FROM between")
    sql.run(owner, f"GRANT SELECT ON {STREAMS}, between TO {user.user}")
    police(owner, "below")
    assert filtered(user) == set()
    sql.run(owner, f"ALTER VIEW {STREAMS} SET (security_invoker = on)")
    assert filtered(user) == set()
    sql.run(owner, "ALTER VIEW between SET (security_invoker)")
    assert filtered(user) == {STREAMS_TABLE}
    sql.run(owner, "ALTER VIEW between RESET (security_invoker)")
    sql.run(owner, f"ALTER VIEW between OWNER TO {user.user}")
    assert filtered(owner) == {STREAMS_TABLE}
    with open_source(owner, "public") as source:
        assert source.tracks().to_list() == [1, 2]


def test_policies_of_parts_do_not_count(owner: Dsn, user: Dsn) -> None:
    sql.run(owner, f"CREATE TABLE part () INHERITS ({STREAMS})")
    police(owner, "part")
    assert filtered(user) == set()


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "run --dry-run": lambda _: [],
    "dump": lambda to: ["--track-id", "1", "--out", f"{to}/dump.csv"],
    "plot": lambda to: ["--track-id", "1", "--out", f"{to}/plot.svg"],
    "report": lambda to: ["--out", f"{to}/report.html"],
    "export": lambda to: ["--format", "nixtla", "--out", f"{to}/export.parquet"],
    "evaluate": lambda _: ["--cutoff", "2022-06-01", "--later-rates", "--actuals", "later"],
    "prepare": lambda to: ["--buckets", "2", "--out", f"{to}/catalogue"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_that_reads_says_it_once(
    called: Cli, owner: Dsn, user: Dsn, tmp_path: Path, command: str
) -> None:
    run(Database(owner))
    sql.run(owner, f"CREATE TABLE later AS SELECT * FROM {STREAMS}")
    sql.run(owner, f"CREATE POLICY two ON later FOR SELECT TO {user.user} USING (cm_track_id < 3)")
    sql.run(owner, f"GRANT SELECT ON later TO {user.user}")
    police(owner, STREAMS, "later")
    result = called(*command.split(), *COMMANDS[command](tmp_path), env={"DATABASE_URL": user.uri})
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(f"Warning: {SAID}{STREAMS}: other rows are missing") == 1
    assert result.stderr.count(f"Warning: {SAID}later: ") == (command == "evaluate")


def test_run_and_mldr_have_it_in_their_report(owner: Dsn, user: Dsn) -> None:
    police(owner, STREAMS, LISTENERS)
    report = run(Database(user))
    assert report.results == 2
    warnings = json.loads(report.to_json())["warnings"]
    assert [w for w in warnings if w.startswith(f"{SAID}{STREAMS}: ")]
    rates = run(ArtistRates(user))
    assert rates.pending == 0
    assert [w.startswith(f"{SAID}{LISTENERS}: ") for w in rates.warnings] == [True]
    found = [f for f in examine(user, "public", Parameters()).findings if f.about == "row security"]
    assert [(f.level, f.found) for f in found] == [("warning", f"{SAID}{STREAMS}, {LISTENERS}")]
    for policy in (found[0].fix or "").rpartition(": ")[2].split("; "):
        sql.run(owner, policy)
    assert run(Database(user), RunConfig(replace=True)).results == 3


def test_where_policies_are_an_error(owner: Dsn, user: Dsn) -> None:
    """As `row_security = off` has it: then it is they that are named, and no right that is lacking."""
    police(owner, STREAMS)
    off = replace(user, parameters=(("options", "-c row_security=off"),))
    with pytest.raises(DatabaseError, match=f"row_security is off, .*{STREAMS}") as caught:
        run(Database(off), RunConfig(dry_run=True))
    assert "turn row_security on" in (caught.value.hint or "")
    sql.run(owner, (caught.value.hint or "").rpartition(": ")[2])
    assert run(Database(user), RunConfig(dry_run=True)).results == 3
