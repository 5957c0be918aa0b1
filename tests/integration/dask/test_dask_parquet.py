"""From Parquet into Parquet over Dask: the same rows, whatever is killed meanwhile."""

import os
import pickle
import random
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, BucketsFailedError, EngineError
from forecaster.model.parameters import Parameters
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.layout import Bucket
from forecaster.parquet.prepare import prepare_files
from forecaster.parquet.session import Files, check
from forecaster.parquet.sink import Sink
from forecaster.run.batch import Batch, Done, Work
from forecaster.run.config import RunConfig
from forecaster.run.engines.local import Local
from forecaster.run.report import Report
from forecaster.run.session import run
from tests.calibrated_golden import CASES, Case
from tests.calibrations import calibration
from tests.cluster import BUCKETS, TIMES, Cluster, kill_all, killing, run_over
from tests.faults import LONG, SEED, end_of, started, until
from tests.logs import unmarked
from tests.parquet import expected, in_sink, intervals_in_sink, write_catalogue
from tests.tables import golden_streams

# For `started`: workers of its own are as many as its cores.
ONE_CORE = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"

LAST_DAY: date = golden_streams()["date"].max()  # type: ignore[assignment]


class TestBuckets:
    def test_the_same_rows(self, cluster: Cluster, catalogue: Path, tmp_path: Path) -> None:
        config = (Files(str(catalogue), tmp_path / "sink"), RunConfig(parameters=Parameters(horizon=30)))
        report = run_over(cluster.address, *config)
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(horizon=30))
        alone = run(Files(str(catalogue), tmp_path / "alone"), RunConfig(parameters=Parameters(horizon=30)))
        for name in ("pending", "results", "rows", "unusable_rows", "duplicate_rows", "buckets", "observed"):
            assert getattr(report, name) == getattr(alone, name)
        assert report.skipped.equals(alone.skipped)
        again = run_over(cluster.address, *config)
        assert again.left_alone == BUCKETS

    def test_of_the_calibrated_model(self, cluster: Cluster, catalogue: Path, tmp_path: Path) -> None:
        """Also if a worker is killed; the workers have nothing of it but what was sent."""
        one = calibration(date(2023, 3, 1))
        config = RunConfig(model="calibrated", calibration=one)
        run(Files(str(catalogue), tmp_path / "alone"), config)
        where = Files(str(catalogue), tmp_path / "sink")
        with killing(cluster, random.Random(SEED)) as killed:
            report = run_over(cluster.address, where, config)
        assert killed
        assert in_sink(tmp_path / "sink").equals(in_sink(tmp_path / "alone"))
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(model=one, as_of=LAST_DAY))
        assert intervals_in_sink(tmp_path / "sink").equals(intervals_in_sink(tmp_path / "alone"))
        assert (report.model, check(where, config).failed) == ("calibrated", {})

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_the_golden_file(self, cluster: Cluster, tmp_path: Path, case: Case) -> None:
        source, sink = write_catalogue(tmp_path / "catalogue"), tmp_path / "sink"
        run_over(cluster.address, Files(str(source), sink, buckets=case.buckets), case.config)
        case.check(in_sink(sink))

    def test_only_names_travel(self, catalogue: Path, tmp_path: Path) -> None:
        where, config = Files(str(catalogue), tmp_path / "sink"), RunConfig()
        with where.session(config, Report()).opened(repeats=True) as (work, *_):
            assert work.elsewhere
            job = work.elsewhere(False)  # noqa: FBT003
        assert len(pickle.dumps((job, Bucket(3, BUCKETS)))) < 2_000

    def test_names_relative_to_where_the_client_is(
        self, cluster: Cluster, catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(catalogue.parent)
        sink = Path(os.path.relpath(tmp_path / "sink"))
        run_over(cluster.address, Files(catalogue.name, sink))
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())

    def test_a_sink_that_is_another_one_for_the_workers(self, catalogue: Path, tmp_path: Path) -> None:
        """As when the directory of a network is not mounted everywhere."""
        elsewhere = Sink(tmp_path / "elsewhere")

        class AnotherMachine(Local):
            def __call__(
                self, work: Work[Batch, Any], batches: Sequence[Batch], /
            ) -> Iterator[tuple[Batch, Done | Exception]]:
                sink: Any = work.sink
                return super().__call__(replace(work, sink=replace(sink, directory=elsewhere)), batches)

        config, report = (Files(str(catalogue), tmp_path / "sink"), RunConfig()), Report(buckets=0)
        with pytest.raises(BadFileError, match=r"does not see it in .*/sink"):
            run(*config, engine=AnotherMachine(), report=report)
        assert len(report.failed) == BUCKETS
        assert report.results == 0

    def test_a_poisoned_one_fails_alone(self, cluster: Cluster, tmp_path: Path) -> None:
        prepare_files(find_catalogue(str(write_catalogue(tmp_path / "files"))), 6, tmp_path / "own")
        [file] = (tmp_path / "own" / "streams" / "bucket=5").iterdir()
        file.write_text("no parquet")
        config = (Files(str(tmp_path / "own"), tmp_path / "sink"), RunConfig())
        with pytest.raises(BucketsFailedError, match=r"1 of 6 buckets failed \(5\)"):
            run_over(cluster.address, *config)
        assert list(check(*config).failed) == [5]

    @pytest.mark.parametrize("times", TIMES)
    def test_workers_are_killed(self, cluster: Cluster, catalogue: Path, tmp_path: Path, times: int) -> None:
        chance = random.Random(SEED)
        everything = expected()
        for attempt in range(times):
            sink = tmp_path / str(attempt)
            config = (Files(str(catalogue), sink), RunConfig())
            with killing(cluster, chance) as killed:
                report = run_over(cluster.address, *config)
            assert killed
            assert_frame_equal(in_sink(sink), everything)
            assert (report.rows, check(*config).failed) == (len(everything), {})

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
            config = (Files(str(catalogue), sink), RunConfig(wait=60))
            run(*config)
            assert_frame_equal(in_sink(sink), everything)
            assert check(*config).failed == {}

    @pytest.mark.parametrize("times", [pytest.param(1, id="short"), pytest.param(5, marks=LONG, id="long")])
    def test_the_scheduler_is_killed(
        self, catalogue: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], times: int
    ) -> None:
        chance = random.Random(SEED)
        for attempt in range(times):
            sink = tmp_path / str(attempt) / "sink"
            sink.parent.mkdir()
            config = (Files(str(catalogue), sink), RunConfig(wait=60))
            with Cluster(tmp_path / str(attempt), workers=1) as own, ThreadPoolExecutor(1) as threads:
                going = threads.submit(run_over, own.address, *config)
                until((sink / "manifests").exists)
                time.sleep(chance.uniform(0, 0.2))
                kill_all(own.scheduler)
                error = going.exception(timeout=60)
                assert isinstance(error, EngineError), error
                assert "scheduler is lost" in str(error)
            assert "distributed" not in capfd.readouterr().err  # a traceback of Dask's own
            run(*config)
            assert_frame_equal(in_sink(sink), expected())
            assert check(*config).failed == {}

    def test_workers_that_cannot_be_started(self, catalogue: Path, tmp_path: Path) -> None:
        arguments = ("--source", str(catalogue), "--sink", str(tmp_path / "sink"), "--engine", "dask")
        die = "import os, sys\nif any('spawn_main' in word for word in sys.orig_argv): os._exit(1)"
        site = tmp_path / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(die)
        with started(None, *arguments, before=ONE_CORE, env={"PYTHONPATH": str(site)}) as process:
            ended = end_of(process)
        assert ended.code == 3, ended.stderr
        assert "the Dask workers could not be started" in ended.stderr
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
        assert unmarked(ended.stderr).rstrip().endswith("nothing is half done")
        assert "Traceback" not in ended.stderr
        run(Files(str(catalogue), tmp_path / "sink"), RunConfig(wait=60))
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())
