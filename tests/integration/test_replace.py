"""`run --replace`: a reader sees the old forecast of a track or the new one; and what is broken is mended."""

import re
import shlex
import threading
from datetime import date

import polars as pl
import pytest

import forecaster.postgres.tracks as run_module
from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import quote_identifier
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.init import initialise as init
from forecaster.setup.load import load
from forecaster.tables import CALIBRATED, KEPT
from tests import sql
from tests.conftest import Cli
from tests.tables import create_tables, golden_mldr, golden_streams, initialise

TABLE = "backtest_track_streams_forecast"
PER_TRACK = (
    "SELECT cm_track_id, count(*), count(DISTINCT month), count(DISTINCT created_at), "
    f"sum(forecasted_value)::bigint FROM {TABLE} GROUP BY 1 ORDER BY 1"
)


def fill(dsn: Dsn, tracks: int) -> None:
    streams = golden_streams().filter(pl.col("cm_track_id") <= tracks)
    load(dsn, "public", streams=streams, mldr=golden_mldr())


def test_a_reader_sees_the_old_rows_or_the_new_ones(
    usual_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialise(usual_database)
    fill(usual_database, 120)
    monkeypatch.setattr(run_module, "BATCH", 40)
    run(Database(usual_database))
    seen: list[list[tuple[int, ...]]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(sql.rows(usual_database, PER_TRACK))

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for influence in (1e3, 1e6, 1e4):
            run(Database(usual_database), RunConfig(parameters=Parameters(influence=influence), replace=True))
    finally:
        done.set()
        reader.join()
    first, last = seen[0], sql.rows(usual_database, PER_TRACK)
    assert first != last
    for state in seen:
        assert [row[:4] for row in state] == [(row[0], 24, 24, 1) for row in first]


def test_only_the_tracks_that_are_named(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    fill(embedded_database, 6)
    run(Database(embedded_database))
    before = sql.rows(embedded_database, PER_TRACK)

    replaced = run(
        Database(embedded_database), RunConfig(parameters=Parameters(horizon=36), ids=(2, 5), replace=True)
    )

    assert (replaced.pending, replaced.rows) == (2, 72)
    after = sql.rows(embedded_database, PER_TRACK)
    changed = [new[0] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [2, 5]


def test_a_track_that_can_no_longer_be_forecast_keeps_what_it_has(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    fill(embedded_database, 6)
    run(Database(embedded_database))
    before = sql.rows(embedded_database, f"SELECT * FROM {TABLE} WHERE cm_track_id = 4 ORDER BY month")
    sql.run(
        embedded_database,
        "DELETE FROM backtest_artist_mldr WHERE cm_artist_id = (SELECT max(cm_artist_id) "
        "FROM backtest_track_daily_training_data WHERE cm_track_id = 4)",
    )

    report = run(Database(embedded_database), RunConfig(replace=True))

    assert 4 in report.skipped["cm_track_id"]
    first, *_ = sorted(report.skipped["cm_track_id"])
    assert f"keep the stored one: {len(report.skipped)}, the first is {first}" in report.warnings[0]
    assert before == sql.rows(
        embedded_database, f"SELECT * FROM {TABLE} WHERE cm_track_id = 4 ORDER BY month"
    )


def test_a_failure_half_way_leaves_the_old_rows(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    fill(embedded_database, 6)
    run(Database(embedded_database))
    before = sql.rows(embedded_database, PER_TRACK)
    sql.run(embedded_database, f"ALTER TABLE {TABLE} ADD CHECK (month < 20) NOT VALID")

    report = run(Database(embedded_database), RunConfig(replace=True))

    assert sorted(report.refused) == [row[0] for row in before]
    assert all("violates check constraint" in why for why in report.refused.values())
    assert report.warnings == ["tracks that get no new forecast and keep the stored one: 6, the first is 1"]
    assert sql.rows(embedded_database, PER_TRACK) == before


def test_what_other_systems_left_is_said_left_alone_and_mended(database: Dsn) -> None:
    """Tracks 1 (a month twice), 2 (the first ten months), 3 (a gap)."""
    create_tables(database, forecast_key="")
    fill(database, 6)
    run(Database(database))
    sql.run(
        database,
        f"INSERT INTO {TABLE} (cm_track_id, month, forecasted_value) VALUES (1, 7, 1)",
    )
    sql.run(database, f"DELETE FROM {TABLE} WHERE cm_track_id = 2 AND month > 10")
    sql.run(database, f"DELETE FROM {TABLE} WHERE cm_track_id = 3 AND month = 12")
    broken = sql.rows(database, PER_TRACK)

    initialised = init(database, "public")
    report = run(Database(database))

    for warnings in (initialised.warnings, report.warnings):
        said = "\n".join(warnings)
        assert "with a month twice or NULL: 1, the first is 1;" in said
        assert "with gaps or fewer than 24 months: 2, the first is 2;" in said
        assert "unique key" in said
    assert initialised.created == [*KEPT, *CALIBRATED]
    assert report.rows == 0
    assert sql.rows(database, PER_TRACK) == broken

    run(Database(database), RunConfig(ids=(1, 2, 3), replace=True))

    assert all(row[1:4] == (24, 24, 1) for row in sql.rows(database, PER_TRACK))
    # Now the data allow the key.
    assert init(database, "public").created == [f"unique key of {TABLE} on (cm_track_id, month)"]
    assert run(Database(database), RunConfig(replace=True)).warnings == []
    again = run(Database(database))
    assert (again.warnings, again.pending) == ([], 0)
    assert init(database, "public").created == []


@pytest.mark.parametrize("schema", ["public", "it's 400"])
@pytest.mark.parametrize("horizon", [24, 400])
def test_the_command_that_mends_does(called: Cli, embedded_database: Dsn, schema: str, horizon: int) -> None:
    """As it stands in the warning, with the schema and the horizon that it takes."""
    dsn = embedded_database
    initialise(dsn, schema)
    load(dsn, schema, streams=golden_streams().filter(pl.col("cm_track_id") <= 3), mldr=golden_mldr())
    run(Database(dsn, schema), RunConfig(parameters=Parameters(horizon)))
    table = f"{quote_identifier(schema)}.{TABLE}"
    sql.run(dsn, f"DELETE FROM {table} WHERE cm_track_id = 2 AND month > 10")

    initialised = init(dsn, schema)
    report = run(Database(dsn, schema), RunConfig(parameters=Parameters(horizon)))

    assert initialised.warnings == report.warnings
    [command] = re.findall("`(.*)`", report.warnings[0])
    assert called(*shlex.split(command)[1:], env={"DATABASE_URL": dsn.uri}).returncode == 0
    assert init(dsn, schema).warnings == []
    assert sql.rows(dsn, f"SELECT count(*) FROM {table}") == [(3 * horizon,)]


def test_rows_that_name_no_track(embedded_database: Dsn) -> None:
    """Or no month: each of them is in one warning."""
    create_tables(embedded_database)
    fill(embedded_database, 3)
    run(Database(embedded_database))
    sql.run(
        embedded_database, f"INSERT INTO {TABLE} (cm_track_id, month) VALUES (NULL, 1), (NULL, 1), (2, NULL)"
    )

    initialised = init(embedded_database, "public")
    report = run(Database(embedded_database))

    assert (report.pending, initialised.warnings) == (0, report.warnings)
    without_track, without_month = report.warnings
    assert "that name no track: 2;" in without_track
    assert "with a month twice or NULL: 1, the first is 2;" in without_month


def test_refresh_after_new_days(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    fill(embedded_database, 3)
    run(Database(embedded_database))
    before = sql.rows(embedded_database, PER_TRACK)
    last = golden_streams().filter(cm_track_id=1)["date"].max()
    assert isinstance(last, date)
    day = pl.DataFrame(
        {"cm_track_id": [1], "cm_artist_id": [1], "date": [last], "daily_streams": [10**6]}
    ).with_columns(pl.col("date").dt.offset_by("1d"))
    artist = golden_streams().filter(cm_track_id=1)["cm_artist_id"][0]
    load(embedded_database, "public", streams=day.with_columns(cm_artist_id=pl.lit(artist)), mldr=None)

    assert run(Database(embedded_database)).pending == 0
    run(Database(embedded_database), RunConfig(replace=True))

    after = sql.rows(embedded_database, PER_TRACK)
    assert after[0][4] > before[0][4]
    assert after[1:] == before[1:]
