"""The rights of this user on the tables, and the rows that it may see."""

from collections.abc import Iterator, Mapping, Sequence

from forecaster.errors import DatabaseError
from forecaster.postgres.answers import Rows, answers
from forecaster.postgres.connection import Connection, query, quote_identifier
from forecaster.postgres.tables import Tables
from forecaster.tables import STREAMS_TABLE

_STATE_SQL = """
    SELECT current_user::text, current_setting('row_security') = 'off',
           has_database_privilege(current_database(), 'TEMPORARY')"""
# A policy of all commands counts for each. Without a permissive policy, nothing is allowed; what the policies
# in force say of a row is known only once there is one, unless it is the same for every row.
_POLICIES_SQL = """
    SELECT w.command,
           array_agg(p.polname::text) FILTER (WHERE NOT p.polpermissive AND p.says = 'false') AS refusing,
           coalesce(bool_or(p.polpermissive AND p.says IS DISTINCT FROM 'false'), false) AS is_allowed,
           (SELECT array_agg(a.polname::text ORDER BY a.polname) FROM pg_catalog.pg_policy a
            WHERE a.polrelid = c.oid) AS known
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
    CROSS JOIN (VALUES {commands}) AS w (command, letter)
    LEFT JOIN LATERAL (
        SELECT q.polname, q.polpermissive,
               pg_get_expr(CASE w.letter WHEN 'a' THEN coalesce(q.polwithcheck, q.polqual) ELSE q.polqual END,
                           q.polrelid) AS says
        FROM pg_catalog.pg_policy q
        WHERE q.polrelid = c.oid AND q.polcmd::text IN ('*', w.letter)
          AND (0 = ANY (q.polroles)
               OR EXISTS (SELECT FROM unnest(q.polroles) r WHERE pg_has_role(r, 'USAGE')))) p ON true
    WHERE c.relname = $2 AND c.relrowsecurity
    GROUP BY w.command, c.oid ORDER BY w.command"""
_LETTERS = {"SELECT": "r", "INSERT": "a", "DELETE": "d"}


def check_rights(
    connection: Connection, tables: Tables, wanted: Mapping[str, Sequence[str]], found: Rows | None = None, /
) -> None:
    """Raise `DatabaseError` with each right on a table that the user lacks, and the GRANT for it.

    `found`: what `lacking` selects, if it has been asked for.
    """
    if found is None:
        found = answers(connection, {"lacking": lacking(wanted)}, (tables.schema, tables.streams))["lacking"]
    grants = [
        f"GRANT {right} ON {tables.name(table) if table else f'SCHEMA {quote_identifier(tables.schema)}'} "
        f"TO {quote_identifier(user)}"
        for right, table, user in found
    ]
    if not grants:
        _check_policies(connection, tables, wanted)
    else:
        rights = ", ".join(
            f"{right} on {tables.title(table) if table else 'the schema'}" for right, table, _ in found
        )
        raise DatabaseError(
            f"the database user lacks rights in schema {tables.schema!r}: {rights}",
            hint="; ".join(grants) + ";",
        )


def lacking(wanted: Mapping[str, Sequence[str]]) -> str:
    """SQL: the rights that the user lacks in schema $1, in which $2 is the table of streams."""
    # Names of tables and rights are our own constants. Rights on single columns may suffice: the statement
    # will tell.
    rights = ", ".join(f"('{table}', '{right}')" for table, names in wanted.items() for right in names)
    return f"""
        SELECT 'USAGE' AS "right", NULL AS "table", current_user::text AS "user"
        FROM pg_catalog.pg_namespace n WHERE n.nspname = $1 AND NOT has_schema_privilege(n.oid, 'USAGE')
        UNION ALL
        SELECT w."right", w."table", current_user::text
        FROM (VALUES {rights}) AS w ("table", "right")
        JOIN pg_catalog.pg_class c
          ON c.relname = CASE w."table" WHEN '{STREAMS_TABLE}' THEN $2 ELSE w."table" END
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
        WHERE NOT CASE w."right" WHEN 'DELETE' THEN has_table_privilege(c.oid, w."right")
                                 ELSE has_any_column_privilege(c.oid, w."right") END"""


def hidden_rows(tables: Tables, *read: str) -> Iterator[str]:
    """Name in a sentence the tables of which this user may not see all rows."""
    if filtered := [tables.title(table) for table in read if table in tables.filtered]:
        yield f"row security policies decide which rows this user sees in {', '.join(filtered)}"


def warnings_of_hidden_rows(tables: Tables, *read: str) -> Iterator[str]:
    """Warn of hidden rows: what it means for the command that reads, and where to find the fix."""
    for sentence in hidden_rows(tables, *read):
        yield f"{sentence}: other rows are missing and not counted; `forecaster doctor` says how to see all"


def _check_policies(connection: Connection, tables: Tables, wanted: Mapping[str, Sequence[str]]) -> None:
    """Raise `DatabaseError` if row security prevents all reads, or every write."""
    filtered = [table for table in wanted if table in tables.filtered]
    if not filtered:
        return
    user, is_off, may_stage = query(connection, _STATE_SQL).row(0)
    if is_off:
        raise DatabaseError(
            "row_security is off, so tables whose policies apply to this user cannot be read: "
            f"{', '.join(map(tables.title, filtered))}",
            hint="turn row_security on, and only the rows that the policies allow are read; to see all, "
            f"add a policy: {policy(tables, filtered[0], user)}",
        )
    to_write = [table for table in filtered if {"INSERT", "DELETE"} & {*wanted[table]}]
    for table in to_write:
        _check_writes(connection, tables, table, sorted({"SELECT", *wanted[table]}), user)
    if to_write and not may_stage:
        raise DatabaseError(
            f"row security applies to {', '.join(map(tables.title, to_write))}, so rows are stored through a "
            "temporary table, and this user lacks TEMPORARY on the database",
            hint="GRANT TEMPORARY ON DATABASE " + _current(connection, user),
        )


def _check_writes(
    connection: Connection, tables: Tables, table: str, commands: Sequence[str], user: str
) -> None:
    """Raise `DatabaseError` that names the policies if they let no row through."""
    asked = ", ".join(f"('{command}', '{_LETTERS[command]}')" for command in commands)
    sql = _POLICIES_SQL.format(commands=asked)
    found = query(connection, sql, (tables.schema, tables.title(table)))
    for command, refusing, is_allowed, known in found.iter_rows():
        if refusing:
            raise DatabaseError(
                f"row security prevents this user from storing in {tables.title(table)}: policy "
                f"{', '.join(refusing)} refuses every {command}",
                hint="run as a user to whom the policy does not apply, or have its owner change the policy",
            )
        if not is_allowed:
            none = f"none of its policies ({', '.join(known)})" if known else "no policy"
            raise DatabaseError(
                f"row security prevents this user from storing in {tables.title(table)}: "
                f"{none} allows {command}",
                hint=f"add a policy: {policy(tables, table, user, command)}",
            )


def policy(tables: Tables, table: str, user: str, command: str = "SELECT") -> str:
    """SQL: allow the user a command on all rows of a table, and nothing else."""
    check = "WITH CHECK" if command == "INSERT" else "USING"
    name = quote_identifier(f"forecaster_{command.lower()}")
    return (
        f"CREATE POLICY {name} ON {tables.name(table)} FOR {command} TO {quote_identifier(user)} "
        f"{check} (true);"
    )


def _current(connection: Connection, user: str) -> str:
    database = query(connection, "SELECT current_database()::text").item()
    return f"{quote_identifier(database)} TO {quote_identifier(user)};"
