"""Over Dask's workers: the same rows, whoever is killed on the way, and only ids and results travel."""

import gc
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import polars as pl
import psutil
import pytest
from distributed import Client
from polars.testing import assert_frame_equal

from forecaster.errors import (
    BadFileError,
    BucketsFailedError,
    EngineError,
    ForecasterError,
    SchemaMismatchError,
    WorkerError,
)
from forecaster.model.parameters import Parameters
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.layout import Bucket
from forecaster.parquet.prepare import prepare_files
from forecaster.parquet.sink import Sink
from forecaster.postgres.catalogue import CONNECTIONS, open_source
from forecaster.postgres.dsn import Dsn, with_own_password
from forecaster.run.bucket import Job
from forecaster.run.buckets import BucketsConfig, Outcome, check, in_this_process, run_buckets
from forecaster.run.distributed import CONNECTIONS_AT_ONCE, _Task, _work, run_distributed
from forecaster.run.engines.dask import LOSSES, connected, each
from forecaster.run.report import BucketsReport
from forecaster.run.session import RunConfig, run
from forecaster.run.spread import spread_over
from forecaster.setup.load import load
from tests import sql
from tests.conftest import ServerNamed, bare_environment, new_database
from tests.faults import (
    FORECAST,
    LONG,
    PASSWORD_MARKS,
    SEED,
    clear,
    end_of,
    fill,
    golden_forecasts,
    guarded_by_password,
    sessions,
    started,
    until,
    whole_tracks,
)
from tests.forecasts import stored
from tests.parquet import expected, in_sink, write_catalogue
from tests.tables import golden_mldr, golden_streams, initialise, load_golden
from tests.work import Counted, deadly, variable, worked

BUCKETS = 12

# Workers of `Cluster` are forked from a process that has imported Dask: a third of the processor time. Those
# of the program's own are started as it does.
FORKED = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}

# For `started`: workers of its own are as many as its cores.
ONE_CORE = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"

# What it takes to end at its end, whatever is still connected to it.
SCHEDULER = "from distributed.cli.dask_scheduler import main; main()"
WORKER = "from distributed.cli.dask_worker import main; main()"

TIMES = [pytest.param(2, id="short"), pytest.param(20, marks=LONG, id="long")]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("catalogue")
    source = find_catalogue(str(write_catalogue(directory / "files")))
    prepare_files(source, BUCKETS, directory / "laid out")
    return directory / "laid out"


@contextmanager
def python(
    code: str, *arguments: str, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **bare_environment(),
        "HOME": "/nonexistent",
        "POLARS_MAX_THREADS": "1",
        **(env or {}),
    }
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            kill_all(process)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """It and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Cluster:
    """A scheduler and worker processes with nannies, as someone else has started them."""

    def __init__(self, directory: Path, env: dict[str, str] | None = None, workers: int = 2) -> None:
        self.file = directory / "scheduler.json"
        self.env = FORKED | (env or {})
        self.size = workers

    def __enter__(self) -> Self:
        options = ("--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(self.file))
        self._scheduler = python(SCHEDULER, *options)
        self.scheduler = self._scheduler.__enter__()
        until(self.file.exists)
        until(lambda: self.file.stat().st_size > 0)
        self.address = str(json.loads(self.file.read_text())["address"])
        of_workers = (self.address, "--nworkers", str(self.size), "--nthreads", "1", "--no-dashboard")
        self._workers = python(WORKER, *of_workers, env=self.env)
        self._workers.__enter__()
        self.workers()
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.__exit__(None, None, None)
        self._scheduler.__exit__(None, None, None)

    def workers(self) -> list[int]:
        """The process ids of the workers, once all are there."""
        with connected(self.address) as client:
            client.wait_for_workers(self.size, timeout=60)  # another client for each look would cost much
            return sorted(client.run(os.getpid).values())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


class TestEach:
    def test_every_item_is_worked_and_what_fails_is_told(self, cluster: Cluster) -> None:
        with connected(cluster.address) as client:
            found = dict(each(client, worked, range(20), at_once=3))
        assert {item: outcome for item, outcome in found.items() if not isinstance(outcome, Exception)} == {
            item: item * 2 for item in range(20) if item not in (7, 9)
        }
        assert isinstance(found[7], ForecasterError)
        assert (str(found[7]), found[7].hint) == ("seven", "take eight")
        assert isinstance(found[9], WorkerError)
        assert str(found[9]) == "a worker failed with ZeroDivisionError: integer division or modulo by zero"

    def test_no_more_than_so_many_at_once(self, cluster: Cluster, tmp_path: Path) -> None:
        with connected(cluster.address) as client:
            at_once = [most for _, most in each(client, Counted(tmp_path), range(8), at_once=1)]
        assert at_once == [1] * 8

    def test_an_item_that_kills_its_worker_is_given_up_and_named(self, cluster: Cluster) -> None:
        with connected(cluster.address) as client:
            found = dict(each(client, deadly, range(6)))
        assert {item for item, outcome in found.items() if isinstance(outcome, Exception)} == {4}
        assert f"given up after {LOSSES + 1} workers were lost" in str(found[4])

    def test_workers_may_come_later_die_and_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "s.json"
        options = ("--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file))
        with python(SCHEDULER, *options):
            until(lambda: file.exists() and file.stat().st_size > 0)
            address = json.loads(file.read_text())["address"]
            with connected(address) as client, ThreadPoolExecutor(1) as threads:
                going = threads.submit(lambda: dict(each(client, worked, [1, 2])))
                of_worker = (address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard")
                with python(WORKER, *of_worker, env=FORKED):
                    assert going.result(timeout=60) == {1: 2, 2: 4}
                    # Dask holds the loss of a worker against all that were to be worked there, begun or not.
                    found = dict(each(client, deadly, [4, 5]))
                    assert isinstance(found[4], WorkerError)
                    assert found[5] == 5
                until(lambda: not client.scheduler_info()["workers"])
                monkeypatch.setattr("forecaster.run.engines.dask.WITHOUT_WORKERS", 1.0)
                with pytest.raises(EngineError, match="no worker for 1 s"):
                    list(each(client, worked, [1]))

    def test_a_scheduler_that_says_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is stopped, and its machine goes on to take what is sent."""
        with Cluster(tmp_path, workers=1) as own, connected(own.address) as client:
            outcomes = each(client, worked, range(1000), at_once=1)
            next(outcomes)
            os.kill(own.scheduler.pid, signal.SIGSTOP)
            monkeypatch.setattr("forecaster.run.engines.dask.ANSWERS_WITHIN", 1.0)
            with pytest.raises(EngineError, match="Dask's scheduler has said nothing for 1 s"):
                list(outcomes)

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:1"])
    def test_no_scheduler(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("forecaster.run.engines.dask._PATIENCE", "1s")
        with pytest.raises(EngineError, match="no scheduler answers"), connected(address):
            pass
        clients = [found for found in gc.get_objects() if type(found) is Client]
        assert "connecting" not in [client.status for client in clients]

    def test_workers_of_its_own(self) -> None:
        with connected(None, environ={"OF_OURS": "1"}) as client:
            threads = client.run(pl.thread_pool_size)
            assert set(threads.values()) == {1}
            assert len(threads) == len(os.sched_getaffinity(0))
            assert set(client.run(variable, "OF_OURS").values()) == {"1"}
            address = client.scheduler_info()["address"]
            assert address.startswith("tls://127.0.0.1:")
            with pytest.raises(EngineError), connected(address):  # without our certificate
                pass
            listening = [
                connection.laddr.ip
                for pid in (os.getpid(), *client.run(os.getpid).values())
                for connection in psutil.Process(pid).net_connections()
                if connection.status == psutil.CONN_LISTEN
            ]
            assert set(listening) == {"127.0.0.1"}


class TestBuckets:
    def test_the_same_rows(self, cluster: Cluster, catalogue: Path, tmp_path: Path) -> None:
        config = BucketsConfig(str(catalogue), tmp_path / "sink", parameters=Parameters(horizon=30))
        report = run_buckets(config, spread_over(cluster.address))
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(horizon=30))
        alone = run_buckets(
            BucketsConfig(str(catalogue), tmp_path / "alone", parameters=Parameters(horizon=30))
        )
        for name in ("pending", "forecast", "rows", "unusable_rows", "duplicate_rows", "buckets"):
            assert getattr(report, name) == getattr(alone, name)
        assert report.skipped.equals(alone.skipped)
        again = run_buckets(config, spread_over(cluster.address))
        assert again.left_alone == BUCKETS

    def test_only_names_travel(self, catalogue: Path, tmp_path: Path) -> None:
        job = Job(
            find_catalogue(str(catalogue)),
            Sink(tmp_path / "sink"),
            Parameters(),
            None,
            datetime.now(UTC),
        )
        assert len(pickle.dumps((job, Bucket(3, BUCKETS)))) < 2_000

    def test_names_relative_to_where_the_client_is(
        self, cluster: Cluster, catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(catalogue.parent)
        sink = Path(os.path.relpath(tmp_path / "sink"))
        run_buckets(BucketsConfig(catalogue.name, sink), spread_over(cluster.address))
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())

    def test_a_sink_that_is_another_one_for_the_workers(self, catalogue: Path, tmp_path: Path) -> None:
        """As when the directory of a network is not mounted everywhere."""
        elsewhere = Sink(tmp_path / "elsewhere")

        def on_another_machine(job: Job, buckets: list[Bucket]) -> Iterator[tuple[Bucket, Outcome]]:
            return in_this_process(replace(job, sink=elsewhere), buckets)

        config, report = BucketsConfig(str(catalogue), tmp_path / "sink"), BucketsReport()
        with pytest.raises(BadFileError, match=r"is not in .*/sink as it is seen from here"):
            run_buckets(config, on_another_machine, report)
        assert len(report.failed) == BUCKETS
        assert report.forecast == 0

    def test_a_poisoned_one_fails_alone(self, cluster: Cluster, tmp_path: Path) -> None:
        prepare_files(find_catalogue(str(write_catalogue(tmp_path / "files"))), 6, tmp_path / "own")
        [file] = (tmp_path / "own" / "streams" / "bucket=5").iterdir()
        file.write_text("no parquet")
        config = BucketsConfig(str(tmp_path / "own"), tmp_path / "sink")
        with pytest.raises(BucketsFailedError, match=r"1 of 6 buckets failed \(5\)"):
            run_buckets(config, spread_over(cluster.address))
        assert list(check(config).failed) == [5]

    @pytest.mark.parametrize("times", TIMES)
    def test_workers_are_killed(self, cluster: Cluster, catalogue: Path, tmp_path: Path, times: int) -> None:
        chance = random.Random(SEED)
        everything = expected()
        for attempt in range(times):
            sink = tmp_path / str(attempt)
            config = BucketsConfig(str(catalogue), sink)
            with killing(cluster, chance) as killed:
                report = run_buckets(config, spread_over(cluster.address))
            assert killed
            assert_frame_equal(in_sink(sink), everything)
            assert (report.rows, check(config).failed) == (len(everything), {})

    @pytest.mark.parametrize("times", TIMES)
    def test_the_client_is_killed(
        self, cluster: Cluster, catalogue: Path, tmp_path: Path, times: int
    ) -> None:
        chance = random.Random(SEED)
        everything = expected()
        for attempt in range(times):
            sink = tmp_path / str(attempt)
            arguments = ("--source", str(catalogue), "--sink", str(sink))
            with started(None, *arguments, "--engine", "dask", "--scheduler", cluster.address) as process:
                until((sink / "manifests").exists, process)
                time.sleep(chance.uniform(0, 0.4))
                process.kill()
            # What its workers are still at may end, or be dropped.
            config = BucketsConfig(str(catalogue), sink, wait=60)
            run_buckets(config)
            assert_frame_equal(in_sink(sink), everything)
            assert check(config).failed == {}

    @pytest.mark.parametrize("times", [pytest.param(1, id="short"), pytest.param(5, marks=LONG, id="long")])
    def test_the_scheduler_is_killed(
        self, catalogue: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], times: int
    ) -> None:
        chance = random.Random(SEED)
        for attempt in range(times):
            sink = tmp_path / str(attempt) / "sink"
            sink.parent.mkdir()
            config = BucketsConfig(str(catalogue), sink, wait=60)
            with Cluster(tmp_path / str(attempt), workers=1) as own, ThreadPoolExecutor(1) as threads:
                going = threads.submit(run_buckets, config, spread_over(own.address))
                until((sink / "manifests").exists)
                time.sleep(chance.uniform(0, 0.2))
                kill_all(own.scheduler)
                error = going.exception(timeout=60)
                assert isinstance(error, EngineError), error
                assert "scheduler is lost" in str(error)
            assert "distributed" not in capfd.readouterr().err  # a traceback of Dask's own
            run_buckets(config)
            assert_frame_equal(in_sink(sink), expected())
            assert check(config).failed == {}

    def test_workers_that_cannot_be_started(self, catalogue: Path, tmp_path: Path) -> None:
        arguments = ("--source", str(catalogue), "--sink", str(tmp_path / "sink"), "--engine", "dask")
        die = "import os, sys\nif any('spawn_main' in word for word in sys.orig_argv): os._exit(1)"
        site = tmp_path / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(die)
        with started(None, *arguments, before=ONE_CORE, env={"PYTHONPATH": str(site)}) as process:
            ended = end_of(process)
        assert ended.code == 3, ended.stderr
        assert "Dask's workers could not be started" in ended.stderr
        assert "Traceback" not in ended.stderr

    @pytest.mark.parametrize(
        ("signum", "before"),
        [
            (signal.SIGINT, ""),
            (signal.SIGTERM, ""),
            # At once by force: nobody is left to tidy up after Dask's processes.
            (signal.SIGTERM, "import forecaster.process.signals; forecaster.process.signals.GRACE = 0"),
        ],
    )
    def test_interrupted(self, catalogue: Path, tmp_path: Path, signum: signal.Signals, before: str) -> None:
        arguments = ("--source", str(catalogue), "--sink", str(tmp_path / "sink"), "--engine", "dask")
        with started(None, *arguments, before=before) as process:
            until((tmp_path / "sink" / "manifests").exists, process)
            process.send_signal(signum)
            ended = end_of(process)
        assert ended.code == 128 + signum
        assert ended.stderr.rstrip().endswith("nothing is half done")
        assert "Traceback" not in ended.stderr
        run_buckets(BucketsConfig(str(catalogue), tmp_path / "sink", wait=60))
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())


@contextmanager
def killing(cluster: Cluster, chance: random.Random) -> Iterator[list[int]]:
    """Kill a worker at a random moment meanwhile; who was killed."""
    killed: list[int] = []
    victim = chance.choice(cluster.workers())

    def kill() -> None:
        time.sleep(chance.uniform(0.05, 0.5))
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    yield killed
    thread.join()


class TestTables:
    """The same promises as a plain run."""

    @pytest.fixture
    def filled(self, server_named: ServerNamed) -> Iterator[Dsn]:
        with new_database(server_named("embedded")) as dsn:
            load_golden(dsn)
            yield dsn

    @pytest.fixture(autouse=True)
    def _small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("forecaster.run.distributed.CHUNK", 25)

    def test_the_same_rows(self, cluster: Cluster, filled: Dsn) -> None:
        report = run_distributed(RunConfig(filled), cluster.address)
        everything = golden_forecasts()
        assert_frame_equal(stored(filled), everything)
        sql.run(filled, f"CREATE TABLE before AS SELECT * FROM {FORECAST}")
        clear(filled)
        plain = run(RunConfig(filled))
        counts = ("pending", "forecast", "rows", "unusable_rows", "duplicate_rows", "taken", "refused")
        assert {name: getattr(report, name) for name in counts} == {
            name: getattr(plain, name) for name in counts
        }
        assert report.skipped.sort("cm_track_id").equals(plain.skipped.sort("cm_track_id"))
        same = "month, forecasted_value, segment_used, time_used, cm_track_id, cm_artist_id, training_data_id"
        assert sql.rows(filled, f"(SELECT {same} FROM before) EXCEPT (SELECT {same} FROM {FORECAST})") == []

    @pytest.mark.parametrize(("cap", "chunks"), [(CONNECTIONS_AT_ONCE, 16), (2 * CONNECTIONS + 2, 2)])
    def test_connections_are_capped(
        self, cluster: Cluster, filled: Dsn, monkeypatch: pytest.MonkeyPatch, cap: int, chunks: int
    ) -> None:
        """By the chunks that are worked at once: each is read over some connections, and stored over one."""
        asked = []

        def watched(*arguments: Any, at_once: int) -> Iterator[Any]:
            asked.append(at_once)
            return each(*arguments, at_once=at_once)

        monkeypatch.setattr("forecaster.run.distributed.each", watched)
        monkeypatch.setattr("forecaster.run.distributed.CONNECTIONS_AT_ONCE", cap)
        report = run_distributed(RunConfig(filled), cluster.address)
        assert asked == [chunks]
        assert chunks * (CONNECTIONS + 1) <= cap <= 48
        assert report.rows == len(stored(filled))

    def test_all_at_one_instant_and_on_one_snapshot(self, cluster: Cluster, filled: Dsn) -> None:
        report = run_distributed(RunConfig(filled, parameters=Parameters(horizon=3)), cluster.address)
        [(instant,)] = sql.rows(filled, f"SELECT DISTINCT created_at FROM {FORECAST}")
        assert instant == datetime.fromisoformat(report.started_at)

    def test_again_there_is_nothing_to_do_and_replace_does_all(self, cluster: Cluster, filled: Dsn) -> None:
        run_distributed(RunConfig(filled), cluster.address)
        before = sql.rows(filled, f"SELECT id FROM {FORECAST} ORDER BY 1")
        assert run_distributed(RunConfig(filled), cluster.address).pending == 3  # those that are skipped
        assert sql.rows(filled, f"SELECT id FROM {FORECAST} ORDER BY 1") == before
        assert run_distributed(RunConfig(filled, replace=True), cluster.address).forecast == 247
        after = sql.rows(filled, f"SELECT id FROM {FORECAST} ORDER BY 1")
        assert len(after) == len(before)
        assert not set(after) & set(before)
        assert_frame_equal(stored(filled), golden_forecasts())

    def test_a_dry_run_stores_nothing(self, cluster: Cluster, filled: Dsn) -> None:
        report = run_distributed(RunConfig(filled, dry_run=True), cluster.address)
        assert (report.forecast, report.rows) == (247, 0)
        assert sql.rows(filled, f"SELECT count(*) FROM {FORECAST}") == [(0,)]

    def test_a_table_without_the_key_is_refused(self, cluster: Cluster, embedded_database: Dsn) -> None:
        fill(embedded_database)
        with pytest.raises(SchemaMismatchError, match="no unique key"):
            run_distributed(RunConfig(embedded_database), cluster.address)
        report = run_distributed(RunConfig(embedded_database, dry_run=True), cluster.address)
        assert report.forecast == 247

    @pytest.mark.parametrize("replaces", [False, True])
    def test_a_chunk_worked_twice_is_stored_once_and_counted(self, filled: Dsn, *, replaces: bool) -> None:
        """As when the server got the commit, and the worker died before it could say so."""
        run(RunConfig(filled, limit=40))
        ids = golden_streams()["cm_track_id"].unique().sort().head(60)
        ids = ids if replaces else ids.tail(20)
        with open_source(filled, "public") as source:
            task = _Task(
                filled,
                source.tables,
                source.snapshot,
                Parameters(),
                datetime.now(UTC),
                replace=replaces,
                dry_run=False,
            )
            first = _work(task, ids)
            with ThreadPoolExecutor(4) as threads:
                others = list(threads.map(lambda _: _work(task, ids), range(8)))
        assert first.done.rows > 0
        assert {other.done.rows for other in others} == {first.done.rows}
        assert [other.done.taken for other in others] == [[]] * 8
        in_all = pl.col("cm_track_id") <= ids[-1]
        assert_frame_equal(stored(filled), golden_forecasts().filter(in_all))

    def test_two_attempts_at_a_chunk_at_the_same_time(self, filled: Dsn) -> None:
        ids = golden_streams()["cm_track_id"].unique().sort()
        with open_source(filled, "public") as source:
            task = _Task(
                filled,
                source.tables,
                source.snapshot,
                Parameters(),
                datetime.now(UTC),
                replace=False,
                dry_run=False,
            )
            with ThreadPoolExecutor(4) as threads:
                done = list(threads.map(lambda _: _work(task, ids), range(4)))
        assert [(worked.done.rows, worked.done.taken) for worked in done] == [(247 * 24, [])] * 4
        assert_frame_equal(stored(filled), golden_forecasts())

    @pytest.mark.parametrize("times", TIMES)
    def test_workers_are_killed(
        self, cluster: Cluster, filled: Dsn, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        monkeypatch.setattr("forecaster.run.distributed.CHUNK", 20)
        chance = random.Random(SEED)
        everything = golden_forecasts()
        for _ in range(times):
            clear(filled)
            with killing(cluster, chance):
                report = run_distributed(RunConfig(filled), cluster.address)
            assert (report.forecast, report.taken) == (247, [])
            assert_frame_equal(stored(filled), everything)

    @pytest.mark.parametrize("times", TIMES)
    def test_the_client_is_killed(self, cluster: Cluster, filled: Dsn, times: int) -> None:
        chance = random.Random(SEED)
        everything = golden_forecasts()
        small = "import forecaster.run.distributed; forecaster.run.distributed.CHUNK = 20"
        for _ in range(times):
            clear(filled)
            arguments = ("--engine", "dask", "--scheduler", cluster.address)
            with started(filled, *arguments, before=small) as process:
                until(lambda: len(sessions(filled)) > 3, process)
                time.sleep(chance.uniform(0, 0.3))
                process.kill()
            assert 0 <= whole_tracks(filled) <= 247  # each has its months once or none
            run(RunConfig(filled, wait=60))
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
                run_distributed(RunConfig(dsn), cluster.address)
            assert not any(mark in str(error.value) for mark in PASSWORD_MARKS)
            with Cluster(tmp_path, env={"PGPASSWORD": dsn.password or ""}, workers=1) as knowing:
                assert run_distributed(RunConfig(dsn), knowing.address).forecast == 20
            clear(dsn)
            assert run_distributed(RunConfig(dsn), None).forecast == 20  # in its own workers' environment

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
