"""How often a run waits for the server before it reads its first row, and after it has stored the last."""

import polars as pl
import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.proxy import Proxy
from tests.tables import golden_mldr, golden_streams, initialise

OPENING = 2  # turns to open a connection: whether there is TLS, and who asks
LOCK, RECORD = b"pg_try_advisory_lock", b"(log_id"
SNAPSHOT, ITS_NAME = b"pg_export_snapshot", b"SET TRANSACTION SNAPSHOT"


@pytest.fixture
def filled(embedded_database: Dsn) -> Dsn:
    initialise(embedded_database)
    few = golden_streams().filter(pl.col("cm_track_id") <= 3)
    load(embedded_database, "public", streams=few, mldr=golden_mldr())
    return embedded_database


def of(proxy: Proxy, statement: bytes) -> list[bytes]:
    """The turns on the connection that has said this statement."""
    [connection] = {number for number, said in proxy.turns if statement in said}
    return [said for number, said in proxy.turns if number == connection]


def up_to(statement: bytes, turns: list[bytes]) -> int:
    """The number of turns until this statement has been answered, with those to open the connection."""
    [at] = [number for number, said in enumerate(turns, 1) if statement in said]
    return at + turns[at - 1].startswith(b"P") - (b"E\0\0\0" in turns[at - 1])


def test_of_a_run(filled: Dsn) -> None:
    with Proxy(filled) as proxy:
        assert run(Database(proxy.dsn)).results == 3
    reader, writer = of(proxy, SNAPSHOT), of(proxy, LOCK)
    # The tables, the rights and the state of the server, in one statement with parameters; BEGIN; the export.
    assert up_to(SNAPSHOT, reader) == OPENING + 2 + 1 + 1
    assert up_to(LOCK, writer) == OPENING + 2
    assert up_to(RECORD, writer) == OPENING + 2 + 2
    # The other one that reads is opened meanwhile, and has the snapshot in one turn.
    assert up_to(ITS_NAME, of(proxy, ITS_NAME)) == OPENING + 1
    [last] = [number for number, said in enumerate(writer) if said.startswith(b"Q\0\0\0\x0bCOMMIT")]
    # The end of the record.
    assert [said[:1] for said in writer[last + 1 :]] == [b"P", b"B"]


def test_of_a_run_that_stores_nothing(filled: Dsn) -> None:
    """It needs neither a second connection of its own nor the lock."""
    with Proxy(filled) as proxy:
        assert run(Database(proxy.dsn), RunConfig(dry_run=True)).results == 3
    assert not any(LOCK in said for _, said in proxy.turns)
    assert up_to(SNAPSHOT, of(proxy, SNAPSHOT)) == OPENING + 2 + 1 + 1


def test_of_rates(filled: Dsn) -> None:
    sql.run(filled, "TRUNCATE backtest_artist_mldr")
    with Proxy(filled) as proxy:
        run(ArtistRates(proxy.dsn))
    assert up_to(SNAPSHOT, of(proxy, SNAPSHOT)) == OPENING + 2 + 1 + 1
    assert up_to(LOCK, of(proxy, LOCK)) == OPENING + 2


@pytest.mark.parametrize(("limit", "stores"), [(float("inf"), 4), (-1.0, 2)], ids=["near", "far"])
@pytest.mark.parametrize("replace", [False, True])
def test_of_a_batch(
    filled: Dsn, limit: float, stores: int, *, replace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins, stores, checks and keeps, and commits. After a COPY, the driver begins again, in vain."""
    monkeypatch.setattr("forecaster.postgres.connection._FAR", limit)
    with Proxy(filled) as proxy:
        assert run(Database(proxy.dsn), RunConfig(replace=replace)).results == 3
    writer = of(proxy, LOCK)
    first, last = (
        [number for number, said in enumerate(writer) if verb in said[:30]][at]
        for verb, at in ((b"BEGIN", 0), (b"COMMIT", -1))
    )
    in_vain = limit > 0
    assert last - first + 1 == 1 + replace + stores + in_vain + 2 + 1 <= 10
