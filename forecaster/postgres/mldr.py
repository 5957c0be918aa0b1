"""Store MLDR: one new row per artist, or nothing."""

from dataclasses import dataclass

import polars as pl

from forecaster.frames.casting import Fitted
from forecaster.postgres.connection import Connection, commit, execute, integer_array, query
from forecaster.postgres.rows import Stored, append
from forecaster.postgres.sifting import SOME, DisturbedError, Sift, store_or_sift
from forecaster.postgres.tables import Tables
from forecaster.process.numbers import counted
from forecaster.tables import MLDR_TABLE, is_finite


def store_rates(connection: Connection, tables: Tables, rates: Fitted, /, *, replace: bool) -> Stored:
    """Store one new MLDR for each artist in one transaction, and commit it.

    An artist that got an MLDR in the meantime keeps it. With `replace`, all existing rows of the artists are
    deleted first, in the same transaction. Artists whose row the server refuses keep what they have. Raises
    `WriteRefusedError`, with nothing stored, if the table then holds anything other than what was written.
    """
    write = _Write(connection, tables, rates.rows, replace)
    return store_or_sift(connection, write.directly, write.sifted)


@dataclass(frozen=True)
class _Write:
    """MLDR on their way into the table; each attempt commits or leaves nothing."""

    connection: Connection
    tables: Tables
    rows: pl.DataFrame
    replace: bool

    def directly(self) -> Stored:
        if self.replace:
            ids = integer_array(self._artists)
            execute(self.connection, f"DELETE FROM {self._target} WHERE cm_artist_id = ANY ({ids})")
        before = self._rates
        taken = before.filter("is_rated")["cm_artist_id"].sort()
        written = self._artists.filter(~self._artists.is_in(taken.implode()))
        append(
            self.connection, self.tables, MLDR_TABLE, self.rows.filter(self._artists.is_in(written.implode()))
        )
        self._check(written, before)
        commit(self.connection)
        return Stored(len(written), taken.to_list())

    def sifted(self) -> Stored:
        """Store the MLDR of artists that have none, and whose row the server accepts."""
        before = self._rates
        some = f"{_rates_of(self.tables)} AND s.cm_artist_id = ANY ({{}}) GROUP BY 1"
        sifted = Sift(
            self.tables,
            MLDR_TABLE,
            self.rows,
            1,
            self.replace,
            taken=f"coalesce((SELECT r.is_rated FROM ({some.format('ARRAY[t.id]')}) AS r), false)",
            right=f"SELECT r.cm_artist_id AS id FROM ({some.format(SOME)}) AS r WHERE r.is_rated",
        ).store(self.connection)
        self._check(sifted.stored, before.clear() if self.replace else before)
        got = [*sifted.stored, *sifted.refused]
        taken = self._artists.filter(~self._artists.is_in(got)).sort()
        commit(self.connection)
        return Stored(len(sifted.stored), taken.to_list(), sifted.refused)

    def _check(self, artists: pl.Series, before: pl.DataFrame) -> None:
        """Check that each of these artists has one row more than before, and that its MLDR counts."""
        after = self._rates.join(before, on="cm_artist_id", how="left", suffix="_before")
        one_more = after.filter("is_rated", pl.col("rows") == pl.col("rows_before").fill_null(0) + 1)
        missing = artists.filter(~artists.is_in(one_more["cm_artist_id"].implode()))
        if len(missing):
            raise DisturbedError(
                f"{MLDR_TABLE}: for {counted(len(missing), 'artist')}, the first is {missing[0]}, the table "
                "would not hold exactly the one MLDR that was written; nothing was stored",
                hint="remove the trigger or rule on the table that changes what is written, or the artist's "
                "row without an MLDR whose created_at is in the future",
            )

    @property
    def _rates(self) -> pl.DataFrame:
        """The artists with rows: cm_artist_id, rows, is_rated (the newest is finite)."""
        ids = integer_array(self._artists)
        sql = f"{_rates_of(self.tables)} AND s.cm_artist_id = ANY ({ids}) GROUP BY 1"
        return query(self.connection, sql)

    @property
    def _target(self) -> str:
        return self.tables.name(MLDR_TABLE)

    @property
    def _artists(self) -> pl.Series:
        return self.rows["cm_artist_id"].cast(pl.Int64)


def _rates_of(tables: Tables) -> str:
    """SQL: count each artist's rows. The SELECT ends with its WHERE, as that of `stored_months`."""
    newest = f"ORDER BY {tables.newest_first(MLDR_TABLE)}"
    return (
        f"SELECT s.cm_artist_id::bigint AS cm_artist_id, count(*)::bigint AS rows, "
        f"coalesce((array_agg({is_finite('s.mldr')} {newest}))[1], false) AS is_rated "
        f"FROM {tables.name(MLDR_TABLE)} s WHERE true"
    )
