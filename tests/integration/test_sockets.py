"""No password and no row goes to a server of another user of the machine."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from forecaster.doctor import examine
from forecaster.errors import DatabaseUnreachableError, InvalidOptionError
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn, resolve
from tests import sql
from tests.conftest import Cli
from tests.faults import until
from tests.tables import initialise

as_root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
SECRET = "S3cretOfMine"

# Asks for the password in clear, and writes down all that it is sent.
SERVER = """
import os, socket, struct, sys
path, uid, gid, heard = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
sink = open(heard, "ab", buffering=0)
os.setgid(gid); os.setuid(uid)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
os.chmod(path, 0o777)
server.listen()
while True:
    client, _ = server.accept()
    data = client.recv(65536)
    sink.write(data + b"\\n")
    if data[4:8] == struct.pack("!i", 80877103):  # for TLS
        client.sendall(b"N")
        sink.write(client.recv(65536))
    if data:
        client.sendall(b"R" + struct.pack("!ii", 8, 3))
        sink.write(client.recv(65536))
    client.close()
"""


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    return tmp_path / "heard"


@pytest.fixture
def sticky(short_dir: Path) -> Path:
    """A directory like the one for temporary files."""
    short_dir.chmod(0o1777)
    return short_dir


@contextmanager
def fake_server(directory: Path, user: str, heard: Path, port: int = 5432) -> Iterator[None]:
    path = directory / f".s.PGSQL.{port}"
    account = pwd.getpwnam(user)
    identity = (str(account.pw_uid), str(account.pw_gid))
    command = [sys.executable, "-c", SERVER, str(path), *identity, str(heard)]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: path.is_socket() and path.stat().st_mode & 0o777 == 0o777)
            yield
        finally:
            process.kill()


def dsn_of(directory: Path, **environ: str) -> Dsn:
    given = {"PGHOST": str(directory), "PGUSER": "me", "PGPASSWORD": SECRET, "PGDATABASE": "db", **environ}
    dsn = resolve(None, given)
    assert dsn
    return dsn


def refused(dsn: Dsn) -> DatabaseUnreachableError:
    with pytest.raises(DatabaseUnreachableError) as caught, connect(dsn):
        pass
    return caught.value


@as_root_only
class TestAnotherUsersServer:
    def test_the_fake_server_gets_a_password_that_is_sent(self, sticky: Path, heard: Path) -> None:
        """The test itself works: the user names who runs it, and so trusts it."""
        with fake_server(sticky, "nobody", heard):
            refused(dsn_of(sticky, PGREQUIREPEER="nobody"))
        assert SECRET.encode() in heard.read_bytes()

    def test_in_a_directory_that_anyone_can_write_to(self, sticky: Path, heard: Path) -> None:
        with fake_server(sticky, "nobody", heard):
            error = refused(dsn_of(sticky))
        assert heard.read_bytes() == b""
        assert f"belongs to user 'nobody', and anyone can create files in {sticky}" in str(error)
        assert error.hint
        assert "PGREQUIREPEER=nobody" in error.hint
        assert SECRET not in f"{error} {error.hint}"
        with fake_server(sticky, "nobody", heard, 5433):
            [*_, finding] = examine(dsn_of(sticky, PGPORT="5433"), "public", Parameters()).findings
        assert finding.found.startswith("the socket ")
        assert "pg_isready" not in (finding.fix or "")

    def test_found_by_default(self, sticky: Path, heard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("forecaster.postgres.dsn._SOCKET_DIRECTORIES", (str(sticky),))
        dsn = resolve(None, {"PGUSER": "me", "PGPASSWORD": SECRET})
        assert dsn
        with fake_server(sticky, "nobody", heard):
            found = resolve(None, {"PGUSER": "me", "PGPASSWORD": SECRET})
            assert found
            assert found.host == str(sticky)
            refused(found)
        assert heard.read_bytes() == b""

    def test_the_whole_program(self, cli: Cli, sticky: Path, heard: Path) -> None:
        with fake_server(sticky, "nobody", heard):
            for arguments in (("run",), ("doctor",)):
                url = f"postgresql://me:{SECRET}@/db?host={sticky}"
                ended = cli(*arguments, env={"DATABASE_URL": url})
                assert ended.returncode == 3
                assert SECRET not in ended.stdout + ended.stderr
        assert heard.read_bytes() == b""

    def test_by_a_way_that_leads_there(self, sticky: Path, heard: Path) -> None:
        """A link of another user's in the open directory, to a directory of theirs that is closed."""
        nobody = pwd.getpwnam("nobody").pw_uid
        theirs = sticky / "theirs"
        theirs.mkdir()
        os.chown(theirs, nobody, -1)
        (sticky / "link").symlink_to(theirs)
        os.lchown(sticky / "link", nobody, -1)
        with fake_server(theirs, "nobody", heard):
            assert f"{theirs} belongs to" in str(refused(dsn_of(theirs)))
            assert "belongs to user 'nobody'" in str(refused(dsn_of(sticky / "link")))
        assert heard.read_bytes() == b""

    def test_a_link_of_theirs_to_where_nobody_else_can_write(self, sticky: Path, heard: Path) -> None:
        real = Path("/opt/fc-closed")
        shutil.rmtree(real, ignore_errors=True)
        real.mkdir(mode=0o755)
        nobody = pwd.getpwnam("nobody").pw_uid
        os.chown(real, nobody, -1)
        closed = sticky / "link"
        closed.symlink_to(real)
        os.lchown(closed, nobody, -1)
        try:
            with fake_server(real, "nobody", heard):
                assert f"{closed} belongs to" in str(refused(dsn_of(closed)))
                assert heard.read_bytes() == b""
                refused(dsn_of(real))  # its own name is where only they could have made it
                assert SECRET.encode() in heard.read_bytes()
        finally:
            shutil.rmtree(real)

    def test_a_directory_in_which_anyone_can_replace_it(self, short_dir: Path, heard: Path) -> None:
        short_dir.chmod(0o777)
        with fake_server(short_dir, "root", heard):
            assert f"anyone can replace files in {short_dir}" in str(refused(dsn_of(short_dir)))
        assert heard.read_bytes() == b""

    @pytest.mark.parametrize("user", ["root", "postgres"])
    def test_of_those_that_are_trusted(self, sticky: Path, heard: Path, user: str) -> None:
        with fake_server(sticky, user, heard):
            assert "belongs to" not in str(refused(dsn_of(sticky)))
        assert SECRET.encode() in heard.read_bytes()

    @pytest.mark.parametrize("mode", [0o775, 0o2775])
    def test_where_only_some_can_write(self, short_dir: Path, heard: Path, mode: int) -> None:
        """As Debian's /var/run/postgresql: who made it there was let in."""
        os.chown(short_dir, -1, pwd.getpwnam("nobody").pw_gid)
        short_dir.chmod(mode)
        with fake_server(short_dir, "nobody", heard):
            refused(dsn_of(short_dir))
        assert SECRET.encode() in heard.read_bytes()

    def test_it_comes_while_a_run_is_at_work(self, embedded_database: Dsn, sticky: Path, heard: Path) -> None:
        """connectorx does not connect to what ADBC would not."""
        initialise(embedded_database)
        with open_source(embedded_database, "public") as source, fake_server(sticky, "nobody", heard):
            moved = replace(source.dsn, host=str(sticky), password=SECRET)
            with pytest.raises(DatabaseUnreachableError, match="belongs to user 'nobody'"):
                type(source)(moved, source.tables, source.snapshot).read("SELECT 1 AS one")
        assert heard.read_bytes() == b""


class TestRequirePeer:
    """As with libpq, whom the user names must run the server, and nobody else may."""

    @staticmethod
    def owner(dsn: Dsn) -> str:
        return Path(dsn.host).owner()

    @pytest.mark.parametrize("as_number", [False, True])
    def test_the_right_one(self, embedded_database: Dsn, *, as_number: bool) -> None:
        peer = str(Path(embedded_database.host).stat().st_uid) if as_number else self.owner(embedded_database)
        dsn = resolve(embedded_database.uri, {"PGREQUIREPEER": peer})
        assert dsn
        assert dsn.peer == peer
        with connect(dsn) as connection:
            assert query(connection, "SELECT 1 AS one").item() == 1

    def test_another_one(self, embedded_database: Dsn) -> None:
        dsn = resolve(f"{embedded_database.uri}&requirepeer=daemon", {})
        assert dsn
        error = refused(dsn)
        named = f"run by user {self.owner(embedded_database)!r}, but PGREQUIREPEER requires 'daemon'"
        assert named in str(error)

    def test_who_listens_counts_and_not_who_owns_the_file(self, embedded_database: Dsn) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can change an owner")
        path = Path(embedded_database.host, ".s.PGSQL.5432")
        owner = path.stat().st_uid
        os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
        try:
            refused(replace(embedded_database, peer="nobody"))
            with connect(replace(embedded_database, peer=self.owner(embedded_database))):
                pass
        finally:
            os.chown(path, owner, -1)

    def test_the_drivers_are_not_told(self, embedded_database: Dsn) -> None:
        dsn = replace(embedded_database, peer="postgres")
        assert "requirepeer" not in dsn.uri
        assert sql.rows(dsn, "SELECT 1") == [(1,)]

    def test_by_network_there_is_none(self) -> None:
        Dsn("127.0.0.1", "db", "u", peer="daemon").check_socket()


def test_a_server_that_is_gone_is_left_to_the_driver(short_dir: Path) -> None:
    error = refused(dsn_of(short_dir))
    assert "No such file" in str(error)
    assert f"{short_dir}/.s.PGSQL.5432" in str(error)


def test_a_dead_socket_with_a_required_peer(short_dir: Path) -> None:
    code = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(short_dir / ".s.PGSQL.5432")], check=True)
    error = refused(dsn_of(short_dir, PGREQUIREPEER="postgres"))
    assert "cannot be used: Connection refused" in str(error)


def test_a_socket_without_a_file() -> None:
    """libpq takes a host with @ for one, and whoever comes first may listen on it."""
    with pytest.raises(InvalidOptionError, match="abstract sockets"):
        resolve("postgresql://u:p@%40name/db", {})
