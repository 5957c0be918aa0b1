"""Load daily streams, MLDR and listeners into the source tables: all rows or none."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from forecaster.errors import ConnectionLostError, StalledError, WriteRefusedError
from forecaster.postgres.connection import (
    Connection,
    commit,
    connect,
    integer_array,
    not_again,
    query,
    statement_errors,
)
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.look import look
from forecaster.postgres.rights import check_rights
from forecaster.postgres.rows import ingest
from forecaster.postgres.server import check_writable
from forecaster.postgres.tables import Tables
from forecaster.postgres.upkeep import vacuum
from forecaster.process.numbers import counted
from forecaster.tables import LISTENERS_TABLE, MLDR_TABLE, STREAMS_TABLE, TABLES

_SHOWN = 5
_LOCK_CLASS = 0x6C6F6164  # "load"


@dataclass(frozen=True)
class Loaded:
    """Numbers of rows stored in each table, and of days that a table already had."""

    streams: int = 0
    mldr: int = 0
    listeners: int = 0
    known: int = 0
    """Rows that were not stored, because the table already has their day."""
    warnings: tuple[str, ...] = ()
    """Where the tables now differ from the rows: how often, and the first differences."""


_TABLES = {"streams": STREAMS_TABLE, "mldr": MLDR_TABLE, "listeners": LISTENERS_TABLE}
"""The table of each argument of `load`."""


def check_load(dsn: Dsn, schema: str, given: Collection[str]) -> None:
    """Raise what would prevent the arguments `given` of `load` from being stored, before files are read."""
    with connect(dsn) as connection:
        _checked(connection, schema, [_TABLES[name] for name in given])


def _checked(connection: Connection, schema: str, given: Collection[str]) -> Tables:
    rights = dict.fromkeys(given, ("SELECT", "INSERT"))
    seen = look(connection, schema, rights)
    check_writable(connection, seen.state)
    seen.tables.check(*given, to_write=given)
    check_rights(connection, seen.tables, rights, seen.lacking)
    return seen.tables


def load(
    dsn: Dsn,
    schema: str,
    *,
    streams: pl.DataFrame | None = None,
    mldr: pl.DataFrame | None = None,
    listeners: pl.DataFrame | None = None,
    new_only: bool = False,
) -> Loaded:
    """Store rows, as `forecaster.files.intake` returns them, in one transaction.

    With `new_only`, rows whose day is already in the table are left out and counted; the table keeps its
    rows. Raises `WriteRefusedError` if a day is already in the table without `new_only`, or if a value does
    not fit its column; `SchemaMismatchError`, `DatabaseUnreachableError`, `DatabaseError`.
    """
    named = {"streams": streams, "mldr": mldr, "listeners": listeners}
    given = {_TABLES[name]: rows for name, rows in named.items() if rows is not None}
    with connect(dsn) as connection:
        tables = _checked(connection, schema, given)
        _wait_for_other_loads(connection, tables, given)
        known = {
            table: _known_days(connection, tables, table, rows)
            for table, rows in given.items()
            if TABLES[table].has_days
        }
        if not new_only:
            _refuse(known, given)
        warnings = [*_restated(known), *_store(connection, tables, _without(known, given))]
        try:
            with statement_errors(dsn):
                commit(connection)
        except (ConnectionLostError, StalledError) as error:
            raise not_again(error, "check the table before you load again: it has all rows or none") from None
    stored = {table: len(rows) - len(known.get(table, ())) for table, rows in given.items()}
    vacuum(dsn, tables, STREAMS_TABLE, stored.get(STREAMS_TABLE, 0))
    return Loaded(
        streams=stored.get(STREAMS_TABLE, 0),
        mldr=stored.get(MLDR_TABLE, 0),
        listeners=stored.get(LISTENERS_TABLE, 0),
        known=sum(map(len, known.values())),
        warnings=tuple(warnings),
    )


def _wait_for_other_loads(connection: Connection, tables: Tables, given: Iterable[str]) -> None:
    """Lock out other loads until this transaction ends: without a key, two could store the same day."""
    for table in sorted(given):  # in one order, so that no two loads wait for each other
        query(
            connection,
            "SELECT pg_advisory_xact_lock($1::int4, $2::regclass::oid::int8::bit(32)::int4) IS NULL AS mine",
            (_LOCK_CLASS, tables.name(table)),
        )


def _known_days(connection: Connection, tables: Tables, table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Find the rows whose day is already in the table, ordered by id and day; add the `stored` value.

    The key on owner and date would refuse these rows too, but not every existing table has that key.
    """
    who, value, day = TABLES[table].owner, TABLES[table].counted, tables.day(table)
    stored = query(
        connection,
        f"SELECT DISTINCT ON (1, 2) s.{who}::bigint AS {who}, {day} AS date, {_integer(value)} AS stored "
        f"FROM {tables.name(table)} s WHERE s.{who} = ANY ({integer_array(rows[who].unique())}) "
        f"AND isfinite(s.date) AND {day} BETWEEN $1 AND $2 ORDER BY 1, 2, {tables.newest_first(table)}",
        (rows["date"].min(), rows["date"].max()),
    )
    return rows.join(stored, on=[who, "date"], how="inner").sort(who, "date")


def _integer(value: str) -> str:
    """SQL expression: a column's value as a bigint, as in the rows to load; NULL if it cannot be one."""
    fits = f"s.{value} >= -{2**63} AND s.{value} < {2**63} AND s.{value} = floor(s.{value})"
    return f"CASE WHEN {fits} THEN s.{value}::bigint END"


def _refuse(known: Mapping[str, pl.DataFrame], given: Mapping[str, pl.DataFrame]) -> None:
    for table, again in known.items():
        if len(again):
            who, noun = TABLES[table].owner, TABLES[table].owner_noun
            raise WriteRefusedError(
                f"{len(again)} of {len(given[table])} rows are already in {table}, the first for "
                f"{noun} {again[who][0]} on {again['date'][0]}; nothing was stored",
                hint="load only the other days with --new-only",
            )


def _without(known: Mapping[str, pl.DataFrame], given: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {
        table: rows.join(known[table], on=[TABLES[table].owner, "date"], how="anti", maintain_order="left")
        if table in known
        else rows
        for table, rows in given.items()
    }


def _restated(known: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    """Report the days for which the rows have another value than the table."""
    for table, again in known.items():
        who, noun, value = TABLES[table].owner, TABLES[table].owner_noun, TABLES[table].counted
        others = again.filter(pl.col(value).ne_missing(pl.col("stored")))
        if len(others):
            first = [
                f"{noun} {number} on {day}: {_shown(old)} stored, {_shown(new)} in the file"
                for number, day, old, new in others.select(who, "date", "stored", value)
                .head(_SHOWN)
                .iter_rows()
            ]
            yield (
                f"{table}: of {counted(len(again), 'day')} that it already has, {len(others):,} have another "
                f"value in the file; the stored values stay: {_list(first, len(others))}"
            )


def _store(connection: Connection, tables: Tables, given: Mapping[str, pl.DataFrame]) -> list[str]:
    """Store the rows; return warnings of rows that do not count."""
    created_at = datetime.now(UTC)
    rates = given.get(MLDR_TABLE)
    before = None if rates is None else _newest(connection, tables, rates["cm_artist_id"])
    for table, rows in given.items():
        if len(rows):
            ingest(connection, tables, table, rows.with_columns(created_at=created_at))
    if rates is None or before is None:
        return []
    after = _newest(connection, tables, rates["cm_artist_id"])
    same = before.join(after, on=before.columns, how="semi", nulls_equal=True).sort("cm_artist_id")
    if same.is_empty():
        return []
    first = [f"artist {artist} ({instant})" for artist, _, instant in same.head(_SHOWN).iter_rows()]
    warning = (
        f"{MLDR_TABLE}: the new MLDR of {counted(len(same), 'artist')} does not count, because a stored one "
        f"has a later created_at: {_list(first, len(same))}; correct that created_at, or delete that row"
    )
    return [warning]


def _newest(connection: Connection, tables: Tables, artist_ids: pl.Series) -> pl.DataFrame:
    """Read the MLDR row that counts for each artist: cm_artist_id, id, created_at (both as text)."""
    return query(
        connection,
        f"SELECT DISTINCT ON (1) s.cm_artist_id::bigint AS cm_artist_id, s.id::text AS id, "
        f"s.created_at::text AS created_at FROM {tables.name(MLDR_TABLE)} s "
        f"WHERE s.cm_artist_id = ANY ({integer_array(artist_ids)}) "
        f"ORDER BY 1, {tables.newest_first(MLDR_TABLE)}",
    )


def _shown(value: int | None) -> str:
    return "none" if value is None else str(value)


def _list(first: Sequence[str], number: int) -> str:
    return "; ".join([*first, *([f"and {number - len(first):,} more"] if number > len(first) else [])])
