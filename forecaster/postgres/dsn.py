"""The address of the database: URL, libpq variables and password file, resolved once into one URI."""

import getpass
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from forecaster.errors import InvalidOptionError
from forecaster.postgres.pasted import MODES_OF_OTHERS, OF_OTHERS, is_only_pasted, unreadable
from forecaster.process.secrets import masked

DEFAULT_PORT = 5432
APPLICATION_NAME = "forecaster"
CONNECT_TIMEOUT = "3"  # seconds; a host that does not answer in that time is an error

STALL_TIMEOUT = 120.0
"""Default of `Dsn.stall_timeout`."""

# libpq's variables, and the URL parameter that each of them stands for.
_VARIABLES = {
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGOPTIONS": "options",
    "PGAPPNAME": "application_name",
    "PGCONNECT_TIMEOUT": "connect_timeout",
}
# A host that vanishes is noticed within a minute, not after the two hours that are the system's default.
_LIVENESS: Mapping[str, str] = {
    "keepalives": "1",
    "keepalives_idle": "30",  # seconds of silence before a keepalive is sent
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds within which data that is sent has to be acknowledged
}
# The values that the system accepts. The drivers fail at others, connectorx only after half a minute.
_RANGES: Mapping[str, tuple[int, int]] = {
    "keepalives": (0, 1),
    "keepalives_idle": (1, 32_767),
    "keepalives_interval": (1, 32_767),
    "keepalives_count": (1, 127),
    "tcp_user_timeout": (0, 2**31 - 1),
}
# connectorx has another name for the first, and takes the second in seconds.
_OF_LIBPQ = ("keepalives_count", "tcp_user_timeout")
_PARAMETERS = frozenset(_VARIABLES.values()) | _LIVENESS.keys()
# These choose or authenticate the server, and connectorx does not know them.
_UNSUPPORTED = (
    "PGCHANNELBINDING",
    "PGREQUIREAUTH",
    "PGREQUIRESSL",
    "PGSERVICE",
    "PGSSLCERT",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLKEY",
    "PGSSLMINPROTOCOLVERSION",
    "PGTARGETSESSIONATTRS",
)
_SSL_MODES = ("disable", "prefer", "require")
NAME_A_SERVER = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER")
_SOCKET_DIRECTORIES = ("/var/run/postgresql", "/run/postgresql", "/tmp")  # noqa: S108 - where libpq looks
# A line of a password file: four fields and the password; a backslash escapes a colon.
_ENTRY = re.compile(r"((?:\\.|[^:\\])*):" * 4 + r"((?:\\.|[^:])*)")
_DISTINCTIVE = 8  # characters
_BEGINNING = 200  # characters of a message, in which a driver says so
# Messages of libpq and connectorx on a connection string that they cannot parse. They quote a part of it.
_ON_AN_ADDRESS = re.compile(
    r"invalid URI|percent-encoded|in URI|in connection info string|invalid connection (?:option|string)"
    r"|relative URL without a base|invalid IPv6 address"
)


@dataclass
class _Hidden:
    """Variables of libpq that are hidden at present."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    values: dict[str, str] = field(default_factory=dict)
    blocks: int = 0
    """How many blocks hide them."""


_hidden = _Hidden()  # of the process, as its environment is


@dataclass(frozen=True)
class Dsn:
    """Address of one PostgreSQL database. `str()` and `repr()` never show the password; the URIs hold it.

    Raises `InvalidOptionError` for a field that is not text in UTF-8, or that the drivers cannot use.
    """

    host: str
    """A host name, an address, or the directory of a Unix socket."""
    dbname: str
    user: str
    password: str | None = field(default=None, repr=False)
    port: int = DEFAULT_PORT
    parameters: tuple[tuple[str, str], ...] = ()
    peer: str | None = None
    """The operating system user that must run a server on a Unix socket; None: any trusted user."""
    stall_timeout: float = STALL_TIMEOUT
    """Give up a server that is silent for this many seconds and does nothing for us; 0: no limit."""

    def __post_init__(self) -> None:
        for name in ("host", "dbname", "user", "password", "peer"):
            text = getattr(self, name) or ""
            if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):  # bytes that are not UTF-8
                raise InvalidOptionError(f"the database's {name} is not text in UTF-8")
        if not 0 <= self.stall_timeout < 2**31:
            raise InvalidOptionError(
                f"stall_timeout is {self.stall_timeout}: expected a number of seconds, at least 0"
            )
        if "," in self.host:  # libpq reads it as a list, even in a percent-encoded path
            raise InvalidOptionError(
                f"the database host is {self.host!r}: several hosts, or a socket directory with a comma in "
                "its name, are not supported",
                hint="name the primary server only",
            )
        if self.host.startswith("@"):  # for libpq an abstract socket, which any user can create
            raise InvalidOptionError(
                f"the database host is {self.host!r}: abstract sockets are not supported",
                hint="name the directory of the server's socket, or the server's host",
            )

    def __str__(self) -> str:
        host = f"[{self.host}]" if self._is_ipv6 else self.host
        return f"postgresql://{self.user}{':***' if self.password else ''}@{host}:{self.port}/{self.dbname}"

    @property
    def uri(self) -> str:
        """The URI in the form that both connectorx and ADBC read. Secret: never print it."""
        return self._uri({name: value for name, value in self.parameters if name not in _OF_LIBPQ})

    @property
    def libpq_uri(self) -> str:
        """The URI for ADBC, with the settings that notice a host that vanishes. Secret."""
        return self._uri({**_LIVENESS, **dict(self.parameters)})

    @property
    def connectorx_uri(self) -> str:
        """The same URI for connectorx, with its names and units. Secret."""
        parameters = {**_LIVENESS, **dict(self.parameters)}
        parameters["keepalives_retries"] = parameters.pop("keepalives_count")
        parameters["tcp_user_timeout"] = str(-(-int(parameters["tcp_user_timeout"]) // 1000))
        return self._uri(parameters)

    def _uri(self, given: Mapping[str, str]) -> str:
        user, dbname, password = (_quoted(part) for part in (self.user, self.dbname, self.password or ""))
        host = f"[{self.host}]" if self._is_ipv6 else _quoted(self.host)
        parameters = {"application_name": APPLICATION_NAME, "connect_timeout": CONNECT_TIMEOUT}
        # quote_via: a blank must become %20, because libpq does not read + as a blank.
        query = urlencode(parameters | dict(given), quote_via=quote, safe="")
        return f"postgresql://{user}{f':{password}' if password else ''}@{host}:{self.port}/{dbname}?{query}"

    def check_socket(self) -> None:
        """Raise `DatabaseUnreachableError` if another user's server may listen on the socket."""
        if self.host.startswith("/"):
            from forecaster.postgres.sockets import check_socket  # noqa: PLC0415 - only where there are such sockets

            check_socket(self.host, self.port, self.peer)

    def redact(self, text: str) -> str:
        """Remove the password from a driver's `text`.

        In a URI or after a keyword, any password is removed. Elsewhere it is only replaced if it cannot be
        an ordinary word: a short password would be found within other words, and the gaps would reveal it.
        """
        if _ON_AN_ADDRESS.search(text, 0, _BEGINNING):  # the part that it quotes cannot be recognised
            return "the driver cannot parse the address of the database"
        if self._is_distinctive:
            for secret in (_quoted(self.password or ""), self.password or ""):
                text = text.replace(secret, "***")
        return masked(text)

    @property
    def _is_distinctive(self) -> bool:
        """Whether the password cannot be a word that a message contains for another reason."""
        text = self.password or ""
        is_word = text.isalpha() or text.isdecimal()
        return len(text) >= _DISTINCTIVE and not is_word and text not in f"{self} {self.parameters}"

    @property
    def _is_ipv6(self) -> bool:
        return ":" in self.host and not self.host.startswith("/")


def resolve(url: str | None, environ: Mapping[str, str] | None = None) -> Dsn | None:
    """Resolve the database named by `url`, else `DATABASE_URL`, else libpq's variables; None without any.

    `environ`: the variables; None: `environment`.

    Raises `InvalidOptionError` for a URL or variable that cannot be used. Its text never contains the URL.
    """
    environ = environment() if environ is None else environ
    url = (url or environ.get("DATABASE_URL") or "").strip()
    if not url and not any(environ.get(name) for name in (*NAME_A_SERVER, "PGSERVICE")):
        return None
    unsupported = [name for name in _UNSUPPORTED if environ.get(name)]
    if unsupported:
        raise InvalidOptionError(
            f"environment variables are set that are not supported: {', '.join(unsupported)}",
            hint="unset them; name the server with a URL, or with PGHOST, PGPORT, PGDATABASE and PGUSER",
        )
    return _complete(_parse_url(url) if url else {}, environ)


def with_own_password(dsn: Dsn, environ: Mapping[str, str] | None = None) -> Dsn:
    """Return the database with the password that `environ`, else this process, has for it, if any.

    The password comes from DATABASE_URL, if that names the same host, port, database and user; else from
    PGPASSWORD; else from the password file.
    """
    environ = environment() if environ is None else environ
    wanted = (dsn.host, dsn.port, dsn.dbname, dsn.user)
    try:
        named = resolve(None, environ) if environ.get("DATABASE_URL") else None
    except InvalidOptionError:
        named = None
    if named and named.password and (named.host, named.port, named.dbname, named.user) == wanted:
        return replace(dsn, password=named.password)
    filed = (_filed_as(dsn.host), str(dsn.port), dsn.dbname, dsn.user)
    password = environ.get("PGPASSWORD") or _from_password_file(filed, environ)
    return replace(dsn, password=password or None)


def environment() -> dict[str, str]:
    """Return the variables of this process, with those that are hidden at present."""
    with _hidden.lock:
        return {**_hidden.values, **os.environ}


@contextmanager
def libpq_variables_hidden() -> Iterator[None]:
    """Hide libpq's variables while connecting, so that the `Dsn` alone decides where to.

    Several threads may be in such a block at the same time: the first hides the variables, and the last shows
    them again. A command hides them before it starts threads, as changing the environment is not safe while
    another one reads it in C; `environment` has them all the time.

    libpq would read PGHOSTADDR and connect to another server than the URI names, or PGCLIENTENCODING and
    store other characters than it was given; connectorx would do neither.
    """
    with _hidden.lock:
        _hidden.blocks += 1
        _hidden.values |= {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("PG")}
    try:
        yield
    finally:
        with _hidden.lock:
            _hidden.blocks -= 1
            if not _hidden.blocks:
                new = {name: text for name, text in _hidden.values.items() if name not in os.environ}
                os.environ.update(new)
                _hidden.values.clear()


def _complete(given: dict[str, str], environ: Mapping[str, str]) -> Dsn:
    def pick(key: str, *variables: str) -> str:
        return given.get(key) or next((environ[v] for v in variables if environ.get(v)), "")

    port = _port(pick("port", "PGPORT") or str(DEFAULT_PORT))
    host = pick("host", "PGHOSTADDR", "PGHOST") or _default_host(port)
    user = pick("user", "PGUSER") or _os_user()
    dbname = pick("dbname", "PGDATABASE") or user
    password = pick("password", "PGPASSWORD")
    if not password:
        # PGHOSTADDR only saves looking up PGHOST's address: the password is filed under the name.
        name = pick("host", "PGHOST") or host
        password = _from_password_file((_filed_as(name), str(port), dbname, user), environ)
    parameters = {key: environ[variable] for variable, key in _VARIABLES.items() if environ.get(variable)}
    parameters |= {key: value for key, value in given.items() if key in _PARAMETERS}
    usual_authorities = Path(f"{environ.get('HOME', '')}/.postgresql/root.crt")
    if parameters.get("sslmode") == "require" and usual_authorities.is_file():
        parameters.setdefault("sslrootcert", str(usual_authorities))  # as libpq does, but connectorx does not
    _check_tls(parameters.get("sslmode"), parameters.get("sslrootcert"))
    _check_liveness(parameters)
    peer = pick("requirepeer", "PGREQUIREPEER") or None
    return Dsn(host, dbname, user, password or None, port, tuple(sorted(parameters.items())), peer)


def _parse_url(url: str) -> dict[str, str]:
    if not re.match(r"postgres(?:ql)?://", url) or re.search(r"%(?![0-9A-Fa-f]{2})|%00|[\s#\0]", url):
        raise unreadable(url)
    if is_only_pasted(url):
        raise unreadable(url)
    try:
        parts = urlsplit(url)
        parameters = parse_qsl(
            parts.query.replace("+", "%2B"), strict_parsing=bool(parts.query), errors="strict"
        )
        credentials, _, address = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]*))(?::([0-9]*))?", address)
        # A later @ or / shows that the password contains a / or ?, and was split there. No part of the URL
        # may be shown before that is ruled out.
        if match is None or "@" in credentials + parts.path + parts.query or "/" in parts.path[1:]:
            raise unreadable(url)
        found = {
            "user": _unquoted(user),
            "password": _unquoted(password),
            "host": match[1] or _unquoted(match[2]),
            "port": match[3] or "",
            "dbname": _unquoted(parts.path[1:]),
        }
    except ValueError:
        raise unreadable(url) from None
    return found | _known(dict(parameters), found.keys() | _PARAMETERS | {"requirepeer"})


def _known(parameters: dict[str, str], known: set[str]) -> dict[str, str]:
    unknown = sorted(parameters.keys() - known)
    if unknown:
        raise InvalidOptionError(
            f"the database URL has parameters that are not supported: {', '.join(unknown)}",
            hint="; ".join(OF_OTHERS[name] for name in unknown if name in OF_OTHERS)
            or f"leave them out; supported are {', '.join(sorted(_PARAMETERS))}",
        )
    return parameters


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _unquoted(text: str) -> str:
    return unquote(text, errors="strict")


def _port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        # Not shown: in postgresql://USER:PASSWORD the password stands where the port should.
        raise InvalidOptionError("the database port is invalid: expected 1 to 65535")
    return int(text)


def _check_tls(mode: str | None, authorities: str | None) -> None:
    if mode in ("verify-ca", "verify-full"):
        raise InvalidOptionError(
            f"sslmode={mode} is not supported: connectorx does not know it, by which evaluate, prepare "
            "and others read many rows",
            hint="use sslmode=require with sslrootcert=FILE: both drivers then verify the authority",
        )
    if mode not in (None, *_SSL_MODES):
        raise InvalidOptionError(
            f"sslmode is {mode!r}: expected {', '.join(_SSL_MODES)}", hint=MODES_OF_OTHERS.get(mode)
        )
    if authorities and mode != "require":
        raise InvalidOptionError(
            f"sslrootcert is given with sslmode={mode or 'prefer'}, which also accepts a server without TLS",
            hint="add sslmode=require: both drivers then verify the certificate authority",
        )
    if authorities and not Path(authorities).is_file():
        # libpq would connect, and verify nothing.
        raise InvalidOptionError(f"sslrootcert: the file {authorities!r} does not exist")


def _check_liveness(parameters: Mapping[str, str]) -> None:
    for name, (least, largest) in _RANGES.items():
        value = parameters.get(name, str(largest))
        if not (value.isascii() and value.isdecimal() and least <= int(value) <= largest):
            raise InvalidOptionError(
                f"{name} is {value!r}: expected a whole number from {least} to {largest}"
            )


def _default_host(port: int) -> str:
    with_socket = (d for d in _SOCKET_DIRECTORIES if Path(d, f".s.PGSQL.{port}").exists())
    return next(with_socket, "localhost")


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        raise InvalidOptionError("no database user is given, and this process's user has no name") from None


def _filed_as(host: str) -> str:
    """Return the name under which a password file lists the host."""
    return "localhost" if host in _SOCKET_DIRECTORIES else host


def _from_password_file(wanted: tuple[str, ...], environ: Mapping[str, str]) -> str:
    """Find the password of (host, port, database, user) by libpq's rules; empty if there is none."""
    path = Path(environ.get("PGPASSFILE") or f"{environ.get('HOME', '')}/.pgpass")
    try:
        # A file that others can read is not secret. libpq does not use it either, and says so on connecting.
        if not path.is_file() or path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return ""
        lines = path.read_bytes().decode(errors="replace").split("\n")
    except OSError:
        return ""
    entries = (_ENTRY.match(line.rstrip("\r")) for line in lines if not line.startswith("#"))
    for *fields, password in (entry.groups() for entry in entries if entry):
        if all(field == "*" or _unescaped(field) == want for field, want in zip(fields, wanted, strict=True)):
            return _unescaped(password)
    return ""


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
