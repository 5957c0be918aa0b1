"""Connections that are lost: what is done stays done, and nothing is stored twice."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from datetime import date
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import ConnectionLostError, DatabaseError, DatabaseUnreachableError
from forecaster.postgres import rates as module
from forecaster.postgres.backtest import rates_before
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import ENDS_WITHIN, take_lock
from forecaster.postgres.mldr import store_rates
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.readers import CONNECTIONS
from forecaster.postgres.session import DatabaseSession
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database, TrackCatalogue
from forecaster.run import retry as attempts
from forecaster.run.batch import History
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.retry import with_retries
from forecaster.run.session import Opened, run
from forecaster.setup.load import load
from tests import sql
from tests.faults import STREAMS, as_observer, blocked, clear, fill, locked, sessions, terminate, until
from tests.forecasts import stored
from tests.tables import GOLDEN, initialise

MLDR = "backtest_artist_mldr"
ARTISTS = 9
CHUNK = 3
HOLDERS_BLANKS = 3  # in "forecaster HOST PID INSTANT"


@pytest.fixture
def listened(embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch) -> Dsn:
    """Nine artists, which are three chunks."""
    monkeypatch.setattr(module, "BATCH", CHUNK)
    initialise(embedded_database)
    listeners = pl.read_parquet(GOLDEN / "artist_listeners.parquet").select(
        pl.col("cm_artist_id").cast(pl.Int64), "date", pl.col("monthly_listeners").cast(pl.Int64)
    )
    load(embedded_database, "public", listeners=listeners.filter(pl.col("cm_artist_id") <= ARTISTS))
    return embedded_database


def rated(dsn: Dsn) -> list[tuple[int, int]]:
    """Artists, and how many rates each has."""
    return sql.rows(
        as_observer(dsn), f"SELECT cm_artist_id::bigint, count(*) FROM {MLDR} GROUP BY 1 ORDER BY 1"
    )


def once_each(artists: int) -> list[tuple[int, int]]:
    return [(artist, 1) for artist in range(1, artists + 1)]


def end_what_is_blocked(dsn: Dsn, going: "Future[Report]") -> None:
    until(lambda: blocked(dsn) or going.done())
    assert not going.done(), going.exception()
    for session in blocked(dsn):
        terminate(dsn, session.pid)


def after_a_chunk(patch: pytest.MonkeyPatch, dsn: Dsn, disturb: Callable[[], object]) -> None:
    """Disturb a run once one chunk is stored."""
    store = store_rates

    def store_and_disturb(*arguments: Any, **options: Any) -> Any:
        done = store(*arguments, **options)
        if len(rated(dsn)) == CHUNK:
            disturb()
        return done

    patch.setattr(module, "store_rates", store_and_disturb)


def test_mldr_goes_on_where_it_was_lost_while_reading(listened: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections that read are kept, and end between two chunks."""
    ended = []

    def end_readers() -> None:
        readers = [one.pid for one in sessions(listened) if one.name.count(" ") < HOLDERS_BLANKS]
        for pid in readers:
            terminate(listened, pid)
        ended.append(len(readers))

    after_a_chunk(monkeypatch, listened, end_readers)
    report = Report()
    assert run(ArtistRates(listened), None, None, report).results == ARTISTS
    assert ended == [CONNECTIONS]
    assert report.pending == ARTISTS
    assert sum(warning.startswith("connected again after: ") for warning in report.warnings) == 1
    assert rated(listened) == once_each(ARTISTS)


def test_mldr_does_not_write_again_what_it_may_have_written(
    listened: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = ExitStack()
    after_a_chunk(monkeypatch, listened, lambda: held.enter_context(locked(listened, MLDR, "SHARE")))
    report = Report()
    with ThreadPoolExecutor(1) as thread:
        going = thread.submit(run, ArtistRates(listened), None, None, report)
        end_what_is_blocked(listened, going)
        with pytest.raises(DatabaseError, match="the connection was lost while writing") as caught:
            going.result()
        held.close()
    assert not isinstance(caught.value, ConnectionLostError)
    assert (report.results, report.warnings) == (CHUNK, [])
    assert rated(listened) == once_each(CHUNK)
    monkeypatch.undo()
    rest = run(ArtistRates(listened), RunConfig(wait=30))
    assert (rest.pending, rest.results) == (ARTISTS - CHUNK, ARTISTS - CHUNK)
    assert rated(listened) == once_each(ARTISTS)


def test_who_has_waited_for_another_run_finds_nothing_pending(embedded_database: Dsn) -> None:
    """What it reads is younger than the lock."""
    dsn = embedded_database
    expected = fill(dsn)
    run(Database(dsn))
    forecasts = sql.rows(dsn, "SELECT count(*) FROM backtest_track_streams_forecast")
    sql.run(dsn, "CREATE TABLE kept AS TABLE backtest_track_streams_forecast")
    clear(dsn)
    report = Report()
    with ThreadPoolExecutor(1) as thread:
        with connect(as_observer(dsn)) as other:
            take_lock(other, read_tables(other, "public"))
            going = thread.submit(run, Database(dsn), RunConfig(wait=60), None, report)
            # Both go by a holder's name: whoever has the lock, and the one that tries to get it.
            until(lambda: sum(s.name.count(" ") == HOLDERS_BLANKS for s in sessions(dsn)) > 1)
            sql.run(dsn, "INSERT INTO backtest_track_streams_forecast OVERRIDING SYSTEM VALUE TABLE kept")
        skipped = len(going.result().skipped)
    # Those that get none are all that is still pending.
    assert (report.pending, report.results) == (skipped, 0)
    assert sql.rows(dsn, "SELECT count(*) FROM backtest_track_streams_forecast") == forecasts
    assert_frame_equal(stored(dsn), expected)


class Reads:
    """Has reads of a run fail: `lose` is called before each with its number and that of the attempt."""

    def __init__(self, patch: pytest.MonkeyPatch, lose: Callable[[int, int], None]) -> None:
        self.attempts, self.reads = 0, 0
        opened, read = DatabaseSession.opened, TrackCatalogue.read

        def attempt(session: DatabaseSession, *, repeats: bool) -> AbstractContextManager[Opened]:
            self.session, self.attempts, self.reads = session, self.attempts + 1, 0
            return opened(session, repeats=repeats)

        def read_or_lose(catalogue: TrackCatalogue, track_ids: pl.Series) -> History:
            self.reads += 1
            lose(self.reads, self.attempts)
            return read(catalogue, track_ids)

        patch.setattr(DatabaseSession, "opened", attempt)
        patch.setattr(TrackCatalogue, "read", read_or_lose)


def test_of_a_lost_read_and_a_failed_write_the_write_counts(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again, what the server may have got would be written blindly."""
    dsn = embedded_database
    fill(dsn)
    monkeypatch.setattr("forecaster.postgres.tracks.BATCH", 20)

    def lose(read: int, _attempt: int) -> None:
        """While what was read before is being stored, which fails then."""
        if read == 3:
            until(lambda: blocked(dsn))
            [writer] = blocked(dsn)
            terminate(dsn, writer.pid)
            raise ConnectionLostError("the read was lost")

    reads = Reads(monkeypatch, lose)
    with (
        locked(dsn, "backtest_track_streams_forecast", "SHARE"),
        pytest.raises(DatabaseError, match="the connection was lost while writing"),
    ):
        run(Database(dsn))
    assert reads.attempts == 1


def test_what_was_done_before_a_lost_read_is_counted_once(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first chunk a track is skipped, of the last one a row is no record."""
    dsn = embedded_database
    fill(dsn)
    sql.run(
        dsn,
        f"DELETE FROM {MLDR} WHERE cm_artist_id IN "
        f"(SELECT cm_artist_id FROM {STREAMS} WHERE cm_track_id = 1)",
    )
    sql.run(
        dsn,
        f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date) SELECT cm_track_id, cm_artist_id, "
        f"'2001-01-01' FROM {STREAMS} ORDER BY cm_track_id DESC LIMIT 1",
    )
    waits: list[float] = []

    def lock_and_note(*arguments: Any, wait: float, **options: Any) -> str:
        waits.append(wait)
        return take_lock(*arguments, wait=wait, **options)

    monkeypatch.setattr("forecaster.postgres.session.take_lock", lock_and_note)
    monkeypatch.setattr("forecaster.postgres.tracks.BATCH", 60)

    def lose(read: int, attempt: int) -> None:
        """The third read, once the first batch is stored."""
        if (read, attempt) == (3, 1):
            until(lambda: reads.session.report.stages.done.get("write"))
            raise ConnectionLostError("the read was lost")

    reads = Reads(monkeypatch, lose)
    report = run(Database(dsn))
    assert reads.attempts == 2
    assert 1 in report.skipped["cm_track_id"]
    assert report.skipped["cm_track_id"].is_unique().all()
    assert report.results + len(report.skipped) == report.pending
    assert report.unusable_rows == 1
    # The server needs a moment to be done with the session that was lost.
    assert waits == [0, ENDS_WITHIN]


def test_a_rate_of_the_very_instant_of_the_cutoff_is_not_known(embedded_database: Dsn) -> None:
    """It is midnight in UTC, and what is known was stored before."""
    initialise(embedded_database)
    for artist, instant in ((1, "2024-02-29 23:59:59.999999+00"), (2, "2024-03-01 00:00:00+00")):
        sql.run(
            embedded_database,
            f"INSERT INTO {MLDR} (cm_artist_id, mldr, created_at) VALUES ({artist}, 0.5, '{instant}')",
        )
    with open_source(embedded_database, "public") as source:
        assert rates_before(source, date(2024, 3, 1))["cm_artist_id"].to_list() == [1]
        assert rates_before(source, date(2024, 3, 2))["cm_artist_id"].sort().to_list() == [1, 2]


def test_what_was_never_there_is_not_tried_again() -> None:
    tried: list[str] = []

    def attempt() -> None:
        tried.append("once")
        raise DatabaseUnreachableError("no answer")

    with pytest.raises(DatabaseUnreachableError):
        with_retries(attempt, Report(), was_reached=lambda: False)
    assert tried == ["once"]


def test_a_server_that_is_away_for_a_moment_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is lost, and then not reached as long as it comes up."""
    monkeypatch.setattr(attempts, "_PAUSES", (0.0, 0.0))
    errors = [ConnectionLostError("it goes down"), DatabaseUnreachableError("it comes up")]
    report = Report(server="17")

    def attempt() -> None:
        if errors:
            raise errors.pop(0)

    with_retries(attempt, report, was_reached=lambda: True)
    assert report.warnings == ["connected again after: it goes down", "connected again after: it comes up"]


def test_a_row_of_the_very_instant_of_a_forecast_is_known(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    sql.run(
        embedded_database,
        f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date, daily_streams, created_at) VALUES "
        "(1, 1, '2024-01-01', 5, '2024-02-01 00:00+00'), (1, 1, '2024-01-02', 5, '2024-02-01 00:00:01+00')",
    )
    sql.run(
        embedded_database,
        "INSERT INTO backtest_track_streams_forecast (cm_track_id, cm_artist_id, month, forecasted_value, "
        "segment_used, time_used, training_data_id, created_at) "
        "VALUES (1, 1, 1, 5, 1, 1, 1, '2024-02-01 00:00+00')",
    )
    with open_source(embedded_database, "public") as source:
        assert source.cutoffs([1]).rows() == [(1, date(2024, 1, 1), True)]
