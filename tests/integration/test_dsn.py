"""Log in by URL, variables and password files, with both drivers, on servers that check the password."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_manager as adbc
import connectorx
import pytest

from forecaster.postgres.dsn import Dsn, libpq_variables_hidden, resolve, with_own_password
from forecaster.postgres.early import opened
from forecaster.postgres.embedded import bundled_binaries, running_server
from tests import sql
from tests.addresses import DATABASE, PASSWORD, ROLE, in_password_file, password_file, resolved
from tests.conftest import BINARIES, SERVERS, need_server, short_directory
from tests.needs import OPENSSL, need_program
from tests.tls import listening

RULES = """
local all postgres trust
local all all scram-sha-256
host all all 127.0.0.1/32 md5
host all all ::1/128 scram-sha-256
"""


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.fixture(scope="module", params=SERVERS)
def guarded(request: pytest.FixtureRequest) -> Iterator[Dsn]:
    """A server that asks for passwords, on its socket, IPv4 and IPv6; the Dsn of the role and socket."""
    need_server(request.param)
    binaries = BINARIES[request.param] or bundled_binaries()
    with short_directory() as directory:
        with running_server(directory, binaries=binaries) as local:
            sql.run(local, f"CREATE ROLE {identifier(ROLE)} LOGIN PASSWORD {literal(PASSWORD)}")
            sql.run(local, f"CREATE DATABASE {identifier(DATABASE)}")
        with asking_for_passwords(local, binaries) as port:
            yield replace(local, port=port, user=ROLE, dbname=DATABASE, password=PASSWORD)


@contextmanager
def asking_for_passwords(local: Dsn, binaries: Path) -> Iterator[int]:
    """The stopped server, started on a free port with other rules."""
    Path(local.host, "pg_hba.conf").write_text(RULES)
    settings = {"listen_addresses": "127.0.0.1,::1"}
    if "openssl" in subprocess.check_output([binaries / "pg_config", "--configure"], text=True):
        make_certificate(Path(local.host))
        settings["ssl"] = "on"
    with listening(local, binaries, settings) as port:
        yield port


def make_certificate(pgdata: Path) -> None:
    """A certificate authority of its own, which is the server's certificate as well."""
    files = {"-keyout": pgdata / "server.key", "-out": pgdata / "server.crt"}
    command = [
        need_program("openssl", OPENSSL),
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]
    command += ["-nodes", "-days", "1", "-subj", "/CN=test"]
    for option, path in files.items():
        command += [option, str(path)]
    subprocess.run(command, check=True, capture_output=True)
    for path in files.values():
        os.chown(path, pgdata.stat().st_uid, pgdata.stat().st_gid)
        path.chmod(0o600)


def both(dsn: Dsn, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, which both drivers must agree on."""
    # ADBC first: connectorx tries for half a minute before it says what is wrong.
    rows = sql.adbc_rows(dsn, query)
    assert connectorx.read_sql(dsn.uri, query, return_type="polars").rows() == rows
    return rows


def assert_logged_in(dsn: Dsn) -> None:
    assert both(dsn, "SELECT current_user::text, current_database()::text") == [(ROLE, DATABASE)]


class TestConnects:
    """One URI, two drivers, real servers that check the password."""

    @pytest.mark.parametrize("host", ["socket", "127.0.0.1", "::1", "localhost"])
    def test_by_url(self, guarded: Dsn, host: str) -> None:
        address = {"socket": quote(guarded.host, safe=""), "::1": "[::1]"}.get(host, host)
        user, password, dbname = (quote(text, safe="") for text in (ROLE, PASSWORD, DATABASE))
        assert_logged_in(resolved(f"postgresql://{user}:{password}@{address}:{guarded.port}/{dbname}"))

    def test_by_url_with_the_socket_as_a_parameter(self, guarded: Dsn) -> None:
        user, password, dbname = (quote(text, safe="") for text in (ROLE, PASSWORD, DATABASE))
        url = f"postgres://{user}:{password}@/{dbname}?host={guarded.host}&port={guarded.port}"
        assert_logged_in(resolved(url))

    @pytest.mark.parametrize("host", ["socket", "127.0.0.1", "::1"])
    def test_by_variables(self, guarded: Dsn, host: str) -> None:
        environ = {
            "PGHOST": guarded.host if host == "socket" else host,
            "PGPORT": str(guarded.port),
            "PGUSER": ROLE,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": DATABASE,
        }
        assert_logged_in(resolved(None, environ))

    def test_by_password_file(self, guarded: Dsn, tmp_path: Path) -> None:
        fields = [guarded.host, str(guarded.port), DATABASE, ROLE, PASSWORD]
        path = password_file(tmp_path, ":".join(map(in_password_file, fields)) + "\n")
        without = replace(guarded, password=None)
        assert_logged_in(resolved(without.uri, {"PGPASSFILE": str(path)}))

    def test_with_passwords_that_are_normalised(self, guarded: Dsn) -> None:
        role = replace(guarded, user="probe", dbname="postgres")
        superuser = replace(role, user="postgres")
        sql.run(superuser, "CREATE ROLE probe LOGIN")
        for password in ("e\u0301", "a\u00a0b", "\u2167", "a\u00adb", "\u06271", "x" * 500, "***"):
            sql.run(superuser, f"ALTER ROLE probe PASSWORD {literal(password)}")
            assert both(replace(role, password=password), "SELECT current_user::text") == [("probe",)]

    def test_a_wrong_password_is_told_without_it(self, guarded: Dsn) -> None:
        wrong = replace(guarded, password="not the one")
        with pytest.raises(adbc.Error) as caught:
            sql.adbc_rows(wrong, "SELECT 1")
        assert "password authentication failed" in wrong.redact(str(caught.value))
        assert "not the one" not in wrong.redact(str(caught.value))

    @pytest.mark.parametrize("given_in", ["url", "variable"])
    def test_options_with_blanks(self, guarded: Dsn, given_in: str) -> None:
        options = r"-c search_path=a,b -c statement_timeout=61s -c my.text=1+\ 1=2&3%41"
        if given_in == "url":
            dsn = resolved(guarded.uri + "&options=" + quote(options, safe=""))
        else:
            dsn = resolved(guarded.uri, {"PGOPTIONS": options})
        names = ("search_path", "statement_timeout", "my.text")
        select = ", ".join(f"current_setting('{name}') AS \"{name}\"" for name in names)
        assert both(dsn, f"SELECT {select}") == [("a,b", "61s", "1+ 1=2&3%41")]

    def test_the_application_says_its_name(self, guarded: Dsn) -> None:
        query = "SELECT current_setting('application_name')"
        assert both(guarded, query) == [("forecaster",)]
        assert both(resolved(guarded.uri, {"PGAPPNAME": "not this"}), query) == [("forecaster",)]
        named = replace(guarded, parameters=(("application_name", "a b+c"),))
        assert both(named, query) == [("a b+c",)]

    def test_encrypted_by_a_certificate_authority_that_is_known(self, guarded: Dsn) -> None:
        certificate = Path(guarded.host, "server.crt")
        if not certificate.exists():
            pytest.skip("this server is built without TLS")
        url = f"{replace(guarded, host='127.0.0.1').uri}&sslmode=require&sslrootcert={certificate}"
        assert both(resolved(url), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]


class TestLibpqVariables:
    @pytest.mark.parametrize(
        ("name", "value"),
        [("PGHOSTADDR", "192.0.2.1"), ("PGSERVICE", "none"), ("PGTARGETSESSIONATTRS", "standby")],
    )
    def test_hidden_they_cannot_change_where_to(
        self, server: Dsn, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        with pytest.raises(adbc.Error):
            sql.adbc_rows(replace(server, parameters=(("connect_timeout", "2"),)), "SELECT 1")
        with libpq_variables_hidden():
            assert sql.adbc_rows(server, "SELECT 1") == [(1,)]
        assert os.environ[name] == value

    def test_hidden_they_cannot_change_the_characters(
        self, server: Dsn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        query = "SELECT length('\u00e4')"
        assert sql.adbc_rows(server, query) == [(2,)]
        with libpq_variables_hidden():
            assert sql.adbc_rows(server, query) == [(1,)]

    def test_who_is_done_does_not_show_them_to_another_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGHOST", "from-variable")
        within, other_is_done = threading.Event(), threading.Event()

        def is_shown() -> bool:
            with libpq_variables_hidden():
                within.set()
                other_is_done.wait(timeout=20)
                return "PGHOST" in os.environ

        with ThreadPoolExecutor(1) as thread:
            with libpq_variables_hidden():
                shown = thread.submit(is_shown)
                assert within.wait(timeout=20)  # neither waits for the other
            other_is_done.set()
            assert not shown.result()
        assert os.environ["PGHOST"] == "from-variable"

    def test_hidden_they_are_still_known(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGHOST", "named")
        monkeypatch.setenv("PGPASSFILE", f"{password_file(tmp_path, '*:*:*:*:filed')}")
        asked = Dsn("db", "music", "me")
        with libpq_variables_hidden():
            assert with_own_password(asked).password == "filed"
        monkeypatch.setenv("PGPASSWORD", "given")
        with libpq_variables_hidden(), libpq_variables_hidden():
            assert with_own_password(asked).password == "given"
            named = resolve(None)
            assert named
            assert (named.host, named.password) == ("named", "given")

    def test_what_is_set_meanwhile_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGPASSWORD", "before")
        with libpq_variables_hidden():
            monkeypatch.setenv("PGPASSWORD", "new")
        assert os.environ["PGPASSWORD"] == "new"

    def test_who_connects_waits_for_no_other(self, server: Dsn) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as thread:
            stuck = thread.submit(opened, Dsn("127.0.0.1", "music", "me", None, silent.getsockname()[1]))
            taken, _ = silent.accept()
            with taken:
                opened(server).close()
                assert not stuck.done()
            with pytest.raises(adbc.Error):
                stuck.result()


class TestPasswordFile:
    """What libpq itself finds in a password file is what we find in it."""

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("{host}:{port}:{db}:{user}:{password}", True),
            ("*:*:*:*:{password}", True),
            ("*:*:*:*:{password}\r\n", True),
            ("# a comment\n\nnonsense\n:::\nother:*:*:*:wrong\n*:*:*:*:{password}\n", True),
            ("*:*:*:*:{password}:of no meaning", True),
            ("*:*:*:someone:wrong\n*:*:postgres:*:wrong\n*:1:*:*:wrong\n*:*:*:*:{password}", True),
            ("*:*:*:*:wrong\n*:*:*:*:{password}", False),
            ("\\*:*:*:*:wrong\n*:*:*:*:{password}", True),
            ("localhost:*:*:*:{password}", False),
            ("*:*:*:{password}", False),
            (" *:*:*:*:{password}", False),
            ("", False),
        ],
    )
    def test_like_libpq(
        self, guarded: Dsn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *, found: bool
    ) -> None:
        fields = {
            "host": guarded.host,
            "port": str(guarded.port),
            "db": DATABASE,
            "user": ROLE,
            "password": PASSWORD,
        }
        escaped = {name: in_password_file(value) for name, value in fields.items()}
        path = password_file(tmp_path, text.format_map(escaped))
        without = replace(guarded, password=None)
        assert (resolved(without.uri, {"PGPASSFILE": str(path)}).password == PASSWORD) is found
        monkeypatch.setenv("PGPASSFILE", str(path))
        if found:
            assert sql.adbc_rows(without, "SELECT 1") == [(1,)]
        else:
            with pytest.raises(adbc.Error, match="password"):
                sql.adbc_rows(without, "SELECT 1")

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_one_that_others_can_read_is_not_used(self, tmp_path: Path, mode: int) -> None:
        path = password_file(tmp_path, "*:*:*:*:secret", mode)
        assert resolved("postgresql://u@h/db", {"PGPASSFILE": str(path)}).password is None

    def test_in_the_home_directory(self, tmp_path: Path) -> None:
        password_file(tmp_path, "*:*:*:*:secret").rename(tmp_path / ".pgpass")
        assert resolved("postgresql://u@h/db", {"HOME": str(tmp_path)}).password == "secret"
        assert resolved("postgresql://u:p@h/db", {"HOME": str(tmp_path)}).password == "p"
        environ = {"HOME": str(tmp_path), "PGPASSWORD": "v"}
        assert resolved("postgresql://u@h/db", environ).password == "v"

    def test_not_in_the_current_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        password_file(tmp_path, "*:*:*:*:secret").rename(tmp_path / ".pgpass")
        monkeypatch.chdir(tmp_path)
        assert resolved("postgresql://u@h/db", {}).password is None

    @pytest.mark.parametrize("host", ["/var/run/postgresql", "/tmp", "localhost"])
    def test_the_usual_socket_is_filed_under_localhost(self, tmp_path: Path, host: str) -> None:
        path = password_file(tmp_path, "localhost:5432:db:u:secret")
        url = f"postgresql://u@/db?host={host}"
        assert resolved(url, {"PGPASSFILE": str(path)}).password == "secret"

    def test_what_is_no_file_or_no_text(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "missing"):
            assert resolved("postgresql://u@h/db", {"PGPASSFILE": str(path)}).password is None
        path = password_file(tmp_path, "")
        path.write_bytes(b"h:5432:db:\xe9:wrong\n*:*:*:*:pass\x0bword\xe2\x80\xa8\n")
        assert resolved("postgresql://u@h/db", {"PGPASSFILE": str(path)}).password == "pass\x0bword\u2028"
