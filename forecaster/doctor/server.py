"""Checks of the server, and of the connection to it."""

import ipaddress
from collections.abc import Iterator

from forecaster.doctor.checks import check
from forecaster.doctor.context import Context, Server
from forecaster.doctor.findings import Seen
from forecaster.errors import DatabaseError
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.limits import check_limit, needed
from forecaster.postgres.pooling import check_sessions
from forecaster.postgres.server import server_state, why_read_only

_TESTED = "tested with 15 and 18"
_LEAST, _GOOD = 12, 14  # versions
_OWN = 2  # the connections of this examination
_IN_TURN = 2  # further ones of the check for a pooler


@check("connection", order=10)
def drivers(context: Context) -> Iterator[Seen]:
    """Connect both drivers, one with the snapshot of the other, as in a run."""
    yield "ok", f"ADBC connects as user {context.server.user!r}", None
    if server_state(context.connection).limit.left < 1:
        return
    try:
        context.source.read_rows("SELECT 1::bigint AS one")
    except DatabaseError as error:
        raise DatabaseError(f"connectorx: {error}", hint=error.hint) from None
    context.has_connectorx = True
    yield "ok", "connectorx connects, and reads the snapshot of ADBC", None


@check("connections", order=5)
def connections(context: Context) -> Iterator[Seen]:
    """Check that a run can have the connections that it needs."""
    limit = server_state(context.connection).limit
    check_limit(limit, needed(dry_run=False), own=_OWN)
    yield "ok", f"the {needed(dry_run=False)} that a run uses can be had", None


@check("server version", order=20)
def version(context: Context) -> Iterator[Seen]:
    """Check that the server is new enough."""
    context.result.versions["postgresql"] = context.server.version
    yield of_version(context.server)


def of_version(server: Server) -> Seen:
    """Judge the version."""
    release = server.number // 10_000
    move = f"move the database to PostgreSQL {_GOOD} or newer ({_TESTED})"
    named = f"PostgreSQL {server.version}"
    if release < _LEAST:
        return "error", f"{named} is too old: its catalogue lacks columns that are read", move
    if release < _GOOD:
        slow = "does not notice during a statement that a run was killed, and keeps its lock until then"
        return "warning", f"{named} {slow}", move
    return "ok", f"{named} ({_TESTED})", None


@check("encryption", order=30)
def encryption(context: Context) -> Iterator[Seen]:
    """Check that others on the network cannot read the traffic."""
    yield of_encryption(context.server, context.dsn)


def of_encryption(server: Server, dsn: Dsn) -> Seen:
    """Judge the encryption."""
    parameters = dict(dsn.parameters)
    if server.encrypted:
        verified = "is" if "sslrootcert" in parameters else "is not"
        return "ok", f"{server.protocol}; the server's certificate {verified} verified", None
    if parameters.get("sslmode") == "require":
        between = "TLS is required, but does not reach the server: something in between removes it"
        return "warning", between, "connect to the server itself"
    if _is_local(dsn.host):
        return "ok", "none; not needed, as the server is on this machine", None
    fix = "set PGSSLMODE=require, or add ?sslmode=require to the URL"
    if not server.offers_tls:
        fix = f"give the server a certificate and a key, ALTER SYSTEM SET ssl = on; then {fix}"
    return "warning", f"none: others on the network can read what is sent to {dsn.host}", fix


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@check("pooler", order=85)
def pooler(context: Context) -> Iterator[Seen]:
    """Check that a connection keeps its server process while another connection is used."""
    if server_state(context.connection).limit.left < _IN_TURN:  # which another check has said
        return
    check_sessions(*_pids_in_turn(context))
    yield "ok", "none, or one in session mode: each connection keeps its server process", None


def _pids_in_turn(context: Context) -> tuple[int, int, int]:
    """Return the pids of the server processes of one connection, of another, and of the first again."""
    mine = "SELECT pg_backend_pid() AS pid"
    with connect(context.dsn, begun=False) as one:
        before = query(one, mine).item()
        with connect(context.dsn, like=context.connection) as other:
            return before, query(other, mine).item(), query(one, mine).item()


@check("read-only", order=12)
def read_only(context: Context) -> Iterator[Seen]:
    """Check that the server accepts writes."""
    server = context.server
    if server.standby or server.read_only:
        found, fix = why_read_only(server.standby, server.read_only_by, server.user, server.database)
        yield "error", found, fix
    else:
        yield "ok", "the server accepts writes", None
