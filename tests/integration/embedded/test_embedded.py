"""A data directory is made once, keeps its data, may lie anywhere, and nobody else reaches its server."""

import os
import stat
from pathlib import Path

import adbc_driver_postgresql.dbapi as driver
import psutil
import pytest

from forecaster.errors import EmbeddedServerError, InvalidOptionError
from forecaster.postgres import embedded
from forecaster.postgres.embedded import running_server
from tests import sql
from tests.embedded import assert_answers, is_running, moved, pid_file, server_pid


def test_a_directory_is_made_and_keeps_its_data(short_dir: Path) -> None:
    data_dir = short_dir / "not" / "there"
    with running_server(data_dir) as dsn:
        assert_answers(dsn)
        sql.run(dsn, "CREATE TABLE kept AS SELECT 42 AS value")
        pid = server_pid(data_dir)
        assert is_running(pid)
    assert not is_running(pid)
    assert not pid_file(data_dir).exists()
    with running_server(data_dir) as dsn:
        assert sql.rows(dsn, "SELECT value FROM kept") == [(42,)]
    assert sorted(path.name for path in data_dir.iterdir()) == [
        "pgdata",
        "server.log",
        "start.lock",
        "users.lock",
    ]


def test_nobody_else_can_reach_the_server(data_dir: Path) -> None:
    with running_server(data_dir) as dsn:
        assert sql.rows(dsn, "SELECT current_setting('listen_addresses')") == [("",)]
        connections = psutil.Process(server_pid(data_dir)).net_connections("all")
        assert {c.laddr for c in connections if c.status == psutil.CONN_LISTEN} == set()
        assert (data_dir / "pgdata" / ".s.PGSQL.5432").is_socket()
        assert stat.S_IMODE((data_dir / "pgdata").stat().st_mode) == 0o700
        authentication = sql.rows(dsn, "SELECT type, auth_method FROM pg_hba_file_rules")
        assert {method for kind, method in authentication if kind != "local"} == {"reject"}


def test_whoever_is_still_connected_does_not_keep_it_up(data_dir: Path) -> None:
    with running_server(data_dir) as dsn:
        forgotten = driver.connect(dsn.uri)
        pid = server_pid(data_dir)
    assert not is_running(pid)
    forgotten.close()


def test_settings_are_used_as_they_are(data_dir: Path) -> None:
    settings = {"work_mem": "12MB", "log_line_prefix": r"it's \ 100% \"x\" "}
    with running_server(data_dir, settings=settings) as dsn:
        for name, value in settings.items():
            assert sql.rows(dsn, "SELECT current_setting($1)", name) == [(value,)]


def test_the_log_stays_out_of_the_directory_of_the_servers_user(data_dir: Path) -> None:
    with running_server(data_dir):
        assert "ready to accept connections" in (data_dir / "server.log").read_text()
        assert not list((data_dir / "pgdata").glob("*.log"))


def test_an_error_of_the_caller_is_left_alone(data_dir: Path) -> None:
    with pytest.raises(FileNotFoundError, match="of the caller"), running_server(data_dir):
        Path("/a file/of the caller").read_text()
    assert not pid_file(data_dir).exists()


class TestPaths:
    @pytest.mark.parametrize(
        "name",
        [
            "with blanks",
            """it's "quoted" and `so` $HOME""",
            "100% %2F %41",
            "Müsik 音楽 🎵",
            r"a\b;c&d|e#f?g@h:i*j[k]+=",
            "two\nlines",
            "-D",
        ],
    )
    def test_any_name(self, data_dir: Path, short_dir: Path, name: str) -> None:
        with moved(data_dir, short_dir / name) as path:
            with running_server(path) as dsn:
                assert_answers(dsn)
                pid = server_pid(path)
            assert not is_running(pid)

    def test_create_in_a_strange_place(self, short_dir: Path) -> None:
        with running_server(short_dir / """ä' "$HOME" 1%""") as dsn:
            assert_answers(dsn)

    def test_the_longest_that_works(self, data_dir: Path, short_dir: Path) -> None:
        room = embedded._SOCKET_PATH_MAX - len(f"{short_dir}//pgdata/.s.PGSQL.5432")
        with moved(data_dir, short_dir / ("x" * room)) as path, running_server(path) as dsn:
            assert_answers(dsn)
        too_long = short_dir / ("x" * (room + 1))
        with pytest.raises(EmbeddedServerError, match="1 bytes too long"), running_server(too_long):
            pass
        assert not too_long.exists()

    @pytest.mark.parametrize(
        ("name", "reason"), [("a,b", "with a comma"), (os.fsdecode(b"latin-\xe9"), "not text in UTF-8")]
    )
    def test_those_that_no_url_can_hold(self, short_dir: Path, name: str, reason: str) -> None:
        with pytest.raises(InvalidOptionError, match=reason), running_server(short_dir / name):
            pass
        assert not (short_dir / name).exists()

    def test_through_a_link(self, data_dir: Path, short_dir: Path) -> None:
        (short_dir / "link").symlink_to(data_dir)
        with running_server(short_dir / "link") as one, running_server(data_dir) as other:
            assert one == other

    def test_a_file_is_in_its_place(self, short_dir: Path) -> None:
        (short_dir / "file").touch()
        with pytest.raises(EmbeddedServerError, match="cannot use"), running_server(short_dir / "file"):
            pass
