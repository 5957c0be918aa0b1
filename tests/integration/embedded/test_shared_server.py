"""Several processes use one server, and the last one stops it."""

import gc
import os
import signal
from contextlib import ExitStack
from pathlib import Path

from forecaster.postgres.embedded import running_server
from tests.embedded import assert_answers, holder, is_running, pid_file, server_pid, wait_until_up

# Leaves the directory, but not without a child that lives on until the input ends.
FORKING = """
import os, sys
from pathlib import Path
from forecaster.postgres.embedded import running_server
with running_server(Path(sys.argv[1])):
    if not os.fork():
        sys.stdin.read()
        os._exit(0)
print("up", flush=True)
sys.stdin.read()
"""


class TestSeveralUsers:
    def test_the_last_one_stops_it(self, short_dir: Path) -> None:
        # All three come at once to a directory that is not made yet.
        with holder(short_dir) as first, holder(short_dir) as second:
            with running_server(short_dir) as dsn:
                pid = server_pid(short_dir)
                for process in (first, second):
                    wait_until_up(process)
                    process.communicate("")
                    assert process.returncode == 0
                assert_answers(dsn)
                assert server_pid(short_dir) == pid
            assert not is_running(pid)
            log = (short_dir / "server.log").read_text()
            assert log.count("ready to accept connections") == 1

    def test_the_first_one_leaves_first(self, data_dir: Path) -> None:
        with ExitStack() as first:
            first.enter_context(running_server(data_dir))
            with running_server(data_dir) as dsn:
                first.close()
                gc.collect()  # a child process left behind would be warned of here
                assert_answers(dsn)
                pid = server_pid(data_dir)
        assert not is_running(pid)

    def test_a_forked_process_does_not_count(self, data_dir: Path) -> None:
        with holder(data_dir, FORKING) as forked:
            wait_until_up(forked)
            assert not pid_file(data_dir).exists()
            with running_server(data_dir) as dsn:
                assert_answers(dsn)

    def test_ctrl_c_reaches_the_command_and_not_the_server(self, data_dir: Path) -> None:
        with holder(data_dir) as starter:
            wait_until_up(starter)
            with running_server(data_dir) as dsn:
                os.killpg(starter.pid, signal.SIGINT)
                starter.wait()
                assert_answers(dsn)
                pid = server_pid(data_dir)
        assert not is_running(pid)

    def test_ctrl_c_stops_the_server_of_its_only_user(self, data_dir: Path) -> None:
        with holder(data_dir) as starter:
            wait_until_up(starter)
            pid = server_pid(data_dir)
            os.killpg(starter.pid, signal.SIGINT)
            starter.wait()
        assert not is_running(pid)
