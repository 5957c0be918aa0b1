"""The SQL statements that read the catalogue: one function each, of tables and the ids of tracks."""

from collections.abc import Mapping, Sequence
from datetime import date

import polars as pl

from forecaster.model.features import WINDOW
from forecaster.postgres import wire
from forecaster.postgres.connection import integer_array
from forecaster.postgres.tables import Tables
from forecaster.run.plausible import NAMED
from forecaster.tables import (
    FORECAST_TABLE,
    FORECASTS,
    HISTORY,
    MLDR_TABLE,
    RUNS,
    STORED_FORECASTS,
    STREAMS_TABLE,
)

# As in the schema of the model, an age that does not fit in 32 bits counts as unknown.
_AGE = (
    f"CASE WHEN s.days_from_release BETWEEN {-(2**31)} AND {2**31 - 1} "
    "THEN trunc(s.days_from_release)::bigint END"
)
_DAYS_FROM_RELEASE = f"{_AGE} AS days_from_release"

SCANNED_DAYS = WINDOW + 35
"""Days of which a scan keeps the records. Some are missing in practice, and a track is given some time."""
_COUNTED = 40  # tracks whose days are counted, to tell for how many this is enough

Ids = Sequence[int] | pl.Series
_LIMITS: Mapping[str, int] = {"smallint": 2**15, "integer": 2**31}


def among(tables: Tables, table: str, ids: Ids | None) -> str:
    """SQL condition: the row `s` of a table with a `cm_track_id` is of one of these tracks; None: of all."""
    if ids is None:
        return "true"
    # In the type of the column: only then does the server look its numbers up in a hash of the array.
    type_ = tables.type(table, "cm_track_id")
    numbers = pl.Series(ids, dtype=pl.Int64)
    if limit := _LIMITS.get(type_):
        numbers = numbers.filter(numbers.is_between(-limit, limit - 1))
    return f"s.cm_track_id = ANY ({integer_array(numbers, type_ if limit else 'bigint')})"


def epoch_day(date: str) -> str:
    """SQL expression: days since 1970-01-01. Unlike for dates, the drivers have no limits for numbers."""
    return f"({date} - DATE '1970-01-01')"


def microseconds(instant: str) -> str:
    """SQL expression: microseconds since 1970-01-01 in UTC."""
    return f"(extract(epoch FROM {instant}) * 1000000)::bigint"


def _streams(tables: Tables) -> str:
    return tables.as_float(STREAMS_TABLE, "daily_streams")


def _whole(tables: Tables) -> str:
    return wire.whole("s.daily_streams", tables.type(STREAMS_TABLE, "daily_streams"))


def _row_id(tables: Tables) -> str:
    """SQL expression: a row's id, named as in the forecasts."""
    return f"s.id::{_id_type(tables)} AS training_data_id"


def _id_type(tables: Tables) -> str:
    return "text" if tables.type(STREAMS_TABLE, "id") == "uuid" else "bigint"


def all_tracks(tables: Tables) -> str:
    """Find the tracks that have a row of streams, by a scan of all rows: id."""
    streams = tables.name(STREAMS_TABLE)
    tracks = f"SELECT DISTINCT cm_track_id AS id FROM {streams} WHERE cm_track_id IS NOT NULL"
    return f"SELECT t.id::bigint AS id FROM ({tracks}) AS t"


def all_tracks_by_index(tables: Tables) -> list[str]:
    """Find the same by one index lookup per track, because PostgreSQL reads all rows for a DISTINCT.

    Two queries: one for the lower half of the range between the first and the last id, one for the upper.
    """
    streams = tables.name(STREAMS_TABLE)
    middle = f"(SELECT min(cm_track_id)::bigint / 2 + max(cm_track_id)::bigint / 2 FROM {streams})"
    return [
        f"""
        WITH RECURSIVE track (id) AS (
            (SELECT s.cm_track_id FROM {streams} s WHERE s.cm_track_id {half} {middle}
             ORDER BY s.cm_track_id LIMIT 1)
            UNION ALL
            SELECT (SELECT s.cm_track_id FROM {streams} s WHERE s.cm_track_id > track.id
                    AND s.cm_track_id {half} {middle} ORDER BY s.cm_track_id LIMIT 1)
            FROM track WHERE track.id IS NOT NULL)
        SELECT id::bigint AS id FROM track WHERE id IS NOT NULL"""
        for half in ("<", ">=")
    ]


def tracks_among(tables: Tables, ids: Ids) -> str:
    """Find the tracks among `ids` that have a row of streams: id."""
    return f"""
        SELECT t.id::bigint AS id
        FROM (SELECT DISTINCT id FROM unnest({integer_array(ids)}) AS t (id)
              WHERE EXISTS (SELECT FROM {tables.name(STREAMS_TABLE)} s WHERE s.cm_track_id = t.id)) AS t"""


def last_day_by_index(tables: Tables) -> list[str]:
    """Find the last day on which any track has a record, by one lookup per track: day.

    Two queries, of which the later day counts: one for each of `all_tracks_by_index`.
    """
    last = f"SELECT s.date {_record_of_track(tables)} ORDER BY s.date DESC LIMIT 1"
    return [
        f"SELECT {epoch_day('max(r.date)')} AS day FROM ({tracks}) AS t CROSS JOIN LATERAL ({last}) r"
        for tracks in all_tracks_by_index(tables)
    ]


def last_day_in_one_pass(tables: Tables) -> str:
    """Find the same by a scan of all rows."""
    return f"""
        SELECT {epoch_day(f"max({tables.day(STREAMS_TABLE)})")} AS day
        FROM {tables.name(STREAMS_TABLE)} s
        WHERE s.cm_track_id IS NOT NULL AND NOT {tables.unusable(STREAMS_TABLE)}"""


def ends_by_index(tables: Tables, ids: Ids) -> str:
    """Group the tracks by the day of their last record: day, number, first (their lowest ids)."""
    return _grouped(_ends_by_index(tables, ids))


def _ends_by_index(tables: Tables, ids: Ids, until: date | None = None) -> str:
    return f"""
        SELECT t.id, (SELECT {epoch_day("s.date")} FROM {tables.name(STREAMS_TABLE)} s
                      WHERE s.cm_track_id = t.id AND {tables.record(STREAMS_TABLE)}{up_to(until)}
                      ORDER BY s.date DESC LIMIT 1) AS day
        FROM unnest({integer_array(ids)}) AS t (id)"""


def ends_in_one_pass(tables: Tables, ids: Ids) -> str:
    """Group the same from tables without the key, by a scan of all rows."""
    return _grouped(f"""
        SELECT t.id, g.day
        FROM unnest({integer_array(ids)}) AS t (id)
        LEFT JOIN (
            SELECT s.cm_track_id, max({epoch_day(tables.day(STREAMS_TABLE))}) AS day
            FROM {tables.name(STREAMS_TABLE)} s WHERE NOT {tables.unusable(STREAMS_TABLE)}
            GROUP BY s.cm_track_id) g ON g.cm_track_id = t.id""")


def _grouped(ends: str) -> str:
    return f"""
        SELECT e.day::bigint AS day, count(*)::bigint AS number,
               (array_agg(e.id ORDER BY e.id))[1:{NAMED}] AS first
        FROM ({ends}) e GROUP BY 1"""


def rows_without_track(tables: Tables) -> str:
    """Count the rows without a track: n."""
    return f"SELECT count(*)::bigint AS n FROM {tables.name(STREAMS_TABLE)} WHERE cm_track_id IS NULL"


def unusable_rows(tables: Tables, ids: Ids) -> str:
    """Count the rows of the tracks that are not records: n."""
    # Not by "= ANY (array)": a join with the few rows of the partial index is fast.
    return f"""
        SELECT count(*)::bigint AS n
        FROM (SELECT cm_track_id FROM {tables.name(STREAMS_TABLE)}
              WHERE {tables.unusable(STREAMS_TABLE)}) s
        JOIN unnest({integer_array(ids)}) AS t (id) ON t.id = s.cm_track_id"""


def newest_rates(tables: Tables, *, condition: str = "true", more: str = "") -> str:
    """Read each artist's newest MLDR among the rows `s` that fulfil a condition: cm_artist_id, mldr.

    `more`: further columns, each after a comma.
    """
    return f"""
        SELECT DISTINCT ON (cm_artist_id) s.cm_artist_id::bigint AS cm_artist_id,
               {tables.finite(MLDR_TABLE, "mldr")} AS mldr{more}
        FROM {tables.name(MLDR_TABLE)} s
        WHERE s.cm_artist_id IS NOT NULL AND {condition}
        ORDER BY 1, {tables.newest_first(MLDR_TABLE)}"""


def rated_up_to(tables: Tables, until: date | None) -> str:
    """SQL condition: the MLDR `s` was created up to a day (in UTC), or on no known one; None: any MLDR."""
    if until is None:
        return "true"
    return (
        f"({tables.instant(MLDR_TABLE)} < '{until} 00:00+00'::timestamptz + interval '24 hours') IS NOT FALSE"
    )


def all_rates(tables: Tables) -> str:
    """Read all MLDR rows of artists: cm_artist_id, mldr, id, created_at (microseconds since 1970, in UTC)."""
    id_ = f"s.id::{'text' if tables.type(MLDR_TABLE, 'id') == 'uuid' else 'bigint'}"
    return f"""
        SELECT s.cm_artist_id::bigint AS cm_artist_id, {tables.finite(MLDR_TABLE, "mldr")} AS mldr,
               {id_} AS id,
               {_instant(tables, MLDR_TABLE)} AS created_at
        FROM {tables.name(MLDR_TABLE)} s WHERE s.cm_artist_id IS NOT NULL"""


def history_by_index(tables: Tables, ids: Ids, *, with_days: bool = False, until: date | None = None) -> str:
    """Read the last records and facts of each track. The cost per track does not grow with its history.

    `with_days`: also the days of these records, as `wire.packed_days`; `until`: only records up to that day.
    """
    record = _record_of_track(tables, until)
    joins = _joins(_newest_records(tables, record, with_days=with_days), record, with_days=with_days)
    return f"""
        SELECT t.id AS cm_track_id, recent.*, newest.cm_artist_id, newest.days_from_release,
               {epoch_day("newest.date")} AS last_day, earliest.training_data_id,
               {epoch_day("earliest.date")} AS first_day, NULL::bigint AS duplicates
        FROM unnest({integer_array(ids)}) AS t (id)
        {joins}
        LEFT JOIN LATERAL ({_earliest_record(tables, record)}) earliest ON true"""


def newest_day(tables: Tables, ids: Ids, until: date | None = None) -> str:
    """Find the day after which most of the tracks that still get rows have all that counts: day, share.

    share: of the tracks with a record, those that have `WINDOW` days after it, or none before: a scan from
    that day on reads them; 0 to 1, counted in some of them.
    """
    # By dates alone, which the index of the key holds: these are as many entries as the tracks have records.
    counted = (
        f"SELECT s.date FROM {tables.name(STREAMS_TABLE)} s WHERE s.cm_track_id = e.id "
        f"AND s.date > '-infinity' AND s.date < 'infinity'{up_to(until)} ORDER BY s.date DESC LIMIT {WINDOW}"
    )
    return f"""
        WITH e AS MATERIALIZED (
            SELECT e.*, row_number() OVER (ORDER BY e.id) AS n FROM ({_ends_by_index(tables, ids, until)}) e
        ), d AS (
            SELECT (percentile_disc(0.9) WITHIN GROUP (ORDER BY e.day) - {SCANNED_DAYS})::bigint AS day
            FROM e)
        SELECT d.day, (
                   SELECT avg(((SELECT min({epoch_day("r.date")}) FROM ({counted}) r) > d.day)::int)::float8
                   FROM e WHERE e.day IS NOT NULL AND e.n % {max(1, len(ids) // _COUNTED)} = 0) AS share
        FROM d"""


def history_by_scan(
    tables: Tables,
    ids: Ids,
    after: int,
    *,
    whole: bool = False,
    with_days: bool = False,
    until: date | None = None,
) -> str:
    """Read the same of tables with the key by a scan of the records after a day (since 1970-01-01).

    A track without `WINDOW` records after it, and with some before, is read by index; so is one with several
    artists after it, because only the last records count. `whole`: scan all records, to find the first of
    each track; else an index finds it, in one partition after the other.
    """
    record, since = _record_of_track(tables, until), f"(DATE '1970-01-01' + {int(after)})"
    one_artist = "(g.min_artist_id < g.max_artist_id) IS NOT TRUE"
    scanned = f"""
        SELECT {_streams(tables)} AS daily_streams, {_whole(tables)} AS whole,
               NULL::bigint AS cm_artist_id{", s.date" if with_days else ""}
        FROM unnest(t.dates, t.streams) AS s (date, daily_streams)
        WHERE NOT t.is_open ORDER BY s.date DESC LIMIT {WINDOW}"""
    looked_up = _newest_records(tables, f"{record} AND t.is_open", with_days=with_days)
    joins = _joins(f"({scanned}) UNION ALL ({looked_up})", record, with_days=with_days)
    recent = f"FILTER (WHERE s.date > {since})"
    scans, earliest = (
        ("true", f"{record} AND s.date = g.first_date") if whole else (f"s.date > {since}", record)
    )
    # A hash of the scanned rows by track takes a third of the time of sorting them all by track and day.
    return f"""
        SELECT t.id AS cm_track_id, recent.*, newest.cm_artist_id, newest.days_from_release,
               {epoch_day("newest.date")} AS last_day, t.training_data_id,
               {epoch_day("t.date")} AS first_day, NULL::bigint AS duplicates
        FROM (SELECT t.id, g.dates, g.streams, earliest.*,
                     ((g.number >= {WINDOW} OR earliest.date > {since}) AND {one_artist}) IS NOT TRUE
                         AS is_open
              FROM unnest({integer_array(ids)}) AS t (id)
              LEFT JOIN (
                  SELECT s.cm_track_id, min(s.date) AS first_date, count(*) {recent} AS number,
                         array_agg(s.date) {recent} AS dates, array_agg(s.daily_streams) {recent} AS streams,
                         min(s.cm_artist_id) {recent} AS min_artist_id,
                         max(s.cm_artist_id) {recent} AS max_artist_id
                  FROM {tables.name(STREAMS_TABLE)} s
                  WHERE {among(tables, STREAMS_TABLE, ids)} AND {scans}
                        AND NOT {tables.unusable(STREAMS_TABLE)}{up_to(until)}
                  GROUP BY s.cm_track_id) g ON g.cm_track_id = t.id
              LEFT JOIN LATERAL ({_earliest_record(tables, earliest)}) earliest ON true) t
        {joins}"""


def _record_of_track(tables: Tables, until: date | None = None) -> str:
    return (
        f"FROM {tables.name(STREAMS_TABLE)} s "
        f"WHERE s.cm_track_id = t.id AND {tables.record(STREAMS_TABLE)}{up_to(until)}"
    )


def up_to(until: date | None, day: str = "s.date") -> str:
    """SQL: the rest of a condition, by which no later day counts."""
    return f" AND {day} <= DATE '{until}'" if until else ""


def _joins(rows: str, record: str, *, with_days: bool) -> str:
    """SQL: the last records of a track, packed, and the newest of them, from which their days count."""
    newest = f"LEFT JOIN LATERAL ({_newest_record(record)}) newest ON true"
    if with_days:
        return f"{newest}\n        CROSS JOIN LATERAL ({_packed(rows, days='newest.date - r.date')}) recent"
    return f"CROSS JOIN LATERAL ({_packed(rows)}) recent\n        {newest}"


def _newest_records(tables: Tables, record: str, *, with_days: bool) -> str:
    artist = f"s.cm_artist_id{', s.date' if with_days else ''}"
    return f"""
        SELECT {_streams(tables)} AS daily_streams, {_whole(tables)} AS whole, {artist} {record}
        ORDER BY s.date DESC LIMIT {WINDOW}"""


def _packed(rows: str, days: str = "") -> str:
    # The aggregate takes rows in the order of its subquery: no plan puts a node between a LIMIT and an
    # ungrouped aggregate.
    return f"""
        SELECT {wire.packed("r.daily_streams", "r.whole")},
               min(r.cm_artist_id) < max(r.cm_artist_id) AS has_several_artists{_and_days(days)}
        FROM ({rows}) r"""


def _and_days(since: str) -> str:
    return f", {wire.packed_days(since)}" if since else ""


def _newest_record(record: str) -> str:
    return f"""
        SELECT s.date, s.cm_artist_id::bigint AS cm_artist_id, ({_AGE})::int AS days_from_release {record}
        ORDER BY s.date DESC LIMIT 1"""


def _earliest_record(tables: Tables, record: str) -> str:
    return f"SELECT s.date, {_row_id(tables)} {record} ORDER BY s.date LIMIT 1"


def history_in_one_pass(
    tables: Tables, ids: Ids, *, with_days: bool = False, until: date | None = None
) -> str:
    """Read the same from tables without the key: sort all rows, and keep one row per day."""
    # The row order of `v` is that of its window, which the grouped aggregates above it keep. Of two
    # rows with equal `created_at` and `id`, the values decide, as in the model. The server writes the rows
    # that it sorts to its disk, so they carry nothing that can be derived from the few that remain.
    is_newest = "FILTER (WHERE v.previous IS DISTINCT FROM v.day)"
    whole = wire.whole("r.value", "double precision")
    kept = ("streams", "artists", *(["days"] if with_days else []))
    windows = ", ".join(f"g.{name}[1:{WINDOW}]" for name in kept)
    day = ", day" if with_days else ""
    also = f" array_agg(v.day) {is_newest} AS days," if with_days else ""
    several = "min(r.artist) < max(r.artist) AS has_several_artists"
    several += _and_days("g.last_day - r.day") if with_days else ""
    usable = f"NOT {tables.unusable(STREAMS_TABLE)}{up_to(until, tables.day(STREAMS_TABLE))}"
    return f"""
        SELECT t.id AS cm_track_id, recent.*, g.artists[1]::bigint AS cm_artist_id,
               g.days_from_release[1]::int AS days_from_release, g.last_day, g.first_day,
               g.ids[cardinality(g.ids)]::{_id_type(tables)} AS training_data_id,
               nullif(g.duplicates, 0) AS duplicates
        FROM unnest({integer_array(ids)}) AS t (id)
        LEFT JOIN (
            SELECT v.cm_track_id, max(v.day) AS last_day, min(v.day) AS first_day,
                   array_agg(v.daily_streams) {is_newest} AS streams,
                   array_agg(v.cm_artist_id) {is_newest} AS artists,{also}
                   array_agg(v.days_from_release) FILTER (WHERE v.previous IS NULL) AS days_from_release,
                   array_agg(v.id) {is_newest} AS ids,
                   count(*) FILTER (WHERE v.previous = v.day) AS duplicates
            FROM (
                SELECT r.*, lag(r.day) OVER (
                           PARTITION BY r.cm_track_id
                           ORDER BY r.day DESC, {tables.newest_first(STREAMS_TABLE, "r")}
                       ) AS previous
                FROM (SELECT s.cm_track_id, s.cm_artist_id, {_streams(tables)} AS daily_streams,
                             {_DAYS_FROM_RELEASE}, s.id, s.created_at,
                             {epoch_day(tables.day(STREAMS_TABLE))} AS day
                      FROM {tables.name(STREAMS_TABLE)} s
                      WHERE {among(tables, STREAMS_TABLE, ids)} AND {usable}) r
            ) v
            GROUP BY v.cm_track_id
        ) g ON g.cm_track_id = t.id
        CROSS JOIN LATERAL (
            SELECT {wire.packed("r.value", whole)}, {several}
            FROM unnest({windows}) AS r (value, artist{day})) recent"""


def days_of_one(tables: Tables, track_id: int) -> str:
    """Read the days on which one track has a record, in order: day, daily_streams."""
    return f"""
        SELECT DISTINCT ON (1) {epoch_day(tables.day(STREAMS_TABLE))} AS day,
               {_streams(tables)} AS daily_streams
        FROM {tables.name(STREAMS_TABLE)} s
        WHERE s.cm_track_id = {int(track_id)} AND NOT {tables.unusable(STREAMS_TABLE)}
        ORDER BY 1, {tables.newest_first(STREAMS_TABLE)}"""


def days_by_index(tables: Tables, ids: Ids) -> str:
    """Read every record of the tracks, as arrays per track."""
    return f"""
        SELECT t.id AS cm_track_id, a.*
        FROM unnest({integer_array(ids)}) AS t (id)
        CROSS JOIN LATERAL (
            SELECT array_agg(r.date) AS date, array_agg(r.cm_artist_id) AS cm_artist_id,
                   array_agg(r.daily_streams) AS daily_streams,
                   array_agg(r.days_from_release) AS days_from_release
            FROM ({_day_rows(tables, "s.cm_track_id = t.id")}) r) a"""


def records_by_index(tables: Tables, ids: Ids, until: date) -> str:
    """Read the records of the tracks up to a day: those of a track packed together, oldest first.

    cm_track_id; records and others (see `wire.packed_on_days`); of the first record, the artist, and born,
    the day on which the track was released (NULL: not known); is_regular: whether all records say the same of
    both. Only tracks that have a record.
    """
    record, day = _record_of_track(tables, until), f"{epoch_day('s.date')}::bigint"
    # The aggregate evaluates a filter first: few numbers are made floats.
    return f"""
        SELECT t.id AS cm_track_id, e.artist::bigint AS artist, e.born, a.*
        FROM unnest({integer_array(ids)}) AS t (id)
        CROSS JOIN LATERAL (SELECT s.cm_artist_id AS artist, {day} - {_age(tables)} AS born {record}
                            ORDER BY s.date LIMIT 1) e
        CROSS JOIN LATERAL (
            SELECT {wire.packed_on_days("s.day", _streams(tables), "s.whole")},
                   bool_and(s.cm_artist_id IS NOT DISTINCT FROM e.artist
                            AND s.day - s.age IS NOT DISTINCT FROM e.born) AS is_regular
            FROM (SELECT {day} AS day, s.daily_streams, {_whole(tables)} AS whole, s.cm_artist_id,
                         {_age(tables)} AS age {record} ORDER BY s.date) s) a"""


def _age(tables: Tables) -> str:
    """SQL expression: the days from release as an integer; NULL if they are none of 32 bits."""
    is_short = tables.type(STREAMS_TABLE, "days_from_release") in _LIMITS
    return "s.days_from_release" if is_short else _AGE


def days_in_one_pass(tables: Tables, ids: Ids) -> str:
    """Read every record of the tracks, as one row each."""
    of_tracks = among(tables, STREAMS_TABLE, ids)
    if tables.has_day_key(STREAMS_TABLE):
        return _day_rows(tables, of_tracks)
    return f"""{_day_rows(tables, of_tracks, one="DISTINCT ON (1, 3) ")}
        ORDER BY 1, 3, {tables.newest_first(STREAMS_TABLE)}"""


def _day_rows(tables: Tables, condition: str, *, one: str = "") -> str:
    return f"""
        SELECT {one}s.cm_track_id::bigint AS cm_track_id, s.cm_artist_id::bigint AS cm_artist_id,
               {epoch_day(tables.day(STREAMS_TABLE))} AS date, {_streams(tables)} AS daily_streams,
               {_DAYS_FROM_RELEASE}
        FROM {tables.name(STREAMS_TABLE)} s WHERE {condition} AND NOT {tables.unusable(STREAMS_TABLE)}"""


def rows(tables: Tables, ids: Ids) -> str:
    """Read the tracks' rows as they are stored. A number or date that is not finite is NULL."""
    day = f"CASE WHEN isfinite(s.date) THEN {epoch_day(tables.day(STREAMS_TABLE))} END"
    return f"""
        SELECT {_row_id(tables)}, s.cm_track_id::bigint AS cm_track_id,
               s.cm_artist_id::bigint AS cm_artist_id, {day} AS date,
               {tables.finite(STREAMS_TABLE, "daily_streams")} AS daily_streams,
               {_DAYS_FROM_RELEASE}, {_instant(tables, STREAMS_TABLE)} AS created_at
        FROM {tables.name(STREAMS_TABLE)} s
        WHERE {among(tables, STREAMS_TABLE, ids)}"""


def _instant(tables: Tables, table: str) -> str:
    """SQL expression: when a row was created, in microseconds; if infinite, before or after all."""
    return f"""CASE s.created_at WHEN 'infinity' THEN {2**62} WHEN '-infinity' THEN {-(2**62)}
                    ELSE {microseconds(tables.instant(table))} END"""


def forecasts(tables: Tables, ids: Ids | None) -> str:
    """Read the stored forecast rows with a track and a month, of these tracks or all, ordered by both."""
    return f"""
        SELECT {", ".join(_stored(tables, name) for name in STORED_FORECASTS)}
        FROM {tables.name(FORECAST_TABLE)} s
        WHERE s.cm_track_id IS NOT NULL AND s.month IS NOT NULL
              AND {among(tables, FORECAST_TABLE, ids)}
        ORDER BY s.cm_track_id, s.month, {tables.instant(FORECAST_TABLE)}"""


def _stored(tables: Tables, name: str) -> str:
    """SQL expression: a stored column; streams as a float, the instant in microseconds, others as bigint."""
    [column] = [column for column in FORECASTS.columns if column.name == name]
    if name == "created_at":
        return f"{microseconds(tables.instant(FORECAST_TABLE))} AS created_at"
    value = tables.as_float(FORECAST_TABLE, name) if column.is_streams else f"s.{name}::bigint"
    return f"{value} AS {name}"


def cutoffs_by_index(tables: Tables, ids: Ids) -> str:
    """Find for each track with a forecast its last day, overall and among the rows before the forecast."""
    last = (
        f"SELECT {epoch_day(f'max({tables.day(STREAMS_TABLE)})')} FROM {tables.name(STREAMS_TABLE)} s "
        f"WHERE s.cm_track_id = f.id AND {tables.record(STREAMS_TABLE)}"
    )
    return f"""
        SELECT f.id::bigint AS cm_track_id, ({last}) AS last_day,
               ({last} AND {tables.instant(STREAMS_TABLE)} <= f.made) AS known_day
        FROM {_made(tables, ids)} ORDER BY 1"""


def cutoffs_in_one_pass(tables: Tables, ids: Ids) -> str:
    """Find the same in tables where finding a track's last day would scan all rows."""
    day, at = tables.day(STREAMS_TABLE), tables.instant(STREAMS_TABLE)
    return f"""
        SELECT f.id::bigint AS cm_track_id, {epoch_day(f"max({day})")} AS last_day,
               {epoch_day(f"(max({day}) FILTER (WHERE {at} <= f.made))")} AS known_day
        FROM {_made(tables, ids)}
        LEFT JOIN {tables.name(STREAMS_TABLE)} s
          ON s.cm_track_id = f.id AND NOT {tables.unusable(STREAMS_TABLE)}
        GROUP BY f.id ORDER BY 1"""


def recorded_days(tables: Tables, ids: Ids) -> str:
    """Find the as-of day that the history has of the stored forecast of each track: cm_track_id, day."""
    # A column of the forecasts may hold instants to the second only: the nearest run made them.
    near = "r.started_at BETWEEN m.made - interval '1 second' AND m.made + interval '1 second'"
    return f"""
        WITH f AS (SELECT * FROM {_made(tables, ids)}),
        made AS (
            SELECT m.made,
                   (SELECT r.id FROM {tables.name(RUNS.name)} r WHERE {near} AND r.outcome <> 'imported'
                    ORDER BY abs(extract(epoch FROM r.started_at - m.made)), r.id DESC LIMIT 1) AS run_id
            FROM (SELECT DISTINCT f.made FROM f WHERE isfinite(f.made)) m)
        SELECT f.id::bigint AS cm_track_id, {epoch_day("h.as_of")} AS day
        FROM f JOIN made USING (made)
        JOIN {tables.name(HISTORY.name)} h ON h.run_id = made.run_id AND h.cm_track_id = f.id
        WHERE h.months IS NOT NULL AND h.as_of IS NOT NULL"""


def _made(tables: Tables, ids: Ids) -> str:
    return f"""(SELECT s.cm_track_id AS id, max({tables.instant(FORECAST_TABLE)}) AS made
                FROM {tables.name(FORECAST_TABLE)} s
                WHERE {among(tables, FORECAST_TABLE, ids)} GROUP BY 1) f"""


def later_days(tables: Tables, ids: Ids) -> str:
    """Read the days of the tracks from a table of later streams: cm_track_id, date, daily_streams."""
    return f"""
        SELECT DISTINCT ON (1, 2) s.cm_track_id::bigint AS cm_track_id,
               {epoch_day(tables.day(STREAMS_TABLE))} AS date, {_streams(tables)} AS daily_streams
        FROM {tables.name(STREAMS_TABLE)} s
        WHERE {among(tables, STREAMS_TABLE, ids)} AND NOT {tables.unusable(STREAMS_TABLE)}
        ORDER BY 1, 2, {tables.newest_first(STREAMS_TABLE)}"""


def counts_of_later_rows(tables: Tables, ids: Ids) -> str:
    """Count the rows of that table: other_tracks, unusable (not records), usable."""
    unusable = tables.unusable(STREAMS_TABLE)
    return f"""
        SELECT count(*) FILTER (WHERE t.track IS NULL AND s.cm_track_id IS NOT NULL)::bigint AS other_tracks,
               count(*) FILTER (WHERE s.cm_track_id IS NULL OR t.track IS NOT NULL AND {unusable})::bigint
               AS unusable,
               count(*) FILTER (WHERE t.track IS NOT NULL AND NOT {unusable})::bigint AS usable
        FROM {tables.name(STREAMS_TABLE)} s
        LEFT JOIN unnest({integer_array(ids)}) AS t (track) ON t.track = s.cm_track_id"""
