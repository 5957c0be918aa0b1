"""The sample catalogue in its own schema, for a first try."""

from forecaster.errors import NoForecastError
from forecaster.postgres.connection import commit, connect, execute, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import read_tables
from forecaster.setup.init import initialise
from forecaster.setup.load import Loaded, load
from forecaster.setup.sample import sample_catalogue
from forecaster.tables import ALL_TABLES, FORECAST_TABLE, STREAMS_TABLE

SCHEMA = "demo"
"""Separate from other data in the database, so that it may be emptied."""

DEFAULT_TRACKS = 300


def fill(dsn: Dsn, tracks: int | None) -> Loaded | None:
    """Fill the demo schema with the sample catalogue; return None if it is filled already.

    If `tracks` is another number than that of the stored tracks, replace the catalogue and its forecasts.
    None accepts any number.
    """
    initialise(dsn, SCHEMA)
    with connect(dsn) as connection:
        tables = read_tables(connection, SCHEMA)
        stored = query(
            connection, f"SELECT count(DISTINCT cm_track_id) FROM {tables.name(STREAMS_TABLE)}"
        ).item()
        if stored and tracks in (None, stored):
            return None
        # Before the old catalogue is deleted, because this can fail.
        streams, mldr = sample_catalogue(tracks or DEFAULT_TRACKS)
        execute(connection, f"TRUNCATE {', '.join(map(tables.name, ALL_TABLES))}")
        commit(connection)
    return load(dsn, SCHEMA, streams=streams, mldr=mldr)


def first_forecast(dsn: Dsn) -> int:
    """Find the first track of the demo schema that has a forecast. Raises `NoForecastError` without one."""
    with connect(dsn) as connection:
        forecasts = read_tables(connection, SCHEMA).name(FORECAST_TABLE)
        track = query(connection, f"SELECT min(cm_track_id) FROM {forecasts}").item()
    if track is None:
        raise NoForecastError("no track of the sample catalogue has a forecast")
    return int(track)
