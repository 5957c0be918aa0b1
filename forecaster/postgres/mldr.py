"""Store MLDR: one new row per artist, or nothing."""

import polars as pl

from forecaster.errors import WriteRefusedError
from forecaster.frames.casting import Fitted
from forecaster.postgres.connection import Connection, commit, execute, integer_array, query
from forecaster.postgres.rows import Stored, append
from forecaster.postgres.tables import Tables
from forecaster.tables import MLDR_TABLE, is_finite


def store_rates(connection: Connection, tables: Tables, rates: Fitted, /, *, replace: bool) -> Stored:
    """Store one new MLDR for each artist in one transaction, and commit it.

    An artist that got an MLDR in the meantime keeps it. With `replace`, all existing rows of the artists are
    deleted first, in the same transaction. Raises `WriteRefusedError`, with nothing stored, if the table
    then holds anything other than what was written.
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
    append(connection, tables, MLDR_TABLE, rows)
    after = _rates_of(connection, tables, written).join(
        before, on="cm_artist_id", how="left", suffix="_before"
    )
    one_more = after.filter("is_rated", pl.col("rows") == pl.col("rows_before").fill_null(0) + 1)
    if len(one_more) != len(written):
        missing = written.filter(~written.is_in(one_more["cm_artist_id"].implode()))
        raise WriteRefusedError(
            f"{MLDR_TABLE}: for {len(missing):,} artists, the first is {missing[0]}, the table would not "
            "hold exactly the one MLDR that was written; nothing was stored",
            hint="remove the trigger or rule on the table that changes what is written, or the artist's row "
            "without an MLDR whose created_at is in the future",
        )
    commit(connection)
    return Stored(len(rows), taken.to_list())


def _rates_of(connection: Connection, tables: Tables, artist_ids: pl.Series) -> pl.DataFrame:
    """Count each artist's rows: cm_artist_id, rows, is_rated (the newest is finite); only those with rows."""
    newest = f"ORDER BY {tables.newest_first(MLDR_TABLE)}"
    return query(
        connection,
        f"SELECT s.cm_artist_id::bigint AS cm_artist_id, count(*)::bigint AS rows, "
        f"coalesce((array_agg({is_finite('s.mldr')} {newest}))[1], false) AS is_rated "
        f"FROM {tables.name(MLDR_TABLE)} s "
        f"WHERE s.cm_artist_id = ANY ({integer_array(artist_ids)}) GROUP BY 1",
    )
