"""Where the database is: URL, libpq variables and password file, resolved once into one URI."""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from forecaster.errors import InvalidOptionError

DEFAULT_PORT = 5432
APPLICATION_NAME = "forecaster"
CONNECT_TIMEOUT = "4"  # seconds; a host that does not answer within it is an error, not a wait

# libpq's variables, by the URL parameter that each of them stands for.
_VARIABLES = {
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGOPTIONS": "options",
    "PGAPPNAME": "application_name",
    "PGCONNECT_TIMEOUT": "connect_timeout",
}
# connectorx and libpq both know these, with the same meaning.
_PARAMETERS = frozenset(_VARIABLES.values())
_SSL_MODES = ("disable", "prefer", "require")
_NAMES_A_SERVER = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER")


@dataclass(frozen=True)
class Dsn:
    """One PostgreSQL database. `str()` and `repr()` never show the password; `uri` holds it."""

    host: str
    """A host name, an address, or the directory of a Unix socket."""
    dbname: str
    user: str
    password: str | None = field(default=None, repr=False)
    port: int = DEFAULT_PORT
    parameters: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self._url(
            "***" if self.password else None, f"[{self.host}]" if ":" in self.host else self.host
        )

    @property
    def uri(self) -> str:
        """The URI in the one form that connectorx and ADBC both read. Secret: never print it."""
        host = f"[{self.host}]" if ":" in self.host and "/" not in self.host else quote(self.host, safe="")
        given = {
            "application_name": APPLICATION_NAME,
            "connect_timeout": CONNECT_TIMEOUT,
            **dict(self.parameters),
        }
        # quote_via: a blank must become %20, because libpq does not read + as one.
        return f"{self._url(self.password, host, quoted=True)}?{urlencode(given, quote_via=quote, safe='')}"

    def redact(self, text: str) -> str:
        """`text` without the password, in whatever form a driver may have put it there."""
        for secret in {self.password, quote(self.password or "", safe=""), self.uri} - {None, ""}:
            text = text.replace(secret or "", "***")
        return text

    def _url(self, password: str | None, host: str, *, quoted: bool = False) -> str:
        user, dbname = (quote(name, safe="") if quoted else name for name in (self.user, self.dbname))
        secret = "" if password is None else f":{quote(password, safe='') if quoted else password}"
        return f"postgresql://{user}{secret}@{host}:{self.port}/{dbname}"


def resolve(url: str | None, environ: Mapping[str, str] = os.environ) -> Dsn | None:
    """The database named by `url`, else `DATABASE_URL`, else the libpq variables; None if by none of them.

    Raises `InvalidOptionError` for a URL or variable that cannot be used. Its text never holds the URL.
    """
    url = url or environ.get("DATABASE_URL") or None
    if environ.get("PGSERVICE") and url is None:
        raise InvalidOptionError(
            "PGSERVICE is set, but service files are not read", hint="set PGHOST and the others, or a URL"
        )
    if url is None and not any(environ.get(name) for name in _NAMES_A_SERVER):
        return None
    given = _parse_url(url) if url else {}
    return _complete(given, environ)


def _complete(given: dict[str, str], environ: Mapping[str, str]) -> Dsn:
    def pick(key: str, *variables: str, default: str) -> str:
        return given.get(key) or next((environ[v] for v in variables if environ.get(v)), default)

    host = pick("host", "PGHOSTADDR", "PGHOST", default=_default_host())
    user = pick("user", "PGUSER", default=_os_user())
    dbname = pick("dbname", "PGDATABASE", default=user)
    port = _port(pick("port", "PGPORT", default=str(DEFAULT_PORT)))
    if "," in host:
        raise InvalidOptionError("several hosts in one URL are not supported", hint="name the primary server")
    password = (
        given.get("password")
        or environ.get("PGPASSWORD")
        or _from_password_file(host, port, dbname, user, environ)
    )
    parameters = {key: environ[variable] for variable, key in _VARIABLES.items() if environ.get(variable)}
    parameters |= {key: value for key, value in given.items() if key in _PARAMETERS}
    _check_tls(parameters.get("sslmode"))
    return Dsn(host, dbname, user, password, port, tuple(sorted(parameters.items())))


def _parse_url(url: str) -> dict[str, str]:
    malformed = InvalidOptionError(
        "the database URL cannot be read: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        hint="percent-encode special characters in the password: @ is %40, / is %2F, # is %23, ? is %3F",
    )
    try:
        parts = urlsplit(url)
        parameters = dict(parse_qsl(parts.query.replace("+", "%2B"), strict_parsing=bool(parts.query)))
    except ValueError:
        raise malformed from None
    if parts.scheme not in ("postgresql", "postgres") or parts.fragment or parts.netloc.count("@") > 1:
        raise malformed
    credentials, _, address = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    match = re.fullmatch(r"(?P<host>\[[^\]]+\]|[^:\[\]]*)(?::(?P<port>\d*))?", address)
    if match is None or re.search(r"%(?![0-9A-Fa-f]{2})|\s", url):
        raise malformed
    found = {
        "user": unquote(user),
        "password": unquote(password),
        "host": unquote(match["host"]).strip("[]"),
        "port": match["port"] or "",
        "dbname": unquote(parts.path.removeprefix("/")),
    }
    unknown = sorted(parameters.keys() - _PARAMETERS - found.keys())
    if unknown:
        raise InvalidOptionError(
            f"the database URL has parameters that cannot be honoured: {', '.join(unknown)}",
            hint=f"known are {', '.join(sorted(_PARAMETERS))}",
        )
    return found | parameters


def _port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise InvalidOptionError(f"the port is {text!r}: expected 1 to 65535")
    return int(text)


def _check_tls(mode: str | None) -> None:
    if mode in ("verify-ca", "verify-full"):
        raise InvalidOptionError(
            f"sslmode={mode} is refused: connectorx cannot verify a server by it, and would not say so",
            hint="sslmode=require with sslrootcert=FILE makes both drivers verify the certificate authority",
        )
    if mode not in (None, *_SSL_MODES):
        raise InvalidOptionError(f"sslmode is {mode!r}: expected {', '.join(_SSL_MODES)}")


def _default_host() -> str:
    sockets = (Path(d) for d in ("/var/run/postgresql", "/tmp"))  # noqa: S108 - where libpq looks
    return next((str(d) for d in sockets if (d / f".s.PGSQL.{DEFAULT_PORT}").exists()), "localhost")


def _os_user() -> str:
    return os.environ.get("USER") or os.environ.get("USERNAME") or "postgres"


def _from_password_file(
    host: str, port: int, dbname: str, user: str, environ: Mapping[str, str]
) -> str | None:
    path = Path(environ.get("PGPASSFILE") or Path(environ.get("HOME", "~")).expanduser() / ".pgpass")
    # Like libpq: a file that others can read is no secret and is not used.
    if not path.is_file() or path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return None
    wanted = ("localhost" if host.startswith("/") else host, str(port), dbname, user)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        entry = [re.sub(r"\\(.)", r"\1", part) for part in re.findall(r"((?:\\.|[^:\\])*)(?::|$)", line)]
        if len(entry) > len(wanted) and all(p in ("*", w) for p, w in zip(entry, wanted, strict=False)):
            return entry[len(wanted)]
    return None
