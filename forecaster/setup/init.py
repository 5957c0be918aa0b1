"""Create the tables that are missing, and report what is wrong with existing ones."""

from dataclasses import dataclass

from forecaster.postgres.connection import commit, connect, query
from forecaster.postgres.creation import create_key, create_missing
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.migrations import create_calibrated, create_kept, migrate, pending
from forecaster.postgres.server import check_writable
from forecaster.postgres.stored import NOT_GUARANTEED, describe_irregular, has_key, stored_months
from forecaster.postgres.tables import read_tables
from forecaster.tables import FORECAST_TABLE, KEPT, TABLES


@dataclass(frozen=True)
class Initialised:
    """What was created, and warnings about what was not."""

    created: list[str]
    warnings: list[str]


def initialise(dsn: Dsn, schema: str) -> Initialised:
    """Create the schema, the tables and the forecasts' unique key if they are missing.

    Existing tables stay as they are; those of our own are brought up to the version of this program. If the
    data or the user's rights do not allow the key, it is not created, with a warning. Raises
    `SchemaMismatchError` if existing tables do not fit or are newer, and then creates nothing; `LockedError`
    if a run is writing; `DatabaseUnreachableError`, `DatabaseError`.
    """
    with connect(dsn) as connection:
        check_writable(connection)
        tables = read_tables(connection, schema)
        migrations = pending(connection, schema)
        is_kept = all(name in tables.columns for name in KEPT)  # they may have been dropped to begin anew
        if (migrations or not is_kept) and FORECAST_TABLE in tables.columns:
            take_lock(connection, tables)
        created = create_missing(connection, schema)
        tables = read_tables(connection, schema)
        tables.check(*TABLES)
        created += migrate(connection, schema, migrations)
        tables = read_tables(connection, schema)
        created += create_kept(connection, tables) + create_calibrated(connection, tables)
        commit(connection)
        if FORECAST_TABLE in created:
            return Initialised(created, [])
        stored = query(connection, f"{stored_months(tables)} GROUP BY 1")
        warnings = list(describe_irregular(stored, schema))
        if not has_key(tables):
            take_lock(connection, tables)
            key = f"unique key of {FORECAST_TABLE} on (cm_track_id, month)"
            if why_not := create_key(connection, tables):
                warnings.append(f"the {key} is missing, because {why_not}: {NOT_GUARANTEED}")
            else:
                created.append(key)
    return Initialised(created, warnings)
