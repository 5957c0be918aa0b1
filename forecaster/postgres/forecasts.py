"""Store forecasts: whole tracks or nothing, whatever another program stores in the meantime."""

from dataclasses import dataclass

import adbc_driver_manager as adbc
import polars as pl

from forecaster.errors import WriteRefusedError
from forecaster.frames.casting import Fitted
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
from forecaster.postgres.rows import Stored, append, with_ids
from forecaster.postgres.runs import keep
from forecaster.postgres.stored import has_key, stored_months
from forecaster.postgres.tables import Tables
from forecaster.tables import FORECAST_TABLE, FORECASTS

# Unique violation and deadlock: a transaction that failed with one of them can succeed once the other writer
# is done.
_DISTURBED = ("23505", "40P01")
_STAGE = "forecaster_stage"


def store_forecasts(
    connection: Connection,
    tables: Tables,
    forecasts: Fitted,
    /,
    *,
    horizon: int,
    replace: bool,
    history: pl.DataFrame | None = None,
) -> Stored:
    """Store forecasts of whole tracks in one transaction, and commit it.

    With `replace`, the tracks' existing forecasts are deleted in the same transaction. In it, too, rows are
    added to the history: those of the tracks that are stored or have no forecast. Raises
    `WriteRefusedError`, with nothing stored, if the table then holds anything other than what was written.
    """
    write = _Write(connection, tables, forecasts.rows, horizon, replace, history)
    # A temporary table, which costs more, avoids conflicts with what another program stores in the meantime.
    # A failure here has certainly stored nothing, so another attempt is safe.
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


class _DisturbedError(WriteRefusedError):
    """The table holds something other than what was written."""


@dataclass(frozen=True)
class _Write:
    """Forecasts of whole tracks on their way into the table; each attempt commits or leaves nothing."""

    connection: Connection
    tables: Tables
    rows: pl.DataFrame
    horizon: int
    replace: bool
    history: pl.DataFrame | None
    """Rows for the history, of tracks with and without a forecast; None: none is kept."""

    def directly(self) -> Stored:
        if len(self.rows):
            self._make_room()
            append(self.connection, self.tables, FORECAST_TABLE, self.rows)
            self._check(self._tracks)
        self._keep(self._tracks)
        commit(self.connection)
        return Stored(len(self.rows), [])

    def around_others(self) -> Stored:
        """Store through a temporary table. Leave out tracks that already have rows, whoever wrote them."""
        rows = with_ids(self.rows, self.tables, FORECAST_TABLE)
        columns = ", ".join(map(quote_identifier, rows.columns))
        execute(
            self.connection,
            f"CREATE TEMPORARY TABLE {_STAGE} ON COMMIT DROP AS "
            f"SELECT {columns} FROM {self._target} WITH NO DATA",
        )
        copy_in(self.connection, rows, _STAGE, schema=None, temporary=True)
        self._make_room()
        inserted = query(self.connection, _insert_missing(self.tables, columns))
        ours = inserted.filter(rows=self.horizon)["cm_track_id"].sort()
        self._check(ours)
        taken = self._tracks.filter(~self._tracks.is_in(ours.implode()))
        self._check_taken(taken)
        self._keep(ours)
        commit(self.connection)
        return Stored(len(ours) * self.horizon, taken.to_list())

    def _keep(self, stored: pl.Series) -> None:
        """Add the history of the tracks that are stored, and of those without a forecast."""
        if self.history is not None:
            is_stored = pl.col("cm_track_id").is_in(stored.implode())
            keep(self.connection, self.tables, self.history.filter(is_stored | pl.col("months").is_null()))

    def _make_room(self) -> None:
        if self.replace:
            execute(
                self.connection,
                f"DELETE FROM {self._target} WHERE cm_track_id = ANY ({integer_array(self._tracks)})",
            )

    def _check(self, tracks: pl.Series) -> None:
        """Check that each of these tracks has exactly the months 1 to `horizon` on the server."""
        whole = pl.all_horizontal(pl.col("rows", "months", "last") == self.horizon, pl.col("first") == 1)
        found = query(self.connection, f"{self._stored(tracks)} GROUP BY 1").filter(whole)["cm_track_id"]
        self._refuse(tracks.filter(~tracks.is_in(found.implode())))

    def _check_taken(self, tracks: pl.Series) -> None:
        """Check that each of these tracks has rows of another writer, and none of this run."""
        ours = f"created_at IS NOT DISTINCT FROM (SELECT max(created_at) FROM pg_temp.{_STAGE})"
        found = query(self.connection, f"{self._stored(tracks)} GROUP BY 1 HAVING NOT bool_or({ours})")
        if FORECAST_TABLE in self.tables.filtered:  # the rows of the other writer may be hidden
            seen = query(self.connection, f"{self._stored(tracks)} GROUP BY 1")["cm_track_id"]
            tracks = tracks.filter(tracks.is_in(seen.implode()))
        self._refuse(tracks.filter(~tracks.is_in(found["cm_track_id"].implode())))

    def _stored(self, tracks: pl.Series) -> str:
        return f"{stored_months(self.tables)} AND cm_track_id = ANY ({integer_array(tracks)})"

    def _refuse(self, tracks: pl.Series) -> None:
        if len(tracks):
            raise _DisturbedError(
                f"{FORECAST_TABLE}: for {len(tracks):,} tracks, the first is {tracks[0]}, the table would "
                f"not hold exactly the {self.horizon} months that were written; nothing of the batch was "
                "stored",
                hint="remove the trigger or rule on the table that changes what is written; if another "
                "program stores forecasts of the same tracks, run again once it is done",
            )

    @property
    def _target(self) -> str:
        return self.tables.name(FORECAST_TABLE)

    @property
    def _tracks(self) -> pl.Series:
        return self.rows["cm_track_id"].cast(pl.Int64).unique().sort()


def _insert_missing(tables: Tables, columns: str) -> str:
    """SQL: insert the staged rows of tracks without rows; return cm_track_id and the number of rows."""
    target, key = tables.name(FORECAST_TABLE), ", ".join(FORECASTS.key)
    conflict = f"ON CONFLICT ({key}) DO NOTHING" if has_key(tables) else ""
    # In the order of the key, because two writers that insert in different orders would block each other.
    return f"""
        WITH inserted AS (
            INSERT INTO {target} ({columns}) SELECT {columns} FROM pg_temp.{_STAGE} s
            WHERE NOT EXISTS (SELECT FROM {target} f WHERE f.cm_track_id = s.cm_track_id)
            ORDER BY {key} {conflict} RETURNING cm_track_id)
        SELECT cm_track_id::bigint AS cm_track_id, count(*)::bigint AS rows FROM inserted GROUP BY 1"""
