"""The tables on a server: their columns and keys, and whether they fit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from forecaster.errors import SchemaMismatchError
from forecaster.frames.casting import ColumnInfo
from forecaster.postgres.answers import Rows, answers
from forecaster.postgres.connection import Connection, quote_identifier
from forecaster.postgres.layout import QUESTION, Layout, layout_from
from forecaster.tables import (
    ACTUALS,
    ALL_TABLES,
    CALIBRATIONS,
    FORECAST_TABLE,
    INTEGERS,
    STREAMS_TABLE,
    VERSIONS,
    is_finite,
)

_OTHERS = [*(table for table in ALL_TABLES if table != STREAMS_TABLE), VERSIONS.name]
_NAMES = ", ".join(["$2", *(f"'{name}'" for name in _OTHERS)])
# A view reads its tables with the rights of its owner, or, with security_invoker, with those of this user:
# then its reader is NULL here.
_COLUMNS_SQL = f"""
    WITH RECURSIVE below (top, oid, reader) AS (
        SELECT c.oid, c.oid, NULL::oid
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname IN ({_NAMES})
        UNION
        SELECT b.top, d.refobjid,
               CASE WHEN (SELECT o.option_value::boolean FROM pg_options_to_table(v.reloptions) o
                          WHERE o.option_name = 'security_invoker') THEN b.reader ELSE v.relowner END
        FROM below b
        JOIN pg_catalog.pg_class v ON v.oid = b.oid AND v.relkind IN ('v', 'm')
        JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid
        JOIN pg_catalog.pg_depend d
          ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
             AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> v.oid
    ), policed (top, is_filtered) AS (
        SELECT b.top,
               bool_or(CASE WHEN b.reader IS NULL THEN row_security_active(b.oid)
                            ELSE t.relrowsecurity AND NOT o.rolsuper AND NOT o.rolbypassrls
                                 AND (t.relforcerowsecurity OR NOT pg_has_role(o.oid, t.relowner, 'USAGE'))
                       END)
        FROM below b
        JOIN pg_catalog.pg_class t ON t.oid = b.oid
        LEFT JOIN pg_catalog.pg_roles o ON o.oid = b.reader
        GROUP BY b.top
    )
    SELECT c.relname::text AS "table",
           (SELECT p.is_filtered FROM policed p WHERE p.top = c.oid) AS is_filtered,
           c.relkind <> 'p' AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid)
               AS has_children,
           has_table_privilege(c.oid, 'SELECT') AS is_readable,
           (SELECT string_agg(r.name, ', ') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS r (name)
            WHERE NOT has_table_privilege(c.oid, r.name)) AS lacking,
           -- asked of one table only: it waits for whoever has locked the table
           CASE WHEN c.relname = '{CALIBRATIONS.name}' AND c.relkind = 'r'
                THEN pg_relation_size(c.oid) = 0 END AS is_empty,
           a.attname::text AS "column",
           -- a domain is as good as the type below it
           format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL) AS type,
           a.attnotnull AS not_null,
           a.atthasdef OR a.attidentity <> '' AS has_default,
           a.attidentity = 'a' OR a.attgenerated <> '' AS generated,
           -- precision less scale, which is signed and has 11 bits
           CASE WHEN 'numeric'::regtype IN (t.oid, t.typbasetype) AND mod.typmod >= 0
                THEN (mod.typmod - 4 >> 16) - ((mod.typmod - 4 & 2047 # 1024) - 1024) END AS digits
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    CROSS JOIN LATERAL (
        SELECT CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END) AS mod (typmod)
    WHERE n.nspname = $1 AND c.relname IN ({_NAMES}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    ORDER BY c.relname, a.attnum
"""

# Indexes of all rows on plain columns; an INCLUDEd column is not part of the key. Two kinds do not count as
# unique: a deferrable index does not refuse rows at once; one of a table with inheritance children does not
# cover the children's rows, which a query of the table returns. That of a partitioned table covers all of it.
_INDEXES_SQL = f"""
    SELECT c.relname::text AS "table", i.indisunique AND i.indimmediate
               AND (c.relkind = 'p'
                    OR NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid))
               AS is_unique,
           (SELECT array_agg(a.attname::text ORDER BY k.position)
            FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
            WHERE k.position <= i.indnkeyatts) AS columns
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree'
    WHERE n.nspname = $1 AND c.relname IN ({_NAMES})
      AND i.indisvalid AND i.indisready AND i.indislive AND i.indpred IS NULL AND i.indexprs IS NULL
"""

QUESTIONS: Mapping[str, str] = {"columns": _COLUMNS_SQL, "indexes": _INDEXES_SQL, "layout": QUESTION}
"""SQL: what `tables_from` needs to know about schema $1, in which $2 is the table of streams."""

_SMALLEST_FLOAT = "5e-324"


@dataclass(frozen=True)
class Index:
    """A b-tree index of all rows of a table; `columns` is its key, in order."""

    table: str
    unique: bool
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """The tables of one schema on the server."""

    schema: str
    columns: Mapping[str, Mapping[str, ColumnInfo]]
    indexes: tuple[Index, ...]
    streams: str = STREAMS_TABLE
    """Name of the table of streams."""
    filtered: frozenset[str] = frozenset()
    """Tables in which row security decides which rows this user sees."""
    with_children: frozenset[str] = frozenset()
    """Tables from which others inherit; a query of them returns the rows of these as well."""
    unreadable: frozenset[str] = frozenset()
    """Tables that this user may not read, or not all columns of."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Which of SELECT, INSERT and UPDATE this user lacks, by table; nothing for a table with all of them."""
    empty: frozenset[str] = frozenset()
    """Of the calibrations: whether the table never had a row, or was truncated since. Not asked of others."""
    layout: Layout | None = None
    """Where the rows of the streams lie; None if that has not been asked."""

    def name(self, table: str) -> str:
        """The quoted, qualified name of the table, for SQL."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.title(table))}"

    def title(self, table: str) -> str:
        """The name of the table on the server."""
        return self.streams if table == STREAMS_TABLE else table

    def type(self, table: str, column: str) -> str:
        """The type of a column on the server."""
        return self.columns[table][column].type

    def id_type(self, table: str) -> str:
        """The type of the table's ids; bigint, as `init` creates it, if there are none."""
        id_ = self.columns.get(table, {}).get("id")
        return id_.type if id_ else "bigint"

    def has_key(self, table: str, *columns: str) -> bool:
        """Whether a unique index has exactly these columns, in this order."""
        return Index(table, unique=True, columns=columns) in self.indexes

    def has_day_key(self, table: str) -> bool:
        """Whether a unique index finds a day of a track or artist, and prevents a second row for it."""
        # With a timestamp column, the key allows several rows per day.
        return self.has_key(table, *ALL_TABLES[table].key) and self.type(table, "date") == "date"

    def is_unique(self, table: str, *columns: str) -> bool:
        """Whether the server prevents two rows of the table from being equal in these columns."""
        return any(i.table == table and i.unique and set(i.columns) <= set(columns) for i in self.indexes)

    def day(self, table: str) -> str:
        """SQL expression: the day (in UTC) of a row `s` of the streams or the listeners."""
        with_zone = self.type(table, "date") == "timestamp with time zone"
        return "(s.date AT TIME ZONE 'UTC')::date" if with_zone else "s.date::date"

    def instant(self, table: str) -> str:
        """SQL expression: when a row `s` of the table was created; a time without zone is in UTC."""
        with_zone = self.type(table, "created_at") == "timestamp with time zone"
        return "s.created_at" if with_zone else "(s.created_at::timestamp AT TIME ZONE 'UTC')"

    def as_float(self, table: str, column: str) -> str:
        """SQL expression: a finite number in a column of `s`, as a float."""
        name = f"s.{quote_identifier(column)}"
        if self.type(table, column) != "numeric":
            return f"{name}::float8"
        # For a number that is too small, the server raises an error instead of returning 0.
        return f"(CASE WHEN abs({name}) < {_SMALLEST_FLOAT} THEN 0 ELSE {name} END)::float8"

    def finite(self, table: str, column: str) -> str:
        """SQL expression: the number in a column of `s` as a float, NULL if not finite."""
        if self.type(table, column) in INTEGERS:
            return self.as_float(table, column)
        # The cast of a numeric beyond the range of floats would fail, and with it the whole read.
        return f"CASE WHEN {is_finite(f's.{column}')} THEN {self.as_float(table, column)} END"

    def newest_first(self, table: str, row: str = "s") -> str:
        """ORDER BY terms that put the newest of several rows first, by the columns that the table has."""
        return ALL_TABLES[table].newest_first(
            row, among=[name for name in self.columns[table] if self.fits(table, name)]
        )

    def unusable(self, table: str) -> str:
        """SQL condition: this row of the streams or the listeners is not a record, and is left out."""
        return ALL_TABLES[table].is_no_record(self.columns[table])

    def record(self, table: str) -> str:
        """SQL condition: this row is a record. For lookups by index, up to a LIMIT of rows."""
        return ALL_TABLES[table].is_record_by_range(self.columns[table])

    def check(self, *tables: str, to_write: Collection[str] = (FORECAST_TABLE,)) -> None:
        """Raise `SchemaMismatchError` that names everything that is missing or does not fit.

        In the tables `to_write`, also columns that our rows cannot fill.
        """
        problems = [problem for table in tables for problem in self._misfits(table)]
        for table in tables:
            if not problems and table in to_write:
                problems += self._unfillable(table)
                problems += [p for other in tables for p in self._mismatched_reference(table, other)]
        if problems:
            raise SchemaMismatchError(
                f"the tables in schema {self.schema!r} do not fit:\n  " + "\n  ".join(problems),
                hint="create missing tables with `forecaster init`, or name another schema with --schema"
                if any(table not in self.columns for table in tables)
                else "alter the table, or name another schema with --schema",
            )

    def check_actuals(self) -> None:
        """Raise `SchemaMismatchError` if the table of streams is missing, or a column of `ACTUALS`."""
        if problems := self._misfits(STREAMS_TABLE, ACTUALS):
            raise SchemaMismatchError(
                f"the actuals in schema {self.schema!r} do not fit:\n  " + "\n  ".join(problems),
                hint="name later daily streams with --actuals TABLE|SCHEMA.TABLE|FILE",
            )

    def shows(self, needed: Mapping[str, Sequence[str]]) -> bool:
        """Whether this user can read all rows of these columns of tables, and they fit."""
        hidden = self.unreadable | self.filtered
        return all(
            table not in hidden and all(self.fits(table, column) for column in columns)
            for table, columns in needed.items()
        )

    def fits(self, table: str, column: str) -> bool:
        """Whether the table exists and has the column, in a type that works."""
        return table in self.columns and not self._misfits(table, (column,))

    def problems_to_write(self, table: str) -> list[str]:
        """Name what does not fit in a table, and the columns that our rows cannot fill."""
        return self._misfits(table) or self._unfillable(table)

    def _misfits(self, table: str, columns: Collection[str] | None = None) -> list[str]:
        found = self.columns.get(table)
        if found is None:
            return [f"{self.title(table)}: the table is missing"]
        optional = ALL_TABLES[table].may_be_missing
        return [
            f"{self.title(table)}.{column}: is {found[column].type if column in found else 'missing'}, "
            f"expected {' or '.join(types)}"
            for column, types in ALL_TABLES[table].contract.items()
            if (columns is None or column in columns)
            and (found[column].type not in types if column in found else column not in optional)
        ]

    def _unfillable(self, table: str) -> list[str]:
        """Find the columns that our rows cannot fill."""
        found, ours = self.columns[table], ALL_TABLES[table].written
        problems = [
            f"{table}.{column}: is NOT NULL without a default, and forecaster has no value for it"
            for column, info in found.items()
            if column not in ours
            and info.not_null
            and not (info.has_default or info.generated)
            # An id that an application generates: here it is generated too.
            and not (column == "id" and info.type == "uuid")
        ]
        problems += [
            f"{table}.{column}: is generated by the server, expected an ordinary column"
            for column, info in found.items()
            if column in ours and info.generated
        ]
        return problems

    def _mismatched_reference(self, table: str, other: str) -> list[str]:
        """Find the column of the table that cannot hold the ids of the other table, if any."""
        column = ALL_TABLES[table].reference_to(other)
        if column is None or "id" not in self.columns[other] or column not in self.columns[table]:
            return []
        source, target = self.type(other, "id"), self.type(table, column)
        if (source == "uuid") == (target == "uuid"):
            return []
        return [f"{table}.{column}: is {target}, expected {source} like {other}.id"]


def read_tables(connection: Connection, schema: str, *, streams: str = STREAMS_TABLE) -> Tables:
    """Read the description of the tables of a schema; `streams`: the name of the table of streams.

    Raises `SchemaMismatchError` for an invalid name. A missing table is not an error.
    """
    check_names(schema, streams)
    return tables_from(answers(connection, QUESTIONS, (schema, streams)), schema, streams)


def check_names(*names: str) -> None:
    """Raise `SchemaMismatchError` for an invalid name of a schema or table."""
    for name in names:
        quote_identifier(name)


def tables_from(found: Mapping[str, Rows], schema: str, streams: str) -> Tables:
    """Describe the tables of a schema by the answers to `QUESTIONS`."""
    titles = {table: table for table in _OTHERS} | {streams: STREAMS_TABLE}  # may be the name of another one
    columns: dict[str, dict[str, ColumnInfo]] = {}
    filtered, with_children, unreadable, empty = set(), set(), set(), set()
    lacking: dict[str, str] = {}
    for title, is_filtered, has_children, is_readable, lacks, is_empty, column, *info in found["columns"]:
        columns.setdefault(table := titles[title], {})[column] = ColumnInfo(*info)
        filtered |= {table} if is_filtered else set()
        with_children |= {table} if has_children else set()
        unreadable |= set() if is_readable else {table}
        empty |= {table} if is_empty and not has_children else set()
        lacking |= {table: lacks} if lacks else {}
    indexes = tuple(Index(titles[title], unique, tuple(key)) for title, unique, key in found["indexes"])
    [layout] = found["layout"]
    return Tables(
        schema,
        columns,
        indexes,
        streams,
        frozenset(filtered),
        frozenset(with_children),
        frozenset(unreadable),
        lacking,
        frozenset(empty),
        layout_from(layout),
    )
