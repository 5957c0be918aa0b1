"""Started by root, the server runs as its own user, and no directory is opened up for it."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from forecaster.errors import EmbeddedServerError
from forecaster.postgres.embedded import bundled_binaries, default_data_dir, running_server
from tests.embedded import as_root_only, assert_answers, copied, moved, pid_file, server_pid

REPOSITORY = Path(__file__).parents[3]


def modes(path: Path) -> list[int]:
    return [stat.S_IMODE(directory.stat().st_mode) for directory in (path, *path.parents)]


@as_root_only
class TestAsRoot:
    def test_the_server_runs_as_its_own_user(self, data_dir: Path) -> None:
        with running_server(data_dir):
            process = psutil.Process(server_pid(data_dir))
            assert process.username() == "postgres"
            assert not {0} & {*process.uids(), *process.gids()}

    def test_no_directory_is_opened_up(self, data_dir: Path, short_dir: Path) -> None:
        parent = short_dir / "strict"
        parent.mkdir()
        parent.chmod(0o711)
        with moved(data_dir, parent / "data") as path:
            before = modes(path)
            with running_server(path) as dsn:
                assert_answers(dsn)
            assert modes(path) == before

    def test_a_private_directory_is_refused_and_stays_private(self, short_dir: Path) -> None:
        private = short_dir / "private"
        private.mkdir(mode=0o700)
        with (
            pytest.raises(EmbeddedServerError, match=f"cannot enter {private}$"),
            running_server(private / "data"),
        ):
            pass
        assert stat.S_IMODE(private.stat().st_mode) == 0o700

    def test_a_strict_umask(self, short_dir: Path) -> None:
        before = os.umask(0o077)
        try:
            with running_server(short_dir / "a" / "b") as dsn:
                assert_answers(dsn)
        finally:
            os.umask(before)
        assert stat.S_IMODE((short_dir / "a").stat().st_mode) == 0o711

    def test_programs_in_a_private_directory_are_copied(self, data_dir: Path, short_dir: Path) -> None:
        package = bundled_binaries().parents[1]
        private = short_dir / "root"
        private.mkdir(mode=0o700)
        for source in (package, package.with_name(f"{package.name}.libs")):
            copied(source, private / source.name)
        subprocess.run(["chmod", "-R", "go-rwx", private], check=True)  # as pip does under umask 077
        binaries = private / package.name / "pginstall" / "bin"
        for _ in range(2):
            with running_server(data_dir, binaries=binaries) as dsn:
                assert_answers(dsn)
                assert psutil.Process(server_pid(data_dir)).exe().startswith(f"{data_dir}/binaries-")
        assert len(list(data_dir.glob("binaries*"))) == 1
        assert stat.S_IMODE(private.stat().st_mode) == 0o700

    def test_a_directory_of_somebody_else_is_refused(self, short_dir: Path) -> None:
        os.chown(short_dir, pwd.getpwnam("nobody").pw_uid, -1)
        with pytest.raises(EmbeddedServerError, match="belongs to another user"), running_server(short_dir):
            pass
        assert not list(short_dir.iterdir())

    def test_the_default_place_is_outside_of_its_home(self) -> None:
        assert default_data_dir() == Path("/var/lib/forecaster")

    def test_an_ordinary_user_needs_no_root(self, short_dir: Path) -> None:
        """The whole way as the user nobody: default place, start, use, stop."""
        nobody = pwd.getpwnam("nobody")
        identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        environment = {
            "HOME": str(short_dir),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        python = python_for(identity, environment)
        os.chown(short_dir, nobody.pw_uid, nobody.pw_gid)
        script = (
            "from forecaster.postgres.embedded import default_data_dir, running_server\n"
            "from tests import sql\n"
            "with running_server(default_data_dir()) as dsn:\n"
            "    print(dsn.host, sql.rows(dsn, 'SELECT 1'))\n"
        )
        result = subprocess.run(
            [python, "-c", script],
            capture_output=True, text=True, env=environment, check=False, **identity,  # type: ignore[call-overload]
        )  # fmt: skip
        place = short_dir / ".local" / "share" / "forecaster"
        assert result.stdout == f"{place}/pgdata [(1,)]\n", result.stderr
        assert (place / "pgdata").owner() == "nobody"
        assert not pid_file(place).exists()
        # Root keeps out of it: the server's user there could not even read it.
        with pytest.raises(EmbeddedServerError, match="belongs to another user"), running_server(place):
            pass


def python_for(identity: dict[str, object], environment: dict[str, str]) -> str:
    """A Python that this user can run with the same packages, such as the system's own."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, shutil.which(version, path="/usr/bin:/usr/local/bin")):
        command = [python, "-c", "import adbc_driver_postgresql.dbapi, forecaster, platformdirs, psutil"]
        try:
            subprocess.run(
                command, check=True, capture_output=True, env=environment, **identity  # type: ignore[call-overload]
            )  # fmt: skip
        except (OSError, TypeError, subprocess.CalledProcessError):
            continue
        return str(python)
    pytest.skip("no Python that the user nobody can run with these packages")
