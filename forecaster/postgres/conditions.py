"""Conditions that the server reports, identified by SQLSTATE, because messages may be in any language."""

from collections.abc import Mapping

import adbc_driver_manager as adbc

INSUFFICIENT_PRIVILEGE = "42501"
UNIQUE_VIOLATION = "23505"
DEADLOCK = "40P01"
QUERY_CANCELED = "57014"
TOO_MANY_CONNECTIONS = "53300"
# A text that the database's encoding cannot hold: a character without equivalent, or an invalid character.
NOT_IN_ENCODING = ("22P05", "22021")

# A prepared statement is unknown, or known already, although this program prepared it, or did not.
OF_A_POOLER = ("26000", "42P05")

# The session is over: connection exceptions; the server shuts down, starts up, or has dropped the database;
# the session, or its transaction, was idle or open for too long.
_NO_CONNECTION = ("08000", "08001", "08003", "08004", "08006", "08007")
_LOST = frozenset((*_NO_CONNECTION, "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04"))

# Classes of conditions that are not about the values of a row, but about the session, the transaction, the
# network, the server's resources, rights, or the statement. Triggers may raise errors of any other class.
# fmt: off
NOT_OF_ROWS = frozenset((
    "00", "01", "02", "03", "08", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "24", "25", "26", "28", "2B",
    "2D", "2F", "34", "3B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "72", "F0", "HV", "XX",
))
# fmt: on

_LIFT = "lift {0} for one command with PGOPTIONS='-c {0}=0', or for the user with ALTER ROLE ... SET {0} = 0"
_SPACE = "free disk space on the server, or move temp_tablespaces to another disk, and start again"
MORE_CONNECTIONS = (
    "wait until other sessions end, or raise max_connections or the CONNECTION LIMIT of the user or "
    "database: a run uses three connections, and three more for each batch of a Dask worker"
)
SESSION_OVER = (
    "the server is shutting down, somebody ended the session, or the network was cut: start again once the "
    "server can be reached"
)

_HINTS: Mapping[str, str] = {
    INSUFFICIENT_PRIVILEGE: "grant the privilege to this user, or add a policy if row security refuses "
    'rows (docs/tables.md, "Privileges")',
    UNIQUE_VIOLATION: "another program stored the same rows in the meantime: check them, and start again",
    QUERY_CANCELED: "statement_timeout of the server, the database or the user ended the statement, or "
    f"somebody cancelled it: {_LIFT.format('statement_timeout')}",
    "55P03": "another program holds a lock on the table for longer than lock_timeout: find it in pg_locks "
    f"and let it finish, or {_LIFT.format('lock_timeout')}",
    "25P03": _LIFT.format("idle_in_transaction_session_timeout"),
    "25P04": _LIFT.format("transaction_timeout"),
    "57P05": _LIFT.format("idle_session_timeout"),
    "25006": "the server is a standby, or default_transaction_read_only is on: connect to the primary, or "
    "turn the setting off (`forecaster doctor` says where)",
    "22P05": "the database's encoding lacks a character: use another name, or a database in UTF8",
    "22021": "a name or text in the database is not in UTF8: change it, or use a database in UTF8",
    "40001": "another program wrote at the same time: start again",
    "40P01": "another program wrote at the same time: start again",
    "53100": _SPACE,
    "53200": "the server is out of memory: lower work_mem or max_connections, or give it more",
    TOO_MANY_CONNECTIONS: MORE_CONNECTIONS,
    "53400": "a limit of the server, such as temp_file_limit, is reached: raise it for this user, or give "
    'the table the key that makes sorting unnecessary (docs/tuning.md, "Tuning")',
    "57P01": "the server is shutting down, or somebody ended the session: start again once the server is up",
    "57P02": "a process of the server crashed: see its log, and start again once it is up",
    "57P03": "the server is starting up or shutting down: start again once it is up",
    "58030": "the server cannot read or write its files: see its log",
    "XX001": "the server's data is damaged: see its log",
    "XX002": "an index is damaged: rebuild it with REINDEX TABLE",
}


def hint_for(state: str) -> str | None:
    """Suggest what to do about a condition; None if only the message can tell."""
    return _HINTS.get(state)


def refuses_rows(state: str) -> bool:
    """Whether the server refused rows for their values: by a constraint, a domain or a trigger."""
    return bool(state) and state[:2] not in NOT_OF_ROWS


def is_lost(error: adbc.Error) -> bool:
    """Whether the session that the error comes from is over.

    Errors of the server have a SQLSTATE. Among those of libpq itself, only a failed read from the server,
    or write to it, has the status of an input or output error.
    """
    if error.sqlstate:
        return error.sqlstate in _LOST
    return bool(error.status_code == adbc.AdbcStatusCode.IO)
