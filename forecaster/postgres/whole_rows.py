"""Read many whole rows. The only module that imports connectorx, which decodes them in parallel."""

import os
import re
from dataclasses import dataclass, field, replace
from functools import partial

import adbc_driver_manager as adbc
import polars as pl

from forecaster.errors import (
    ConnectionLimitError,
    ConnectionLostError,
    DatabaseError,
    DatabaseUnreachableError,
    ForecasterError,
    StalledError,
)
from forecaster.postgres.conditions import MORE_CONNECTIONS, QUERY_CANCELED, hint_for
from forecaster.postgres.connection import (
    UNCOMPILED,
    Connection,
    connect,
    end_connections,
    execute,
    query,
    severity_of_errors,
    watch,
)
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.early import client_name
from forecaster.postgres.pooling import pooled
from forecaster.postgres.stall import hang_up
from forecaster.process.secrets import brief
from forecaster.process.signals import Cancel, Interrupted, interruptible

# connectorx reports no SQLSTATE. The server's message, in the server's language, follows these words of the
# driver; all other text is the driver's own.
_SERVER_SAYS = re.compile(r"db error: (?P<severity>[^:]+): ")
_LOST = re.compile(
    r"connection closed|connection reset|broken pipe|communicating with the server|connecting to server|"
    r"timed out in bb8|timed out waiting|connection refused|unexpected(?:ly)? (?:EOF|closed)|end of file",
    re.IGNORECASE,
)
# The name of a statement that connectorx has prepared: in quotes of any language.
_PREPARED = re.compile(r"(?:\W|^)[^\w\s](?P<name>s\d+)[^\w\s]")
# Its connection pool gives up after half a minute, and adds what the server said to the last attempt.
_TURNED_AWAY = re.compile(r"timed out waiting for connection: db error: ")


@dataclass(frozen=True)
class WholeRows:
    """Reads in an exported snapshot, on connections that each read opens."""

    dsn: Dsn
    schema: str
    snapshot: str
    name: str = field(default_factory=lambda: f"{client_name()} {os.urandom(4).hex()}")
    """Application name of the connections, by which they can be found and ended."""

    def read(self, sql: str | list[str]) -> pl.DataFrame:
        """Read what statements select, at the same time, into one frame; errors as of `Source.read`."""
        os.environ.setdefault("RUST_LOG", "off")  # else its connection pool writes to stderr
        import connectorx as cx  # noqa: PLC0415 - a run needs no such rows

        # The name is in the URI: the connection that asks for the result's columns, and may wait for a lock,
        # accepts no other statement.
        uri = self._named.connectorx_uri
        on_snapshot = [
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            self._set_snapshot,
            UNCOMPILED,
        ]

        def read() -> pl.DataFrame:
            self.dsn.check_socket()
            frame: pl.DataFrame = cx.read_sql(uri, sql, return_type="polars", pre_execution_query=on_snapshot)
            return frame

        try:
            ends = Cancel([partial(end_connections, self.dsn, self.name)], partial(hang_up, self.dsn))
            return interruptible(read, cancel=ends, watch=watch(self.dsn))
        except (Interrupted, KeyboardInterrupt, DatabaseUnreachableError, StalledError):
            raise
        except BaseException as error:  # noqa: BLE001 - its panics are not Exceptions
            raise self._failure(f"{error}", [sql] if isinstance(sql, str) else sql) from None

    @property
    def _named(self) -> Dsn:
        return replace(self.dsn, parameters=(*self.dsn.parameters, ("application_name", self.name)))

    @property
    def _set_snapshot(self) -> str:
        return f"SET TRANSACTION SNAPSHOT '{self.snapshot}'"

    def _failure(self, text: str, statements: list[str]) -> ForecasterError:
        """Return the error to raise for an error of connectorx."""
        reason = brief(self.dsn.redact(text))
        message = f"reading from {self.dsn} failed: {reason}"
        said = _SERVER_SAYS.match(reason)
        if said is None:
            return _unsaid(reason, message)
        prepared = _PREPARED.search(reason)
        if prepared and prepared["name"] != self.schema:
            return pooled(message)
        try:
            with connect(self._named, repeatable_read=True) as connection:
                if self._is_over(connection, said["severity"]):
                    return ConnectionLostError(message)
                for statement in statements:
                    query(connection, statement)
        except (ConnectionLostError, DatabaseUnreachableError):
            return ConnectionLostError(message)
        except DatabaseError as error:
            return DatabaseError(f"reading from {self.dsn} failed: {error}", hint=error.hint)
        return DatabaseError(message, hint=hint_for(QUERY_CANCELED))  # the statement itself is fine

    def _is_over(self, connection: Connection, severity: str) -> bool:
        """Whether a message with this severity means that the session, or that of the snapshot, is over.

        If neither is, `connection` has the snapshot afterwards.
        """
        try:
            execute(connection, self._set_snapshot)
            if severity == severity_of_errors(connection):
                execute(connection, self._set_snapshot)
                return False
        except adbc.Error:
            pass
        return True


def _unsaid(reason: str, message: str) -> ForecasterError:
    """Return the error for words of the driver itself."""
    if _TURNED_AWAY.search(reason):
        return ConnectionLimitError(message, hint=MORE_CONNECTIONS)
    return ConnectionLostError(message) if _LOST.search(reason) else DatabaseError(message)
