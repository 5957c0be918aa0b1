"""Reading, computing and storing go on at once, and nothing of that can be seen in the result."""

from collections.abc import Callable
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import forecaster.postgres.tracks as run_module
from forecaster.errors import DatabaseError
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import History, Source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.faults import FORECAST, STREAMS, sessions, until
from tests.forecasts import in_frames, stored
from tests.tables import create_tables, golden_mldr, golden_streams, load_golden, made_once

KEY = "UNIQUE (cm_track_id, date)"
ROW = "cm_track_id, cm_artist_id, date, daily_streams"


@pytest.mark.parametrize(("chunk", "key"), [(1, KEY), (7, ""), (62, KEY), (63, ""), (250, KEY)])
def test_of_any_size(usual_database: Dsn, chunk: int, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    several = {1: 9, 7: 60}.get(chunk, 250)
    streams = golden_streams().filter(pl.col("cm_track_id") <= several)

    def make(new: Dsn) -> None:
        create_tables(new, streams_key=key)
        load(new, "public", streams=streams, mldr=golden_mldr())

    made_once(usual_database, f"first_{several}_{'with' if key else 'without'}_key", make)
    monkeypatch.setattr(run_module, "BATCH", chunk)

    report = run(Database(usual_database))

    assert report.results + len(report.skipped) == streams["cm_track_id"].n_unique() == report.pending
    assert_frame_equal(stored(usual_database), in_frames(streams, golden_mldr()))


def test_what_is_counted_is_of_all_chunks(embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each of the two a track is refused, one is skipped, one has a day twice, and one looks ahead."""
    dsn, last = embedded_database, date(2024, 2, 29)
    create_tables(dsn, value="integer")
    streams = [
        pl.DataFrame(
            {
                "cm_track_id": track,
                "cm_artist_id": 2 if track in (2, 6) else 1,
                "date": pl.date_range(date(2024, 1, 1), last, eager=True),
                "daily_streams": 10**9 if track in (4, 5) else 1000,
            }
        )
        for track in range(1, 9)
    ]
    early = pl.col("cm_track_id").is_in([3, 7])
    all_streams = pl.concat(streams).filter(~early | (pl.col("date") < last))
    load(dsn, "public", streams=all_streams, mldr=pl.DataFrame({"cm_artist_id": [1], "mldr": [0.01]}))
    twice = f"SELECT DISTINCT ON (cm_track_id) {ROW} FROM {STREAMS} WHERE cm_track_id IN (1, 8)"
    sql.run(dsn, f"INSERT INTO {STREAMS} ({ROW}) {twice}")
    sql.run(dsn, f"INSERT INTO {FORECAST} (cm_track_id, month, forecasted_value) VALUES (4, 1, 1)")
    monkeypatch.setattr(run_module, "BATCH", 1)
    monkeypatch.setattr(run_module, "_IN_FEW", 4)
    history, chunks = Source.history, list[list[int]]()

    def noted(source: Source, track_ids: pl.Series) -> History:
        chunks.append(track_ids.to_list())
        return history(source, track_ids)

    monkeypatch.setattr(Source, "history", noted)
    yesterday = Parameters(as_of=last - timedelta(days=1))

    report = run(Database(dsn), RunConfig(parameters=yesterday, replace=True, dry_run=True))

    assert chunks == [[1, 2, 3, 4], [5, 6, 7, 8]]  # larger ones where each read goes over all rows
    assert (report.results, [*report.refused], report.duplicate_rows) == (4, [4, 5], 2)
    assert report.skipped["cm_track_id"].to_list() == [2, 6]
    said = "\n".join(report.warnings)
    # Those of which the last day is that date do not.
    assert "tracks with streams after --as-of 2024-02-28: 6;" in said
    assert "keep the stored one: 1, the first is 4" in said


def test_a_constant_number_of_statements_for_each(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_golden(embedded_database)
    numbers = []
    for chunk in (250, 125, 50, 25):
        monkeypatch.setattr(run_module, "BATCH", chunk)
        sql.run(embedded_database, "TRUNCATE backtest_track_streams_forecast")
        numbers.append(len(sql.statements_of(embedded_database, lambda: run(Database(embedded_database)))))
    once, twice, five_times, ten_times = numbers
    assert once <= 12
    per_chunk = twice - once
    assert (five_times, ten_times) == (once + 4 * per_chunk, once + 9 * per_chunk)


def test_a_read_that_fails_lets_finish_what_is_being_stored(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its error is what is said."""
    load_golden(embedded_database)
    monkeypatch.setattr(run_module, "BATCH", 100)
    sql.run(
        embedded_database,
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'",
    )
    sql.run(
        embedded_database,
        "CREATE TRIGGER slow AFTER INSERT ON backtest_track_streams_forecast EXECUTE FUNCTION sleep()",
    )
    failure = "SELECT pg_sleep(0.3)::text, 1 / (random() * 0)::integer AS x"
    monkeypatch.setattr(Source, "history", failing(Source.history, failure))
    with pytest.raises(DatabaseError, match=r"reading from .* failed: .*division by zero"):
        run(Database(embedded_database))
    assert stored(embedded_database)["cm_track_id"].n_unique() == 100


def test_a_write_that_fails_does_not_wait_for_what_is_being_read(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_tables(embedded_database, streams_key="UNIQUE (cm_track_id, date)", forecast_key="")
    full = "BEGIN RAISE 'no space left' USING ERRCODE = 'disk_full'; END"
    sql.run(
        embedded_database, f"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ {full} $$"
    )
    sql.run(
        embedded_database,
        f"CREATE TRIGGER full_disk BEFORE INSERT ON {FORECAST} FOR EACH ROW EXECUTE FUNCTION full_disk()",
    )
    load(embedded_database, "public", streams=golden_streams(), mldr=golden_mldr())
    monkeypatch.setattr(run_module, "BATCH", 100)
    monkeypatch.setattr(Source, "history", failing(Source.history, "SELECT pg_sleep(1000)::text AS x"))
    with pytest.raises(DatabaseError, match="no space left"):
        run(Database(embedded_database))
    assert stored(embedded_database).is_empty()
    until(lambda: not sessions(embedded_database))  # the server has ended them, or is about to


def failing(
    history: Callable[[Source, pl.Series], History], sql: str
) -> Callable[[Source, pl.Series], History]:
    """As it is for the first chunk; for all others this statement instead."""
    calls: list[pl.Series] = []

    def read(source: Source, track_ids: pl.Series) -> History:
        calls.append(track_ids)
        if len(calls) > 1:
            source.read(sql)
        return history(source, track_ids)

    return read
