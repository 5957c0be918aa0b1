"""Too few connections are said at once, with how many a run needs, and how many are left."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import polars as pl
import pytest

from forecaster.errors import ConnectionLimitError
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.limits import Limit, check_limit, needed
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.readers import CONNECTIONS
from forecaster.postgres.server import server_state
from forecaster.postgres.tracks import Database
from forecaster.postgres.whole_rows import WholeRows
from forecaster.run.config import RunConfig
from forecaster.run.engines.local import Local
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.examinations import examined, is_well, the
from tests.faults import sessions, until
from tests.roles import granted
from tests.tables import golden_mldr, golden_streams, initialise

FEW = pl.col("cm_track_id") <= 3


@pytest.fixture
def user(embedded_database: Dsn) -> Iterator[Dsn]:
    owner = embedded_database
    initialise(owner)
    load(owner, "public", streams=golden_streams().filter(FEW), mldr=golden_mldr())
    with granted(owner, "SELECT, INSERT, UPDATE, DELETE") as user:
        yield user


def allow(dsn: Dsn, kind: str, limit: int) -> None:
    name = dsn.user if kind == "ROLE" else dsn.dbname
    sql.run(replace(dsn, user="postgres"), f"ALTER {kind} {name} CONNECTION LIMIT {limit}")


@pytest.mark.parametrize("kind", ["ROLE", "DATABASE"])
def test_run_and_doctor_refuse_at_once(user: Dsn, kind: str) -> None:
    allow(user, kind, 2)
    report = Report()
    with pytest.raises(ConnectionLimitError, match="a run needs 3 connections at once, and 2 can") as caught:
        run(Database(user), report=report)
    assert list(report.stages.seconds) == ["connect"]
    assert "CONNECTION LIMIT of the user or database" in (caught.value.hint or "")
    until(lambda: not sessions(replace(user, user="postgres")))  # the server may still count those of the run
    with pytest.raises(ConnectionLimitError, match="needs 3"):
        run(ArtistRates(user))
    until(lambda: not sessions(replace(user, user="postgres")))
    finding = the("connections", examined(user))
    assert (finding.level, finding.found, finding.exit_code) == ("error", f"{caught.value}", 3)
    assert run(Database(user), RunConfig(dry_run=True)).results == 3
    allow(user, kind, 3)
    assert run(Database(user)).results == 3
    assert is_well("connections", examined(user))


def test_the_doctor_says_once_that_there_are_too_few(user: Dsn) -> None:
    allow(user, "ROLE", 2)
    errors = [finding.about for finding in examined(user).findings if finding.level == "error"]
    assert errors == ["connections"]


def test_connections_of_others_are_in_use(user: Dsn) -> None:
    allow(user, "ROLE", 5)
    with ExitStack() as others:
        for _ in range(3):
            others.enter_context(connect(user))
        with pytest.raises(ConnectionLimitError, match=r"and 2 can be had: .* is 5, of which 3 are in use"):
            run(Database(user))
    with connect(replace(user, user="postgres")) as connection:
        limit = server_state(connection).limit  # of the user and the database, none applies to a superuser
    assert limit.what.startswith("max_connections")


class TwoWorkers(Local):
    """Tells of places as an engine with workers does."""

    def places(self, _work: object, /) -> int:
        return 2


def test_workers_are_counted(user: Dsn) -> None:
    allow(user, "ROLE", 8)
    with pytest.raises(ConnectionLimitError, match="a run needs 9 connections at once, and 8 can be had"):
        run(Database(user), engine=TwoWorkers())
    allow(user, "ROLE", 9)
    assert run(Database(user), engine=TwoWorkers()).results == 3


def test_numbers() -> None:
    limit = Limit("max_connections", most=10, used=8, left=2)
    assert [needed(dry_run=True), needed(dry_run=False)] == [CONNECTIONS, CONNECTIONS + 1]
    assert needed(dry_run=False, batches=16) == 17 * (CONNECTIONS + 1)
    check_limit(limit, 3, own=1)
    with pytest.raises(ConnectionLimitError):
        check_limit(limit, 4, own=1)


def test_a_limit_that_is_met_later_is_the_same_error(embedded_database: Dsn) -> None:
    """In the words of the pool of connectorx, which tries for half a minute."""
    said = 'timed out waiting for connection: db error: FATAL: too many connections for role "x"'
    assert isinstance(WholeRows(embedded_database, "public", "none")._failure(said, []), ConnectionLimitError)
