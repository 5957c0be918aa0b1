"""Histories come packed from the server: they are those of a plain SELECT, in every type and layout."""

from collections.abc import Sequence

import polars as pl
import pytest

from forecaster.model.features import WINDOW
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.tables import create_tables

STREAMS = "backtest_track_daily_training_data"
WHOLE = ["0", "1", "-1", "32767", "-32768", "7"]
LONG = [*WHOLE, "2147483647", "-2147483647", "-2147483648"]
LARGE = [*LONG, "2147483648", "-2147483649", "9007199254740993", "9223372036854775807"]
BROKEN = [*LARGE, "0.5", "-1e-7", "1e300", "1.7976931348623157e308", "12345678.9", "1e-400"]
VALUES = {
    "smallint": WHOLE,
    "integer": LONG,
    "bigint": LARGE,
    "numeric": BROKEN,
    "real": [*WHOLE, "0.1", "16777216", "3e38", "2147483648"],
    "double precision": [*LARGE, "0.1", "-0.0", "1e300", "4e-324"],
}
UNUSABLE = {"numeric": "'NaN'", "real": "'Infinity'", "double precision": "'NaN'"}


def fill(dsn: Dsn, type_: str, values: Sequence[str], key: str) -> None:
    """Track 1 has each value, 2 more rows than count, 3 small integers, 4 rows without a number, 5 none."""
    create_tables(dsn, streams=type_, streams_key=key)
    into = f"INSERT INTO {STREAMS} (id, cm_track_id, cm_artist_id, date, daily_streams) "
    day = "DATE '2024-01-01' + "
    of_one = ", ".join(f"({n}, 1, 1, {day}{n}, '{value}'::{type_})" for n, value in enumerate(values))
    sql.run(dsn, f"{into} VALUES {of_one}")
    given = f"('{{{','.join(values)}}}'::{type_}[])[1 + n % {len(values)}]"
    for track, rows, value in ((2, WINDOW + 9, given), (3, 9, "n")):
        sql.run(
            dsn,
            f"{into} SELECT 1000 * {track} + n, {track}, 1 + n % 2, {day}n, {value} "
            f"FROM generate_series(0, {rows} - 1) AS g (n)",
        )
    left_out = UNUSABLE.get(type_, "NULL")
    sql.run(dsn, f"{into} VALUES (9001, 4, 1, {day}1, NULL), (9002, 4, 1, {day}2, {left_out}::{type_})")


def plain(dsn: Dsn, type_: str) -> dict[int, list[float]]:
    """Return the streams of each track that count, the oldest first."""
    value = "CASE WHEN abs(daily_streams) < 5e-324 THEN 0 ELSE daily_streams END"
    rows = sql.rows(
        dsn,
        f"SELECT cm_track_id::bigint, ({value if type_ == 'numeric' else 'daily_streams'})::float8 "
        f"FROM {STREAMS} WHERE daily_streams::text NOT IN ('NaN', 'Infinity') ORDER BY 1, date",
    )
    tracks: dict[int, list[float]] = {}
    for track, streams in rows:
        tracks.setdefault(track, []).append(streams)
    return {track: streams[-WINDOW:] for track, streams in tracks.items()}


@pytest.mark.parametrize("key", ["UNIQUE (cm_track_id, date)", ""])
@pytest.mark.parametrize("type_", VALUES)
def test_every_type_and_layout(embedded_database: Dsn, type_: str, key: str) -> None:
    fill(embedded_database, type_, VALUES[type_], key)
    with open_source(embedded_database, "public") as source:
        assert source.reads_by_index == bool(key)
        history = source.history(pl.Series([1, 2, 3, 4, 5]))
    streams = history.records.select("cm_track_id", "streams").collect()
    assert dict(streams.iter_rows()) == plain(embedded_database, type_)
    facts = history.facts.sort("cm_track_id").collect()
    assert facts["cm_track_id"].to_list() == [1, 2, 3, 4, 5]
    assert facts["has_several_artists"].to_list() == [False, True, True, False, False]
    assert facts["last_date"].is_null().to_list() == [False, False, False, True, True]
    assert facts.schema["days_from_release"] == pl.Int64
    assert history.duplicates == 0
