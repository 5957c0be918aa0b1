"""A pooler that hands out transactions is refused before anything is read, and leaves no lock behind."""

from collections.abc import Callable

import polars as pl
import pytest

from forecaster.errors import PooledError
from forecaster.postgres.catalogue import Source, export_snapshot
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.examinations import examined, is_well, the
from tests.faults import FORECAST
from tests.pooler import Pooler
from tests.proxy import Proxy
from tests.tables import golden_mldr, golden_streams, initialise

FEW = pl.col("cm_track_id") <= 3
SAID = "a pooler in transaction mode is between this program and the server"
STORES: dict[str, Callable[[Dsn, Report], object]] = {
    "run": lambda dsn, report: run(Database(dsn), report=report),
    "mldr": lambda dsn, report: run(ArtistRates(dsn), report=report),
}


@pytest.fixture
def filled(embedded_database: Dsn) -> Dsn:
    dsn = embedded_database
    initialise(dsn)
    load(dsn, "public", streams=golden_streams().filter(FEW), mldr=golden_mldr())
    return dsn


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("command", STORES)
def test_nothing_is_read_and_no_lock_stays(filled: Dsn, command: str, in_turn: bool) -> None:  # noqa: FBT001
    report = Report()
    with Pooler(filled, in_turn=in_turn) as pooler:
        with pytest.raises(PooledError, match=SAID) as caught:
            STORES[command](pooler.dsn, report)
        assert caught.value.exit_code == 3
        assert "connect to the server itself, or set pool_mode = session" in (caught.value.hint or "")
        held = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = $1"
        assert sql.rows(filled, f"{held} WHERE l.locktype = 'advisory'", filled.dbname) == [(0,)]
        # Other clients of the pooler find its sessions as they were.
        of_session = "SELECT current_setting('default_transaction_isolation')"
        assert sql.rows(pooler.dsn, of_session) == [("read committed",)]
    assert list(report.stages.seconds) == ["connect"]
    assert sql.rows(filled, f"SELECT count(*) FROM {FORECAST}") == [(0,)]


@pytest.mark.parametrize("in_turn", [False, True])
def test_doctor_says_the_same(filled: Dsn, in_turn: bool) -> None:  # noqa: FBT001
    with Pooler(filled, in_turn=in_turn) as pooler:
        result = examined(pooler.dsn)
        finding = the("pooler", result)
        assert (result.exit_code, finding.level, finding.exit_code) == (3, "error", 3)
        assert SAID in finding.found


def test_one_that_hands_out_sessions_is_well(filled: Dsn) -> None:
    with Proxy(filled) as proxy:
        assert is_well("pooler", examined(proxy.dsn))
        assert run(Database(proxy.dsn)).results == 3


def test_statements_that_another_session_has_prepared(filled: Dsn) -> None:
    """Each driver has its own words for them, and both mean the pooler."""
    with pytest.raises(PooledError, match="SQLSTATE 26000"), connect(filled) as connection:
        query(connection, "EXECUTE of_another")
    with Pooler(filled, in_turn=True) as pooler, connect(filled, repeatable_read=True) as connection:
        source = Source(pooler.dsn, read_tables(connection, "public"), export_snapshot(connection))
        with pytest.raises(PooledError, match=r'prepared statement "s\d+" does not exist'):
            source.read_rows("SELECT 1::bigint AS one")
