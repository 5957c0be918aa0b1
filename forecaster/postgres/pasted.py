"""Pasted addresses of databases: say what is wrong with one, and what to write instead.

Messages show no part of the address, as a secret may be anywhere in it; only names that are known here.
"""

import re
import unicodedata

from forecaster.errors import InvalidOptionError

_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
_ENCODE = "percent-encode special characters in the password: @ is %40, / is %2F, # is %23, ? is %3F"
_QUOTES = "\"'`\u2018\u2019\u201c\u201d<>"
_POSTGRES = re.compile(r"postgres(?:ql)?:/{0,2}", re.IGNORECASE)
_DRIVER = re.compile(r"postgres(?:ql)?\+(\w{1,20})://", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?:(?:export|set|setenv)\s+)?(?:\$env:)?\w{1,64}\s*[= ]\s*[\"']?\w{0,10}(?:\+\w+)?://"
)
_KEYWORDS = re.compile(r"\w{1,64}\s*=|(?:server|host|user id|data source)\s*=", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"[:/@](?:\[(?![0-9A-Fa-f:.]+\]|[0-9A-Fa-f:.]*%)[^\]/@]{1,64}\]|<[^>/@]{1,64}>"
    r"|your[-_]?password|HOST|PORT|DATABASE)(?=[:/@?]|$)"
)
# Variables of a shell, cron, Python, Jinja, Windows. In an address, $name in small letters may be a password.
_UNREPLACED = re.compile(
    r"\A\$(?:env:)?\w{1,64}\Z"
    r"|(?:\A|[:/@=])(?:\$[A-Z_][A-Z0-9_]{1,63}|\$\{[^}]{1,64}\}|\$\([^)]{1,64}\)|\{\{?[^}\"]{1,64}\}\}?"
    r"|%\(\w{1,64}\)s|%[A-Z_]{2,64}%)(?=[:/@?]|\Z)"
)
_HIDDEN = re.compile(r":(?:\*{3,}|\u2022{3,}|x{5,})@", re.IGNORECASE)
_DRIVERS = ("psycopg", "psycopg2", "psycopg2cffi", "psycopg_async", "asyncpg", "aiopg", "pg8000")
_SLASH_AT_THE_END = re.compile(r"(?:[^@/#?]*@)?[^@/#?]+/[^@/#?]+/")
_OTHER_SERVERS = frozenset(
    {
        "mysql",
        "mariadb",
        "mongodb",
        "mongodb+srv",
        "redis",
        "rediss",
        "sqlite",
        "mssql",
        "sqlserver",
        "oracle",
        "snowflake",
        "clickhouse",
        "bigquery",
        "duckdb",
        "redshift",
        "cockroachdb",
        "mysql2",
    }
)
_OTHER_NAMES = ("pg", "pgsql", "psql", "postgis", "postgres_ql", "timescaledb", "timescale", "pgx", "asyncpg")

_Found = tuple[str, str] | None

# Parameters of other programs, and what to use here instead.
OF_OTHERS = {
    "pgbouncer": "leave pgbouncer out, and connect to the server directly: a run needs its own session",
    "schema": "leave schema out, and name the schema with --schema",
    "currentSchema": "leave currentSchema out, and name the schema with --schema",
    "search_path": "leave search_path out, and name the schema with --schema",
    "channel_binding": "leave channel_binding out: one of the two drivers lacks it; keep sslmode=require",
    "ssl": "write sslmode=require instead of ssl=true",
    "sslcert": "client certificates are not supported; leave sslcert out, and give a password",
    "sslkey": "client certificates are not supported; leave sslkey out, and give a password",
    "target_session_attrs": "leave target_session_attrs out, and name the primary server",
    "gssencmode": "leave gssencmode out; encrypt with sslmode=require",
    "client_encoding": "leave client_encoding out: it is always UTF-8",
    "charset": "leave charset out: it is always UTF-8",
}
MODES_OF_OTHERS = {
    "no-verify": "write sslmode=require, which encrypts and does not verify the certificate either",
    "allow": "write sslmode=prefer, which uses TLS if the server has it",
    "true": "write sslmode=require",
    "on": "write sslmode=require",
}


def unreadable(url: str) -> InvalidOptionError:
    """Return the error for an address that cannot be parsed."""
    of_its_form = (_of_psql, _wrapped, _unreplaced, _assigned, _of_another_program, _placeholder)
    for looks in (*of_its_form, _of_another_scheme, _cut_in_two, _of_its_host):
        if found := looks(url):
            return InvalidOptionError(found[0], hint=found[1])
    return InvalidOptionError(f"the database URL cannot be parsed: expected {_FORM}", hint=_ENCODE)


def is_only_pasted(url: str) -> bool:
    """Whether an address contains quotes or the like from its source, or a placeholder."""
    return bool(_wrapped(url) or _unreplaced(url) or _placeholder(url))


def _of_psql(url: str) -> _Found:
    if url.lower().startswith(("psql ", "-h ", "--host", "-d ", "-u ")):
        return "the database URL is a psql command", f"give the URL alone: {_FORM}"
    return None


def _wrapped(url: str) -> _Found:
    if any(unicodedata.category(character) == "Cf" for character in url):
        return "the database URL contains an invisible character", "type by hand what was copied"
    if url[0] in _QUOTES or ("://" in url and url[-1] in _QUOTES):
        return (
            "the database URL is in quotes",
            "leave them out: in a file of variables, or in cron, quotes are part of the value",
        )
    return None


def _unreplaced(url: str) -> _Found:
    if _UNREPLACED.search(url):
        return (
            "the database URL contains a variable or template that was not replaced",
            "write the value; a shell replaces variables outside of single quotes. In a password $ is %24",
        )
    return None


def _assigned(url: str) -> _Found:
    if _ASSIGNED.match(url):
        return "the database URL begins with the name of a variable", "give only what follows the ="
    return None


def _of_another_program(url: str) -> _Found:
    lower = url.lower()
    if lower.startswith("jdbc:"):
        return (
            "the database URL is for Java (jdbc:)",
            f"leave out jdbc:, and put user and password before the host: {_FORM}",
        )
    if driver := _DRIVER.match(url):
        name = f"+{driver[1]}" if driver[1] in _DRIVERS else "the + and the name"
        return "the database URL is for SQLAlchemy, with the name of a driver", f"leave out {name}: {_FORM}"
    if lower.startswith("{"):
        return "the database is given as JSON, but only a URL is supported", f"write {_FORM}"
    if _KEYWORDS.match(url):
        return "the database is given as keywords, but only a URL is supported", f"write {_FORM}"
    return None


def _placeholder(url: str) -> _Found:
    if _HIDDEN.search(url):
        return (
            "the password in the database URL is hidden: the URL was copied without it",
            "show the password where the URL comes from, and copy the URL again",
        )
    if _PLACEHOLDER.search(url):
        return (
            "the database URL still contains a placeholder, such as [YOUR-PASSWORD]",
            "replace it, and its brackets, by the percent-encoded value",
        )
    return None


def _of_another_scheme(url: str) -> _Found:
    scheme, colon, _ = url.partition("://")
    scheme = scheme.lower() if colon else ""
    if scheme in ("http", "https"):
        return (
            "the database URL is the address of a web page",
            f"copy the connection string from there: {_FORM}",
        )
    if scheme in _OTHER_SERVERS:
        return f"the database URL is for {scheme}, but only PostgreSQL is supported", f"write {_FORM}"
    if scheme in _OTHER_NAMES:
        return f"the database URL begins with {scheme}://", f"write postgresql:// instead: {_FORM}"
    if not url.startswith(("postgresql://", "postgres://")):
        is_near = _POSTGRES.match(url)
        return (
            "the database URL does not begin with postgresql://",
            f"write it in small letters with two slashes: {_FORM}" if is_near else f"write {_FORM}",
        )
    return None


def _cut_in_two(url: str) -> _Found:
    rest = url.partition("://")[2]
    if re.search(r"\s", url):
        return (
            "the database URL contains a blank or a line end",
            "remove it if it was copied by mistake; in a password a blank is %20",
        )
    address = rest.rpartition("@")[2].partition("/")[0]
    if "," in address and "?" not in address:
        return "the database URL names several hosts", "name the primary server only"
    if _SLASH_AT_THE_END.fullmatch(rest):
        return "the database URL ends with a slash", "leave it out, or percent-encode it: / is %2F"
    return None


def _of_its_host(url: str) -> _Found:
    address = re.split(r"[/?#]", url.rpartition("@")[2], maxsplit=1)[0]
    if "@" not in url:
        return None
    if address.startswith("[") != ("]" in address) or ("[" not in address and address.count(":") > 1):
        return "an IPv6 address in the database URL lacks a bracket", "write [::1], with a port [::1]:5432"
    if ":" in address and not address.rpartition(":")[2].isdecimal():
        return "the port in the database URL is not a number", "write 1 to 65535; the default is 5432"
    return None
