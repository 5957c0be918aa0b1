"""The sample catalogue in a schema of its own, for trying things out."""

from forecaster.errors import NoForecastError
from forecaster.postgres.connection import commit, connect, execute, query
from forecaster.postgres.creation import create_missing
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import read_tables
from forecaster.setup.load import Loaded, load
from forecaster.setup.sample import sample_catalogue
from forecaster.tables import FORECAST_TABLE, STREAMS_TABLE, TABLES

SCHEMA = "demo"
"""Apart from whatever else the database holds, so that it may be emptied."""

DEFAULT_TRACKS = 300


def fill(dsn: Dsn, tracks: int | None) -> Loaded | None:
    """Fill the demo schema with the sample catalogue; None if it is there already.

    Another number of tracks than is there replaces the catalogue and its forecasts; None is any number.
    """
    with connect(dsn) as connection:
        create_missing(connection, SCHEMA)
        commit(connection)
        tables = read_tables(connection, SCHEMA)
        there = query(
            connection, f"SELECT count(DISTINCT cm_track_id) FROM {tables.name(STREAMS_TABLE)}"
        ).item()
        if there and tracks in (None, there):
            return None
        # First of all, because it is what can fail.
        streams, mldr = sample_catalogue(tracks or DEFAULT_TRACKS)
        execute(connection, f"TRUNCATE {', '.join(map(tables.name, TABLES))}")
        commit(connection)
    return load(dsn, SCHEMA, streams=streams, mldr=mldr)


def first_forecast(dsn: Dsn) -> int:
    """The first track of the demo schema that has a forecast. Raises `NoForecastError` if there is none."""
    with connect(dsn) as connection:
        forecasts = read_tables(connection, SCHEMA).name(FORECAST_TABLE)
        track = query(connection, f"SELECT min(cm_track_id) FROM {forecasts}").item()
    if track is None:
        raise NoForecastError("no track of the sample catalogue has a forecast")
    return int(track)
