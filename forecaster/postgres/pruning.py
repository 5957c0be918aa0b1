"""Remove old rows of the history, without losing what the kept runs say."""

from dataclasses import dataclass
from functools import partial

import polars as pl

from forecaster.postgres.catalogue import warn_of_hidden_rows
from forecaster.postgres.connection import Connection, commit, connect, execute, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.look import look
from forecaster.postgres.migrations import check_version
from forecaster.postgres.rights import check_rights
from forecaster.postgres.runs import named
from forecaster.postgres.server import check_writable
from forecaster.postgres.tables import Tables
from forecaster.tables import HISTORY, KEPT, VERSIONS

_OLDEST_KEPT = "SELECT id FROM {runs} ORDER BY id DESC OFFSET $1 LIMIT 1"
# Of the rows up to the oldest kept run, the state after that run needs the newest forecast of each track, and
# the newest row of any kind. So the newest forecast of a track stays, however old it is.
_NEWEST = """
    (SELECT n.cm_track_id AS track, max(n.run_id) AS looked_at,
            max(n.run_id) FILTER (WHERE n.months IS NOT NULL) AS forecast
     FROM {history} n WHERE n.run_id <= {oldest} GROUP BY 1)"""
_SUPERSEDED = "(h.run_id <> newest.looked_at AND h.run_id IS DISTINCT FROM newest.forecast)"
_PLAN = f"""
    SELECT r.id AS run, r.started_at, count(h.run_id)::bigint AS rows,
           (count(h.run_id) FILTER (WHERE {_SUPERSEDED}))::bigint AS superseded
    FROM {{runs}} r
    JOIN {{history}} h ON h.run_id = r.id
    LEFT JOIN {_NEWEST} newest ON newest.track = h.cm_track_id
    WHERE r.id < {{oldest}} GROUP BY 1, 2 ORDER BY 1"""
_DELETE = f"""
    DELETE FROM {{history}} h USING {_NEWEST} newest
    WHERE newest.track = h.cm_track_id AND h.run_id < {{oldest}} AND {_SUPERSEDED}"""
_NO_RUN = pl.Schema(
    {"run": pl.Int64(), "started_at": pl.Datetime("us", "UTC"), "rows": pl.Int64(), "superseded": pl.Int64()}
)


@dataclass(frozen=True)
class Pruned:
    """What is removed from the history, or would be."""

    runs: pl.DataFrame
    """One row per run with rows before the kept ones, oldest first: run, started_at, rows of the history, and
    how many of them are superseded and so removed."""

    @property
    def rows(self) -> int:
        """Rows removed from the history."""
        return int(self.runs["superseded"].sum())

    @property
    def kept(self) -> int:
        """Rows of these runs that stay, because they are the newest of their track."""
        return int(self.runs["rows"].sum()) - self.rows


def prune(dsn: Dsn, schema: str, *, keep: int, dry_run: bool) -> Pruned:
    """Remove the rows of the runs before the last `keep` that newer rows supersede, in one transaction.

    The records of all runs stay: what `history` says about a run compares it with the one before. Needs no
    lock: a run in progress is among the last ones, and adds rows of its own only. Raises
    `SchemaMismatchError` if a table is missing, does not fit or is too new, `DatabaseError` if the user lacks
    a right.
    """
    read = dict.fromkeys((*KEPT, VERSIONS.name), ("SELECT",))
    rights = read if dry_run else read | {HISTORY.name: ("SELECT", "DELETE")}
    with connect(dsn, repeatable_read=True) as connection:
        seen = look(connection, schema, rights)
        tables = seen.tables
        if not dry_run:
            check_writable(connection, seen.state)
        check_version(partial(query, connection), tables)
        tables.check(*KEPT, to_write=())
        check_rights(connection, tables, rights, seen.lacking)
        warn_of_hidden_rows(tables, *KEPT)
        found = query(connection, named(_OLDEST_KEPT, tables), (keep - 1,))
        if found.is_empty():
            return Pruned(pl.DataFrame(schema=_NO_RUN))
        return _removed(connection, tables, int(found.item()), dry_run=dry_run)


def _removed(connection: Connection, tables: Tables, oldest: int, *, dry_run: bool) -> Pruned:
    plan, delete = (named(sql.replace("{oldest}", f"{oldest}"), tables) for sql in (_PLAN, _DELETE))
    pruned = Pruned(query(connection, plan))
    if not dry_run:
        execute(connection, delete)
        commit(connection)
    return pruned
