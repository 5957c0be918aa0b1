"""What is read is one moment: under a writer, a run stores what one single state of the tables gives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import adbc_driver_postgresql.dbapi as driver
import polars as pl
import pytest

from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.readers import Readers
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from tests.faults import LONG, STREAMS, as_observer, clear
from tests.forecasts import in_frames, stored
from tests.tables import initialise

TRACKS = 12
DAYS = 60
GENERATIONS = 5  # that follow each other in a circle
MLDR = "backtest_artist_mldr"


def streams(generation: int) -> pl.DataFrame:
    """Of each generation other streams of every track, and one track that only it has."""
    first = date(2024, 1, 1)
    return pl.DataFrame(
        {
            "cm_track_id": track,
            "cm_artist_id": 1 + track % 3,
            "date": first + timedelta(days=day),
            "daily_streams": (1000 + 10 * track - 5 * day) * (1 + generation),
        }
        for track in (*range(1, TRACKS + 1), 100 + generation)
        for day in range(DAYS)
    )


def mldr(generation: int) -> pl.DataFrame:
    return pl.DataFrame({"cm_artist_id": [1, 2, 3], "mldr": [0.01 * (1 + generation)] * 3})


def change(cursor: driver.Cursor, old: int, new: int) -> None:
    """From one generation to another, as other systems would do it: rows are changed, added, removed."""
    cursor.execute(f"UPDATE {STREAMS} SET daily_streams = daily_streams / {1 + old} * {1 + new}")
    cursor.execute(
        f"UPDATE {STREAMS} SET cm_track_id = {100 + new}, "
        f"daily_streams = daily_streams + 10 * ({new} - ({old})) * {1 + new} WHERE cm_track_id = {100 + old}"
    )
    cursor.execute(
        f"INSERT INTO {MLDR} (cm_artist_id, mldr, created_at) "
        f"SELECT artist, {0.01 * (1 + new)}, clock_timestamp() FROM generate_series(1, 3) AS s (artist)"
    )
    cursor.execute(f"DELETE FROM {MLDR} WHERE mldr <> {0.01 * (1 + new)}")
    # The track that only it has is another artist's from one generation to the next.
    cursor.execute(f"UPDATE {STREAMS} SET cm_artist_id = 1 + cm_track_id % 3 WHERE cm_track_id > 100")


@contextmanager
def writer(dsn: Dsn) -> Iterator[list[int]]:
    """Another thread goes from generation to generation; yields their number so far."""
    stop, done = threading.Event(), [0]

    def write() -> None:
        with driver.connect(as_observer(dsn).uri) as connection, connection.cursor() as cursor:
            while not stop.is_set():
                change(cursor, done[0] % GENERATIONS, (done[0] + 1) % GENERATIONS)
                connection.commit()
                done[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def generations_stored(dsn: Dsn, times: int, monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The generation that each of some runs under a writer has stored, None for what is none of them."""
    initialise(dsn)
    load(dsn, "public", streams=streams(0), mldr=mldr(0))
    answers = [in_frames(streams(g), mldr(g), age_from="first-date") for g in range(GENERATIONS)]
    assert len({str(answer.rows()) for answer in answers}) == GENERATIONS
    monkeypatch.setattr(
        "forecaster.postgres.tracks.BATCH", 4
    )  # tracks: four times over, two connections at once
    found: list[int | None] = []
    with writer(dsn) as done:
        while len(found) < times:
            clear(dsn)
            before = done[0]
            run(Database(dsn), RunConfig(parameters=Parameters(age_from="first-date")))
            ours = stored(dsn)
            equal = [generation for generation, answer in enumerate(answers) if ours.equals(answer)]
            # A run during which little changes proves little.
            if done[0] > before + 1:
                found.append(equal[0] if equal else None)
    return found


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=LONG)])
def test_a_run_under_a_writer(usual_database: Dsn, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert None not in generations_stored(usual_database, times, monkeypatch)


def test_without_the_snapshot_this_would_be_seen(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_plainly(readers: Readers, sql: str, **_: Any) -> pl.DataFrame:
        with connect(readers.dsn) as connection:
            return query(connection, sql)

    monkeypatch.setattr(Readers, "read", read_plainly)
    assert None in generations_stored(embedded_database, 3, monkeypatch)
