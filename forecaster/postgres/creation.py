"""Creating tables, and the unique key of the forecasts, as far as they are missing."""

from collections.abc import Mapping

import adbc_driver_manager as adbc

from forecaster.errors import SchemaMismatchError
from forecaster.model.segments import SEGMENT_STARTS
from forecaster.postgres.connection import (
    NAME_BYTES,
    Connection,
    commit,
    execute,
    quote_identifier,
    roll_back,
)
from forecaster.postgres.tables import Tables, look_up, read_tables
from forecaster.tables import FORECAST_TABLE, FORECASTS, STREAMS_TABLE, TABLES

_CHILDREN = "other tables inherit from it, whose rows no key of it covers"
_WHY_NO_KEY: Mapping[str, str] = {
    "23505": "a month is stored twice",
    "42501": "this user does not own the table, or may not create anything in its schema",
    "42809": "it is a view",
    "0A000": "it is partitioned by other columns",
}

# A longer name would be cut off. How long it is depends on the encoding.
_SCHEMA_SQL = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1::text), octet_length($1::text)"""


def create_missing(connection: Connection, schema: str) -> list[str]:
    """Create the schema and those of the tables that are not there; returns what was created.

    What exists is left as it is. The caller commits.
    """
    created = []
    quote_identifier(schema)  # refuses what can be no name
    [(is_there, length)] = look_up(connection, _SCHEMA_SQL, (schema,))
    if length > NAME_BYTES:
        raise SchemaMismatchError(
            f"{schema!r} cannot be the name of a schema: it has {length} bytes in the database's encoding, "
            f"and a name has at most {NAME_BYTES}"
        )
    if not is_there:
        execute(connection, f"CREATE SCHEMA {quote_identifier(schema)}")
        created.append(f"schema {schema}")
    tables = read_tables(connection, schema)
    ids = {name: tables.id_type(name) for name in TABLES}
    for name, table in TABLES.items():
        if name not in tables.columns:
            execute(connection, table.ddl(tables.name(name), ids, segments=len(SEGMENT_STARTS)))
            created.append(name)
    if STREAMS_TABLE in created:
        # Empty on clean data. It makes the count of rows that are left out free, however large the table.
        tables = read_tables(connection, schema)
        unusable = tables.unusable(STREAMS_TABLE)
        execute(connection, f"CREATE INDEX ON {tables.name(STREAMS_TABLE)} (cm_track_id) WHERE {unusable}")
    return created


def create_key(connection: Connection, tables: Tables) -> str | None:
    """Add the forecasts' unique key and commit, or say why it cannot be."""
    if FORECAST_TABLE in tables.with_children:
        return _CHILDREN
    try:
        key = ", ".join(FORECASTS.key)
        execute(connection, f"CREATE UNIQUE INDEX ON {tables.name(FORECAST_TABLE)} ({key})")
    except adbc.Error as error:
        roll_back(connection)
        if why_not := _WHY_NO_KEY.get(error.sqlstate or ""):
            return why_not
        raise
    commit(connection)
    return None
