"""Checks of the indexes of the streams: which one would make a run faster, and which one can be dropped."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from forecaster.doctor.checks import check
from forecaster.doctor.context import Context
from forecaster.doctor.findings import Seen
from forecaster.postgres.connection import quote_identifier
from forecaster.postgres.layout import Layout
from forecaster.postgres.readers import CONNECTIONS
from forecaster.tables import STREAMS, STREAMS_TABLE

_WORTH = 0.5
_TIMES = 1.5
"""An index is proposed if it is expected to save so many seconds, and to make a read so many times faster."""
_IN_ONE_LINE = 3  # statements
_LARGE = 50_000_000  # bytes from which on it matters how a table is read
_IF_IT_FAILS = ". If its creation fails, it leaves an invalid index, which the next `doctor` names"

_PARTS = """
    WITH RECURSIVE part (oid, parent, level) AS (
        SELECT $1::int8::oid, NULL::oid, 0
        UNION ALL
        SELECT h.inhrelid, p.oid, p.level + 1 FROM part p
        JOIN pg_catalog.pg_inherits h ON h.inhparent = p.oid)
    SELECT p.oid::int8 AS oid, p.parent::int8 AS parent, n.nspname::text AS schema, c.relname::text AS name,
           c.relkind = 'p' AS is_partitioned,
           c.relkind = 'f' OR EXISTS (
               SELECT FROM pg_catalog.pg_partitioned_table t
               CROSS JOIN LATERAL unnest(t.partattrs::int2[]) AS k (attnum)
               LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = t.partrelid AND a.attnum = k.attnum
               WHERE t.partrelid = c.oid AND coalesce(a.attname::text, '') NOT IN ('cm_track_id', 'date'))
               AS cannot_have_key,
           c.relpages AS pages, coalesce(pg_relation_size(c.oid), 0)::int8 AS bytes
    FROM part p
    JOIN pg_catalog.pg_class c ON c.oid = p.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    ORDER BY p.level, c.relname, p.oid"""
# Unique indexes of (cm_track_id, date). One that something else depends on may not be dropped.
_KEYS = """
    SELECT x.relname::text AS name, k.conname::text AS constraint_name, x.relkind = 'I' AS is_partitioned,
           coalesce((SELECT array_agg(a.attname::text) FROM unnest(i.indkey::int2[]) WITH ORDINALITY
                         AS c (attnum, position)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = c.attnum
                     WHERE c.position > i.indnkeyatts), '{}') AS carried,
           coalesce((SELECT sum(pg_relation_size(p.relid)) FROM pg_partition_tree(x.oid) p),
                    pg_relation_size(x.oid))::int8 AS bytes,
           i.indisprimary OR i.indisreplident OR EXISTS (
               SELECT FROM pg_catalog.pg_constraint f WHERE f.conindid = x.oid AND f.contype = 'f')
               AS is_needed
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree'
    LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = x.oid AND k.contype IN ('p', 'u')
    WHERE i.indrelid = $1::int8::oid AND i.indisunique AND i.indimmediate AND i.indisvalid
      AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = 2
      AND (SELECT array_agg(a.attname::text ORDER BY c.position)
           FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS c (attnum, position)
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = c.attnum
           WHERE c.position <= 2) = '{cm_track_id,date}'
    ORDER BY 1"""


@dataclass(frozen=True)
class Part:
    """The table of streams, or one of its partitions."""

    oid: int
    parent: int | None
    schema: str
    name: str
    is_partitioned: bool
    cannot_have_key: bool
    """Whether it is on another server, or partitioned by something that is not in the key."""
    pages: int
    """Its pages by the statistics of the server; 0 without any."""
    bytes: int
    """Its size on the disk, without indexes."""

    @property
    def table(self) -> str:
        """Its quoted, qualified name."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"

    @property
    def index(self) -> str:
        """The name of the index to create: short, as the server cuts long names."""
        return f"backtest_streams_key_{self.oid}"

    @property
    def qualified_index(self) -> str:
        """The same, quoted and qualified: an index is in the schema of its table."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.index)}"


@dataclass(frozen=True)
class Key:
    """A unique index of (cm_track_id, date)."""

    name: str
    constraint: str | None
    is_partitioned: bool
    carried: tuple[str, ...]
    """The columns whose values it holds in addition."""
    bytes: int
    is_needed: bool
    """Whether something other than queries needs it."""

    @property
    def covers(self) -> bool:
        """Whether it holds all values that a run reads."""
        return set(self.carried) >= set(STREAMS.carried)

    def drop(self, part: Part) -> str:
        """Return the statement that drops it."""
        if self.constraint:
            return f"ALTER TABLE {part.table} DROP CONSTRAINT {quote_identifier(self.constraint)}"
        concurrently = "" if self.is_partitioned else "CONCURRENTLY "
        return f"DROP INDEX {concurrently}{quote_identifier(part.schema)}.{quote_identifier(self.name)}"


def read_parts(context: Context) -> list[Part]:
    """Read the facts about the table of streams, which comes first, and about its partitions."""
    found = context.query(_PARTS, context.relations[STREAMS_TABLE].oid)
    return [Part(*facts) for facts in found.iter_rows()]


def read_keys(context: Context) -> list[Key]:
    """Read which unique indexes find a day of a track."""
    found = context.query(_KEYS, context.relations[STREAMS_TABLE].oid)
    return [
        Key(name, constraint, is_partitioned, tuple(carried), *others)
        for name, constraint, is_partitioned, carried, *others in found.iter_rows()
    ]


def create_key(parts: list[Part]) -> list[str]:
    """Return the statements that create the key that `init` creates, while others write.

    A partitioned table cannot get it concurrently: it gets an index without those of its partitions, each
    of these gets its own, and they are joined.
    """
    if len(parts) == 1 and not parts[0].is_partitioned:
        return [f"CREATE UNIQUE INDEX CONCURRENTLY ON {parts[0].table} {STREAMS.key_columns}"]
    statements = [
        f"CREATE UNIQUE INDEX {'' if part.is_partitioned else 'CONCURRENTLY '}{quote_identifier(part.index)} "
        f"ON {'ONLY ' if part.is_partitioned else ''}{part.table} {STREAMS.key_columns}"
        for part in parts
    ]
    by_oid = {part.oid: part for part in parts}
    for part in reversed(parts):  # an index that lacks one of a partition of its own cannot be joined
        if part.parent:
            whole = by_oid[part.parent]
            statements.append(f"ALTER INDEX {whole.qualified_index} ATTACH PARTITION {part.qualified_index}")
    return statements


def why_no_key(context: Context, parts: list[Part]) -> str | None:
    """Explain why a table is better off without the key; None if it is not."""
    if any(part.cannot_have_key for part in parts):
        return "its partitions are made by other columns than those of a key, or lie on other servers"
    layout = context.tables.layout
    if layout and len(parts) > 1 and _seconds_by_key(layout) >= _seconds_without(layout):
        partitions = f"{sum(not part.is_partitioned for part in parts)} partitions"
        return f"with {partitions}, one pass over all rows is expected to be faster than lookups in each"
    return None


def gain_of_key(context: Context, parts: list[Part], steps: list[str]) -> str:
    """Say how long a run is expected to read without the key, and with it, if that is known and pays.

    `steps`: what is to do; empty if that is more than to create the key.
    """
    layout = context.tables.layout
    if layout is None or not _has_statistics(parts) or steps != create_key(parts):
        return ""
    without, by_key = _seconds_without(layout), _seconds_by_key(layout)
    expected = f", which is expected to take the server {without:,.1f} s, and {by_key:,.1f} s with the key"
    return expected if _pays(without, by_key) else ""


def pasted(statements: list[str]) -> str:
    """Join statements: several that belong together have a line each."""
    return (";\n" if len(statements) > _IN_ONE_LINE else "; ").join(statements)


def _has_statistics(parts: list[Part]) -> bool:
    return any(part.pages for part in parts)


def _seconds_by_key(layout: Layout) -> float:
    covered = layout.with_covering_index()
    return covered.costs(round(layout.tracks)).index + covered.costs_of_ids().index


def _seconds_without(layout: Layout) -> float:
    """Estimate how long reading takes without any key: two passes sort all rows, and nothing is looked up."""
    passes = replace(layout, parts=0).costs(round(layout.tracks), scans=CONNECTIONS, whole=True)
    return passes.scan + layout.costs_of_ids().scan


@check("index of the streams", order=115)
def covering(context: Context) -> Iterator[Seen]:
    """Look for the index that holds all that a run reads, and for a key that it makes superfluous."""
    layout = context.tables.layout
    if layout is None or not context.fits(STREAMS_TABLE) or not context.tables.has_day_key(STREAMS_TABLE):
        return
    parts, keys = read_parts(context), read_keys(context)
    now, then = _seconds(layout), _seconds(layout.with_covering_index())
    gain = f"a run of all {layout.tracks:,.0f} tracks is expected to take the server {now:,.1f} s to read"
    is_known = _has_statistics(parts)
    if not is_known and sum(part.bytes for part in parts) > _LARGE:
        found = "the server has no statistics of the streams, by which a run chooses how to read them"
        yield "warning", found, f"ANALYZE {parts[0].table}"
    elif layout.is_covered:
        yield from _superfluous(parts[0], keys)
        if is_known and _pays(now, then):
            found = f"{gain}, as many pages are not known to be visible to all; after VACUUM {then:,.1f} s"
            yield "warning", found, f"VACUUM (ANALYZE) {parts[0].table}"
    elif is_known and _pays(now, then) and not why_no_key(context, parts):
        found = f"{gain}, and with an index that holds all that it reads {then:,.1f} s"
        yield "warning", f"{found}{_spared(keys)}{_IF_IT_FAILS}", pasted(create_key(parts))


def _seconds(layout: Layout) -> float:
    costs = layout.costs(round(layout.tracks), scans=CONNECTIONS)
    return min(costs.index, costs.scan)


def _pays(now: float, then: float) -> bool:
    return now - then >= _WORTH and now >= _TIMES * then


def _spared(keys: list[Key]) -> str:
    spared = [key for key in keys if not key.is_needed]
    if not spared:
        return ""
    names, number = " and ".join(key.name for key in spared), sum(key.bytes for key in spared)
    return f"; it makes {names} superfluous ({_megabytes(number)})"


def _superfluous(whole: Part, keys: list[Key]) -> Iterator[Seen]:
    for key in keys:
        if not key.covers and not key.is_needed:
            found = f"{key.name} can be dropped, as another key holds its columns and more"
            yield "ok", f"{found}: that frees {_megabytes(key.bytes)}", key.drop(whole)


def _megabytes(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"
