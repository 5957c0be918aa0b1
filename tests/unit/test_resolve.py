"""Which database is meant, where each part of its address comes from, and addresses that are refused."""

import os
import traceback
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forecaster.errors import InvalidOptionError
from forecaster.postgres.dsn import Dsn, resolve
from tests.addresses import PASSWORD, password_file, resolved

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
        assert "cannot parse the address" in text

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
