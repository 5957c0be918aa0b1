"""Create the tables that are missing, and the unique key of the forecasts."""

from collections.abc import Mapping

import adbc_driver_manager as adbc

from forecaster.errors import SchemaMismatchError
from forecaster.model.segments import SEGMENT_STARTS
from forecaster.postgres.answers import look_up
from forecaster.postgres.connection import (
    NAME_BYTES,
    Connection,
    commit,
    execute,
    quote_identifier,
    roll_back,
)
from forecaster.postgres.tables import Tables, read_tables
from forecaster.tables import FORECAST_TABLE, FORECASTS, STREAMS_TABLE, TABLES

_CHILDREN = "other tables inherit from it, and a key does not cover their rows"
_WHY_NO_KEY: Mapping[str, str] = {
    "23505": "a month is stored twice",
    "42501": "this user does not own the table, or lacks the right to create objects in its schema",
    "42809": "it is a view",
    "0A000": "it is partitioned by other columns",
}

# The server would truncate a longer name. The length depends on the database's encoding.
_SCHEMA_SQL = """
    SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1::text), octet_length($1::text)"""

# Until a VACUUM, the index of the key does not tell whether a row counts, and its page is read, too. By
# default the server waits for new rows of a fifth of the table: half a year of nights.
_VACUUM_OFTEN = "ALTER TABLE {streams} SET (autovacuum_vacuum_insert_scale_factor = 0.01)"
_KNOWS_IT = "SELECT current_setting('server_version_num')::int4 >= 130000"


def create_missing(connection: Connection, schema: str) -> list[str]:
    """Create the schema and the tables that are missing; return what was created.

    Existing tables stay as they are. The caller commits. Raises `SchemaMismatchError` for an invalid name.
    """
    created = []
    quote_identifier(schema)  # refuses an invalid name
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
        _equip(connection, read_tables(connection, schema))
    return created


def _equip(connection: Connection, tables: Tables) -> None:
    """Add to a new table of streams what keeps its reads fast as it grows."""
    streams = tables.name(STREAMS_TABLE)
    # Empty on clean data. With it, counting the rows left out costs nothing, however large the table is.
    execute(connection, f"CREATE INDEX ON {streams} (cm_track_id) WHERE {tables.unusable(STREAMS_TABLE)}")
    # Rows arrive in the order of this column. It holds two instants per 16 pages, by which a refresh finds
    # the rows that are newer than a forecast without a pass over all rows.
    execute(connection, f"CREATE INDEX ON {streams} USING brin (created_at) WITH (pages_per_range = 16)")
    if (True,) in look_up(connection, _KNOWS_IT, ()):
        execute(connection, _VACUUM_OFTEN.format(streams=streams))


def create_key(connection: Connection, tables: Tables) -> str | None:
    """Create the forecasts' unique key and commit; None, or the reason why it cannot be created."""
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
