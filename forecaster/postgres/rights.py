"""The rights of this user on the tables, and the rows that it may see."""

from collections.abc import Iterator, Mapping, Sequence

from forecaster.errors import DatabaseError
from forecaster.postgres.connection import Connection, query, quote_identifier
from forecaster.postgres.tables import Tables
from forecaster.tables import STREAMS_TABLE


def check_rights(connection: Connection, tables: Tables, wanted: Mapping[str, Sequence[str]], /) -> None:
    """Raise `DatabaseError` with each right on a table that the user lacks, and the GRANT for it."""
    # Names of tables and rights are our own constants. Rights on single columns may suffice: the statement
    # will tell.
    rights = ", ".join(f"('{table}', '{right}')" for table, names in wanted.items() for right in names)
    lacking = query(connection, _lacking(rights), (tables.schema, tables.streams))
    grants = [
        f"GRANT {right} ON {tables.name(table) if table else f'SCHEMA {quote_identifier(tables.schema)}'} "
        f"TO {quote_identifier(user)}"
        for right, table, user in lacking.iter_rows()
    ]
    if not grants:
        _check_policies(connection, tables, wanted)
    else:
        rights = ", ".join(
            f"{right} on {tables.title(table) if table else 'the schema'}"
            for right, table in lacking.select("right", "table").iter_rows()
        )
        raise DatabaseError(
            f"the database user lacks rights in schema {tables.schema!r}: {rights}",
            hint="; ".join(grants) + ";",
        )


def _lacking(wanted: str) -> str:
    """SQL: the rights that the user lacks in schema $1, in which $2 is the table of streams.

    `wanted`: rows of a table and a right.
    """
    return f"""
        SELECT 'USAGE' AS "right", NULL AS "table", current_user::text AS "user"
        FROM pg_catalog.pg_namespace n WHERE n.nspname = $1 AND NOT has_schema_privilege(n.oid, 'USAGE')
        UNION ALL
        SELECT w."right", w."table", current_user::text
        FROM (VALUES {wanted}) AS w ("table", "right")
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
    """Raise `DatabaseError` if row security prevents all reads, or the write."""
    filtered = [table for table in wanted if table in tables.filtered]
    if not filtered:
        return
    sql = "SELECT current_user::text, current_setting('row_security') = 'off'"
    user, is_off = query(connection, sql).row(0)
    hint = f"ALTER ROLE {quote_identifier(user)} BYPASSRLS;"
    if is_off:
        raise DatabaseError(
            "row_security is off, so tables whose policies apply to this user cannot be read: "
            f"{', '.join(map(tables.title, filtered))}",
            hint=f"{hint} or turn row_security on, and read only the rows that the policies allow",
        )
    if to_write := [tables.title(table) for table in filtered if "INSERT" in wanted[table]]:
        raise DatabaseError(
            f"row security prevents this user from storing in {', '.join(to_write)}: rows are stored by "
            "COPY, which the server refuses if policies apply",
            hint=hint,
        )
