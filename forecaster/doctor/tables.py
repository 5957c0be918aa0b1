"""Checks of the tables: whether they fit, and what this user may do with them."""

from collections.abc import Iterator, Mapping

import polars as pl

from forecaster.doctor.checks import check
from forecaster.doctor.context import Context
from forecaster.doctor.findings import Level, Seen
from forecaster.errors import SchemaMismatchError
from forecaster.postgres.connection import quote_identifier
from forecaster.postgres.rights import hidden_rows, policy
from forecaster.postgres.tables import read_tables
from forecaster.tables import (
    FORECAST_TABLE,
    FORECASTS,
    LISTENERS_TABLE,
    MLDR_TABLE,
    STREAMS_TABLE,
    TABLES,
    TO_FORECAST,
)

_MANY_ROWS = 10_000_000  # from this number on, counting the rows that are not records takes seconds

_ELSEWHERE = """
    SELECT n.nspname::text AS schema
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname <> $1 AND c.relname IN ($2, $3, $4)
    GROUP BY 1 HAVING count(*) = 3 ORDER BY 1"""
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
# Those that fire, or are applied, when rows are stored or deleted.
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
_INVALID_INDEXES = """
    SELECT c.relname::text AS "table", x.relname::text AS index, x.relkind = 'I' AS is_partitioned
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid AND x.relkind IN ('i', 'I')
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname IN ($2, $3, $4) AND NOT i.indisvalid ORDER BY 1, 2"""
_PARTIAL_INDEX = "CREATE INDEX ON {table} (cm_track_id) WHERE {unusable}"

_NEEDS: tuple[tuple[str, Mapping[str, tuple[str, ...]], Level], ...] = (
    ("read", dict.fromkeys(TO_FORECAST, ("SELECT",)), "error"),
    ("store forecasts", {FORECAST_TABLE: ("INSERT",)}, "error"),
    ("replace forecasts", {FORECAST_TABLE: ("DELETE",)}, "warning"),
    ("load files (a run does not need them)", dict.fromkeys((STREAMS_TABLE, MLDR_TABLE), ("INSERT",)), "ok"),
)
"""Purpose, the rights that it needs, and the level of a finding if they are missing."""


@check("tables", order=50)
def contract(context: Context) -> Iterator[Seen]:
    """Check that all tables that a run needs exist and fit; put them into the context."""
    context.tables = tables = read_tables(context.connection, context.tables.schema)
    try:
        tables.check(*TO_FORECAST)
    except SchemaMismatchError as error:
        if all(table in tables.columns for table in TO_FORECAST):
            raise
        others = context.query(_ELSEWHERE, tables.schema, *TO_FORECAST)["schema"].to_list()
        there = f"; schemas that have all of them: {', '.join(others)}" if others else ""
        raise SchemaMismatchError(f"{error}{there}", hint=context.command("init")) from None
    yield "ok", "all that a run needs exist and fit", None
    try:
        tables.check(LISTENERS_TABLE)
        yield "ok", f"{LISTENERS_TABLE}, which `mldr` needs, exists and fits", None
    except SchemaMismatchError as error:
        if LISTENERS_TABLE in tables.columns:
            yield "warning", f"for `mldr`: {error}", error.hint
        else:
            yield "ok", f"{LISTENERS_TABLE} does not exist; only `mldr` needs it", context.command("init")


@check("rights", order=60)
def rights(context: Context) -> Iterator[Seen]:
    """Check the rights on the tables that exist."""
    for what, needed, level in _NEEDS:
        wanted = {table: names for table, names in needed.items() if table in context.tables.columns}
        if lacking := context.lacking(wanted):
            yield level, f"to {what}: {lacking}", None if level == "ok" else lacking.hint
        elif wanted:
            yield "ok", f"to {what}: complete", None
    if not context.query("SELECT has_database_privilege(current_database(), 'TEMPORARY') AS may").item():
        yield (
            "warning",
            "to store while other programs write: the user lacks TEMPORARY on the database",
            f"GRANT TEMPORARY ON DATABASE {context.database} TO {context.user}",
        )


@check("rights", order=70)
def sequences(context: Context) -> Iterator[Seen]:
    """Check the rights on the sequences of the forecasts' columns."""
    if FORECAST_TABLE not in context.relations:
        return
    found = context.query(_SEQUENCES, context.relations[FORECAST_TABLE].oid)
    ours = [*FORECASTS.written]  # these never take their default
    for column, schema, name in found.filter(~pl.col("column").is_in(ours)).iter_rows():
        sequence = f"{quote_identifier(schema)}.{quote_identifier(name)}"
        yield (
            "error",
            f"to store forecasts: the user lacks USAGE on sequence {name}, the default of {column}",
            f"GRANT USAGE ON SEQUENCE {sequence} TO {context.user}",
        )


@check("row security", order=80)
def row_security(context: Context) -> Iterator[Seen]:
    """Check that the user sees all rows."""
    found = list(hidden_rows(context.tables, *TABLES))
    if found:
        user, tables = context.server.user, context.tables
        each = " ".join(policy(tables, table, user) for table in TABLES if table in tables.filtered)
        yield "warning", found[0], each
    elif context.relations:
        yield "ok", "this user sees all rows", None


@check("triggers", order=90)
def triggers(context: Context) -> Iterator[Seen]:
    """Look for triggers and rules on the forecasts."""
    if FORECAST_TABLE not in context.relations:
        return
    found = context.query(_TRIGGERS, context.relations[FORECAST_TABLE].oid).rows()
    if found:
        named = ", ".join(f"{kind.lower()} {name}" for kind, name in found)
        yield (
            "warning",
            f"{FORECAST_TABLE} has {named}: a run fails if it changes or leaves out what is stored",
            "check that it stores these rows as they are; if not, have its owner leave them out of it",
        )
    else:
        yield "ok", f"none on {FORECAST_TABLE}", None


@check("indexes", order=130)
def indexes(context: Context) -> Iterator[Seen]:
    """Look for invalid indexes, and for the partial index that a large table needs."""
    schema = context.tables.schema
    invalid = context.query(_INVALID_INDEXES, schema, *TO_FORECAST).rows()
    for table, name, is_partitioned in invalid:
        index = f"{quote_identifier(schema)}.{quote_identifier(name)}"
        if is_partitioned:
            found = f"{name} of {table} is not valid: some of its partitions lack it"
            yield "warning", found, f"make it on each, and for each: ALTER INDEX {index} ATTACH PARTITION"
            continue
        found = f"{name} of {table} is not valid: its creation was interrupted, and no query uses it"
        yield "warning", found, f"REINDEX INDEX {index}"
    streams = context.relations[STREAMS_TABLE] if context.fits(STREAMS_TABLE) else None
    if streams and streams.is_table and streams.rows >= _MANY_ROWS and not streams.has_partial:
        found = f"a run scans all {streams.rows:,.0f} daily rows to count those that are not records"
        yield "warning", found, _PARTIAL_INDEX.format(**context.names)
    elif context.relations and not invalid:
        yield "ok", "all are valid", None
