import os
import socket
import string
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_manager as adbc
import connectorx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forecaster.errors import InvalidOptionError
from forecaster.postgres import embedded
from forecaster.postgres.dsn import Dsn, libpq_variables_hidden, resolve
from forecaster.postgres.embedded import bundled_binaries, running_server
from tests import sql
from tests.conftest import BINARIES, SERVERS, SETTINGS, need_server, short_directory
from tests.needs import OPENSSL, need_program

NASTY = string.punctuation + "ä密🔑 %41 %2B"
PASSWORD = f" {NASTY} "
ROLE = f"r {NASTY}"
DATABASE = f"d {NASTY}"
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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    settings = {**SETTINGS, "listen_addresses": "127.0.0.1,::1", "port": str(port)}
    if "openssl" in subprocess.check_output([binaries / "pg_config", "--configure"], text=True):
        make_certificate(Path(local.host))
        settings["ssl"] = "on"
    server = embedded._Server(local, binaries, embedded._server_account())
    server._start(settings)
    try:
        while not is_up(replace(local, port=port)):
            time.sleep(0.01)
        yield port
    finally:
        server.stop()


def is_up(superuser: Dsn) -> bool:
    try:
        return sql.adbc_rows(superuser, "SELECT 1") == [(1,)]
    except adbc.Error:
        return False


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


def resolved(url: str | None, environ: Mapping[str, str] | None = None) -> Dsn:
    dsn = resolve(url, environ or {})
    assert dsn
    return dsn


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
                other_is_done.wait()
                return "PGHOST" in os.environ

        with ThreadPoolExecutor(1) as thread:
            with libpq_variables_hidden():
                shown = thread.submit(is_shown)
                within.wait(timeout=0.2)  # in vain
            other_is_done.set()
            assert not shown.result()


VARIABLES = {
    "PGHOST": "from-variable",
    "PGPORT": "1111",
    "PGUSER": "variable-user",
    "PGPASSWORD": "variable-password",
    "PGDATABASE": "variable-db",
    "PGSSLMODE": "disable",
    "PGCONNECT_TIMEOUT": "9",
}
DATABASE_URL = {"DATABASE_URL": "postgresql://u2:p2@from-database-url:2222/db2?sslmode=prefer"}


class TestPrecedence:
    def test_nothing_is_named(self) -> None:
        assert resolve(None, {}) is None
        assert (
            resolve("", {"DATABASE_URL": "", "PGHOST": "", "PGPASSWORD": "x", "PGSSLMODE": "require"}) is None
        )

    def test_the_url_comes_first(self) -> None:
        dsn = resolved("postgresql://u1:p1@from-url:3333/db1", {**VARIABLES, **DATABASE_URL})
        assert (dsn.host, dsn.port, dsn.user, dsn.password, dsn.dbname) == (
            "from-url",
            3333,
            "u1",
            "p1",
            "db1",
        )

    def test_then_database_url(self) -> None:
        dsn = resolved(None, {**VARIABLES, **DATABASE_URL})
        assert str(dsn) == "postgresql://u2:***@from-database-url:2222/db2"
        assert dict(dsn.parameters) == {"connect_timeout": "9", "sslmode": "prefer"}

    def test_then_the_variables(self) -> None:
        dsn = resolved(None, VARIABLES)
        assert str(dsn) == "postgresql://variable-user:***@from-variable:1111/variable-db"
        assert dsn.password == "variable-password"
        assert dict(dsn.parameters) == {"connect_timeout": "9", "sslmode": "disable"}

    @pytest.mark.parametrize("name", ["PGHOST", "PGHOSTADDR", "PGDATABASE", "PGUSER", "PGPORT"])
    def test_each_of_them_names_a_server(self, name: str) -> None:
        dsn = resolved(None, {name: "4444"})
        given_in = {"PGHOST": "host", "PGHOSTADDR": "host", "PGDATABASE": "dbname", "PGUSER": "user"}
        assert str(getattr(dsn, given_in.get(name, "port"))) == "4444"

    def test_what_a_url_leaves_out_is_filled_in(self) -> None:
        dsn = resolved("postgresql://from-url", VARIABLES)
        assert str(dsn) == "postgresql://variable-user:***@from-url:1111/variable-db"

    def test_the_database_is_named_like_the_user(self) -> None:
        assert resolved("postgresql://someone@h").dbname == "someone"

    def test_an_address_saves_looking_up_the_host(self, tmp_path: Path) -> None:
        path = password_file(tmp_path, "192.0.2.1:*:*:*:not this\nname:*:*:*:this\n")
        environ = {"PGHOST": "name", "PGHOSTADDR": "192.0.2.1", "PGUSER": "u", "PGPASSFILE": str(path)}
        dsn = resolved(None, environ)
        assert (dsn.host, dsn.password) == ("192.0.2.1", "this")

    def test_the_socket_of_the_port_that_is_asked_for(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("forecaster.postgres.dsn._SOCKET_DIRECTORIES", (str(tmp_path),))
        (tmp_path / ".s.PGSQL.5433").touch()
        assert resolved(None, {"PGPORT": "5433"}).host == str(tmp_path)
        assert resolved(None, {"PGPORT": "5434"}).host == "localhost"

    def test_a_line_end_after_the_url_does_no_harm(self) -> None:
        assert resolved(None, {"DATABASE_URL": " postgresql://u@h/db\n"}).dbname == "db"


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


class TestRefusals:
    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://user:S3cr#et@host/db",
            "postgresql://user:S3cr/et@host/db",
            "postgresql://user:5/S3cret@host/db",
            "postgresql://user:5?S3cret@host/db",
            "postgresql://user:5?S3cret=x@host/db",
            "postgresql://user:5/x?S3cret=x@host/db",
            "postgresql://user:S3cr@et@host/db",
            "postgresql://user:S3cret%@host/db",
            "postgresql://user:S3cret%zz@host/db",
            "postgresql://user:S3cret%00@host/db",
            "postgresql://user:S3cret%ff@host/db",
            "postgresql://user:S3cret\n@host/db",
            "postgresql://user:S3c ret@host/db",
            "postgresql://user:S3c[ret@host/db",
            "postgresql://user:S3c]ret@host/db",
            "postgresql://user:S3cret\u2100@host/db",
            "postgresql://user:S3cret@host:port/db",
            "postgresql://user:S3cret@host:0/db",
            "postgresql://user:S3cret@host:65536/db",
            "postgresql://user:S3cret@one:1,two:2/db",
            "postgresql://user:S3cret@one,two/db",
            "postgresql://user:S3cret@::1/db",
            "postgresql://user:S3cret@[::1/db",
            "postgresql://user:S3cret@[fe80::1%25eth0]/db",
            "postgresql://user:S3cret@host/db?sslmode",
            "postgresql://user:S3cret@host/db?nonsense=1",
            "postgresql://user:S3cret@host/db?sslmode=wrong",
            "postgresql://user:S3cret@host/db#fragment",
            "postgresql://user:S3cret@host/db/more",
            "mysql://user:S3cret@host/db",
            "postgresql+psycopg://user:S3cret@host/db",
            "postgresql:user:S3cret@host/db",
            "//user:S3cret@host/db",
            "user:S3cret@host/db",
            "host=h user=u password=S3cret",
            "password = 'S3cret' host=h",
            "S3cret",
            "postgresql://user:654321S3cret",
            "postgresql://user:99654321",
        ],
    )
    def test_a_url_that_cannot_be_used_is_not_shown(self, url: str) -> None:
        with pytest.raises(InvalidOptionError) as caught:
            resolve(url, {})
        shown = (
            "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value.hint)
        )
        for part in ("S3c", "ret@", "654321"):
            assert part not in shown

    def test_keywords_are_named_as_such(self) -> None:
        with pytest.raises(InvalidOptionError, match="given as keywords"):
            resolve("host=h user=u password=S3cret", {})

    @pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
    def test_verification_by_sslmode_is_refused_with_the_reason(self, mode: str) -> None:
        for url, environ in (
            (f"postgresql://u@h/db?sslmode={mode}", {}),
            ("postgresql://u@h/db", {"PGSSLMODE": mode}),
        ):
            with pytest.raises(InvalidOptionError, match="connectorx") as caught:
                resolve(url, environ)
            assert caught.value.hint
            assert "sslrootcert" in caught.value.hint

    def test_variables_that_one_driver_would_ignore(self) -> None:
        environ = {"PGREQUIREAUTH": "scram-sha-256", "PGSERVICE": "s", "PGHOST": "h"}
        with pytest.raises(InvalidOptionError, match="PGREQUIREAUTH, PGSERVICE"):
            resolve(None, environ)
        with pytest.raises(InvalidOptionError, match="PGSERVICE"):
            resolve(None, {"PGSERVICE": "s"})

    @pytest.mark.parametrize("name", ["PGHOST", "PGUSER", "PGPASSWORD", "PGDATABASE"])
    def test_what_is_not_text_in_utf_8(self, name: str) -> None:
        with pytest.raises(InvalidOptionError, match="not text in UTF-8"):
            resolve(None, {"PGHOST": "h", name: os.fsdecode(b"\xe9")})


# All that a name or password may hold: neither NUL nor half of a surrogate pair.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


class TestDsn:
    @given(user=texts, password=st.none() | texts, dbname=texts, directory=texts)
    @example(user="a@b:c/d", password="%41+ ?#[]", dbname="../x?y=z", directory="with blank & %2F")
    def test_its_uri_means_itself(self, user: str, password: str | None, dbname: str, directory: str) -> None:
        host = "/" + directory.replace(",", "")
        dsn = Dsn(host, dbname, user, password, 6000, (("application_name", "x y"), ("connect_timeout", "5")))
        assert resolve(dsn.uri, {}) == dsn

    @given(password=texts)
    @example(password="***")
    def test_it_does_not_show_its_password(self, password: str) -> None:
        dsn, other = Dsn("host", "db", "user", password), Dsn("host", "db", "user", "other")
        assert str(dsn) == str(other)
        assert repr(dsn) == repr(other)
        assert dsn.redact(f"failed for {dsn.uri}") == other.redact(f"failed for {other.uri}")

    @pytest.mark.parametrize("password", [PASSWORD, "x7-kl2!zq", "Tr0ub4dor&3"])
    def test_a_password_that_is_no_word_is_hidden_anywhere(self, password: str) -> None:
        dsn = Dsn("host", "db", "user", password)
        for form in (password, quote(password, safe="")):
            assert dsn.redact(f"it is {form}, it says") == "it is ***, it says"

    @pytest.mark.parametrize(
        "password", ["p", "q", "a", "postgres", "error", "password", "12345678", "connection", "music_db1"]
    )
    def test_one_that_may_be_a_word_garbles_nothing(self, password: str) -> None:
        """What is left out would tell what it is."""
        dsn = Dsn("music.example.com", "music_db1", "postgres", password)
        said = (
            "IO: [libpq] Failed to connect: connection to server at 'music.example.com', port 5432 failed: "
            'FATAL: password authentication failed for user "postgres", database "music_db1" (12345678)'
        )
        assert dsn.redact(said) == said
        assert (
            dsn.redact(f"{said} {dsn.uri}")
            == f"{said} {replace(dsn, password='***').uri.replace('%2A', '*')}"
        )
        for form in (f"password={password} host=h", f"password = '{password}' host=h"):
            assert dsn.redact(f"in {form}").replace(" = ", "=") == "in password=*** host=h"

    @pytest.mark.parametrize(
        "said",
        [
            'invalid URI query parameter: "S3cret"',
            'invalid percent-encoded token: "S3c%zz"',
            'missing key/value separator "=" in URI query parameter: "S3cret"',
            'missing "=" after "S3cret" in connection info string',
        ],
    )
    def test_of_what_libpq_says_on_an_address_nothing_is_shown(self, said: str) -> None:
        text = Dsn("h", "d", "u", "S3cret").redact(f"IO: [libpq] Failed to connect: {said}")
        assert "S3c" not in text
        assert "cannot read the address" in text

    def test_what_was_checked_stays_as_it_is(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Dsn("h", "db", "u").host = "a,b"  # type: ignore[misc]

    def test_without_a_password_nothing_is_hidden(self) -> None:
        dsn = Dsn("host", "db", "user")
        assert str(dsn) == "postgresql://user@host:5432/db"
        assert dsn.redact("as it is") == "as it is"
        assert Dsn("host", "db", "user", "").redact("as it is") == "as it is"

    def test_addresses_and_directories_are_told_apart(self) -> None:
        assert str(Dsn("::1", "db", "u")) == "postgresql://u@[::1]:5432/db"
        assert str(Dsn("/a:b", "db", "u")) == "postgresql://u@/a:b:5432/db"
        assert "@%2Fa%3Ab:5432/" in Dsn("/a:b", "db", "u").uri
        assert "@[::1]:5432/" in Dsn("::1", "db", "u").uri

    def test_milliseconds_are_seconds_at_least(self) -> None:
        """For connectorx, of which 0 would be the system's own quarter of an hour."""
        for limit, seconds in (("1", 1), ("1000", 1), ("1001", 2), ("0", 0)):
            dsn = Dsn("h", "db", "u", parameters=(("tcp_user_timeout", limit),))
            assert f"tcp_user_timeout={seconds}" in dsn.connectorx_uri.split("&")


def password_file(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "pgpass"
    path.write_text(text, encoding="utf-8", newline="")
    path.chmod(mode)
    return path


def in_password_file(field: str) -> str:
    return field.replace("\\", "\\\\").replace(":", "\\:")
