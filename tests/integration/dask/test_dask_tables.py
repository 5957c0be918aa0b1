"""From tables into tables over Dask: the same rows, and only ids and results travel."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import ForecasterError, SchemaMismatchError
from forecaster.model.parameters import Parameters
from forecaster.postgres.calibrate import calibrate
from forecaster.postgres.catalogue import Source, open_source
from forecaster.postgres.connection import Connection, connect
from forecaster.postgres.dsn import Dsn, with_own_password
from forecaster.postgres.readers import CONNECTIONS
from forecaster.postgres.session import Shared
from forecaster.postgres.tracks import CONNECTIONS_AT_ONCE, Database, Forecasts
from forecaster.run.batch import History, Work
from forecaster.run.calibrating import CALIBRATION, Calibrating
from forecaster.run.config import RunConfig
from forecaster.run.engines.cluster import each
from forecaster.run.engines.dask import Dask
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import HISTORY
from tests import sql, stale
from tests.calibrated_golden import CASES, Case
from tests.cluster import TIMES, Cluster, killing, run_over
from tests.conftest import ServerNamed, new_database
from tests.faults import (
    FORECAST,
    PASSWORD_MARKS,
    SEED,
    clear,
    fill,
    golden_forecasts,
    guarded_by_password,
    sessions,
    started,
    until,
    whole_tracks,
)
from tests.forecasts import stored
from tests.tables import golden_mldr, golden_streams, initialise, load_golden


def as_a_worker_gets_it(
    source: Source, *, replaces: bool, writer: Connection | None = None
) -> Work[pl.Series, History]:
    """With a writer, which a worker does not get, it leaves the history of run 77."""
    shared = Shared(datetime.now(UTC), Report(run=77))
    work = Forecasts().work(source, writer, RunConfig(replace=replaces), shared)
    assert work.elsewhere
    return work.elsewhere(False)  # noqa: FBT003


class TestTables:
    """The same promises as a plain run."""

    @pytest.fixture
    def filled(self, server_named: ServerNamed) -> Iterator[Dsn]:
        with new_database(server_named("embedded")) as dsn:
            load_golden(dsn)
            yield dsn

    @pytest.fixture(autouse=True)
    def _small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("forecaster.postgres.tracks.BATCH", 25)

    def test_the_same_rows(self, cluster: Cluster, filled: Dsn) -> None:
        report = run_over(cluster.address, Database(filled))
        everything = golden_forecasts()
        assert_frame_equal(stored(filled), everything)
        sql.run(filled, f"CREATE TABLE before AS SELECT * FROM {FORECAST}")
        clear(filled)
        plain = run(Database(filled))
        counts = (
            "pending",
            "results",
            "rows",
            "unusable_rows",
            "duplicate_rows",
            "taken",
            "refused",
            "observed",
        )
        assert {name: getattr(report, name) for name in counts} == {
            name: getattr(plain, name) for name in counts
        }
        assert report.skipped.sort("cm_track_id").equals(plain.skipped.sort("cm_track_id"))
        same = "month, forecasted_value, segment_used, time_used, cm_track_id, cm_artist_id, training_data_id"
        assert sql.rows(filled, f"(SELECT {same} FROM before) EXCEPT (SELECT {same} FROM {FORECAST})") == []

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_the_golden_file_of_the_calibrated_model(
        self, cluster: Cluster, filled: Dsn, monkeypatch: pytest.MonkeyPatch, case: Case
    ) -> None:
        monkeypatch.setattr("forecaster.postgres.tracks.BATCH", case.size)
        run_over(cluster.address, Database(filled), case.config)
        case.check(stored(filled))

    @pytest.mark.parametrize(("cap", "chunks"), [(CONNECTIONS_AT_ONCE, 16), (2 * CONNECTIONS + 2, 2)])
    def test_connections_are_capped(
        self, cluster: Cluster, filled: Dsn, monkeypatch: pytest.MonkeyPatch, cap: int, chunks: int
    ) -> None:
        """By the chunks that are worked at once: each is read over some connections, and stored over one."""
        asked = []

        def watched(*arguments: Any, at_once: int) -> Iterator[Any]:
            asked.append(at_once)
            return each(*arguments, at_once=at_once)

        monkeypatch.setattr("forecaster.run.engines.dask.each", watched)
        monkeypatch.setattr("forecaster.postgres.tracks.CONNECTIONS_AT_ONCE", cap)
        report = run_over(cluster.address, Database(filled))
        assert asked == [chunks]
        assert chunks * (CONNECTIONS + 1) <= cap <= 48
        assert report.rows == len(stored(filled))

    def test_all_at_one_instant_and_on_one_snapshot(self, cluster: Cluster, filled: Dsn) -> None:
        report = run_over(cluster.address, Database(filled), RunConfig(parameters=Parameters(horizon=3)))
        [(instant,)] = sql.rows(filled, f"SELECT DISTINCT created_at FROM {FORECAST}")
        assert instant == datetime.fromisoformat(report.started_at)

    def test_again_there_is_nothing_to_do_and_replace_does_all(self, cluster: Cluster, filled: Dsn) -> None:
        run_over(cluster.address, Database(filled))
        before = sql.rows(filled, f"SELECT id FROM {FORECAST} ORDER BY 1")
        assert run_over(cluster.address, Database(filled)).pending == 3  # those that are skipped
        assert sql.rows(filled, f"SELECT id FROM {FORECAST} ORDER BY 1") == before
        assert run_over(cluster.address, Database(filled), RunConfig(replace=True)).results == 247
        after = sql.rows(filled, f"SELECT id FROM {FORECAST} ORDER BY 1")
        assert len(after) == len(before)
        assert not set(after) & set(before)
        assert_frame_equal(stored(filled), golden_forecasts())

    def test_refresh_does_what_is_stale_and_new(self, cluster: Cluster, embedded_database: Dsn) -> None:
        dsn = embedded_database
        stale.fill(dsn, 60)
        run(Database(dsn))
        changed = range(2, 61, 2)
        stale.change(dsn, stale.NEW_DAY, *changed[:20])
        stale.change(dsn, stale.RESTATED_DAY, *changed[20:])
        stale.add_tracks(dsn, 61, 70, rated_from=61)
        before = stale.by_track(dsn)
        report = run_over(cluster.address, Database(dsn), stale.REFRESH)
        assert stale.touched(before, stale.by_track(dsn)) == [*changed, *range(61, 71)]
        assert (report.results, report.taken) == (40, [])
        assert_frame_equal(stored(dsn), stale.recomputed(dsn))

    def test_a_dry_run_stores_nothing(self, cluster: Cluster, filled: Dsn) -> None:
        report = run_over(cluster.address, Database(filled), RunConfig(dry_run=True))
        assert (report.results, report.rows) == (247, 0)
        assert sql.rows(filled, f"SELECT count(*) FROM {FORECAST}") == [(0,)]

    def test_a_table_without_the_key_is_refused(self, cluster: Cluster, embedded_database: Dsn) -> None:
        fill(embedded_database)
        with pytest.raises(SchemaMismatchError, match="no unique key"):
            run_over(cluster.address, Database(embedded_database))
        report = run_over(cluster.address, Database(embedded_database), RunConfig(dry_run=True))
        assert report.results == 247

    @pytest.mark.parametrize("replaces", [False, True])
    def test_a_chunk_worked_twice_is_stored_once_and_counted(self, filled: Dsn, *, replaces: bool) -> None:
        """As when a worker is given up that goes on, or that died after its commit."""
        run(Database(filled), RunConfig(limit=40))
        ids = golden_streams()["cm_track_id"].unique().sort().head(60)
        ids = ids if replaces else ids.tail(20)
        with open_source(filled, "public") as source, connect(filled) as writer:
            task = as_a_worker_gets_it(source, replaces=replaces, writer=writer)
            with ThreadPoolExecutor(4) as threads:
                first, *others = threads.map(lambda _: task(ids), range(8))
        assert first.rows > 0
        assert {other.rows for other in others} == {first.rows}
        assert [other.taken for other in (first, *others)] == [[]] * 8
        kept = f"SELECT count(*), count(DISTINCT cm_track_id), count(months) FROM {HISTORY.name}"
        assert sql.rows(filled, f"{kept} WHERE run_id = 77") == [(len(ids), len(ids), first.results)]
        in_all = pl.col("cm_track_id") <= ids[-1]
        assert_frame_equal(stored(filled), golden_forecasts().filter(in_all))

    def test_two_attempts_at_a_chunk_at_the_same_time(self, filled: Dsn) -> None:
        ids = golden_streams()["cm_track_id"].unique().sort()
        with open_source(filled, "public") as source:
            task = as_a_worker_gets_it(source, replaces=False)
            with ThreadPoolExecutor(4) as threads:
                done = list(threads.map(lambda _: task(ids), range(4)))
        assert [(worked.rows, worked.taken) for worked in done] == [(247 * 24, [])] * 4
        assert_frame_equal(stored(filled), golden_forecasts())

    def test_refused_tracks_stop_no_other(self, cluster: Cluster, filled: Dsn) -> None:
        sql.run(filled, f"ALTER TABLE {FORECAST} ADD CHECK (cm_track_id NOT IN (7, 60, 61))")
        report = run_over(cluster.address, Database(filled))
        assert sorted(report.refused) == [7, 60, 61]
        assert (report.results, report.taken) == (244, [])
        good = ~pl.col("cm_track_id").is_in([7, 60, 61])
        assert_frame_equal(stored(filled), golden_forecasts().filter(good))

    @pytest.mark.parametrize("replaces", [False, True])
    def test_attempts_at_a_chunk_with_refused_tracks(self, filled: Dsn, *, replaces: bool) -> None:
        sql.run(filled, f"ALTER TABLE {FORECAST} ADD CHECK (cm_track_id NOT IN (7, 60, 61))")
        ids = golden_streams()["cm_track_id"].unique().sort()
        with open_source(filled, "public") as source:
            task = as_a_worker_gets_it(source, replaces=replaces)
            with ThreadPoolExecutor(4) as threads:
                done = list(threads.map(lambda _: task(ids), range(4)))
        assert [(worked.rows, worked.taken, [*worked.refused]) for worked in done] == [
            (244 * 24, [], [7, 60, 61])
        ] * 4
        assert whole_tracks(filled) == 244

    @pytest.mark.parametrize("times", TIMES)
    def test_workers_are_killed(
        self, cluster: Cluster, filled: Dsn, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        monkeypatch.setattr("forecaster.postgres.tracks.BATCH", 20)
        chance = random.Random(SEED)
        everything = golden_forecasts()
        for _ in range(times):
            clear(filled)
            with killing(cluster, chance):
                report = run_over(cluster.address, Database(filled))
            assert (report.results, report.taken) == (247, [])
            assert_frame_equal(stored(filled), everything)

    @pytest.mark.parametrize("times", TIMES)
    def test_the_client_is_killed(self, cluster: Cluster, filled: Dsn, times: int) -> None:
        chance = random.Random(SEED)
        everything = golden_forecasts()
        small = "import forecaster.postgres.tracks; forecaster.postgres.tracks.BATCH = 20"
        for _ in range(times):
            clear(filled)
            arguments = ("--engine", "dask", "--scheduler", cluster.address)
            with started(filled, *arguments, before=small) as process:
                until(lambda: len(sessions(filled)) > 3, process)
                time.sleep(chance.uniform(0, 0.3))
                process.kill()
            assert 0 <= whole_tracks(filled) <= 247  # each has its months once or none
            run(Database(filled), RunConfig(wait=60))
            assert_frame_equal(stored(filled), everything)

    def test_no_password_travels(
        self, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("forecaster.run.retry._PAUSES", (0.0,))
        with guarded_by_password() as dsn:
            initialise(dsn)
            few = golden_streams().filter(pl.col("cm_track_id") <= 20)
            load(dsn, "public", streams=few, mldr=golden_mldr())
            with pytest.raises(ForecasterError) as error:
                run_over(cluster.address, Database(dsn))
            assert not any(mark in str(error.value) for mark in PASSWORD_MARKS)
            with Cluster(tmp_path, env={"PGPASSWORD": dsn.password or ""}, workers=1) as knowing:
                assert run_over(knowing.address, Database(dsn)).results == 20
            clear(dsn)
            assert run_over(None, Database(dsn)).results == 20  # in its own workers' environment
            with Dask(None) as workers:
                asked = Calibrating(rows="shipped", origins=1)
                assert calibrate(dsn, "public", asked, Report(CALIBRATION), workers=workers)[0].tracks == 20

    def test_a_password_of_ones_own(self, tmp_path: Path) -> None:
        dsn = Dsn("db", "music", "me")
        filed = tmp_path / "pgpass"
        filed.write_text("db:5432:music:me:filed\n")
        filed.chmod(0o600)
        for environ, password in (
            ({}, None),
            ({"PGPASSWORD": "given"}, "given"),
            ({"PGPASSFILE": str(filed)}, "filed"),
            ({"DATABASE_URL": "postgresql://me:url@db/music", "PGPASSWORD": "x"}, "url"),
            ({"DATABASE_URL": "postgresql://me:url@other/music", "PGPASSWORD": "x"}, "x"),
            ({"DATABASE_URL": "nonsense", "PGPASSWORD": "x"}, "x"),
        ):
            assert with_own_password(dsn, environ) == replace(dsn, password=password)
