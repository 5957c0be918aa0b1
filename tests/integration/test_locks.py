"""Nobody else holds our locks, reads our logs, or has us write where they like."""

import fcntl
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forecaster.errors import BadFileError, EmbeddedServerError, LockedError
from forecaster.parquet.lock import locked
from forecaster.postgres import embedded
from forecaster.postgres.embedded import running_server
from forecaster.process.locks import holder, locked_within, own_file
from tests.conftest import short_directory
from tests.faults import started, until

as_root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
PRIVATE = ("server.log", "start.lock", "users.lock")
HOLD = """
import fcntl, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    with short_directory() as parent:
        with running_server(parent / "data"):
            pass
        yield parent / "data"


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Another process has it locked meanwhile; its id."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestEmbedded:
    def test_its_files_are_private(self, made: Path) -> None:
        assert {name: mode(made / name) for name in PRIVATE} == dict.fromkeys(PRIVATE, 0o600)

    def test_those_of_an_older_version_are_closed(self, made: Path) -> None:
        for name in PRIVATE:
            (made / name).chmod(0o644)
        with running_server(made):
            pass
        assert {name: mode(made / name) for name in PRIVATE} == dict.fromkeys(PRIVATE, 0o600)

    @as_root_only
    def test_another_user_cannot_hold_them(self, made: Path) -> None:
        nobody = pwd.getpwnam("nobody").pw_uid
        for name in PRIVATE:
            command = ["/bin/cat", str(made / name)]
            ended = subprocess.run(command, user=nobody, capture_output=True, text=True, check=False)
            assert "Permission denied" in ended.stderr

    def test_a_lock_that_is_never_given_up(self, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "_LOCK_TIMEOUT", 0.2)
        with (
            held(made / "start.lock") as pid,
            pytest.raises(EmbeddedServerError, match=f"locked by process {pid} for"),
            running_server(made),
        ):
            pass

    def test_who_waits_says_so(self, made: Path) -> None:
        with held(made / "start.lock") as pid:
            short = "import forecaster.postgres.embedded as e; e._SILENT = 0.1; e._LOCK_TIMEOUT = 0.5"
            with started(None, "--data-dir", str(made), command="init", before=short) as process:
                _, stderr = process.communicate(timeout=60)
        assert process.returncode == 3
        assert f"waiting for process {pid}, which starts or stops the server in {made}" in stderr
        assert stderr.count("start.lock has been locked by") == 1

    @pytest.mark.parametrize("name", PRIVATE)
    def test_a_link_in_its_place(self, made: Path, short_dir: Path, name: str) -> None:
        victim, place = short_dir / "victim", made / name
        victim.write_text("mine")
        victim.chmod(0o644)
        before = place.rename(short_dir / name)
        try:
            place.symlink_to(victim)
            with pytest.raises(EmbeddedServerError, match=f"{name} is a link"), running_server(made):
                pass
            place.unlink()
            os.link(victim, place)
            with (
                pytest.raises(EmbeddedServerError, match=f"{name} is not a regular file that belongs"),
                running_server(made),
            ):
                pass
            place.unlink()
            os.mkfifo(place)  # nobody reads it: to open it would take for ever
            with pytest.raises(EmbeddedServerError, match="cannot use"), running_server(made):
                pass
        finally:
            place.unlink(missing_ok=True)
            before.rename(place)
        assert (victim.read_text(), mode(victim)) == ("mine", 0o644)

    def test_a_new_one_is_not_the_groups(self, short_dir: Path) -> None:
        before = os.umask(0o002)
        try:
            with running_server(short_dir / "a" / "b"):
                pass
        finally:
            os.umask(before)
        for directory in (short_dir / "a", short_dir / "a" / "b"):
            assert not mode(directory) & 0o022

    def test_a_directory_in_which_anyone_can_replace_it(self, short_dir: Path) -> None:
        (short_dir / "data").mkdir()
        short_dir.chmod(0o777)
        with (
            pytest.raises(EmbeddedServerError, match="anyone can replace"),
            running_server(short_dir / "data"),
        ):
            pass
        assert not list((short_dir / "data").iterdir())


class TestOwnFile:
    @pytest.mark.parametrize("umask", [0o022, 0])
    def test_nobody_else_can_read_it(self, tmp_path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            own_file(tmp_path / "x").close()
            assert mode(tmp_path / "x") == 0o600
            (tmp_path / "old").touch(0o666)
            own_file(tmp_path / "old").close()
            assert mode(tmp_path / "old") == 0o600
        finally:
            os.umask(before)

    @as_root_only
    def test_of_another_user(self, tmp_path: Path) -> None:
        (tmp_path / "x").touch(0o644)
        os.chown(tmp_path / "x", pwd.getpwnam("nobody").pw_uid, -1)
        with pytest.raises(BadFileError, match="not a regular file that belongs to this user alone"):
            own_file(tmp_path / "x")
        assert mode(tmp_path / "x") == 0o644

    def test_what_is_in_it_stays(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("before ")
        with own_file(tmp_path / "x") as file:
            file.write("after")
        assert (tmp_path / "x").read_text() == "before after"


class TestHolder:
    def test_this_process(self, tmp_path: Path) -> None:
        with own_file(tmp_path / "x") as file, own_file(tmp_path / "x") as other:
            assert locked_within(file, 0)
            assert not locked_within(other, 0.1)
            assert holder(other.fileno()) == f"process {os.getpid()}"
            fcntl.flock(file, fcntl.LOCK_UN)
            assert locked_within(other, 0)

    def test_nobody(self, tmp_path: Path) -> None:
        with own_file(tmp_path / "x") as file:
            assert holder(file.fileno()) == "another process"

    def test_of_a_bucket_of_a_sink(self, tmp_path: Path) -> None:
        lock = tmp_path / "bucket=0" / ".lock"
        with locked(lock, 0):
            assert mode(lock) == 0o600
        with held(lock) as pid, pytest.raises(LockedError, match=f"by process {pid}$"), locked(lock, 0):
            pass

    def test_who_waits_is_not_who_holds(self, tmp_path: Path) -> None:
        with own_file(tmp_path / "x") as file, held(tmp_path / "x") as pid:
            command = [sys.executable, "-c", HOLD, str(tmp_path / "x")]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
                until(lambda: "->" in Path("/proc/locks").read_text())
                assert holder(file.fileno()) == f"process {pid}"
                waiting.kill()
