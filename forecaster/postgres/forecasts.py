"""Storing rows in PostgreSQL: the only module that ingests."""

import os
from dataclasses import dataclass

import adbc_driver_manager as adbc
import numpy as np
import polars as pl
import pyarrow as pa

from forecaster.errors import WriteRefusedError
from forecaster.frames import casting
from forecaster.frames.casting import Fitted, described
from forecaster.postgres.connection import (
    Connection,
    commit,
    copy_in,
    execute,
    integer_array,
    query,
    quote_identifier,
    roll_back,
)
from forecaster.postgres.stored import has_key, stored_months
from forecaster.postgres.tables import Tables
from forecaster.tables import FORECAST_TABLE, MLDR_TABLE, TABLES, is_finite

# A transaction that failed with one of these can succeed once the other writer is done: unique violation,
# deadlock.
_DISTURBED = ("23505", "40P01")
_STAGE = "forecaster_stage"


def uuid_bytes(text: pl.Expr) -> pl.Expr:
    """The 16 bytes of UUIDs written as text."""
    return text.str.replace_all("-", "", literal=True).str.decode("hex")


def fit(rows: pl.DataFrame, tables: Tables, table: str) -> Fitted:
    """Bring rows into the types of a table's columns, as `forecaster.frames.casting.fit` does."""
    may_be_null = TABLES[table].may_be_null if table in TABLES else frozenset()
    try:
        return casting.fit(rows, tables.columns[table], may_be_null=may_be_null)
    except WriteRefusedError as error:
        raise WriteRefusedError(f"{table}: {error}") from None


def fit_or_refuse(
    rows: pl.DataFrame, tables: Tables, table: str, *, by: str
) -> tuple[Fitted, dict[int, str]]:
    """The same for the tracks, or artists, of which all rows fit; and why the others are refused."""
    return casting.fit_or_refuse(rows, lambda some: fit(some, tables, table), by=by)


def ingest(connection: Connection, tables: Tables, table: str, rows: pl.DataFrame) -> int:
    """Append rows to a table, all or, with a `WriteRefusedError`, none. The caller commits."""
    fitted = fit(rows, tables, table)
    if fitted.problems:
        problems = "\n  ".join(
            f"{problem} in {mask.sum()} of {len(rows)} rows, the first {described(rows.filter(mask))}"
            for problem, mask in fitted.problems.items()
        )
        raise WriteRefusedError(f"{table}: the rows do not fit, and none was stored:\n  {problems}")
    before = _inserted_so_far(connection, tables, table)
    _append(connection, tables, table, fitted.rows)
    if before is not None:
        stored = (_inserted_so_far(connection, tables, table) or 0) - before
        if stored != len(rows):
            raise WriteRefusedError(
                f"{table}: the server stored {stored:,} rows instead of {len(rows):,}; nothing is kept",
                hint="look for a trigger or a rule on the table that changes what is written",
            )
    return len(rows)


@dataclass(frozen=True)
class Stored:
    """What became of forecasts that were to be stored."""

    rows: int
    taken: list[int]
    """Tracks that got a forecast from another writer meanwhile, and none from us."""


def store_forecasts(
    connection: Connection, tables: Tables, forecasts: Fitted, /, *, horizon: int, replace: bool
) -> Stored:
    """Store forecasts of whole tracks in one transaction, and commit it.

    With `replace` the tracks' present forecasts are deleted in the same transaction. Raises
    `WriteRefusedError`, with nothing stored, if then the table does not hold just what was written.
    """
    write = _Write(connection, tables, forecasts.rows, horizon, replace)
    # By way of a temporary table, which costs more, we keep clear of what another program stores meanwhile.
    # A failure here is certain to have stored nothing, so that to try again is safe.
    for attempt in (write.directly, write.around_others):
        try:
            return attempt()
        except _DisturbedError:
            roll_back(connection)
        except adbc.Error as error:
            if error.sqlstate not in _DISTURBED:
                raise
            roll_back(connection)
    return write.around_others()


def store_rates(connection: Connection, tables: Tables, rates: Fitted, /, *, replace: bool) -> Stored:
    """Store one new decay rate for each artist in one transaction, and commit it.

    An artist that has got a rate meanwhile keeps it, unless rates are to be replaced: then all the artists'
    present rows are deleted in the same transaction. Raises `WriteRefusedError`, with nothing stored, if
    then the table does not hold just what was written.
    """
    ours = rates.rows["cm_artist_id"].cast(pl.Int64)
    if replace:
        execute(
            connection,
            f"DELETE FROM {tables.name(MLDR_TABLE)} WHERE cm_artist_id = ANY ({integer_array(ours)})",
        )
    before = _rates_of(connection, tables, ours)
    taken = before.filter("is_rated")["cm_artist_id"].sort()
    rows = rates.rows.filter(~ours.is_in(taken.implode()))
    written = rows["cm_artist_id"].cast(pl.Int64)
    _append(connection, tables, MLDR_TABLE, rows)
    after = _rates_of(connection, tables, written).join(
        before, on="cm_artist_id", how="left", suffix="_before"
    )
    one_more = after.filter("is_rated", pl.col("rows") == pl.col("rows_before").fill_null(0) + 1)
    if len(one_more) != len(written):
        missing = written.filter(~written.is_in(one_more["cm_artist_id"].implode()))
        raise WriteRefusedError(
            f"{MLDR_TABLE}: of {len(missing):,} artists, the first is {missing[0]}, the table would not hold "
            "the one rate that was written; nothing was stored",
            hint="a trigger or rule on the table changes what is written, or the artist has a row without a "
            "rate that is dated in the future",
        )
    commit(connection)
    return Stored(len(rows), taken.to_list())


def _rates_of(connection: Connection, tables: Tables, artist_ids: pl.Series) -> pl.DataFrame:
    """cm_artist_id, rows, is_rated: whether the newest of them is a finite number. None without rows."""
    newest = f"ORDER BY {tables.newest_first(MLDR_TABLE)}"
    return query(
        connection,
        f"SELECT s.cm_artist_id::bigint AS cm_artist_id, count(*)::bigint AS rows, "
        f"coalesce((array_agg({is_finite('s.mldr')} {newest}))[1], false) AS is_rated "
        f"FROM {tables.name(MLDR_TABLE)} s "
        f"WHERE s.cm_artist_id = ANY ({integer_array(artist_ids)}) GROUP BY 1",
    )


class _DisturbedError(WriteRefusedError):
    """The table does not hold what was written."""


@dataclass(frozen=True)
class _Write:
    """Forecasts of whole tracks on their way into the table; each attempt commits or leaves nothing."""

    connection: Connection
    tables: Tables
    rows: pl.DataFrame
    horizon: int
    replace: bool

    def directly(self) -> Stored:
        self._make_room()
        _append(self.connection, self.tables, FORECAST_TABLE, self.rows)
        self._check(self._tracks)
        commit(self.connection)
        return Stored(len(self.rows), [])

    def around_others(self) -> Stored:
        """Leave out the tracks of which there are rows, whoever stored them."""
        stage, target = f"pg_temp.{_STAGE}", self._target
        rows = _with_ids(self.rows, self.tables, FORECAST_TABLE)
        columns = ", ".join(map(quote_identifier, rows.columns))
        execute(
            self.connection,
            f"CREATE TEMPORARY TABLE {_STAGE} ON COMMIT DROP AS SELECT {columns} FROM {target} WITH NO DATA",
        )
        copy_in(self.connection, rows, _STAGE, schema=None, temporary=True)
        self._make_room()
        conflict = "ON CONFLICT (cm_track_id, month) DO NOTHING" if has_key(self.tables) else ""
        # In the order of the key: two writers that insert in different orders would block each other.
        inserted = query(
            self.connection,
            f"WITH inserted AS (INSERT INTO {target} ({columns}) SELECT {columns} FROM {stage} s "
            f"WHERE NOT EXISTS (SELECT FROM {target} f WHERE f.cm_track_id = s.cm_track_id) "
            f"ORDER BY cm_track_id, month {conflict} RETURNING cm_track_id) "
            "SELECT cm_track_id::bigint AS cm_track_id, count(*)::bigint AS rows FROM inserted GROUP BY 1",
        )
        ours = inserted.filter(rows=self.horizon)["cm_track_id"].sort()
        self._check(ours)
        taken = self._tracks.filter(~self._tracks.is_in(ours.implode()))
        self._check_taken(taken)
        commit(self.connection)
        return Stored(len(ours) * self.horizon, taken.to_list())

    def _make_room(self) -> None:
        if self.replace:
            execute(
                self.connection,
                f"DELETE FROM {self._target} WHERE cm_track_id = ANY ({integer_array(self._tracks)})",
            )

    def _check(self, tracks: pl.Series) -> None:
        """Each of these tracks has just the months 1 to `horizon`, as the server has them now."""
        whole = pl.all_horizontal(pl.col("rows", "months", "last") == self.horizon, pl.col("first") == 1)
        found = query(self.connection, f"{self._stored(tracks)} GROUP BY 1").filter(whole)["cm_track_id"]
        self._refuse(tracks.filter(~tracks.is_in(found.implode())))

    def _check_taken(self, tracks: pl.Series) -> None:
        """Each of these tracks has rows of another writer, and none of ours: these are of our instant."""
        ours = f"created_at IS NOT DISTINCT FROM (SELECT max(created_at) FROM pg_temp.{_STAGE})"
        found = query(self.connection, f"{self._stored(tracks)} GROUP BY 1 HAVING NOT bool_or({ours})")
        self._refuse(tracks.filter(~tracks.is_in(found["cm_track_id"].implode())))

    def _stored(self, tracks: pl.Series) -> str:
        return f"{stored_months(self.tables)} AND cm_track_id = ANY ({integer_array(tracks)})"

    def _refuse(self, tracks: pl.Series) -> None:
        if len(tracks):
            raise _DisturbedError(
                f"{FORECAST_TABLE}: of {len(tracks):,} tracks, the first is {tracks[0]}, the table would not "
                f"hold the {self.horizon} months that were written; nothing of this chunk was stored",
                hint="a trigger or rule on the table changes what is written, or another program stores "
                "forecasts of the same tracks at the same time: then run again once it is done",
            )

    @property
    def _target(self) -> str:
        return self.tables.name(FORECAST_TABLE)

    @property
    def _tracks(self) -> pl.Series:
        return self.rows["cm_track_id"].cast(pl.Int64).unique().sort()


def _append(connection: Connection, tables: Tables, table: str, rows: pl.DataFrame) -> None:
    copy_in(connection, _with_ids(rows, tables, table), table, schema=tables.schema)


def _inserted_so_far(connection: Connection, tables: Tables, table: str) -> int | None:
    """Rows that this transaction has put into the table; None where the server does not count them.

    The driver's own number is that of the rows that it sent.
    """
    count: int | None = query(
        connection,
        "SELECT sum(pg_stat_get_xact_tuples_inserted(relid))::bigint AS n FROM "
        "(SELECT $1::regclass AS relid UNION SELECT relid FROM pg_partition_tree($1::regclass)) AS part "
        "WHERE current_setting('track_counts')::boolean",
        (tables.name(table),),
    ).item()
    return count


def _with_ids(rows: pl.DataFrame, tables: Tables, table: str) -> pl.DataFrame:
    """Ids for databases whose application makes them."""
    info = tables.columns[table]["id"]
    makes_its_own = info.type != "uuid" or not info.not_null or info.has_default
    return rows if makes_its_own else rows.with_columns(id=_random_uuids(len(rows)))


def _random_uuids(number: int) -> pl.Series:
    """Version 4 UUIDs as 16 bytes each."""
    octets = np.frombuffer(os.urandom(16 * number), dtype=np.uint8).reshape(number, 16).copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    array = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), number, [None, pa.py_buffer(octets.tobytes())]
    )
    return pl.Series(pl.from_arrow(array.cast(pa.binary())))
