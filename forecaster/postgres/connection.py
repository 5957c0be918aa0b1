"""ADBC connections: open them, run statements, and turn the driver's errors into ours."""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import adbc_driver_manager as adbc
import polars as pl

from forecaster.errors import (
    ConnectionLostError,
    DatabaseError,
    DatabaseUnreachableError,
    ForecasterError,
    SchemaMismatchError,
    StalledError,
    TurnedAwayError,
)
from forecaster.postgres.conditions import OF_A_POOLER, SESSION_OVER, hint_for, is_lost
from forecaster.postgres.dsn import APPLICATION_NAME, Dsn, libpq_variables_hidden
from forecaster.postgres.early import Early, client_name, given_name, opened
from forecaster.postgres.pooling import pooled
from forecaster.postgres.stall import Watch, bytes_passed, hang_up
from forecaster.process.secrets import brief
from forecaster.process.signals import Cancel, interruptible, outcome, started

# ADBC imports pyarrow, and that NumPy, for data of kinds that it is never given here. Together they take a
# third of all imports' time. What needs them later imports them then.
_spared = "pyarrow.dataset" if "pyarrow" in sys.modules else "pyarrow"
_placeholder: Any = None  # refuses the import
_is_loaded = sys.modules.setdefault(_spared, _placeholder) is not None
try:
    from adbc_driver_manager.dbapi import Connection as Connection  # noqa: PLC0414 - exported
finally:
    if not _is_loaded:
        del sys.modules[_spared]

_ISOLATION = "adbc.connection.transaction.isolation_level"
_REPEATABLE_READ = {_ISOLATION: "adbc.connection.transaction.isolation.repeatable_read"}
# Else the driver first asks for the columns of a result, and wraps the statement in a COPY: three turns. This
# way, all rows have come when the call returns, and an error has its SQLSTATE whichever row it comes with.
_IN_ONE_TURN = {"adbc.postgresql.use_copy": "false"}
_READ_COMMITTED = {_ISOLATION: "adbc.connection.transaction.isolation.read_committed"}
# The driver appends our statement to a message. libpq appends a guess to that of a lost connection.
_STATEMENT = "\nQuery was: "
_GUESS = "\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.\n"
# The driver's words around the server's message, which do not help a user: the status, what failed, and where
# in the statement. Each pattern takes linear time, because a trigger may have written the text.
_DRIVERS_WORDS = re.compile(
    r"[A-Z_]+: (?:\[libpq\] )?"
    r"(?:Failed to \w+(?: query| COPY statement)?(?: '.*'(?=: \w+:  )| '.*')?: (?:PGRES_\w+ )?"
    r"|Execution error \[\w+\]: |could not begin COPY: )*"
    r"(?:\w+:  )?",  # the server's ERROR, in any language
    re.DOTALL,
)
_STATE = re.compile(r"\.? SQLSTATE: \w{5}$")
_STATE_LENGTH = 20
_POSITION = re.compile(r"\nLINE \d+: [^\n]*\n *\^")
# The severity in a message of the server, as libpq formats it.
_SEVERITY = re.compile(r"(?<= )[^ :\n]+(?=:  )")
# SQL condition: a session of this process, whose name is $1. Our names are too short to be truncated.
_OURS = "(application_name = $1 OR starts_with(application_name, $1 || ' '))"
_ASKS = f"{APPLICATION_NAME}: asks"
NAME_BYTES = 63
# In every language, the server's errors have two blanks after the severity; libpq's own do not.
_TURNED_AWAY = re.compile(r"failed: [^\W\d_]+:  ")

CONNECT_TIMEOUT = 3.5
"""Seconds to wait for a server that does not answer, unless `connect_timeout` is longer."""

_UNCOMPILED = """
    SELECT count(set_config(name, 'off', {local})) AS changed
    FROM pg_catalog.pg_settings WHERE name = 'jit'"""
UNCOMPILED = _UNCOMPILED.format(local=True)
"""SQL: has the server compile no statement of the transaction.

To compile a statement on many partitions takes it minutes, to run it seconds. PostgreSQL 10 has no jit.
"""
UNCOMPILED_TO_THE_END = _UNCOMPILED.format(local=False)
"""SQL: the same for the session, if the transaction is committed."""

_FAR = 0.01  # seconds of a short statement from which on a server is far away

_OPENS_WITHIN = 1.0  # seconds until a connection that is no longer needed is abandoned

_databases: WeakKeyDictionary[Connection, Dsn] = WeakKeyDictionary()  # the database of each connection
_quickest: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()  # seconds of its quickest answer

T = TypeVar("T")


@contextmanager
def connect(
    dsn: Dsn,
    *,
    repeatable_read: bool = False,
    like: Connection | None = None,
    begun: bool = True,
    early: Early | None = None,
) -> Iterator[Connection]:
    """Open a connection with one transaction. At the end, roll back what was not committed.

    With `like`, a connection to the same database, it opens faster: the driver need not ask the server for
    its types again. If not `begun`, each statement is its own transaction, until `begin`; then `early` may
    be a connection to the same database, which is used unless it has been.

    Raises `DatabaseUnreachableError` if no connection can be made, `DatabaseError` for a statement that the
    server refuses.
    """
    isolation = _REPEATABLE_READ if repeatable_read else _READ_COMMITTED
    connection = _open(dsn, isolation if begun else None, like, early)
    _databases[connection] = dsn
    try:
        with statement_errors(dsn):
            yield connection
    finally:
        connection.close()


@contextmanager
def connecting(dsn: Dsn, number: int, *, like: Connection) -> Iterator[list[Callable[[], Connection]]]:
    """Open connections while the block goes on; yields how to wait for each of them.

    As `connect` does with `like`, and not `begun`.
    """
    openings = [started(partial(_open, dsn, None, like)) for _ in range(number)]

    def opened(opening: Future[Connection]) -> Connection:
        connection = outcome(opening)
        _databases[connection] = dsn
        return connection

    try:
        with statement_errors(dsn):
            yield [partial(opened, opening) for opening in openings]
    finally:
        # Not longer, as a signal may be what ends the block; but `like` must not be closed meanwhile.
        wait(openings, timeout=_OPENS_WITHIN)
        for opening in openings:
            opening.add_done_callback(_close)


def _close(opening: Future[Connection]) -> None:
    if opening.exception() is None:
        with suppress(adbc.Error):  # the other side has closed it
            opening.result().close()


def _open(
    dsn: Dsn, options: Mapping[str, str] | None, like: Connection | None, early: Early | None = None
) -> Connection:
    def connection() -> Connection:
        dsn.check_socket()
        if like is None:
            handles = (early.take() if early and options is None else None) or opened(dsn, options)
            return Connection(*handles, dict(options or {}), autocommit=options is None)
        with libpq_variables_hidden():
            clone: Connection = like.adbc_clone()
            if options is None:
                clone.adbc_connection.set_autocommit(True)
            else:
                clone.adbc_connection.set_options(**options)
                clone.rollback()  # the next transaction has the options
            return clone

    given = dict(dsn.parameters).get("connect_timeout", "")
    # A little longer than the given time, so that libpq can say where it waited.
    patience = max(CONNECT_TIMEOUT, int(given) + 0.5 if given.isdecimal() else 0)
    hint = "check the URL, that the server runs, and that it accepts this user"
    try:
        # libpq's own limit is per address, and a name may have several.
        return interruptible(connection, cancel=None, timeout=patience)
    except TimeoutError:
        within = f"no answer from {dsn.host}, port {dsn.port}, within {patience - 0.5:g} seconds"
        hint = "check host, port and network, or wait longer with connect_timeout in the URL"
        raise DatabaseUnreachableError(f"cannot connect to {dsn}: {within}", hint=hint) from None
    except adbc.Error as error:
        message = f"cannot connect to {dsn}: {_reason(dsn.redact(str(error)))}"
        kind = TurnedAwayError if _TURNED_AWAY.search(str(error)) else DatabaseUnreachableError
        raise kind(message, hint=hint_for(error.sqlstate or "") or hint) from None


@contextmanager
def statement_errors(dsn: Dsn) -> Iterator[None]:
    """Turn an error of the driver into a `DatabaseError` or `ConnectionLostError` without secrets.

    Raises `PooledError` if it comes from a pooler.
    """
    try:
        yield
    except adbc.Error as error:
        message, state = _reason(dsn.redact(str(error))), error.sqlstate or ""
        over = is_lost(error)
        kind = ConnectionLostError if over else DatabaseError
        text = f"{message}{f' (SQLSTATE {state})' if state else ''}"
        if state in OF_A_POOLER:
            raise pooled(text) from None
        # libpq keeps what the server said at last, but without its state.
        raise kind(text, hint=hint_for(state) or (SESSION_OVER if over else None)) from None


def not_again(error: ConnectionLostError | StalledError, hint: str) -> ForecasterError:
    """Return the error of an interrupted write: one that is not retried, as the commit may have arrived."""
    if isinstance(error, StalledError):
        return StalledError(f"{error}. The write was interrupted, and may have been stored", hint=hint)
    return DatabaseError(f"the connection was lost while writing: {error}", hint=hint)


def end_connections(dsn: Dsn, application_name: str) -> None:
    """Have the server end the connections with this application name, whatever they are doing."""
    with connect(dsn) as connection:
        query(
            connection,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity "
            "WHERE application_name = $1",
            (application_name,),
        )


def watch(dsn: Dsn) -> Watch:
    """Return a function that waits for a call of a driver, and gives up if the server does nothing for us."""
    return Watch(dsn, partial(_at_work, dsn), partial(_end_ours, dsn))


@contextmanager
def _asking(dsn: Dsn) -> Iterator[Connection]:
    """Open a connection that does not count as ours. It has no stall timeout: the caller limits its time."""
    named = (*dsn.parameters, ("application_name", _ASKS))
    with connect(replace(dsn, parameters=named, stall_timeout=0)) as connection:
        yield connection


def _at_work(dsn: Dsn) -> bool:
    """Whether one of our sessions does anything except wait for us. Waiting for a lock counts as work.

    Where the bytes on the network cannot be counted, sending and receiving rows also counts as work: the
    network may just be slow.
    """
    is_slow = "false" if bytes_passed(dsn) else "state = 'active'"
    with _asking(dsn) as connection:
        # Sessions of others may have the name that the user has given; then we wait longer than needed.
        sql = f"""
            SELECT count(*) FROM pg_catalog.pg_stat_activity
            WHERE ({_OURS} OR application_name = nullif($2, '')) AND pid <> pg_backend_pid()
              AND (wait_event_type IS DISTINCT FROM 'Client' OR {is_slow})"""
        return bool(query(connection, sql, (client_name(), given_name(dsn))).item())


def _end_ours(dsn: Dsn) -> int:
    """Have the server end our sessions; return their number."""
    with _asking(dsn) as connection:
        sql = f"SELECT count(pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity WHERE {_OURS}"
        return int(query(connection, sql, (client_name(),)).item())


def query(connection: Connection, sql: str, parameters: tuple[Any, ...] = ()) -> pl.DataFrame:
    """Run one statement and return its rows."""
    row = pl.DataFrame({f"${number}": [value] for number, value in enumerate(parameters, 1)})
    # The driver would ask the server for the type of a NULL without one, in two further turns.
    bound = row.cast({pl.Null: pl.String}) if parameters else None
    with connection.cursor(adbc_stmt_kwargs=_IN_ONE_TURN) as cursor:

        def rows() -> pl.DataFrame:
            cursor.execute(sql, bound)
            return pl.DataFrame(cursor.fetch_arrow())

        return _timed(connection, rows, cursor.adbc_cancel)


def execute(connection: Connection, sql: str) -> None:
    """Run one statement for its effect."""
    with connection.cursor(adbc_stmt_kwargs=_IN_ONE_TURN) as cursor:
        _timed(connection, lambda: cursor.execute(sql), cursor.adbc_cancel)


def is_far(connection: Connection) -> bool:
    """Whether the server is far away, by what it answered the quickest; False before its first answer.

    Then waiting for answers takes longer than what is saved by asking often. The ends of transactions count,
    too: they are short where all statements are long.
    """
    return _quickest.get(connection, 0.0) > _FAR


def _timed(connection: Connection, call: Callable[[], T], cancel: Callable[[], object]) -> T:
    start = perf_counter()
    result = _call(connection, call, cancel)
    _quickest[connection] = min(perf_counter() - start, _quickest.get(connection, inf))
    return result


@contextmanager
def each_committed(connection: Connection) -> Iterator[None]:
    """Meanwhile, each statement is its own transaction; one that has begun is committed.

    Saves the round trips of a BEGIN and a COMMIT.
    """
    set_autocommit = connection.adbc_connection.set_autocommit
    _call(connection, lambda: set_autocommit(True), connection.adbc_cancel)
    try:
        yield
    finally:
        set_autocommit(False)


def begin(connection: Connection, *others: str) -> None:
    """Begin a transaction that only reads one snapshot, and lasts until the connection is closed.

    Runs the other statements in it, for their effect, in the same round trip.
    """
    with connection.cursor() as cursor:
        statement = cursor.adbc_statement
        statement.set_sql_query("; ".join(["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", *others]))
        _timed(connection, statement.execute_update, cursor.adbc_cancel)


def commit(connection: Connection) -> None:
    """Commit. A signal takes effect even while the server is still committing."""
    _timed(connection, connection.commit, connection.adbc_cancel)


def roll_back(connection: Connection) -> None:
    """Undo what was not committed."""
    _timed(connection, connection.rollback, connection.adbc_cancel)


def copy_in(
    connection: Connection, rows: pl.DataFrame, table: str, *, schema: str | None, temporary: bool = False
) -> int:
    """Append rows to a table by binary COPY; return the number of rows that the driver reports."""
    with connection.cursor() as cursor:

        def ingested() -> int:
            return cursor.adbc_ingest(table, rows, mode="append", db_schema_name=schema, temporary=temporary)

        return _call(connection, ingested, cursor.adbc_cancel)


def _call(connection: Connection, call: Callable[[], T], cancel: Callable[[], object]) -> T:
    """Make a call of the driver that ends early at a signal, or when the server no longer responds."""
    dsn = _databases[connection]
    return interruptible(call, cancel=Cancel([cancel], partial(hang_up, dsn)), watch=watch(dsn))


def severity_of_errors(connection: Connection) -> str:
    """Return the server's word for an error, in its language. Roll the transaction back."""
    try:
        query(connection, "SELECT 1 / 0 -- forecaster asks in what language errors are reported")
    except adbc.Error as error:
        roll_back(connection)
        if found := _SEVERITY.search(f"{error}"):
            return found[0]
    return ""


def redacted(connection: Connection, text: str) -> str:
    """Return a text of the server on one line, without the secrets of the connection."""
    return brief(_databases[connection].redact(text))


def quote_identifier(name: str) -> str:
    """Quote `name` as an SQL identifier, whatever characters it has.

    Raises `SchemaMismatchError` for a name that is empty, too long, or not text in UTF-8.
    """
    # The server would truncate a longer name, and so use another one.
    is_text = not any("\ud800" <= character <= "\udfff" for character in name)
    if not is_text:
        raise SchemaMismatchError(
            f"{name!r} cannot be the name of a schema or table: it is not text in the locale's encoding",
            hint="set LC_ALL=C.UTF-8, and type it in UTF-8",
        )
    if not name or "\0" in name or len(name.encode()) > NAME_BYTES:
        raise SchemaMismatchError(
            f"{name!r} cannot be the name of a schema or table: expected 1 to {NAME_BYTES} bytes of UTF-8"
        )
    return '"' + name.replace('"', '""') + '"'


def integer_array(numbers: Sequence[int] | pl.Series, type_: str = "bigint") -> str:
    """Write the numbers as an SQL array of this type. It holds only integers, so nothing needs escaping."""
    texts = pl.Series(numbers, dtype=pl.Int64).cast(pl.String)
    return f"'{{{texts.str.join(',').item()}}}'::{type_}[]"


def _reason(text: str) -> str:
    """Return the server's own message on one line, without the words of the driver and libpq around it."""
    said, _, rest = text.rpartition(_STATEMENT)
    text = (said or rest).replace(_GUESS, "")
    if state := _STATE.search(text, max(0, len(text) - _STATE_LENGTH)):
        text = text[: state.start()]
    if around := _DRIVERS_WORDS.match(text):
        text = text[around.end() :]
    return brief(_POSITION.sub("", text))
