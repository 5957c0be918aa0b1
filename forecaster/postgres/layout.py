"""Where the rows of the streams lie on the server, and whether an index or a scan reads them at less cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from forecaster.model.features import WINDOW
from forecaster.tables import STREAMS

READ = (*STREAMS.key, *STREAMS.carried)
"""The columns of a record that a run reads."""

# Without statistics. A view, whose size is not known, is one at which the choice matters.
_PAGES, _ROWS_PER_PAGE, _RECORDS = 50_000, 100, 2 * WINDOW

_READ = ", ".join(f"'{name}'" for name in READ)

QUESTION = f"""
    WITH RECURSIVE top AS (
        SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2
    ), part (oid) AS (
        SELECT oid FROM top
        UNION ALL
        SELECT h.inhrelid FROM part p JOIN pg_catalog.pg_inherits h ON h.inhparent = p.oid
    ), known AS (
        SELECT z.pages, c.relallvisible, CASE WHEN c.reltuples > 0 THEN c.reltuples
                                              ELSE z.pages * {_ROWS_PER_PAGE} END AS rows,
               abs(s.correlation) AS correlation,
               CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * c.reltuples ELSE s.n_distinct END AS tracks
        FROM part p
        JOIN pg_catalog.pg_class c ON c.oid = p.oid AND c.relkind IN ('r', 'm')
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (
            SELECT CASE WHEN c.relpages > 0 THEN c.relpages
                        ELSE coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int8
                   END AS pages) z
        -- LIMIT has the server look up these tables alone, not all of the database
        LEFT JOIN LATERAL (
            SELECT s.n_distinct, s.correlation FROM pg_catalog.pg_stats s
            WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = 'cm_track_id'
              AND NOT s.inherited LIMIT 1) s ON true
    )
    SELECT count(*)::int8 AS parts, sum(k.pages)::int8 AS pages, sum(k.relallvisible)::int8 AS visible,
           sum(k.rows)::float8 AS rows, max(k.tracks)::float8 AS tracks,
           (sum(k.rows * k.correlation) / nullif(sum(k.rows), 0))::float8 AS correlation,
           EXISTS (
               SELECT FROM top JOIN pg_catalog.pg_index i ON i.indrelid = top.oid
               WHERE i.indisvalid AND i.indisready AND i.indislive
                 AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts >= 2
                 AND NOT EXISTS (
                     SELECT FROM pg_catalog.pg_attribute a
                     WHERE a.attrelid = top.oid AND NOT a.attisdropped AND a.attname IN ({_READ})
                       AND (a.attnum <> ALL (i.indkey::int2[])
                            OR a.attname = 'cm_track_id' AND a.attnum <> i.indkey[0]
                            OR a.attname = 'date' AND a.attnum <> i.indkey[1]))) AS is_covered,
           pg_size_bytes(current_setting('shared_buffers')) / current_setting('block_size')::int8 AS shared,
           pg_size_bytes(current_setting('effective_cache_size')) / current_setting('block_size')::int8
               AS cached
    FROM known k"""
"""SQL: what `layout_from` needs to know about the table of streams, $2 in schema $1.

It takes no lock, except for a moment that of a SELECT on a table of which the server has not noted the size.
"""

# Microseconds of one processor. Estimates: with them, the ways are in the order that was measured with
# PostgreSQL 18.6 on two busy cores, 6.7 million rows of 8,459 tracks in memory. The disk is an assumption.
_LOOKUP = 5.0  # find the first entry of a track in an index
_ENTRY = 0.3  # read the next entry, and add it to its track
_ROW = 0.1  # pass over a row, of a page that is read in order
_SORTED = 0.7  # add a row to its track, and sort it by day there
# Fetch a page out of order, and in order: from the server's memory, from the operating system's, from a disk.
_SHARED, _CACHED, _DISK = (0.3, 0.0), (2.5, 0.3), (100.0, 10.0)


@dataclass(frozen=True)
class Costs:
    """Seconds of a server's processor that each way to read some tracks is expected to take."""

    index: float
    scan: float

    @property
    def favour_index(self) -> bool:
        """Whether looking each track up by index costs no more."""
        return self.index <= self.scan


@dataclass(frozen=True)
class Layout:
    """What the server knows of the table of streams, which is the sum of its partitions."""

    pages: int
    rows: float
    tracks: float
    correlation: float
    """How far the order of the rows is that of the tracks: 0 to 1."""
    visible: float
    """Share of the pages that an index with all columns makes it unnecessary to read."""
    parts: int = 1
    is_covered: bool = False
    """Whether an index of (cm_track_id, date) holds all columns that a run reads."""
    shared: int = 16_384
    """Pages that the server's own memory holds."""
    cached: int = 524_288
    """Pages that all memory for its data is expected to hold."""

    def costs(self, tracks: int, *, scans: int = 1, whole: bool = False) -> Costs:
        """Estimate what it costs to read the last records of some tracks; `whole`: all their records.

        `scans`: how often a scan reads the table.
        """
        records = self._records if whole else min(WINDOW, self._records)
        out_of_order, in_order = self._per_page
        lookups = tracks * _LOOKUP
        entries = tracks * records * _ENTRY
        index = lookups * (2 + self.parts) + entries + tracks * self._fetched(records) * out_of_order
        passes = scans * (self.rows * _ROW + self.pages * in_order)
        first = min(self.costs_of_first(tracks).index * 1e6, passes)
        scan = lookups + first + passes + tracks * records * _SORTED
        return Costs(index / 1e6, scan / 1e6)

    def costs_of_first(self, tracks: float) -> Costs:
        """Estimate what it costs to find a row of each track: track by track by index, or in all rows."""
        in_order = self._per_page[1]
        return Costs(tracks * self.parts * _LOOKUP / 1e6, (self.rows * _ROW + self.pages * in_order) / 1e6)

    def costs_of_ids(self) -> Costs:
        """Estimate what it costs to find all tracks: one after the other by index, or in all rows."""
        return self.costs_of_first(self.tracks)

    def with_covering_index(self) -> "Layout":
        """Return the same table with an index that holds all columns, after a VACUUM."""
        return replace(self, is_covered=True, visible=1.0)

    @property
    def _records(self) -> float:
        return self.rows / max(1.0, self.tracks)

    def _fetched(self, records: float) -> float:
        """Pages of the table in which an index finds the records of a track."""
        together = records * self.pages / max(1.0, self.rows) + self.parts
        in_order = self.correlation**2
        pages = in_order * min(together, records) + (1 - in_order) * records
        return pages * (1 - self.visible) if self.is_covered else pages

    @property
    def _per_page(self) -> tuple[float, float]:
        if self.pages <= self.shared / 2:
            return _SHARED
        return _CACHED if self.pages <= self.cached else _DISK


def layout_from(facts: Sequence[Any]) -> Layout:
    """Describe a table by the one row of the answer to `QUESTION`."""
    parts, pages, visible, rows, tracks, correlation, is_covered, shared, cached = facts
    if not pages:
        pages, rows, visible = _PAGES, _PAGES * _ROWS_PER_PAGE, 0
    return Layout(
        pages=pages,
        rows=rows,
        tracks=max(1.0, tracks or rows / _RECORDS),
        correlation=correlation or 0.0,
        visible=min(1.0, (visible or 0) / pages),
        parts=max(1, parts),
        is_covered=is_covered,
        shared=shared,
        cached=cached,
    )
