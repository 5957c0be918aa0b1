"""Connections that read one snapshot: threads share them, and they are kept until it has been read."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

import adbc_driver_manager as adbc
import polars as pl

from forecaster.errors import ConnectionLostError, DatabaseError, ForecasterError
from forecaster.postgres.conditions import SESSION_OVER
from forecaster.postgres.connection import Connection, begin, connect, query, statement_errors
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.stall import hang_up

CONNECTIONS = 2
"""Number of connections that read at the same time. Measured on two cores: more than two gain nothing."""

# Each of these timeouts could end a transaction that is idle while others read or compute. Without them
# nothing is delayed, because no other work waits for it. For jit, see `UNCOMPILED`.
_TURNED_OFF = ("idle_in_transaction_session_timeout", "transaction_timeout", "jit")
_OPENED_WITHIN = 0.5  # seconds to wait, at the end, for a connection that is being opened
_NAMES = ", ".join(f"'{name}'" for name in _TURNED_OFF)
# With the default of 4 MB, a server that scans a table would write it to its disk, and take several times as
# long.
_MEMORY = 64
READ_LONG = f"""count(set_config(s.name, CASE s.name WHEN 'work_mem' THEN '{_MEMORY}MB' ELSE '0' END, true))
                AS changed
        FROM pg_catalog.pg_settings s
        WHERE s.name IN ({_NAMES}) OR s.name = 'work_mem' AND s.setting::int8 < {_MEMORY} * 1024"""
"""SQL: the end of a SELECT that turns them off in its transaction, and gives a statement 64 MB to sort in."""


@dataclass(eq=False)
class Readers:
    """Connections to one snapshot, used by one thread each at a time. Closed at the end of the block."""

    dsn: Dsn
    snapshot: str
    """From `export_snapshot`."""
    exporter: Connection | None = None
    """The connection that exported it, to be among those that read; others open faster with it."""
    like: Connection | None = None
    """A connection to the same database that is not to be among them, but makes others open faster."""
    spare: Callable[[], Connection] | None = None
    """Waits for a connection that is being opened to be among them, and closed with them."""
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _idle: list[Connection] = field(default_factory=list)
    _busy: list[Connection] = field(default_factory=list)
    _opening: int = 0
    _is_over: bool = False
    _first: ForecasterError | None = None
    _one_opens: threading.Lock = field(default_factory=threading.Lock)
    _stacks: dict[Connection, ExitStack] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with the connection that there is."""
        if self.exporter:
            self._idle.append(self.exporter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up()
        # A connection that is still being opened is closed by the thread that opens it.
        waited = self._one_opens.acquire(timeout=_OPENED_WITHIN)
        for stack in [*self._stacks.values()]:
            stack.close()
        if waited:
            self._one_opens.release()

    def open_ahead(self) -> None:
        """Open one more connection in another thread. If that fails, the read that needs it opens it."""

        def opened() -> None:
            with suppress(ForecasterError), self._room():
                self._idle.append(self._opened())

        with self._changed:
            self._opening += 1
        threading.Thread(target=opened, daemon=True).start()

    def read(self, sql: str) -> pl.DataFrame:
        """Run a statement on the next connection that is free, and return its rows.

        Raises `ConnectionLostError` if the session or that of the snapshot is over, `DatabaseError` for a
        statement that the server refuses, and what opening a connection raises.
        """
        try:
            with self._one() as connection, _failed(self.dsn):
                return query(connection, sql)
        except ForecasterError as error:
            raise self._cause(error) from None

    def _cause(self, error: ForecasterError) -> ForecasterError:
        """Return the error that came first, of which those of the reads cancelled after it say nothing."""
        with self._changed:
            self._first = self._first or error
            return self._first if self._is_over else error

    def cancel(self) -> None:
        """Ask the server to cancel the statements in progress. No other connection is opened any more."""
        self._give_up()  # else a read that waits for one would try, on a network that may be stalled
        for connection in [*self._busy]:
            with suppress(adbc.Error):
                connection.adbc_cancel()

    def cut(self) -> None:
        """End the reads without the server; those that wait for a connection open none."""
        self._give_up()
        hang_up(self.dsn)

    def _give_up(self) -> None:
        """Let no read go on waiting for a connection."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    @contextmanager
    def _one(self) -> Iterator[Connection]:
        connection = self._taken()
        try:
            yield connection
        except BaseException as error:  # its transaction is aborted, or a call of it has been given up
            with self._changed:
                self._busy.remove(connection)
                self._changed.notify()
            if isinstance(error, DatabaseError) and connection in self._stacks:
                self._stacks.pop(connection).close()
            raise
        with self._changed:
            self._busy.remove(connection)
            self._idle.append(connection)
            self._changed.notify()

    def _taken(self) -> Connection:
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_over or self._idle or len(self._busy) + self._opening < CONNECTIONS
            )
            self._check()
            if self._idle:
                self._busy.append(self._idle.pop())
                return self._busy[-1]
            self._opening += 1
        with self._room():
            self._busy.append(connection := self._opened())
        return connection

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Open a connection, in a block, for which there is room."""
        try:
            yield
        finally:
            with self._changed:
                self._opening -= 1
                self._changed.notify()

    def _opened(self) -> Connection:
        """Open a connection to the snapshot."""
        with self._one_opens, ExitStack() as stack:
            self._check()
            like = self.exporter or self.like or next(iter(self._stacks), None)
            spare, self.spare = self.spare, None
            opened = closing(spare()) if spare else connect(self.dsn, like=like, begun=False)
            connection = stack.enter_context(opened)
            try:
                with statement_errors(self.dsn):
                    begin(connection, f"SET TRANSACTION SNAPSHOT '{self.snapshot}'", f"SELECT {READ_LONG}")
            except DatabaseError as error:
                gone = f"the session that holds the snapshot is over: {error}"
                raise ConnectionLostError(gone, hint=SESSION_OVER) from None
            self._check()
            self._stacks[connection] = stack.pop_all()
        return connection

    def _check(self) -> None:
        if self._is_over:
            raise ConnectionLostError("the reads were cancelled", hint=SESSION_OVER)


@contextmanager
def _failed(dsn: Dsn) -> Iterator[None]:
    """Say of an error in this block that it is about reading."""
    try:
        with statement_errors(dsn):
            yield
    except DatabaseError as error:
        raise type(error)(f"reading from {dsn} failed: {error}", hint=error.hint) from None
