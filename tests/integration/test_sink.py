"""What is stored is what was given, or nothing is: counts, and rows of other programs."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any
from uuid import RFC_4122, UUID

import polars as pl
import pytest

from forecaster.errors import WriteRefusedError
from forecaster.model import build_forecasts
from forecaster.model.parameters import Parameters
from forecaster.postgres import tracks as tracks_module
from forecaster.postgres.connection import connect, execute
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.forecasts import store_forecasts
from forecaster.postgres.rows import Stored
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import FORECAST_TABLE, MLDR_TABLE, STREAMS_TABLE
from tests import sql
from tests.tables import create_tables, golden_mldr, golden_streams, made_once

TRACKS = (1, 2, 3, 4, 5)
COUNTS = (
    f"SELECT cm_track_id::bigint, count(*), count(DISTINCT month) FROM {FORECAST_TABLE} GROUP BY 1 ORDER BY 1"
)
KEYS = {"with the key": "UNIQUE (cm_track_id, month)", "without": ""}


def filled(dsn: Dsn, forecast_key: str = KEYS["with the key"]) -> Dsn:
    """Five pending tracks, which can all be forecast."""

    def make(new: Dsn) -> None:
        create_tables(new, forecast_key=forecast_key)
        few = golden_streams().filter(pl.col("cm_track_id").is_in(TRACKS))
        load(new, "public", streams=few, mldr=golden_mldr())

    made_once(dsn, f"five_{'with' if forecast_key else 'without'}_key", make)
    return dsn


@pytest.fixture(params=KEYS.values(), ids=[*KEYS])
def catalogue(request: pytest.FixtureRequest, database: Dsn) -> Dsn:
    return filled(database, request.param)


@pytest.fixture(params=KEYS.values(), ids=[*KEYS])
def embedded_catalogue(request: pytest.FixtureRequest, embedded_database: Dsn) -> Dsn:
    return filled(embedded_database, request.param)


def whole(*tracks: int) -> list[tuple[int, int, int]]:
    return [(track, 24, 24) for track in tracks]


def foreign_rows(track: int, *, months: str = "1, 24") -> str:
    """An INSERT as another program might do it."""
    return (
        f"INSERT INTO {FORECAST_TABLE} (cm_track_id, month, forecasted_value) "
        f"SELECT {track}, month, -7 FROM generate_series({months}) AS month"
    )


def add_trigger(dsn: Dsn, table: str, body: str) -> None:
    sql.run(
        dsn,
        f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$",
    )
    sql.run(dsn, f"CREATE TRIGGER meddle BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION meddle()")


AGAIN = "IF pg_trigger_depth() = 1 {} THEN INSERT INTO {} SELECT NEW.*; END IF;"


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ("IF NEW.cm_track_id = 2 AND NEW.month = 3 THEN RETURN NULL; END IF;", (2,)),
        ("IF NEW.cm_track_id = 2 THEN RETURN NULL; END IF;", (2,)),
        ("RETURN NULL;", TRACKS),
        (AGAIN.format("AND NEW.cm_track_id = 2 AND NEW.month = 3", FORECAST_TABLE), (2,)),
        (AGAIN.format("", FORECAST_TABLE), TRACKS),
        ("NEW.month := 1 + NEW.month % 2;", TRACKS),
        ("IF NEW.month = 3 THEN NEW.month := -3; END IF;", TRACKS),
        ("NEW.cm_track_id := NEW.cm_track_id / 2;", TRACKS),
    ],
    ids=[
        "one month",
        "one track",
        "all",
        "doubles one month",
        "doubles all",
        "other months",
        "a month before the first",
        "other tracks",
    ],
)
def test_a_trigger_that_changes_what_is_written_leaves_nothing_of_the_track(
    embedded_catalogue: Dsn, body: str, refused: tuple[int, ...]
) -> None:
    add_trigger(embedded_catalogue, FORECAST_TABLE, body)
    report = run(Database(embedded_catalogue))
    assert (tuple(report.refused), report.taken) == (refused, [])
    doubles_the_key = "duplicate key value violates unique constraint"
    assert all("a trigger or rule" in why or doubles_the_key in why for why in report.refused.values())
    left = [track for track in TRACKS if track not in refused]
    assert sql.rows(embedded_catalogue, COUNTS) == whole(*left)
    # Without the trigger, the next run does the rest.
    sql.run(embedded_catalogue, f"DROP TRIGGER meddle ON {FORECAST_TABLE}")
    assert run(Database(embedded_catalogue)).results == len(refused)
    assert sql.rows(embedded_catalogue, COUNTS) == whole(*TRACKS)


@pytest.mark.parametrize("table", [STREAMS_TABLE, MLDR_TABLE])
@pytest.mark.parametrize("body", ["IF NEW.cm_artist_id = 1 THEN RETURN NULL; END IF;", "double"])
def test_rows_of_files_are_counted_by_the_server(embedded_database: Dsn, table: str, body: str) -> None:
    create_tables(embedded_database)
    add_trigger(embedded_database, table, AGAIN.format("", table) if body == "double" else body)
    streams = golden_streams().filter(pl.col("cm_artist_id") == 1)
    with pytest.raises(WriteRefusedError, match=rf"{table}: the server stored [0-9,]+ rows instead of"):
        load(embedded_database, "public", streams=streams, mldr=golden_mldr())
    for each in (STREAMS_TABLE, MLDR_TABLE):
        assert sql.rows(embedded_database, f"SELECT count(*) FROM {each}") == [(0,)]


def test_rows_of_a_partitioned_table_are_counted(database: Dsn) -> None:
    create_tables(database)
    sql.run(database, f"DROP TABLE {MLDR_TABLE}")
    sql.run(
        database,
        f"CREATE TABLE {MLDR_TABLE} (id bigint, cm_artist_id bigint, mldr float8, created_at timestamptz, "
        "backtest_artist_daily_training_data_id bigint) PARTITION BY HASH (cm_artist_id)",
    )
    for part in range(2):
        sql.run(
            database,
            f"CREATE TABLE part_{part} PARTITION OF {MLDR_TABLE} "
            f"FOR VALUES WITH (MODULUS 2, REMAINDER {part})",
        )
    rates = golden_mldr()
    assert load(database, "public", streams=None, mldr=rates).mldr == len(rates)
    assert load(database, "public", streams=None, mldr=rates.head(3)).mldr == 3
    assert sql.rows(database, f"SELECT count(*) FROM {MLDR_TABLE}") == [(len(rates) + 3,)]


def after_the_read(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> None:
    """Have something happen between what a run read and what it writes."""

    def then_store(*arguments: Any, **options: Any) -> Stored:
        happens()
        return store_forecasts(*arguments, **options)

    monkeypatch.setattr(tracks_module, "store_forecasts", then_store)


@pytest.mark.parametrize("months", ["1, 24", "5, 6"], ids=["a whole track", "a part of one"])
def test_tracks_that_another_program_stored_meanwhile_stay_its_own(
    catalogue: Dsn, monkeypatch: pytest.MonkeyPatch, months: str
) -> None:
    def store_two() -> None:
        for track in (2, 5):
            sql.run(catalogue, foreign_rows(track, months=months))

    after_the_read(monkeypatch, store_two)

    report = run(Database(catalogue))

    assert (report.pending, report.results, report.rows, report.taken) == (5, 3, 72, [2, 5])
    theirs = 24 if months == "1, 24" else 2
    assert sql.rows(catalogue, COUNTS) == [
        (track, theirs, theirs) if track in (2, 5) else (track, 24, 24) for track in TRACKS
    ]
    of_another = (
        f"SELECT DISTINCT cm_track_id::bigint FROM {FORECAST_TABLE} WHERE forecasted_value = -7 ORDER BY 1"
    )
    assert sql.rows(catalogue, of_another) == [(2,), (5,)]


def test_a_forecast_is_replaced_at_the_second_attempt_too(embedded_database: Dsn) -> None:
    dsn = filled(embedded_database)
    run(Database(dsn))
    sql.run(dsn, "CREATE SEQUENCE attempts")  # it goes on although what it was for is rolled back
    once = "IF nextval('attempts') = 1 THEN RAISE EXCEPTION 'as if' USING ERRCODE = '40P01'; END IF;"
    add_trigger(dsn, FORECAST_TABLE, once)
    report = run(Database(dsn), RunConfig(parameters=Parameters(horizon=12), replace=True))
    assert (report.rows, report.taken) == (12 * len(TRACKS), [])
    assert sql.rows(dsn, COUNTS) == [(track, 12, 12) for track in TRACKS]


def test_ids_of_ours_are_random_ones(embedded_database: Dsn) -> None:
    """As RFC 9562 has them: of version 4."""
    create_tables(embedded_database, row_id="uuid NOT NULL")
    load(embedded_database, "public", streams=golden_streams().head(100), mldr=golden_mldr())
    ids = [UUID(text) for (text,) in sql.rows(embedded_database, f"SELECT id::text FROM {STREAMS_TABLE}")]
    assert len(set(ids)) == 100
    assert {(id_.version, id_.variant) for id_ in ids} == {(4, RFC_4122)}


def test_ids_that_the_server_makes_are_left_to_it(embedded_database: Dsn) -> None:
    of_the_server = "6b1d0c5e-0000-4000-8000-000000000000"
    create_tables(embedded_database, row_id=f"uuid NOT NULL DEFAULT '{of_the_server}'")
    few = golden_streams().filter(pl.col("cm_track_id").is_in(TRACKS))
    load(embedded_database, "public", streams=few, mldr=golden_mldr())
    run(Database(embedded_database))
    ids = sql.rows(embedded_database, f"SELECT DISTINCT id::text FROM {FORECAST_TABLE}")
    assert ids == [(of_the_server,)]


def test_tracks_of_another_program_are_told_of_all_chunks(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(embedded_database)
    left = [2, 5]

    def store_two() -> None:
        while left:
            sql.run(embedded_database, foreign_rows(left.pop()))

    after_the_read(monkeypatch, store_two)
    monkeypatch.setattr("forecaster.postgres.tracks.BATCH", 1)
    monkeypatch.setattr("forecaster.postgres.tracks._IN_FEW", 1)
    assert run(Database(embedded_database)).taken == [2, 5]


def test_all_tracks_were_stored_by_another_program_meanwhile(
    embedded_catalogue: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store_all() -> None:
        for track in TRACKS:
            sql.run(embedded_catalogue, foreign_rows(track))

    after_the_read(monkeypatch, store_all)
    report = run(Database(embedded_catalogue))
    assert (report.results, report.rows, report.taken) == (0, 0, list(TRACKS))
    assert sql.rows(embedded_catalogue, COUNTS) == whole(*TRACKS)


def wait_until_blocked(dsn: Dsn, *calls: Future[Any]) -> None:
    """Until each of the calls waits for a lock in the database."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
    while sql.rows(dsn, waiting, dsn.dbname) != [(len(calls),)]:
        assert not any(call.done() for call in calls)
        time.sleep(0.01)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("months", ["1, 24", "13, 24"], ids=["a whole track", "the later half"])
def test_another_program_is_in_the_middle_of_storing_a_track(
    usual_database: Dsn, months: str, end: str
) -> None:
    """Its rows are not committed when we come to them, so that we wait for what becomes of them."""
    filled(usual_database)
    with connect(usual_database) as other, ThreadPoolExecutor(1) as pool:
        execute(other, foreign_rows(3, months=months))
        running = pool.submit(run, Database(usual_database))
        wait_until_blocked(usual_database, running)
        getattr(other, end)()
        report = running.result()

    assert report.taken == ([3] if end == "commit" else [])
    rows = 24 if months == "1, 24" or end == "rollback" else 12
    assert sql.rows(usual_database, COUNTS) == [(t, rows, rows) if t == 3 else (t, 24, 24) for t in TRACKS]


def test_a_deadlock_with_another_program_is_no_failure(embedded_database: Dsn) -> None:
    dsn = filled(embedded_database)
    # Ours has stored track 1 and comes to track 4; the other has stored track 4, and comes to track 1.
    pause = "IF NEW.cm_track_id = 4 THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;"
    add_trigger(dsn, FORECAST_TABLE, f"IF NEW.forecasted_value >= 0 THEN {pause} END IF;")
    sql.run(dsn, f"ALTER DATABASE {dsn.dbname} SET deadlock_timeout = '10ms'")
    with connect(dsn) as gate, connect(dsn) as other, ThreadPoolExecutor(2) as pool:
        execute(other, foreign_rows(4))
        execute(gate, "SELECT pg_advisory_xact_lock(1)")
        running = pool.submit(run, Database(dsn))
        wait_until_blocked(dsn, running)
        execute(other, "SET deadlock_timeout = '1h'")
        blocked = pool.submit(execute, other, foreign_rows(1))
        wait_until_blocked(dsn, running, blocked)
        gate.rollback()
        blocked.result()
        other.commit()
        report = running.result()
    assert report.taken == [1, 4]
    assert sql.rows(dsn, COUNTS) == whole(*TRACKS)


def test_a_sequence_that_lags_behind_is_named(embedded_catalogue: Dsn) -> None:
    """As after a restore. It must not be taken for a forecast that another program stored."""
    sql.run(embedded_catalogue, f"ALTER TABLE {FORECAST_TABLE} ADD PRIMARY KEY (id)")
    sql.run(
        embedded_catalogue,
        f"INSERT INTO {FORECAST_TABLE} (id, cm_track_id, month) "
        "SELECT id, 77, id FROM generate_series(1, 200) AS id",
    )
    report = run(Database(embedded_catalogue))
    assert all(f'unique constraint "{FORECAST_TABLE}_pkey"' in why for why in report.refused.values())
    assert (len(report.refused) + report.results, report.taken) == (len(TRACKS), [])
    assert len(report.refused) > 0


def test_ids_too_large_for_the_forecast_table_are_refused_by_name(embedded_catalogue: Dsn) -> None:
    for column in ("cm_track_id", "cm_artist_id"):
        sql.run(embedded_catalogue, f"ALTER TABLE {FORECAST_TABLE} ALTER {column} TYPE integer")
    far = golden_streams().filter(pl.col("cm_track_id") == 1).with_columns(pl.col("cm_track_id") + 2**40)
    load(embedded_catalogue, "public", streams=far, mldr=None)

    report = run(Database(embedded_catalogue))

    assert report.refused == {2**40 + 1: "cm_track_id: a value that does not fit integer"}
    assert sql.rows(embedded_catalogue, COUNTS) == whole(*TRACKS)


def test_a_numeric_column_has_room_for_any_forecast(database: Dsn) -> None:
    create_tables(database, value="numeric", streams_key="UNIQUE (cm_track_id, date)")
    days = [date(2020, 1, 1) + timedelta(n) for n in range(400)]
    huge = pl.DataFrame(
        {"cm_track_id": 1, "cm_artist_id": 1, "date": days, "daily_streams": 2**62},
        schema_overrides={"cm_track_id": pl.Int64, "cm_artist_id": pl.Int64},
    )
    load(database, "public", streams=huge, mldr=pl.DataFrame({"cm_artist_id": [1], "mldr": [0.0]}))

    assert run(Database(database)).results == 1

    values = [
        v
        for (v,) in sql.rows(database, f"SELECT forecasted_value::text FROM {FORECAST_TABLE} ORDER BY month")
    ]
    expected = build_forecasts(
        huge.lazy(), pl.LazyFrame({"cm_artist_id": [1], "mldr": [0.0]})
    ).forecasts.collect()
    assert [float(v) for v in values] == expected["forecasted_value"].to_list()
    assert float(values[0]) > 2**63
