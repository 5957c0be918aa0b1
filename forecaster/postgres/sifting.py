"""Store rows of which the server refuses some: each track or artist whole, or not at all."""

from collections.abc import Callable
from dataclasses import dataclass

import adbc_driver_manager as adbc
import polars as pl

from forecaster.errors import WriteRefusedError, in_one_line
from forecaster.postgres.conditions import (
    DEADLOCK,
    INSUFFICIENT_PRIVILEGE,
    NOT_OF_ROWS,
    UNIQUE_VIOLATION,
    refuses_rows,
)
from forecaster.postgres.connection import (
    Connection,
    copy_in,
    execute,
    query,
    quote_identifier,
    redacted,
    roll_back,
)
from forecaster.postgres.rows import Stored, with_ids
from forecaster.postgres.tables import Tables
from forecaster.tables import TABLES

SOME = "_some"
"""The ids that are tried at once, in `Sift.right`: a variable of type bigint[]."""

_STAGE, _STORED, _REFUSED = (f"pg_temp.forecaster_{name}" for name in ("stage", "stored", "refused"))
_CHANGED = "FC001"  # SQLSTATE of our own
# NOT NULL, CHECK and the check of a view: the detail is the row, with an id that each run has another of.
_SHOWS_ROW = ("23502", "23514", "44000")
# Plans for a whole batch, which are kept for single ids, would scan the table and start workers; and be
# compiled at each attempt, which takes longer than the attempt. PostgreSQL 10 has no jit.
_SET = """
    SELECT count(set_config(name, value, true))
    FROM (VALUES ('enable_seqscan', 'off'), ('max_parallel_workers_per_gather', '0'), ('jit', 'off'))
        AS wanted (name, value) JOIN pg_catalog.pg_settings USING (name)"""
_FIRST_RANGES = 8  # so that a batch with a refused id is not stored as a whole again, in vain


class DisturbedError(WriteRefusedError):
    """The table holds something other than what was written."""


def store_or_sift(
    connection: Connection, directly: Callable[[], Stored], sifted: Callable[[], Stored], /
) -> Stored:
    """Store by the fast way; if the server refuses rows, or another program stores some, by sifting.

    Each way commits, or fails with certainly nothing stored, so that another attempt is safe.
    """
    for attempt in (directly, sifted):
        try:
            return attempt()
        except WriteRefusedError:  # what is stored would differ, or a policy refuses some of the rows
            roll_back(connection)
        except adbc.Error as error:
            if error.sqlstate != DEADLOCK and not refuses_rows(error.sqlstate or ""):
                raise
            roll_back(connection)
    return sifted()


@dataclass(frozen=True)
class Sifted:
    """What became of the tracks or artists; those in neither have a result of another writer."""

    stored: pl.Series
    refused: dict[int, str]
    """Those whose rows the server refuses, with its reason."""


@dataclass(frozen=True)
class Sift:
    """Rows of tracks or artists, and how to store those that the server accepts."""

    tables: Tables
    table: str
    rows: pl.DataFrame
    each: int
    """Number of rows of each track or artist."""
    replace: bool
    taken: str
    """SQL condition: the track or artist `t.id` has a result of another writer, which stays."""
    right: str
    """SQL query: `id` of those among `SOME` for which the table holds what was written."""
    on_conflict: str = ""

    def store(self, connection: Connection, /) -> Sifted:
        """Store the rows of every track or artist that the server accepts. The caller commits.

        With `replace`, their existing rows are deleted; refused ones keep theirs. The search is one
        statement, whose work grows with the number of refused ones times a logarithm.
        """
        rows = with_ids(self.rows, self.tables, self.table)
        for statement in self._prepared(rows):
            execute(connection, statement)
        copy_in(connection, rows, _STAGE.removeprefix("pg_temp."), schema=None, temporary=True)
        execute(connection, f"CREATE INDEX ON {_STAGE} ({self._key})")
        execute(connection, f"ANALYZE {_STAGE}")
        query(connection, _SET)
        execute(connection, _do(self._search(rows)))
        stored = query(connection, f"SELECT id FROM {_STORED} ORDER BY id")["id"]
        refused = query(connection, f"SELECT id, state, message, detail FROM {_REFUSED} ORDER BY id")
        return Sifted(stored, {id_: _reason(connection, *why) for id_, *why in refused.iter_rows()})

    def _prepared(self, rows: pl.DataFrame) -> tuple[str, str, str]:
        """SQL: make the temporary tables, of the types below domains, which would refuse all rows at once."""
        columns = ", ".join(
            f"{name}::{self.tables.type(self.table, column)} AS {name}"
            for column, name in zip(rows.columns, map(quote_identifier, rows.columns), strict=True)
        )
        temporary = "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} WITH NO DATA"
        return (
            temporary.format(_STAGE, f"{columns} FROM {self._target}"),
            temporary.format(_STORED, "0::bigint AS id"),
            temporary.format(
                _REFUSED, "0::bigint AS id, ''::text AS state, ''::text AS message, ''::text AS detail"
            ),
        )

    def _search(self, rows: pl.DataFrame) -> str:
        """PL/pgSQL: store ranges of ids; halve one that fails until a single id fails, which is refused.

        After an id is refused, ranges start at one id and double: where many are refused, few are stored in
        vain. In the order of the ids, because two writers in different orders would block each other.
        """
        taken = "false" if self.replace else self.taken
        return f"""
        #variable_conflict use_variable
        DECLARE
            _ids bigint[] := ARRAY(
                SELECT t.id FROM (SELECT DISTINCT s.{self._key}::bigint AS id FROM {_STAGE} s) t
                WHERE NOT ({taken}) ORDER BY 1);
            {SOME} bigint[];
            _at integer := 1; -- the first that is not done
            _end integer := 0; -- the last of a range that failed; before _at: there is none
            _size integer := cardinality(_ids) / {_FIRST_RANGES} + 1;
            _state text; _message text; _detail text;
        BEGIN
            WHILE _at <= cardinality(_ids) LOOP
                {SOME} := _ids[_at:_at + _size - 1];
                BEGIN
                    {self._attempt(rows)}
                    _at := _at + cardinality({SOME});
                EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
                    GET STACKED DIAGNOSTICS _state = RETURNED_SQLSTATE, _message = MESSAGE_TEXT,
                        _detail = PG_EXCEPTION_DETAIL;
                    IF NOT ({self._is_refusal}) THEN RAISE; END IF;
                    _end := _at + cardinality({SOME}) - 1;
                    IF _end = _at THEN
                        INSERT INTO {_REFUSED} SELECT t.id, _state, _message, _detail
                        FROM unnest({SOME}) AS t (id) WHERE NOT ({taken} OR {self._is_hidden});
                        _at := _at + 1;
                        _size := 0;
                    END IF;
                END;
                _size := CASE WHEN _end < _at THEN greatest(2 * _size, 1) ELSE (_end - _at + 2) / 2 END;
            END LOOP;
        END"""

    def _attempt(self, rows: pl.DataFrame) -> str:
        """PL/pgSQL: store the rows of `SOME`; raise an error if the table would not accept them as they are.

        Deferred constraints, which the commit would check, are checked now; but not between the statements.
        """
        columns = ", ".join(map(quote_identifier, rows.columns))
        make_room = f"DELETE FROM {self._target} f WHERE f.{self._key} = ANY ({SOME});"
        return f"""
                    SET CONSTRAINTS ALL DEFERRED;
                    {make_room if self.replace else ""}
                    WITH inserted AS (
                        INSERT INTO {self._target} ({columns})
                        SELECT {columns} FROM {_STAGE} s WHERE s.{self._key} = ANY ({SOME})
                        ORDER BY {", ".join(TABLES[self.table].key[:2])} {self.on_conflict}
                        RETURNING {self._key} AS id)
                    INSERT INTO {_STORED}
                    SELECT i.id FROM inserted i GROUP BY 1 HAVING count(*) = {self.each};
                    SET CONSTRAINTS ALL IMMEDIATE;
                    IF (SELECT count(*) FROM {_STORED} s JOIN ({self.right}) r USING (id))
                            <> cardinality({SOME}) THEN
                        RAISE EXCEPTION USING ERRCODE = '{_CHANGED}', MESSAGE =
                            'the table would not hold exactly what was written: a trigger or rule changes it';
                    END IF;"""

    @property
    def _is_hidden(self) -> str:
        """SQL condition: another writer has a row in our place, which a policy hides."""
        is_possible = self.table in self.tables.filtered and not self.replace
        return f"_state = '{UNIQUE_VIOLATION}'" if is_possible else "false"

    @property
    def _is_refusal(self) -> str:
        # A policy for new rows has the SQLSTATE of a missing right. Rights were checked before.
        by_policy = "true" if self.table in self.tables.filtered else "false"
        classes = ", ".join(f"'{class_}'" for class_ in sorted(NOT_OF_ROWS))
        return f"left(_state, 2) NOT IN ({classes}) OR ({by_policy} AND _state = '{INSUFFICIENT_PRIVILEGE}')"

    @property
    def _target(self) -> str:
        return self.tables.name(self.table)

    @property
    def _key(self) -> str:
        return TABLES[self.table].owner


def _do(body: str) -> str:
    """SQL: execute PL/pgSQL, between quotes that do not occur in it."""
    quotes = "$forecaster$"
    while quotes in body:
        quotes = f"{quotes[:-1]}_$"
    return f"DO {quotes}{body}{quotes}"


def _reason(connection: Connection, state: str, message: str, detail: str) -> str:
    """Return the server's reason on one short line, without secrets."""
    if state == _CHANGED:
        return message
    told = redacted(connection, f"{message}: {detail}" if detail and state not in _SHOWS_ROW else message)
    return f"{in_one_line(WriteRefusedError(told))} (SQLSTATE {state})"
