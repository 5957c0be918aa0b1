"""Limits of connections: how many a run needs, and how many the server has left for it."""

from dataclasses import dataclass

from forecaster.errors import ConnectionLimitError
from forecaster.postgres.conditions import MORE_CONNECTIONS
from forecaster.postgres.readers import CONNECTIONS

# What is limited, the number allowed, in use, and left: of the limit that leaves the fewest. Whoever may not
# see the kind of a session takes it for a client. Sessions that this process has opened since do not count.
LEFT = """
    WITH me AS (
        SELECT r.oid AS role, r.rolname::text AS name, r.rolsuper, r.rolconnlimit, d.oid AS database,
               d.datname::text AS database_name, d.datconnlimit,
               current_setting('max_connections')::int AS most,
               CASE WHEN NOT r.rolsuper
                    THEN current_setting('superuser_reserved_connections')::int
                         + coalesce(current_setting('reserved_connections', true)::int, 0)
                    ELSE 0 END AS reserved
        FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
        WHERE r.rolname = session_user AND d.datname = current_database()
    ), used AS (
        SELECT count(*) FILTER (WHERE a.usesysid = me.role)::int AS by_role,
               count(*) FILTER (WHERE a.datid = me.database)::int AS in_database, count(*)::int AS everywhere
        FROM me, pg_catalog.pg_stat_activity mine, pg_catalog.pg_stat_activity a
        WHERE mine.pid = pg_backend_pid()
          AND a.usesysid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'
          AND (a.application_name = mine.application_name
               AND a.backend_start > mine.backend_start) IS NOT TRUE
    )
    SELECT what, allowed, taken, allowed - taken AS free
    FROM me, used, LATERAL (VALUES
        ('CONNECTION LIMIT of user ' || me.name,
         CASE WHEN NOT me.rolsuper AND me.rolconnlimit >= 0 THEN me.rolconnlimit END, used.by_role),
        ('CONNECTION LIMIT of database ' || me.database_name,
         CASE WHEN NOT me.rolsuper AND me.datconnlimit >= 0 THEN me.datconnlimit END, used.in_database),
        ('max_connections of the server, without those reserved for others', me.most - me.reserved,
         used.everywhere)) AS of_each (what, allowed, taken)
    WHERE allowed IS NOT NULL ORDER BY allowed - taken, what LIMIT 1"""


@dataclass(frozen=True)
class Limit:
    """The limit of connections that is met first."""

    what: str
    most: int
    used: int
    """Connections in use, with those of this process."""
    left: int


def needed(*, dry_run: bool, batches: int = 0) -> int:
    """Connections that a run uses: those that read, and the one that stores.

    `batches`: how many batches other processes work on at once, each with as many connections.
    """
    return (1 + batches) * (CONNECTIONS + (0 if dry_run else 1))


def check_limit(limit: Limit, needed: int, *, own: int) -> None:
    """Raise `ConnectionLimitError` if a run cannot have the connections that it needs.

    `own`: how many of those in use when the limit was read will be among them, or closed.
    """
    if limit.left + own < needed:
        raise ConnectionLimitError(
            f"a run needs {needed} connections at once, and {max(0, limit.left + own)} can be had: "
            f"{limit.what} is {limit.most}, of which {limit.used - own} are in use",
            hint=MORE_CONNECTIONS,
        )
