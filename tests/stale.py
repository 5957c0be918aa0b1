"""A small catalogue with stored forecasts, what makes some of them stale, and which of them a run touched."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.init import initialise
from tests import sql
from tests.forecasts import in_frames

FORECASTS = "backtest_track_streams_forecast"
STREAMS = "backtest_track_daily_training_data"
RATES = "backtest_artist_mldr"
HISTORY = "backtest_track_streams_forecast_history"
RUNS = "backtest_forecast_run"

TRACKS = 8
"""Two by each artist: artist 1 has the tracks 1 and 2."""

REFRESH = RunConfig(refresh=True)

NEW_DAY = (
    f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date, daily_streams, days_from_release) "
    "SELECT cm_track_id, cm_artist_id, date + 1, 5000, days_from_release + 1 "
    f"FROM {STREAMS} WHERE (cm_track_id, date) = ($track, '2026-03-01')"
)
RESTATED_DAY = (
    f"UPDATE {STREAMS} SET daily_streams = 77777, created_at = now() "
    "WHERE (cm_track_id, date) = ($track, '2026-02-11')"
)
FILLED_GAP = (
    f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date, daily_streams, days_from_release) "
    "SELECT cm_track_id, cm_artist_id, date - 1, 5000, days_from_release - 1 "
    f"FROM {STREAMS} WHERE (cm_track_id, date) = ($track, '2025-12-02')"
)
WITHDRAWN_DAY = f"DELETE FROM {STREAMS} WHERE (cm_track_id, date) = ($track, '2026-03-01')"
NEW_MLDR = f"INSERT INTO {RATES} (cm_artist_id, mldr) VALUES (($track + 1) / 2, 0.2)"
ALTERED_MLDR = f"UPDATE {RATES} SET mldr = 0.2 WHERE cm_artist_id = ($track + 1) / 2"


def add_tracks(dsn: Dsn, first: int, last: int, *, rated_from: int = 1) -> None:
    """Tracks with ninety days until 2026-03-01; `rated_from`: the first one whose artist has an MLDR."""
    sql.run(
        dsn,
        f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date, daily_streams, days_from_release) "
        f"SELECT t, (t + 1) / 2, DATE '2026-03-01' - d, 1000 + t * 10 + d % 7, 400 - d "
        f"FROM generate_series({first}, {last}) t, generate_series(0, 89) d",
    )
    sql.run(
        dsn,
        f"INSERT INTO {RATES} (cm_artist_id, mldr) SELECT DISTINCT (t + 1) / 2, 0.05 "
        f"FROM generate_series({rated_from}, {last}) t",
    )


def fill(dsn: Dsn, tracks: int = TRACKS) -> None:
    """Tables as `init` makes them, and a catalogue without forecasts."""
    initialise(dsn, "public")
    add_tracks(dsn, 1, tracks)


def forget(dsn: Dsn) -> None:
    """As before the tables of our own existed."""
    sql.run(dsn, f"DROP TABLE {HISTORY}, {RUNS}, backtest_schema_version")


def change(dsn: Dsn, what: str, *tracks: int) -> None:
    for track in tracks:
        sql.run(dsn, what.replace("$track", f"{track}"))


def by_track(dsn: Dsn) -> Mapping[int, list[tuple[Any, ...]]]:
    """Every column of every stored row."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for row in sql.rows(dsn, f"SELECT cm_track_id, f::text FROM {FORECASTS} f ORDER BY 1, month"):
        found.setdefault(row[0], []).append(row)
    return found


def touched(before: Mapping[int, Any], after: Mapping[int, Any]) -> list[int]:
    """The tracks of which anything in the table is not as it was."""
    return sorted(track for track in before.keys() | after.keys() if before.get(track) != after.get(track))


def refreshed(dsn: Dsn, config: RunConfig = REFRESH) -> tuple[list[int], Report]:
    """Run; return the tracks of which any stored row is not as it was."""
    before = by_track(dsn)
    report = run(Database(dsn), config)
    return touched(before, by_track(dsn)), report


def recomputed(dsn: Dsn) -> pl.DataFrame:
    """What would be stored if everything were forecast from the tables as they are now."""
    streams = pl.read_database_uri(
        f"SELECT cm_track_id, cm_artist_id, date, daily_streams::float8, days_from_release FROM {STREAMS}",
        dsn.connectorx_uri,
    )
    rates = pl.read_database_uri(
        f"SELECT DISTINCT ON (cm_artist_id) cm_artist_id, mldr FROM {RATES} "
        "ORDER BY cm_artist_id, created_at DESC, id DESC",
        dsn.connectorx_uri,
    )
    return in_frames(streams, rates)
