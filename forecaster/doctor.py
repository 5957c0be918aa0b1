"""What state the configuration, the server and the tables are in, and how to mend what is wrong."""

import ipaddress
import platform
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal

import polars as pl

from forecaster.catalogue import CHUNK
from forecaster.dsn import Dsn
from forecaster.errors import ConnectionLostError, DatabaseError, ForecasterError, SchemaMismatchError
from forecaster.interrupt import interruptible
from forecaster.model import build_tracks
from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import (
    Connection,
    connect,
    integer_array,
    query,
    quote_identifier,
    statement_errors,
)
from forecaster.postgres.lock import holder
from forecaster.postgres.source import Source, export_snapshot
from forecaster.postgres.stored import describe_irregular, has_key, missing_key, stored_months
from forecaster.postgres.tables import (
    CONTRACT,
    FORECAST_TABLE,
    MLDR_TABLE,
    STREAMS_TABLE,
    Tables,
    check_rights,
    read_tables,
)
from forecaster.report import PACKAGES
from forecaster.schema import FORECASTS
from forecaster.secrecy import masked

Level = Literal["ok", "warning", "error"]

_TESTED = "tested with 15 and 18"
_LEAST, _GOOD = 12, 14  # server versions
_MANY_ROWS = 10_000_000  # from here on it takes seconds to count the rows that are no records
_NAMED_TRACKS = 10  # of more than so many, a command does not name each
_NOT_TABLES = "vmf"  # views, materialised ones, foreign tables: nothing that has a unique key of its own
_READ_ONLY = "default_transaction_read_only"
_OTHERWISE = "see that the user may do this, and that --schema names the right one"
# What `describe_irregular` says of those that it has counted.
_LEFT_AS_THEY_ARE = re.compile(r"; they are left as they are.*", re.DOTALL)
_MENDS_ONE = re.compile(r"`(?P<mend>forecaster .+) --track-id -?\d+`", re.DOTALL)

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
           row_security_active(c.oid) AS filtered,
           EXISTS (SELECT FROM pg_catalog.pg_index i
                   WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NOT NULL) AS has_partial
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname IN ($2, $3, $4) ORDER BY 1"""
_ELSEWHERE = """
    SELECT n.nspname::text AS schema
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname <> $1 AND c.relname IN ($2, $3, $4)
    GROUP BY 1 HAVING count(*) = 3 ORDER BY 1"""
_INVALID_INDEXES = """
    SELECT c.relname::text AS "table", x.relname::text AS index
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname IN ($2, $3, $4) AND NOT i.indisvalid ORDER BY 1, 2"""
# Such as fire, or are applied, when rows are stored or deleted.
_TRIGGERS = """
    SELECT 'TRIGGER' AS kind, t.tgname::text AS name
    FROM pg_catalog.pg_trigger t
    WHERE t.tgrelid = $1::int8::oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
      AND t.tgtype & 12 <> 0
    UNION ALL
    SELECT 'RULE', r.rulename::text
    FROM pg_catalog.pg_rewrite r
    WHERE r.ev_class = $1::int8::oid AND r.ev_type IN ('3', '4') AND r.ev_enabled IN ('O', 'A')
    ORDER BY 1 DESC, 2"""
_SEQUENCES = """
    SELECT a.attname::text AS "column", n.nspname::text AS schema, q.relname::text AS name
    FROM pg_catalog.pg_attrdef v
    JOIN pg_catalog.pg_attribute a ON a.attrelid = v.adrelid AND a.attnum = v.adnum
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = v.oid
         AND d.refclassid = 'pg_catalog.pg_class'::regclass
    JOIN pg_catalog.pg_class q ON q.oid = d.refobjid
    JOIN pg_catalog.pg_namespace n ON n.oid = q.relnamespace
    WHERE v.adrelid = $1::int8::oid
      AND CASE WHEN q.relkind = 'S' THEN NOT has_sequence_privilege(q.oid, 'USAGE, UPDATE') END
    ORDER BY 1"""
# A run has up to six connections.
_CONNECTION_LIMITS = (
    "SELECT rolconnlimit, current_setting('max_connections') FROM pg_roles WHERE rolname = current_user"
)

_KEY_OF_STREAMS = "CREATE UNIQUE INDEX ON {table} (cm_track_id, date)"
_DUPLICATES = """
    SELECT coalesce(sum(d.rows - 1), 0)::bigint AS rows
    FROM (SELECT count(*) AS rows FROM {table} s WHERE s.cm_track_id IS NOT NULL AND s.date IS NOT NULL
          GROUP BY s.cm_track_id, {day} HAVING count(*) > 1) d"""
# What is left is the row that a run goes by: the newest of those that are records.
_DELETE_DUPLICATES = (
    "DELETE FROM {table} s USING (SELECT s.tableoid AS part, s.ctid AS place, row_number() OVER "
    "(PARTITION BY s.cm_track_id, {day} ORDER BY {unusable}, s.created_at DESC NULLS LAST, "
    "s.id DESC NULLS LAST, s.daily_streams DESC, s.days_from_release DESC NULLS LAST, "
    "s.cm_artist_id DESC NULLS LAST) AS nth FROM {table} s "
    "WHERE s.cm_track_id IS NOT NULL AND s.date IS NOT NULL) d "
    "WHERE s.tableoid = d.part AND s.ctid = d.place AND d.nth > 1"
)
_AS_DATE = "ALTER TABLE {table} ALTER COLUMN date TYPE date USING {day}"
_PARTIAL_INDEX = "CREATE INDEX ON {table} (cm_track_id) WHERE {unusable}"
_NOT_RECORDS = "SELECT * FROM {table} WHERE cm_track_id IS NULL OR {unusable}"
_WITHOUT_TRACK = "DELETE FROM {table} WHERE cm_track_id IS NULL"
_ARTISTS = "SELECT DISTINCT s.cm_artist_id::bigint AS id FROM {table} s WHERE NOT {unusable}"
_ARTISTS_BY_INDEX = """
    SELECT DISTINCT a.id FROM unnest({tracks}) AS t (id)
    CROSS JOIN LATERAL (
        SELECT s.cm_artist_id::bigint AS id FROM {table} s
        WHERE s.cm_track_id = t.id AND NOT {unusable} ORDER BY s.date DESC LIMIT 1) a"""
_SEVERAL_RATES = """
    SELECT count(*)::bigint AS artists
    FROM (SELECT FROM {table} s WHERE s.cm_artist_id IS NOT NULL GROUP BY s.cm_artist_id
          HAVING count(*) > 1) a"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    """In a few words."""
    level: Level
    found: str
    """What is, in a sentence."""
    fix: str | None = None
    """A command or SQL, ready to paste, or what else to do; None where nothing is to be done."""
    exit_code: int = 1
    """What `run` would end with, if it is an error."""


@dataclass
class Examination:
    """All that was found, in the order in which a run would come upon it."""

    database: str = ""
    """Without password."""
    schema: str = "public"
    findings: list[Finding] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    """Of Python, the server (if it was reached) and the libraries."""
    counts: dict[str, int] = field(default_factory=dict)
    """Tracks, rows and artists, as far as they could be counted."""
    skipped_by_reason: dict[str, int] = field(default_factory=dict)
    """Of the pending tracks those that a run would skip, most frequent reason first."""

    @property
    def exit_code(self) -> int:
        """What `run` would end with for the first error; 0 without one."""
        return next((finding.exit_code for finding in self.findings if finding.level == "error"), 0)

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        found = asdict(self)
        for finding in found["findings"]:
            del finding["exit_code"]
        return {**found, "exit_code": self.exit_code}


def examine(dsn: Dsn, schema: str, parameters: Parameters) -> Examination:
    """Look at everything that a run with these parameters depends on, and change nothing.

    What cannot be looked at is a finding as well, and ends only what needs it. Raises no `ForecasterError`.
    """
    result = Examination(f"{dsn}", schema)
    result.versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    result.findings += [_configuration(dsn, schema), _versions(result.versions)]
    try:
        with connect(dsn, repeatable_read=True) as reader, connect(dsn, beside=reader) as connection:
            unknown = Tables(schema, {}, ())
            _Examiner(dsn, schema, parameters, reader, connection, result, unknown).look_at_everything()
    except ForecasterError as error:
        fix = f"{error.hint or 'look into the log of the server'}; {_is_it_up(dsn)} says whether it runs"
        result.findings.append(Finding("connection", "error", f"{error}", fix, error.exit_code))
    result.findings = [
        replace(finding, found=masked(finding.found), fix=masked(finding.fix) if finding.fix else None)
        for finding in result.findings
    ]
    return result


def _configuration(dsn: Dsn, schema: str) -> Finding:
    given = ", ".join(f"{name}={value}" for name, value in dsn.parameters)
    parameters = f"with {dsn.redact(given)}" if given else "without parameters"
    return Finding("configuration", "ok", f"{dsn}, {parameters}; schema {schema!r}")


def _versions(versions: dict[str, str]) -> Finding:
    return Finding("versions", "ok", ", ".join(f"{name} {number}" for name, number in versions.items()))


def _is_it_up(dsn: Dsn) -> str:
    return f"pg_isready -h {shlex.quote(dsn.host)} -p {dsn.port}"


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _server_version(number: int, name: str) -> "_Seen":
    """`number` is that of the first release times 10,000, and so on."""
    release = number // 10_000
    move = f"move the database to PostgreSQL {_GOOD} or newer ({_TESTED})"
    if release < _LEAST:
        return "error", f"PostgreSQL {name} is too old: its catalogue lacks what is read of tables", move
    if release < _GOOD:
        slow = "does not notice while it works that a run was killed, and keeps its lock as long"
        return "warning", f"PostgreSQL {name} {slow}", move
    return "ok", f"PostgreSQL {name} ({_TESTED})", None


_Seen = tuple[Level, str, str | None]
"""What a check yields: level, what was found, and the fix."""


@dataclass
class _Examiner:
    """Everything that takes a connection."""

    dsn: Dsn
    schema: str
    parameters: Parameters
    reader: Connection
    """Its transaction is what the source sees, and nothing else is asked on it."""
    connection: Connection
    result: Examination
    tables: Tables
    fitting: set[str] = field(default_factory=set)
    """The tables that are there and fit."""
    readable: set[str] = field(default_factory=set)
    """Those of them that this user may read."""
    has_connectorx: bool = False

    def look_at_everything(self) -> None:
        """In the order in which a run would come upon it."""
        for about, check in (
            ("connection", self._drivers),
            ("server version", self._version),
            ("encryption", self._encryption),
            ("pooler", self._pooler),
            ("tables", self._tables),
            ("rights", self._rights),
            ("rights", self._sequences),
            ("row security", self._row_security),
            ("triggers", self._triggers),
            ("read-only", self._read_only),
            ("key of the streams", self._streams_key),
            ("key of the forecasts", self._forecasts_key),
            ("indexes", self._indexes),
            ("stored forecasts", self._stored_forecasts),
            ("lock", self._lock),
            ("tracks", self._tracks),
            ("decay rates", self._decay_rates),
        ):
            self._look(about, check)

    def _look(self, about: str, check: Callable[[], Iterator[_Seen]]) -> None:
        try:
            with statement_errors(self.dsn):
                for seen in check():  # what was found before an error stays
                    self.result.findings.append(Finding(about, *seen))
        except ConnectionLostError:
            raise
        except ForecasterError as error:
            self.connection.rollback()
            fix = error.hint or _OTHERWISE
            self.result.findings.append(Finding(about, "error", _one_line(error), fix, error.exit_code))

    def _command(self, words: str) -> str:
        schema = "" if self.schema == "public" else f" --schema {shlex.quote(self.schema)}"
        return f"forecaster {words}{schema}"

    def _query(self, sql: str, *parameters: str | int) -> pl.DataFrame:
        return query(self.connection, sql, parameters)

    @cached_property
    def _server(self) -> dict[str, Any]:
        return self._query(_SERVER).row(0, named=True)

    @cached_property
    def _user(self) -> str:
        return quote_identifier(self._server["user"])

    @cached_property
    def _database(self) -> str:
        return quote_identifier(self._server["database"])

    @cached_property
    def _relations(self) -> dict[str, dict[str, Any]]:
        found = self._query(_RELATIONS, self.schema, *CONTRACT)
        return {row["table"]: row for row in found.iter_rows(named=True)}

    @cached_property
    def _stored(self) -> pl.DataFrame:
        """One row per track that has forecasts, with the columns of `stored_months`."""
        return self._query(f"{stored_months(self.tables)} GROUP BY 1")

    @cached_property
    def _snapshot(self) -> str:
        return export_snapshot(self.reader)

    @property
    def _source(self) -> Source:
        return Source(self.dsn, self.tables, self._snapshot)

    @cached_property
    def _streams(self) -> pl.Series:
        """The tracks that have streams."""
        return self._source.tracks()

    @property
    def _names(self) -> dict[str, str]:
        """For the statements about the streams table."""
        return {
            "table": self.tables.name(STREAMS_TABLE),
            "day": self.tables.day_of_streams(),
            "unusable": self.tables.unusable_streams(),
        }

    def _drivers(self) -> Iterator[_Seen]:
        """Both, one with the snapshot of the other, as in a run."""
        yield "ok", f"ADBC connects as user {self._server['user']!r}", None
        try:
            self._source.read("SELECT 1::bigint AS one")
        except DatabaseError as error:
            raise DatabaseError(f"connectorx: {error}", hint=_CONNECTION_LIMITS) from None
        self.has_connectorx = True
        yield "ok", "connectorx connects, and reads what ADBC sees", None

    def _version(self) -> Iterator[_Seen]:
        self.result.versions["postgresql"] = self._server["version"]
        yield _server_version(self._server["number"], self._server["version"])

    def _encryption(self) -> Iterator[_Seen]:
        parameters = dict(self.dsn.parameters)
        if self._server["encrypted"]:
            verified = "is" if "sslrootcert" in parameters else "is not"
            yield "ok", f"{self._server['protocol']}; the server's certificate {verified} verified", None
        elif parameters.get("sslmode") == "require":
            between = "TLS is required, and the server sees none: what is between takes it off"
            yield "warning", between, "connect to the server itself"
        elif _is_local(self.dsn.host):
            yield "ok", "none, and none needed: the server is on this machine", None
        else:
            fix = "set PGSSLMODE=require, or add ?sslmode=require to the URL"
            if not self._server["offers_tls"]:
                fix = f"give the server a certificate and a key, ALTER SYSTEM SET ssl = on; then {fix}"
            yield "warning", f"none: what {self.dsn.host} is sent can be read on the way", fix

    def _pooler(self) -> Iterator[_Seen]:
        """Whether two transactions of a connection are served alike, with one of another between."""
        mine = "SELECT pg_backend_pid() AS pid"
        try:
            with connect(self.dsn, beside=self.connection) as one:
                one.adbc_connection.set_autocommit(enabled=True)  # else the next transaction begins at once
                before = query(one, mine).item()
                with connect(self.dsn, beside=self.connection) as other:
                    between = query(other, mine).item()
                    after = query(one, mine).item()
            is_one_session = before == after != between
        except ConnectionLostError:
            raise
        except DatabaseError:  # another process does not know the statement that was prepared in the first
            is_one_session = False
        if is_one_session:
            yield "ok", "none, or one that hands out whole sessions: each keeps its server process", None
        else:
            yield (
                "warning",
                "there is one that hands out transactions, and a run's lock needs a session of its own",
                "connect to the server itself, or set pool_mode = session in the pooler",
            )

    def _tables(self) -> Iterator[_Seen]:
        self.tables = tables = read_tables(self.connection, self.schema)
        self.fitting = {table for table in CONTRACT if _fits(tables, table)}
        try:
            tables.check(*CONTRACT)
        except SchemaMismatchError as error:
            if all(table in tables.columns for table in CONTRACT):
                raise
            others = self._query(_ELSEWHERE, self.schema, *CONTRACT)["schema"].to_list()
            there = f"; schemas that have all three: {', '.join(others)}" if others else ""
            raise SchemaMismatchError(f"{_one_line(error)}{there}", hint=self._command("init")) from None
        yield "ok", "all three are there, and fit", None

    def _rights(self) -> Iterator[_Seen]:
        """Those on the tables that there are."""
        self.readable = {table for table in self.fitting if not self._lacking({table: ("SELECT",)})}
        loads = {STREAMS_TABLE: ("INSERT",), MLDR_TABLE: ("INSERT",)}
        needs: tuple[tuple[str, Mapping[str, tuple[str, ...]], Level], ...] = (
            ("read", dict.fromkeys(CONTRACT, ("SELECT",)), "error"),
            ("store forecasts", {FORECAST_TABLE: ("INSERT",)}, "error"),
            ("replace forecasts", {FORECAST_TABLE: ("DELETE",)}, "warning"),
            ("load files, which no run does", loads, "ok"),
        )
        for what, rights, level in needs:
            wanted = {table: names for table, names in rights.items() if table in self.tables.columns}
            if lacking := self._lacking(wanted):
                yield level, f"to {what}: {lacking}", lacking.hint
            elif wanted:
                yield "ok", f"to {what}: all that it takes", None
        if not self._query("SELECT has_database_privilege(current_database(), 'TEMPORARY') AS may").item():
            yield (
                "warning",
                "to store where other programs do as well: the user lacks TEMPORARY on the database",
                f"GRANT TEMPORARY ON DATABASE {self._database} TO {self._user}",
            )

    def _lacking(self, wanted: Mapping[str, tuple[str, ...]]) -> DatabaseError | None:
        try:
            if wanted:
                check_rights(self.connection, self.tables, wanted)
        except DatabaseError as error:
            return error
        return None

    def _sequences(self) -> Iterator[_Seen]:
        if FORECAST_TABLE not in self._relations:
            return
        found = self._query(_SEQUENCES, self._relations[FORECAST_TABLE]["oid"])
        ours = [*FORECASTS, "created_at"]  # these never take their default
        for column, schema, name in found.filter(~pl.col("column").is_in(ours)).iter_rows():
            sequence = f"{quote_identifier(schema)}.{quote_identifier(name)}"
            yield (
                "error",
                f"to store forecasts: the user lacks USAGE on sequence {name}, the default of {column}",
                f"GRANT USAGE ON SEQUENCE {sequence} TO {self._user}",
            )

    def _row_security(self) -> Iterator[_Seen]:
        filtered = [table for table, relation in self._relations.items() if relation["filtered"]]
        if filtered:
            found = f"policies decide which rows this user sees and stores in {', '.join(filtered)}"
            yield "warning", found, f"ALTER ROLE {self._user} BYPASSRLS"
        elif self._relations:
            yield "ok", "this user sees all rows", None

    def _triggers(self) -> Iterator[_Seen]:
        if FORECAST_TABLE not in self._relations:
            return
        table = self.tables.name(FORECAST_TABLE)
        found = self._query(_TRIGGERS, self._relations[FORECAST_TABLE]["oid"]).rows()
        if found:
            named = ", ".join(f"{kind.lower()} {name}" for kind, name in found)
            yield (
                "warning",
                f"{FORECAST_TABLE} has {named}: a run fails if it changes or leaves out what is stored",
                "; ".join(
                    f"ALTER TABLE {table} DISABLE {kind} {quote_identifier(name)}" for kind, name in found
                ),
            )
        else:
            yield "ok", f"none on {FORECAST_TABLE}", None

    def _read_only(self) -> Iterator[_Seen]:
        set_by = self._server["read_only_by"]
        if self._server["standby"]:
            to_primary = "connect to the primary server; if this is to be it: SELECT pg_promote()"
            yield "error", "the server is a standby, which nothing can be stored on", to_primary
        elif self._server["read_only"]:
            yield "error", f"nothing can be stored: {_READ_ONLY} is on, by {set_by}", self._writable(set_by)
        else:
            yield "ok", "the server takes what is stored", None

    def _writable(self, set_by: str) -> str:
        """What makes transactions writable; the session that says so has to be able to write itself."""
        if set_by == "client":
            return f"take {_READ_ONLY} out of PGOPTIONS, or out of the URL's options"
        mends = {
            "database": f"ALTER DATABASE {self._database} RESET {_READ_ONLY}",
            "user": f"ALTER ROLE {self._user} RESET {_READ_ONLY}",
            "database user": f"ALTER ROLE {self._user} IN DATABASE {self._database} RESET {_READ_ONLY}",
            "global": f"ALTER ROLE ALL RESET {_READ_ONLY}",
        }
        everywhere = f"ALTER SYSTEM SET {_READ_ONLY} = off; SELECT pg_reload_conf()"
        return f"SET {_READ_ONLY} = off; {mends.get(set_by, everywhere)}"

    def _streams_key(self) -> Iterator[_Seen]:
        if STREAMS_TABLE not in self.fitting:
            return
        if Source(self.dsn, self.tables, "").reads_by_index:
            yield "ok", "unique on (cm_track_id, date): a track is read by index", None
            return
        names, steps = self._names, []
        found = (
            f"{STREAMS_TABLE} has no unique key on (cm_track_id, date): a run reads and sorts all its rows"
        )
        is_date = self.tables.type(STREAMS_TABLE, "date") == "date"
        if not is_date:
            found = f"date of {STREAMS_TABLE} is a timestamp: no key keeps a day from being there twice"
        may_count = STREAMS_TABLE in self.readable
        doubled = self._query(_DUPLICATES.format(**names)).item() if may_count else 0
        if doubled:
            found += f"; {doubled:,} rows are of a day of which there is another, and have to go first"
            steps.append(_DELETE_DUPLICATES.format(**names))
        if not is_date:
            steps.append(_AS_DATE.format(**names | {"day": names["day"].replace("s.date", "date")}))
        if not self.tables.has_key(STREAMS_TABLE, "cm_track_id", "date"):
            steps.append(_KEY_OF_STREAMS.format(**names))
        if self._relations[STREAMS_TABLE]["kind"] in _NOT_TABLES:
            steps = ["make a unique index on (cm_track_id, date) of the table below, and have a table here"]
        yield "warning", found, "; ".join(steps)

    def _forecasts_key(self) -> Iterator[_Seen]:
        if FORECAST_TABLE not in self.fitting:
            return
        if has_key(self.tables):
            yield "ok", "unique on (cm_track_id, month)", None
            return
        found, fix = next(missing_key(self.tables)).partition(". `")[0], self._command("init")
        if FORECAST_TABLE in self.readable:
            doubled = (
                self._stored.filter(pl.col("rows") > pl.col("months"))["cm_track_id"].drop_nulls().sort()
            )
            if len(doubled):
                found += f"; in the way are tracks with a month twice or NULL: {len(doubled):,}"
                fix = f"{self._replacing(doubled)} && {fix}"
        yield "warning", found, fix

    def _replacing(self, doubled: pl.Series) -> str:
        """The command that replaces the forecasts of all these tracks, at the length that most have."""
        tracks = self._stored.filter(pl.col("cm_track_id").is_not_null())
        first, *_ = filter(None, map(_MENDS_ONE.search, describe_irregular(tracks, self.schema)))
        ids = doubled if len(doubled) <= _NAMED_TRACKS else doubled.clear()
        return " ".join((first["mend"], *(f"--track-id {track}" for track in ids)))

    def _indexes(self) -> Iterator[_Seen]:
        invalid = self._query(_INVALID_INDEXES, self.schema, *CONTRACT).rows()
        for table, name in invalid:
            found = f"{name} of {table} is not valid: its making was broken off, and nothing is read by it"
            yield "warning", found, f"REINDEX INDEX {quote_identifier(self.schema)}.{quote_identifier(name)}"
        streams = self._relations.get(STREAMS_TABLE, {})
        is_table = STREAMS_TABLE in self.fitting and streams["kind"] not in _NOT_TABLES
        if is_table and streams["rows"] >= _MANY_ROWS and not streams["has_partial"]:
            found = (
                f"a run goes over all {streams['rows']:,.0f} daily rows to count those that are no records"
            )
            yield "warning", found, _PARTIAL_INDEX.format(**self._names)
        elif self._relations and not invalid:
            yield "ok", "all are valid", None

    def _stored_forecasts(self) -> Iterator[_Seen]:
        if FORECAST_TABLE not in self.readable:
            return
        irregular = list(describe_irregular(self._stored, self.schema))
        for sentence in irregular:
            mends = _MENDS_ONE.search(sentence)
            found = _LEFT_AS_THEY_ARE.sub("", sentence)
            if mends:
                yield "warning", f"{found}; the command mends that one", mends[0].strip("`")
            else:
                yield "warning", found, _WITHOUT_TRACK.format(table=self.tables.name(FORECAST_TABLE))
        if not irregular:
            yield "ok", f"{len(self._stored):,} tracks, each with all its months", None

    def _lock(self) -> Iterator[_Seen]:
        if not self._relations.get(FORECAST_TABLE, {}).get("usable"):
            return
        self.connection.commit()
        by = holder(self.connection, self.tables.name(FORECAST_TABLE))
        if by:
            yield "warning", f"held by another run: {by}", self._command("run --wait 3600")
        else:
            yield "ok", "free: no run is writing", None

    @property
    def _can_count(self) -> bool:
        return self.has_connectorx and self.readable == set(CONTRACT)

    def _tracks(self) -> Iterator[_Seen]:
        if not self._can_count:
            return
        # The transaction idles while the model is computed.
        self._query("SELECT set_config('idle_in_transaction_session_timeout', '0', true)")
        source, tracks, counts = self._source, self._streams, self.result.counts
        with_forecast = self._stored["cm_track_id"].drop_nulls()
        pending = tracks.filter(~tracks.is_in(with_forecast.implode()))
        counts |= {"tracks": len(tracks), "with_forecast": len(with_forecast), "pending": len(pending)}
        counts["rows_without_track"] = source.rows_without_track()
        counts["unusable_rows"] = source.unusable_rows(pending) + counts["rows_without_track"]
        self._model(source, pending)
        found = (
            f"{len(tracks):,} with streams, {len(with_forecast):,} with a forecast, {len(pending):,} pending"
        )
        if len(tracks):
            yield "ok", found, None
        else:
            fix = self._command("load STREAMS.csv --mldr MLDR.csv")
            yield "warning", f"there are no streams ({found})", fix
        yield from self._pending()
        yield from self._daily_rows()

    def _model(self, source: Source, pending: pl.Series) -> None:
        """Run the model as far as it says why a track is skipped, and count."""
        mldr, duplicates = source.mldr(), 0
        reasons: Counter[str | None] = Counter()
        for start in range(0, len(pending), CHUNK):
            history = source.history(pending.slice(start, CHUNK))
            tracks = build_tracks(history.records, history.facts, mldr, self.parameters)
            counted = tracks.group_by("reason").agg(tracks=pl.len())
            reasons.update(dict(interruptible(counted.collect, cancel=None).iter_rows()))
            duplicates += history.duplicates
        forecastable = reasons.pop(None, 0)
        self.result.skipped_by_reason = {
            f"{reason}": tracks
            for reason, tracks in sorted(reasons.items(), key=lambda item: (-item[1], f"{item[0]}"))
        }
        self.result.counts |= {
            "forecastable": forecastable,
            "skipped": reasons.total(),
            "duplicate_rows": duplicates,
        }

    def _pending(self) -> Iterator[_Seen]:
        counts, by_reason = self.result.counts, self.result.skipped_by_reason
        if counts["forecastable"]:
            found = f"{counts['forecastable']:,} of {counts['pending']:,} pending ones can be forecast"
            yield "ok", found, self._command("run")
        if by_reason:
            reasons = ", ".join(f"{reason} {tracks:,}" for reason, tracks in by_reason.items())
            found = (
                f"{counts['skipped']:,} of {counts['pending']:,} pending ones would be skipped ({reasons})"
            )
            yield "ok", found, self._command("run --dry-run --skipped skipped.csv")

    def _daily_rows(self) -> Iterator[_Seen]:
        counts = self.result.counts
        found = (
            f"daily rows left out: {counts['unusable_rows']:,} unusable, of them "
            f"{counts['rows_without_track']:,} without a track; {counts['duplicate_rows']:,} duplicate"
        )
        if counts["unusable_rows"]:
            yield (
                "warning",
                f"{found}; the statement shows what to complete or delete",
                _NOT_RECORDS.format(**self._names),
            )
        else:  # duplicate ones are what the key of the streams is about
            yield "ok", found, None

    def _decay_rates(self) -> Iterator[_Seen]:
        if not self._can_count:
            return
        load = self._command("load --mldr MLDR.csv")
        rates = interruptible(self._source.mldr().collect, cancel=None)
        artists = self._artists()
        without = artists.filter(~artists.is_in(rates["cm_artist_id"].implode())).sort()
        useless = rates.filter(pl.col("mldr").is_null())["cm_artist_id"].sort()
        several = self._query(_SEVERAL_RATES.format(table=self.tables.name(MLDR_TABLE))).item()
        self.result.counts |= {
            "artists": len(artists),
            "artists_without_rate": len(without),
            "artists_with_unusable_rate": len(useless),
            "artists_with_several_rates": several,
        }
        yield "ok", f"{len(rates):,} artists have one, {several:,} of them several: the newest counts", None
        for missing, what in (
            (without, f"of the {len(artists):,} artists with streams, without one"),
            (useless, "artists whose newest one is NULL or no finite number"),
        ):
            if len(missing):
                yield "warning", f"{what}: {len(missing):,}, the first is {missing[0]}", load

    def _artists(self) -> pl.Series:
        """Those that the tracks are of."""
        if self._source.reads_by_index:
            sql = _ARTISTS_BY_INDEX.format(**self._names, tracks=integer_array(self._streams))
        else:
            sql = _ARTISTS.format(**self._names)
        return self._query(sql)["id"].drop_nulls()


def _fits(tables: Tables, table: str) -> bool:
    try:
        tables.check(table)
    except SchemaMismatchError:
        return False
    return True


def _one_line(error: ForecasterError) -> str:
    first, *others = (line.strip() for line in f"{error}".split("\n"))
    return f"{first} {'; '.join(others)}" if others else first
