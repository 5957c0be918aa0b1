"""Store forecasts: whole tracks or nothing, whatever another program stores in the meantime."""

from collections.abc import Sequence
from dataclasses import dataclass

import adbc_driver_manager as adbc
import polars as pl

from forecaster.errors import WriteRefusedError
from forecaster.frames.casting import Fitted
from forecaster.postgres.arrays import fits_in_arrays, insert_arrays
from forecaster.postgres.conditions import UNIQUE_VIOLATION
from forecaster.postgres.connection import Connection, commit, execute, integer_array, is_far, query
from forecaster.postgres.intervals import storing
from forecaster.postgres.rows import Stored, append
from forecaster.postgres.sifting import SOME, DisturbedError, Sift, store_or_sift
from forecaster.postgres.stored import has_key, stored_months
from forecaster.postgres.tables import Tables
from forecaster.process.numbers import counted
from forecaster.tables import FORECAST_TABLE, FORECASTS, HISTORY, REFUSED

# In the SQL of `_queried_and_kept`: what `stored_months` selects of the tracks, and the array of their ids.
_FOUND, _TRACKS = "found", "$1"


def store_forecasts(  # noqa: PLR0913 - all of it is one transaction
    connection: Connection,
    tables: Tables,
    forecasts: Fitted,
    /,
    *,
    horizon: int,
    replace: bool,
    history: pl.DataFrame | None = None,
    intervals: pl.DataFrame | None = None,
) -> Stored:
    """Store forecasts of whole tracks in one transaction, and commit it.

    With `replace`, the tracks' existing forecasts are deleted in the same transaction. In it, too, rows are
    added to the history: those of the tracks that are stored or have no forecast; and the intervals of the
    tracks that are stored take the place of those that they had. Tracks whose rows the server refuses keep
    what they have. Raises `WriteRefusedError`, with nothing stored, if the table then
    holds anything other than what was written.
    """
    write = _Write(connection, tables, forecasts.rows, horizon, replace, history, intervals)
    return store_or_sift(connection, write.directly, write.sifted)


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
    intervals: pl.DataFrame | None
    """Rows for `INTERVALS`; None: none are stored."""

    def directly(self) -> Stored:
        if len(self.rows):
            self._make_room()
            if is_far(self.connection) and fits_in_arrays(self.tables):
                insert_arrays(self.connection, self.tables, self.rows, horizon=self.horizon)
            else:
                append(self.connection, self.tables, FORECAST_TABLE, self.rows)
        self._check_and_keep(self._tracks)
        commit(self.connection)
        return Stored(len(self.rows), [])

    def sifted(self) -> Stored:
        """Store the tracks that have no rows of others, and that the server accepts."""
        sifted = self._sift.store(self.connection)
        got = [*sifted.stored, *sifted.refused]
        taken = self._tracks.filter(~self._tracks.is_in(got))
        self._check_taken(taken)
        self._check_and_keep(sifted.stored, [*sifted.refused])
        commit(self.connection)
        return Stored(len(sifted.stored) * self.horizon, taken.to_list(), sifted.refused)

    def _check_and_keep(self, stored: pl.Series, refused: Sequence[int] = ()) -> None:
        """Check that each of these tracks has exactly the months 1 to `horizon` on the server.

        In the same statement, add the history of the tracks that are stored, that are refused, and that have
        no forecast, and store the intervals of those that are stored.
        """
        kept = self._to_keep(stored, refused)
        if stored.is_empty() and kept is None:
            return
        whole = f"({self.horizon}, {self.horizon}, 1, {self.horizon})"
        wrong = f"""
            SELECT t.id FROM unnest({_TRACKS}) AS t (id) LEFT JOIN {_FOUND} f ON f.cm_track_id = t.id
            WHERE (f.rows, f.months, f.first, f.last) IS DISTINCT FROM {whole} ORDER BY 1"""
        sure = None
        if self.intervals is not None:
            sure = self.intervals.filter(pl.col("cm_track_id").is_in(stored.implode()))
        self._refuse(self._queried_and_kept(stored, wrong, kept, sure)["id"])

    def _queried_and_kept(
        self, stored: pl.Series, sql: str, kept: pl.DataFrame | None, sure: pl.DataFrame | None, /
    ) -> pl.DataFrame:
        """Query the `_FOUND` of some tracks, and in the same statement add to the history and the intervals.

        `sql`: in it, `_TRACKS` are the ids, as an array. The history of these tracks gets their months as
        they are stored. The caller commits. Raises `WriteRefusedError` if the run has a row of a track there
        already, from another worker.
        """
        tables, also = self.tables, ""
        given: list[object] = [stored]
        if kept is not None:
            names = ", ".join(kept.columns)
            values = ", ".join(f"${number}" for number, _ in enumerate(kept.columns, 2))
            given += kept.get_columns()
            also += f""", kept AS (
                INSERT INTO {tables.name(HISTORY.name)} ({names}, months) SELECT k.*, f.streams
                FROM unnest({values}) AS k ({names}) LEFT JOIN {_FOUND} f USING (cm_track_id))"""
        if sure is not None and len(sure):
            store, bounds = storing(tables, sure, horizon=self.horizon, first=len(given) + 1)
            given += bounds
            also += f", sure AS ({store})"
        more = "" if kept is None else ", array_agg(s.forecasted_value::float8 ORDER BY s.month) AS streams"
        found = f"{stored_months(tables, more=more)} AND cm_track_id = ANY ({_TRACKS}) GROUP BY 1"
        try:
            return query(self.connection, f"WITH {_FOUND} AS ({found}){also} {sql}", (*given,))
        except adbc.Error as error:
            if error.sqlstate != UNIQUE_VIOLATION:
                raise
            raise WriteRefusedError(
                f"{HISTORY.name}: this run has rows of some of these tracks there already; nothing was "
                "stored",
                hint="start again: the next run completes the rest",
            ) from None

    def _to_keep(self, stored: pl.Series, refused: Sequence[int]) -> pl.DataFrame | None:
        if self.history is None:
            return None
        track = pl.col("cm_track_id")
        is_refused, has_forecast = track.is_in(refused), track.is_in(self._tracks.implode())
        return self.history.filter(is_refused | track.is_in(stored.implode()) | ~has_forecast).with_columns(
            reason=pl.when(is_refused).then(pl.lit(REFUSED)).otherwise("reason")
        )

    @property
    def _sift(self) -> Sift:
        is_whole = f"(count, months, first, last) = ({self.horizon}, {self.horizon}, 1, {self.horizon})"
        some = f"{stored_months(self.tables)} AND cm_track_id = ANY ({SOME}) GROUP BY 1"
        return Sift(
            self.tables,
            FORECAST_TABLE,
            self.rows,
            self.horizon,
            self.replace,
            taken=f"EXISTS (SELECT FROM {self._target} f WHERE f.cm_track_id = t.id)",
            right=f"SELECT f.id FROM ({some}) AS f (id, count, months, first, last) WHERE {is_whole}",
            on_conflict=f"ON CONFLICT ({', '.join(FORECASTS.key)}) DO NOTHING"
            # It would also skip rows that a policy hides, which then look as if a trigger had removed ours.
            if has_key(self.tables) and FORECAST_TABLE not in self.tables.filtered
            else "",
        )

    def _make_room(self) -> None:
        if self.replace:
            execute(
                self.connection,
                f"DELETE FROM {self._target} WHERE cm_track_id = ANY ({integer_array(self._tracks)})",
            )

    def _check_taken(self, tracks: pl.Series) -> None:
        """Check that each of these tracks has rows of another writer, and none of this run."""
        at = self.rows["created_at"].max()
        ours = f"created_at IS NOT DISTINCT FROM $1::{self.tables.type(FORECAST_TABLE, 'created_at')}"
        sql = f"{self._stored(tracks)} GROUP BY 1 HAVING NOT bool_or({ours})"
        found = query(self.connection, sql, (at,))
        if FORECAST_TABLE in self.tables.filtered:  # the rows of the other writer may be hidden
            seen = query(self.connection, f"{self._stored(tracks)} GROUP BY 1")["cm_track_id"]
            tracks = tracks.filter(tracks.is_in(seen.implode()))
        self._refuse(tracks.filter(~tracks.is_in(found["cm_track_id"].implode())))

    def _stored(self, tracks: pl.Series) -> str:
        return f"{stored_months(self.tables)} AND cm_track_id = ANY ({integer_array(tracks)})"

    def _refuse(self, tracks: pl.Series) -> None:
        if len(tracks):
            raise DisturbedError(
                f"{FORECAST_TABLE}: for {counted(len(tracks), 'track')}, the first is {tracks[0]}, the table "
                f"would not hold exactly the {self.horizon} months that were written; nothing of the batch "
                "was stored",
                hint="remove the trigger or rule on the table that changes what is written; if another "
                "program stores forecasts of the same tracks, run again once it is done",
            )

    @property
    def _target(self) -> str:
        return self.tables.name(FORECAST_TABLE)

    @property
    def _tracks(self) -> pl.Series:
        return self.rows["cm_track_id"].cast(pl.Int64).unique().sort()
