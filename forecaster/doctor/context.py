"""The state that checks share: two connections, and the answers so far."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from forecaster.doctor.findings import Examination
from forecaster.errors import DatabaseError, SchemaMismatchError
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import Source, export_snapshot
from forecaster.postgres.connection import Connection, query, quote_identifier
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.readers import Readers
from forecaster.postgres.rights import check_rights
from forecaster.postgres.stored import stored_months
from forecaster.postgres.tables import Tables
from forecaster.run.plausible import Plausibility
from forecaster.tables import STREAMS_TABLE, TO_FORECAST

_SERVER = """
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
           current_user::text AS "user", current_database()::text AS database,
           coalesce((SELECT s.ssl FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_backend_pid()), false)
               AS encrypted,
           (SELECT s.version FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_backend_pid()) AS protocol,
           current_setting('ssl', true) = 'on' AS offers_tls,
           pg_is_in_recovery() AS standby, p.setting = 'on' AS read_only, p.source AS read_only_by
    FROM pg_catalog.pg_settings p WHERE p.name = 'default_transaction_read_only'"""
_RELATIONS = """
    SELECT c.relname::text AS "table", c.relkind::text AS kind, c.reltuples::float8 AS rows,
           c.oid::int8 AS oid, has_schema_privilege(n.oid, 'USAGE') AS usable,
           EXISTS (SELECT FROM pg_catalog.pg_index i
                   WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NOT NULL) AS has_partial
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname IN ($2, $3, $4) ORDER BY 1"""

_NOT_TABLES = "vmf"  # views, materialised ones, foreign tables


@dataclass(frozen=True)
class Server:
    """The server as one of our connections sees it."""

    version: str
    number: int
    """`server_version_num`: the major version times 10,000, plus the minor one."""
    user: str
    database: str
    encrypted: bool
    protocol: str | None
    """The TLS version of an encrypted connection."""
    offers_tls: bool
    standby: bool
    read_only: bool
    """Whether transactions are read-only by default."""
    read_only_by: str
    """Where this default is set: `pg_settings.source`."""


@dataclass(frozen=True)
class Relation:
    """Facts about a table from the system catalogue, other than its columns and indexes."""

    kind: str
    rows: float
    """The server's estimate of the number of rows; -1 without one."""
    oid: int
    usable: bool
    """Whether the user has USAGE on its schema."""
    has_partial: bool
    """Whether it has a partial index."""

    @property
    def is_table(self) -> bool:
        """Whether it can have indexes and a unique key."""
        return self.kind not in _NOT_TABLES


@dataclass
class Context:
    """The state that checks share. It caches the answers of the server."""

    dsn: Dsn
    parameters: Parameters
    reader: Connection
    """Its transaction holds the snapshot of the source. It runs no other statements."""
    connection: Connection
    result: Examination
    tables: Tables
    """Empty until the check of the tables has read them."""
    options: str | None = None
    """The options that commands need to find the same tables; None: --schema, unless it is public."""
    plausibility: Plausibility | None = None
    """The checks of the data; None: none of them."""
    stack: ExitStack = field(default_factory=ExitStack)
    """Closes the connections of the source."""
    has_connectorx: bool = False
    """Whether connectorx has connected."""

    def query(self, sql: str, *parameters: str | int) -> pl.DataFrame:
        """Run a statement and return its rows."""
        return query(self.connection, sql, parameters)

    def command(self, words: str) -> str:
        """Write a command with the options for these tables."""
        schema = self.tables.schema
        with_schema = "" if schema == "public" else f" --schema {shlex.quote(schema)}"
        return f"forecaster {words}{with_schema if self.options is None else self.options}"

    def fits(self, table: str) -> bool:
        """Whether the table exists and fits."""
        try:
            self.tables.check(table)
        except SchemaMismatchError:
            return False
        return True

    def lacking(self, rights: Mapping[str, Sequence[str]]) -> DatabaseError | None:
        """Return an error that names the rights that the user lacks; None if there are none."""
        try:
            if rights:
                check_rights(self.connection, self.tables, rights)
        except DatabaseError as error:
            return error
        return None

    @cached_property
    def readable(self) -> set[str]:
        """The tables that fit and that the user may read."""
        return {table for table in TO_FORECAST if self.fits(table) and not self.lacking({table: ("SELECT",)})}

    @property
    def can_count(self) -> bool:
        """Whether everything that a run reads can be read."""
        return self.has_connectorx and self.readable == set(TO_FORECAST)

    @cached_property
    def server(self) -> Server:
        """Return the server as it describes itself."""
        return Server(**self.query(_SERVER).row(0, named=True))

    @property
    def user(self) -> str:
        """The user's name, quoted for SQL."""
        return quote_identifier(self.server.user)

    @property
    def database(self) -> str:
        """The name of the database, quoted for SQL."""
        return quote_identifier(self.server.database)

    @cached_property
    def relations(self) -> dict[str, Relation]:
        """The tables that exist, whether they fit or not."""
        found = self.query(_RELATIONS, self.tables.schema, *TO_FORECAST)
        return {table: Relation(*facts) for table, *facts in found.iter_rows()}

    @property
    def names(self) -> dict[str, str]:
        """The names for statements on the streams table, which has to fit."""
        return {
            "table": self.tables.name(STREAMS_TABLE),
            "day": self.tables.day(STREAMS_TABLE),
            "unusable": self.tables.unusable(STREAMS_TABLE),
            "newest": self.tables.newest_first(STREAMS_TABLE),
        }

    @cached_property
    def stored(self) -> pl.DataFrame:
        """One row per track that has forecasts, with the columns of `stored_months`."""
        return self.query(f"{stored_months(self.tables)} GROUP BY 1")

    @cached_property
    def _readers(self) -> Readers:
        readers = Readers(self.dsn, export_snapshot(self.reader), like=self.reader)
        return self.stack.enter_context(readers)

    @property
    def source(self) -> Source:
        """Return the source that a run would read."""
        return Source(self.dsn, self.tables, self._readers.snapshot, readers=self._readers)

    @cached_property
    def streamed(self) -> pl.Series:
        """Return the tracks that have streams."""
        return self.source.tracks()
