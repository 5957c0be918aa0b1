"""The history of forecasts: what each run said of each track stays, stored together with the forecast."""

import json
import signal
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import polars as pl
import pytest

import forecaster.postgres.connection as connection_module
import forecaster.postgres.runs as runs_module
import forecaster.postgres.tracks as tracks_module
from forecaster.errors import DatabaseError
from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import Connection
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.forecasts import store_forecasts
from forecaster.postgres.rows import Stored
from forecaster.postgres.tracks import Database
from forecaster.process.signals import Interrupted
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import FORECAST_TABLE, HISTORY, MLDR_TABLE, RUNS, STREAMS_TABLE
from tests import sql
from tests.faults import APART
from tests.roles import granted
from tests.tables import create_tables, golden_mldr, golden_streams, initialise

RUN = "outcome, tracks, rows, skipped, refused"


def runs(dsn: Dsn, columns: str = RUN) -> list[tuple[Any, ...]]:
    return sql.rows(dsn, f"SELECT {columns} FROM {RUNS.name} ORDER BY id")


def said(dsn: Dsn) -> list[tuple[Any, ...]]:
    per_run = "SELECT run_id, count(*), count(months), count(reason)"
    return sql.rows(dsn, f"{per_run} FROM {HISTORY.name} GROUP BY 1 ORDER BY 1")


@pytest.fixture
def filled(database: Dsn) -> Dsn:
    """Ten tracks, of which two have no MLDR."""
    initialise(database)
    tracks = golden_streams().filter(pl.col("cm_track_id") <= 10)
    artists = tracks.filter(pl.col("cm_track_id") > 2)["cm_artist_id"].unique().implode()
    load(database, "public", streams=tracks, mldr=golden_mldr().filter(pl.col("cm_artist_id").is_in(artists)))
    return database


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks_module, "BATCH", 4)


def test_a_row_for_each_track_that_was_looked_at(filled: Dsn) -> None:
    report = run(Database(filled))

    skipped = len(report.skipped)
    assert skipped > 0
    assert said(filled) == [(1, 10, 10 - skipped, skipped)]
    assert sql.rows(filled, APART) == []
    assert runs(filled) == [("done", report.results, report.rows, f'{{"no_mldr": {skipped}}}', 0)]
    last, used = f"SELECT max(date) FROM {STREAMS_TABLE} s WHERE s.cm_track_id = h.cm_track_id", "mldr"
    wrong = f"SELECT * FROM {HISTORY.name} h WHERE last_date <> ({last}) OR as_of <> last_date"
    assert sql.rows(filled, wrong) == []
    rates = f"""
        SELECT count(*) FROM {HISTORY.name} h JOIN {FORECAST_TABLE} f USING (cm_track_id)
        JOIN {MLDR_TABLE} m USING (cm_artist_id) WHERE f.month = 1 AND h.{used} = m.mldr"""
    assert sql.rows(filled, rates) == [(report.results,)]
    [(total,)] = sql.rows(filled, f"SELECT sum(forecasted_value)::float8 FROM {FORECAST_TABLE}")
    assert (report.run, report.total, report.total_before) == (1, total, None)


def test_what_was_said_before_stays(filled: Dsn) -> None:
    first = run(Database(filled))
    before = sql.rows(filled, f"SELECT * FROM {HISTORY.name} ORDER BY 1, 2")
    rows = golden_streams().filter(pl.col("cm_track_id") == 5).sort("date").tail(1)
    later = rows.with_columns(pl.col("date") + pl.duration(days=1), daily_streams=10**9)
    load(filled, "public", streams=later, mldr=None)

    second = run(Database(filled), RunConfig(replace=True))

    assert sql.rows(filled, f"SELECT * FROM {HISTORY.name} WHERE run_id = 1 ORDER BY 1, 2") == before
    assert sql.rows(filled, APART) == []
    assert (second.run_before, second.total_before) == (1, first.total)
    assert second.total is not None
    assert first.total is not None
    assert second.total > first.total
    [(as_of,)] = runs(filled, "as_of_to")[1:]
    assert as_of == later["date"].item()


def test_the_record_says_what_was_asked(filled: Dsn) -> None:
    day = date(2023, 5, 1)
    report = run(Database(filled), RunConfig(Parameters(36, as_of=day), ids=(5, 6), replace=True))
    [(parameters, *rest)] = runs(filled, "parameters, horizon, as_of_from, as_of_to, log_id, model")
    asked = json.loads(parameters)
    assert (asked["track_ids"], asked["replace"], asked["parameters"]["as_of"]) == ([5, 6], True, f"{day}")
    assert rest == [36, day, day, report.log_id, "production"]


def test_a_dry_run_leaves_none(filled: Dsn) -> None:
    report = run(Database(filled), RunConfig(dry_run=True))
    assert (report.run, report.total, runs(filled), said(filled)) == (None, None, [], [])


FULL = (DatabaseError, "the disk is full", "failed")


def failing(monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException], *, after: int) -> None:
    """Have the write of a batch fail, after some that do not."""
    done = iter(range(after))

    def store(*arguments: Any, **options: Any) -> Stored:
        if next(done, None) is None:
            raise error()
        return store_forecasts(*arguments, **options)

    monkeypatch.setattr(tracks_module, "store_forecasts", store)


@pytest.mark.parametrize(("kind", "why", "outcome"), [FULL, (Interrupted, signal.SIGTERM, "interrupted")])
def test_a_run_that_does_not_reach_its_end(
    filled: Dsn, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], why: Any, outcome: str
) -> None:
    failing(monkeypatch, lambda: kind(why), after=1)
    with pytest.raises(kind):
        run(Database(filled))
    [(found, error, tracks, finished)] = runs(filled, "outcome, error, tracks, finished_at")
    assert (found, error) == (outcome, f"{kind(why)}")
    assert finished is not None
    assert 0 < tracks < 8
    assert sql.rows(filled, APART) == []


@pytest.mark.parametrize(("kind", "why", "outcome"), [FULL, (Interrupted, signal.SIGINT, "interrupted")])
def test_a_run_that_cannot_record_its_success(
    filled: Dsn, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], why: Any, outcome: str
) -> None:
    """All forecasts are stored; the next run must not take it for one that was killed."""

    def fail(*_: Any) -> None:
        monkeypatch.undo()
        raise kind(why)

    monkeypatch.setattr(runs_module, "query", queried(fail, "SET finished_at"))
    with pytest.raises(kind):
        run(Database(filled))
    assert runs(filled, "outcome, error, tracks") == [(outcome, f"{kind(why)}", 9)]


def queried(instead: Callable[..., None], part: str) -> Callable[..., pl.DataFrame]:
    """Call `instead` before a statement that has this part."""

    def query(connection: Connection, statement: str, *parameters: Any) -> pl.DataFrame:
        if part in statement:
            instead()
        return connection_module.query(connection, statement, *parameters)

    return query


def test_a_run_that_was_killed_is_found_by_the_next(filled: Dsn) -> None:
    run(Database(filled))
    sql.run(filled, f"UPDATE {RUNS.name} SET outcome = 'running', finished_at = NULL")
    run(Database(filled))
    assert [outcome for outcome, *_ in runs(filled)] == ["killed", "done"]


def test_what_another_program_stored_is_not_in_it(filled: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    def store(*arguments: Any, **options: Any) -> Stored:
        theirs = (
            f"INSERT INTO {FORECAST_TABLE} (cm_track_id, cm_artist_id, month, forecasted_value, "
            "segment_used, time_used, training_data_id, created_at) SELECT 5, 1, m, 7, 1, 1, 1, now() "
            "FROM generate_series(1, 24) AS m ON CONFLICT DO NOTHING"
        )
        sql.run(filled, theirs)
        return store_forecasts(*arguments, **options)

    monkeypatch.setattr(tracks_module, "store_forecasts", store)
    report = run(Database(filled))
    assert report.taken == [5]
    assert sql.rows(filled, f"SELECT * FROM {HISTORY.name} WHERE cm_track_id = 5") == []
    assert sql.rows(filled, APART) == []


class TestWithoutTables:
    """A run works as before, and says once what is not kept."""

    def not_kept(self, dsn: Dsn, config: RunConfig | None = None) -> str:
        report = run(Database(dsn), config)
        assert report.results > 0
        assert report.run is None
        [warning] = [warning for warning in report.warnings if "leaves no history" in warning]
        return warning

    def test_missing(self, database: Dsn) -> None:
        create_tables(database)
        load(database, "public", streams=golden_streams().head(500), mldr=golden_mldr())
        assert f"no {RUNS.name} and no {HISTORY.name}; create them with `forecaster init`" in self.not_kept(
            database
        )

    def test_of_other_columns(self, filled: Dsn) -> None:
        sql.run(filled, f"ALTER TABLE {HISTORY.name} ALTER months TYPE text USING NULL")
        assert "months: is text, expected double precision[]" in self.not_kept(filled)

    @pytest.fixture
    def user(self, filled: Dsn) -> Iterator[Dsn]:
        with granted(filled, "ALL") as user:
            yield user

    def test_no_right_to_write(self, filled: Dsn, user: Dsn) -> None:
        sql.run(filled, f"REVOKE INSERT ON {HISTORY.name} FROM {user.user}")
        assert f'GRANT INSERT ON "public"."{HISTORY.name}" TO "{user.user}"' in self.not_kept(user)

    def test_row_security(self, filled: Dsn, user: Dsn) -> None:
        sql.run(filled, f"ALTER TABLE {RUNS.name} ENABLE ROW LEVEL SECURITY")
        assert "row security policies decide" in self.not_kept(user)
