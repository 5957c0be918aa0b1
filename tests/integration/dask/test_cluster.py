"""Items over Dask's workers: each is done once, and what fails, hangs or dies is named."""

import gc
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import psutil
import pytest
from distributed import Client

from forecaster.errors import EngineError, ForecasterError, WorkerError
from forecaster.run.engines.cluster import LOSSES, connected, each
from tests.cluster import FORKED, SCHEDULER, WORKER, Cluster, python
from tests.faults import until
from tests.work import Counted, deadly, variable, worked


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
                monkeypatch.setattr("forecaster.run.engines.cluster.WITHOUT_WORKERS", 1.0)
                with pytest.raises(EngineError, match="no worker for 1 s"):
                    list(each(client, worked, [1]))

    def test_a_scheduler_that_says_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is stopped, and its machine goes on to take what is sent."""
        with Cluster(tmp_path, workers=1) as own, connected(own.address) as client:
            outcomes = each(client, worked, range(1000), at_once=1)
            next(outcomes)
            os.kill(own.scheduler.pid, signal.SIGSTOP)
            monkeypatch.setattr("forecaster.run.engines.cluster.ANSWERS_WITHIN", 1.0)
            with pytest.raises(EngineError, match="Dask's scheduler has said nothing for 1 s"):
                list(outcomes)

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:1"])
    def test_no_scheduler(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("forecaster.run.engines.cluster._PATIENCE", "1s")
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
