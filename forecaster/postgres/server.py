"""State of a server: whether it accepts writes, and if not, why."""

from dataclasses import dataclass
from typing import Any

from forecaster.errors import DatabaseError
from forecaster.postgres.connection import Connection, query, quote_identifier
from forecaster.postgres.limits import LEFT, Limit

_READ_ONLY = "default_transaction_read_only"
STATE = f"""
    SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
           current_setting('{_READ_ONLY}') = 'on' AS read_only, pg_backend_pid() AS pid, connections.*
    FROM ({LEFT}) AS connections"""
"""SQL: what `state_from` takes."""
_BY = f"""
    SELECT source, current_user::text, current_database()::text FROM pg_catalog.pg_settings
    WHERE name = '{_READ_ONLY}'"""


@dataclass(frozen=True)
class ServerState:
    """The server as a connection sees it."""

    version: str
    standby: bool
    read_only: bool
    """Whether transactions are read-only by default."""
    pid: int
    """The server process of the connection."""
    limit: Limit
    """The limit that leaves the fewest connections to this user in this database."""


def server_state(connection: Connection) -> ServerState:
    """Read the state of the server."""
    return state_from(query(connection, STATE).row(0))


def state_from(row: tuple[Any, ...]) -> ServerState:
    """Describe the server by the answer to `STATE`."""
    version, standby, read_only, pid, *limit = row
    return ServerState(version, standby, read_only, pid, Limit(*limit))


def check_writable(connection: Connection, state: ServerState | None = None) -> None:
    """Raise `DatabaseError`, with a fix, if the server does not accept writes."""
    state = state or server_state(connection)
    if state.standby or state.read_only:
        found, fix = why_read_only(state.standby, *query(connection, _BY).row(0))
        raise DatabaseError(found, hint=fix)


def why_read_only(standby: bool, by: str, user: str, database: str) -> tuple[str, str]:  # noqa: FBT001
    """Explain why the server does not accept writes, and how to fix it.

    `by`: the source of the setting, as in `pg_settings.source`.
    """
    if standby:
        return (
            "the server is a standby, which does not accept writes",
            "connect to the primary server",
        )
    return f"the server does not accept writes: {_READ_ONLY} is on, by {by}", _writable(by, user, database)


def _writable(by: str, user: str, database: str) -> str:
    """Return the fix that makes transactions writable. Its own session is read-only, too."""
    if by == "client":
        return f"remove {_READ_ONLY} from PGOPTIONS, or from the options in the URL"
    role, of_database = quote_identifier(user), quote_identifier(database)
    whose = {
        "database": f"DATABASE {of_database}",
        "user": f"ROLE {role}",
        "database user": f"ROLE {role} IN DATABASE {of_database}",
        "global": "ROLE ALL",
    }
    if by not in whose:  # a read-only transaction may do this
        return f"ALTER SYSTEM SET {_READ_ONLY} = off; SELECT pg_reload_conf()"
    return f"BEGIN READ WRITE; ALTER {whose[by]} RESET {_READ_ONLY}; COMMIT"
