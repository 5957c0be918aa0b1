"""After a kill the server starts again, whatever files are left."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.embedded import running_server
from tests import sql
from tests.embedded import (
    IS_ROOT,
    assert_answers,
    holder,
    is_running,
    kill,
    pid_file,
    server_pid,
    wait_until_up,
)
from tests.faults import until

# Keeps a server process computing for a second or two, in which it does not look at anything else.
CLIENT = """
import sys
import adbc_driver_postgresql.dbapi as driver
driver.connect(sys.argv[1]).cursor().execute("SELECT count(*) FROM generate_series(1, 12000000)").fetchall()
"""


class TestAfterAKill:
    def test_of_its_owner_the_server_is_found_and_stopped_at_last(self, data_dir: Path) -> None:
        with holder(data_dir) as owner:
            wait_until_up(owner)
            owner.kill()
        pid = server_pid(data_dir)
        assert is_running(pid)
        with running_server(data_dir) as dsn:
            assert_answers(dsn)
            assert server_pid(data_dir) == pid
        assert not is_running(pid)

    def test_of_the_server_it_is_restarted_with_its_data(self, data_dir: Path) -> None:
        with running_server(data_dir) as dsn:
            sql.run(dsn, "CREATE TABLE survivor AS SELECT 42 AS value")
            pid = server_pid(data_dir)
            kill(pid)
            with running_server(data_dir) as again:
                assert again == dsn
                assert server_pid(data_dir) != pid
                assert sql.rows(again, "SELECT value FROM survivor") == [(42,)]

    def test_of_the_server_while_a_query_of_it_still_runs(self, data_dir: Path) -> None:
        with running_server(data_dir) as dsn:
            busy = replace(dsn, parameters=(("application_name", "busy"),))
            command = [sys.executable, "-c", CLIENT, busy.uri]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL):
                until(lambda: busy_sessions(dsn) == 1)
                kill(server_pid(data_dir))
                with running_server(data_dir) as again:
                    assert_answers(again)
                    assert busy_sessions(again) == 0
        assert "shared memory block" in (data_dir / "server.log").read_text()

    def test_of_the_one_who_makes_the_directory(self, short_dir: Path) -> None:
        with holder(short_dir) as maker:
            until(lambda: bool(list(short_dir.glob("new-*/PG_VERSION"))))
            maker.kill()
        # Its initdb may well go on for a while.
        with running_server(short_dir) as dsn:
            assert_answers(dsn)


def busy_sessions(dsn: Dsn) -> int:
    condition = "application_name = 'busy' AND state = 'active' AND query LIKE '%generate_series%'"
    return len(sql.rows(dsn, f"SELECT pid FROM pg_stat_activity WHERE {condition}"))


class TestStaleFiles:
    @pytest.mark.parametrize("text", ["", "\n", "nonsense", "-4711\n", "99999999999999999999\n", "\xe9\n"])
    def test_an_unreadable_pid_file(self, data_dir: Path, text: str) -> None:
        leave_behind(data_dir, text)
        with running_server(data_dir) as dsn:
            assert_answers(dsn)

    def test_the_pid_of_no_process(self, data_dir: Path) -> None:
        with subprocess.Popen(["true"]) as ended:
            pass
        leave_behind(data_dir, pid_text(data_dir, ended.pid))
        with running_server(data_dir) as dsn:
            assert_answers(dsn)

    def test_the_pid_of_a_zombie(self, data_dir: Path) -> None:
        with subprocess.Popen(["true"], user=server_user(data_dir)) as zombie:
            until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
            leave_behind(data_dir, pid_text(data_dir, zombie.pid))
            with running_server(data_dir) as dsn:
                assert_answers(dsn)
            assert psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE

    def test_the_pid_of_another_process_by_now(self, data_dir: Path) -> None:
        # Of the same user: PostgreSQL itself takes it for a live server, and would not start.
        with subprocess.Popen(["sleep", "600"], user=server_user(data_dir)) as other:
            leave_behind(data_dir, pid_text(data_dir, other.pid))
            with running_server(data_dir) as dsn:
                assert_answers(dsn)
            assert other.poll() is None
            other.kill()


def leave_behind(data_dir: Path, text: str) -> None:
    """What a killed server leaves behind: both of its lock files."""
    for path in (pid_file(data_dir), data_dir / "pgdata" / ".s.PGSQL.5432.lock"):
        path.write_bytes(text.encode("latin-1"))
        owner = data_dir.joinpath("pgdata").stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def pid_text(data_dir: Path, pid: int) -> str:
    return f"{pid}\n{data_dir}/pgdata\n1700000000\n5432\n.\n\n  8826964     65536\nready   \n"


def server_user(data_dir: Path) -> int | None:
    """For `Popen`, which only root may tell a user."""
    return (data_dir / "pgdata").stat().st_uid if IS_ROOT else None
