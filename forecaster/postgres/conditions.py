"""What the server reports, told by SQLSTATE and not by its words, which are in any language."""

from collections.abc import Mapping

import adbc_driver_manager as adbc

INSUFFICIENT_PRIVILEGE = "42501"
UNIQUE_VIOLATION = "23505"
QUERY_CANCELED = "57014"
# In a text that the database's encoding cannot hold: no equivalent of a character, or no character at all.
NOT_IN_ENCODING = ("22P05", "22021")

# The session is gone: connection exceptions; the server goes down, comes up, or has dropped the database;
# the session, or its transaction, was idle or open for too long.
_NO_CONNECTION = ("08000", "08001", "08003", "08004", "08006", "08007")
_LOST = frozenset((*_NO_CONNECTION, "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04"))

_LIFTED = "PGOPTIONS='-c {0}=0' lifts it for one command, ALTER ROLE ... SET {0} for the user"
_SPACE = "free disk space on the server, or have temp_tablespaces elsewhere, and start again"
_CONNECTIONS = (
    "wait until others are done, or raise max_connections or the user's or database's CONNECTION LIMIT: "
    "a run has up to six connections"
)

_HINTS: Mapping[str, str] = {
    INSUFFICIENT_PRIVILEGE: 'grant it to this user (docs/tables.md, "Privileges")',
    UNIQUE_VIOLATION: "another program stored the same rows meanwhile; look, and start again",
    QUERY_CANCELED: "statement_timeout of the server, the database or the user ended it, or somebody "
    f"cancelled it: {_LIFTED.format('statement_timeout')}",
    "55P03": "another program holds a lock on the table for longer than lock_timeout: pg_locks shows which; "
    f"let it finish, or wait longer: {_LIFTED.format('lock_timeout')}",
    "25P03": _LIFTED.format("idle_in_transaction_session_timeout"),
    "25P04": _LIFTED.format("transaction_timeout"),
    "57P05": _LIFTED.format("idle_session_timeout"),
    "25006": "nothing can be stored: the server is a standby, or default_transaction_read_only is on; "
    "connect to the primary server, or turn it off (`forecaster doctor` says where)",
    "22P05": "the database's encoding lacks a character: use another name, or a database in UTF8",
    "22021": "a name or text in the database is not in UTF8: change it, or use a database in UTF8",
    "40001": "another program was in the way; start again",
    "40P01": "another program was in the way; start again",
    "53100": _SPACE,
    "53200": "the server is out of memory: lower work_mem or max_connections, or give it more",
    "53300": _CONNECTIONS,
    "53400": "a limit of the server, such as temp_file_limit, is reached: raise it for this user, or give "
    'the table the key that spares the sorting (docs/tuning.md, "Tuning")',
    "57P01": "the server is going down, or somebody ended the session; start again once it is up",
    "57P02": "a process of the server crashed: its log says why; start again once it is up",
    "57P03": "the server is coming up or going down; start again once it is up",
    "58030": "the server cannot read or write its files: its log says more",
    "XX001": "the server's data are damaged: its log says more",
    "XX002": "an index is damaged: REINDEX TABLE builds it anew",
}


def hint_for(state: str) -> str | None:
    """What to do about a condition; None where the message has to say it."""
    return _HINTS.get(state)


def is_lost(error: adbc.Error) -> bool:
    """Whether the session that the error comes from is gone.

    What the server reports has a SQLSTATE. Of what libpq reports by itself, only that it cannot read from
    the server or write to it is an error of input and output.
    """
    if error.sqlstate:
        return error.sqlstate in _LOST
    return bool(error.status_code == adbc.AdbcStatusCode.IO)
