"""Tracks that differ only in their id, and servers that refuse some of them."""

from collections.abc import Collection

from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.faults import FORECAST, STREAMS
from tests.tables import initialise, made_once


def catalogue(dsn: Dsn, tracks: int) -> None:
    """Tracks 1 to `tracks` of one artist, all of which can be forecast; in place of a new database."""

    def make(new: Dsn) -> None:
        initialise(new)
        sql.run(
            new, "INSERT INTO backtest_artist_mldr (cm_artist_id, mldr, created_at) VALUES (1, 0.1, now())"
        )
        sql.run(
            new,
            f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date, daily_streams, days_from_release) "
            f"SELECT t, 1, DATE '2024-01-01' + d, 1000 + t, 100 + d FROM generate_series(1, {tracks}) t, "
            "generate_series(0, 39) d",
        )
        sql.run(new, f"ANALYZE {STREAMS}")

    made_once(dsn, f"refusals_{tracks}", make)


def require_known(dsn: Dsn, *, unknown: Collection[int], deferred: str = "") -> None:
    """A foreign key to a table of tracks, in which some are missing."""
    missing = ", ".join(map(str, unknown))
    sql.run(dsn, "CREATE TABLE known (id bigint PRIMARY KEY)")
    sql.run(
        dsn,
        f"INSERT INTO known SELECT DISTINCT cm_track_id FROM {STREAMS} WHERE cm_track_id NOT IN ({missing})",
    )
    sql.run(dsn, f"ALTER TABLE {FORECAST} ADD FOREIGN KEY (cm_track_id) REFERENCES known {deferred}")
