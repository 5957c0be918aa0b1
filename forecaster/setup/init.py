"""Create what is missing of the tables, and say what is wrong with those that are there."""

from dataclasses import dataclass

from forecaster.postgres.connection import commit, connect, query
from forecaster.postgres.creation import create_key, create_missing
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.server import check_writable
from forecaster.postgres.stored import NOT_GUARANTEED, describe_irregular, has_key, stored_months
from forecaster.postgres.tables import read_tables
from forecaster.tables import FORECAST_TABLE, TABLES


@dataclass(frozen=True)
class Initialised:
    """What was created, and what could not be."""

    created: list[str]
    warnings: list[str]


def initialise(dsn: Dsn, schema: str) -> Initialised:
    """Create the schema, the tables and the forecasts' unique key as far as they are missing.

    What exists is left as it is. The key is left out, with a warning, where the data or the user's rights
    do not allow it. Raises `SchemaMismatchError` if what exists cannot work, and then creates nothing;
    `LockedError` if a run is writing; `DatabaseUnreachableError`, `DatabaseError`.
    """
    with connect(dsn) as connection:
        check_writable(connection)
        created = create_missing(connection, schema)
        tables = read_tables(connection, schema)
        tables.check(*TABLES)
        commit(connection)
        if FORECAST_TABLE in created:
            return Initialised(created, [])
        stored = query(connection, f"{stored_months(tables)} GROUP BY 1")
        warnings = list(describe_irregular(stored, schema))
        if not has_key(tables):
            take_lock(connection, tables)
            key = f"unique key of {FORECAST_TABLE} on (cm_track_id, month)"
            if why_not := create_key(connection, tables):
                warnings.append(f"there is no {key}, because {why_not}: {NOT_GUARANTEED}")
            else:
                created.append(key)
    return Initialised(created, warnings)
