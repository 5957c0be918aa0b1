"""What a server takes: whether anything can be stored on it, and what keeps one from it."""

from dataclasses import dataclass

from forecaster.errors import DatabaseError
from forecaster.postgres.connection import Connection, query, quote_identifier

_READ_ONLY = "default_transaction_read_only"
_STATE = f"""
    SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
           current_setting('{_READ_ONLY}') = 'on' AS read_only"""
_BY = f"""
    SELECT source, current_user::text, current_database()::text FROM pg_catalog.pg_settings
    WHERE name = '{_READ_ONLY}'"""


@dataclass(frozen=True)
class ServerState:
    """The server as a connection sees it."""

    version: str
    standby: bool
    read_only: bool
    """Whether transactions are, unless they say otherwise."""


def server_state(connection: Connection) -> ServerState:
    """What the server is."""
    return ServerState(*query(connection, _STATE).row(0))


def check_writable(connection: Connection, state: ServerState | None = None) -> None:
    """Raise `DatabaseError`, with what to do, if nothing can be stored."""
    state = state or server_state(connection)
    if state.standby or state.read_only:
        found, fix = why_read_only(state.standby, *query(connection, _BY).row(0))
        raise DatabaseError(found, hint=fix)


def why_read_only(standby: bool, by: str, user: str, database: str) -> tuple[str, str]:  # noqa: FBT001
    """Why nothing can be stored, and what to do; `by`: what made it so, as `pg_settings.source` has it."""
    if standby:
        return (
            "the server is a standby, which nothing can be stored on",
            "connect to the primary server; if this is to be it: SELECT pg_promote()",
        )
    return f"nothing can be stored: {_READ_ONLY} is on, by {by}", _writable(by, user, database)


def _writable(by: str, user: str, database: str) -> str:
    """What makes transactions writable; the session that says so has to be able to write itself."""
    if by == "client":
        return f"take {_READ_ONLY} out of PGOPTIONS, or out of the URL's options"
    role, music = quote_identifier(user), quote_identifier(database)
    mends = {
        "database": f"ALTER DATABASE {music} RESET {_READ_ONLY}",
        "user": f"ALTER ROLE {role} RESET {_READ_ONLY}",
        "database user": f"ALTER ROLE {role} IN DATABASE {music} RESET {_READ_ONLY}",
        "global": f"ALTER ROLE ALL RESET {_READ_ONLY}",
    }
    everywhere = f"ALTER SYSTEM SET {_READ_ONLY} = off; SELECT pg_reload_conf()"
    return f"SET {_READ_ONLY} = off; {mends.get(by, everywhere)}"
