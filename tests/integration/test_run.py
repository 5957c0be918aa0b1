"""The whole path on real servers: load, read, forecast, store."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import (
    InvalidOptionError,
    LockedError,
    NoForecastError,
    SchemaMismatchError,
)
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.stored import stored_at
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import FORECAST_TABLE, STREAMS
from tests import sql
from tests.forecasts import STORED, in_frames, stored
from tests.tables import (
    DROP_DAY_KEY,
    GOLDEN,
    create_tables,
    golden_mldr,
    golden_streams,
    initialise,
    load_golden,
)

# The production system measured ages from the first date.
PRODUCTION = Parameters(age_from="first-date")


@pytest.mark.parametrize(
    ("file", "parameters"),
    [
        ("forecast_24", {}),
        ("forecast_400", {"horizon": 400}),
        ("forecast_400_influence_1000", {"horizon": 400, "influence": 1000.0}),
        ("forecast_24_as_of_2025-04-15", {"as_of": date(2025, 4, 15)}),
    ],
)
def test_stored_rows_are_the_production_forecasts(
    embedded_database: Dsn, file: str, parameters: dict[str, Any]
) -> None:
    load_golden(embedded_database)

    report = run(
        Database(embedded_database), RunConfig(parameters=Parameters(age_from="first-date", **parameters))
    )

    ours = stored(embedded_database)
    assert report.rows == len(ours) == report.results * parameters.get("horizon", 24)
    expected = pl.read_parquet(GOLDEN / f"{file}.parquet").cast({"cm_track_id": pl.Int64, "month": pl.Int64})
    # Tracks at which the production optimiser stopped early; test_golden.py holds their error to be higher.
    metrics = pl.read_parquet(GOLDEN / "track_metrics.parquet").cast({"cm_track_id": pl.Int64})
    stopped_early = metrics.filter(pl.col("months_since_release") <= 2)["cm_track_id"].implode()
    both = ours.join(expected, on=["cm_track_id", "month"], suffix="_expected")
    assert len(both) == len(expected)
    assert (both["segment_used"] == both["segment_used_expected"]).all()
    assert (both["time_used"] == both["time_used_expected"]).all()
    fitted = both.filter(~pl.col("cm_track_id").is_in(stopped_early))
    assert fitted["cm_track_id"].n_unique() > 200
    difference = (fitted["forecasted_value"] - fitted["forecasted_value_expected"]).abs()
    assert (difference <= 0.5 + 1e-4 * fitted["forecasted_value_expected"]).all()
    # And without exception: to the last stream what the frame API answers.
    assert_frame_equal(ours, in_frames(golden_streams(), golden_mldr(), age_from="first-date", **parameters))


def test_stored_columns(database: Dsn) -> None:
    load_golden(database)
    before = datetime.now(UTC)

    run(Database(database))

    ids = sql.rows(
        database,
        "SELECT count(*) FROM backtest_track_streams_forecast f JOIN backtest_track_daily_training_data s "
        "ON s.id = f.training_data_id AND s.cm_track_id = f.cm_track_id AND s.cm_artist_id = f.cm_artist_id "
        "WHERE NOT EXISTS (SELECT FROM backtest_track_daily_training_data e "
        "                  WHERE e.cm_track_id = s.cm_track_id AND e.date < s.date)",
    )
    assert ids == sql.rows(database, "SELECT count(*) FROM backtest_track_streams_forecast")
    [(instants, instant)] = sql.rows(
        database, "SELECT count(DISTINCT created_at), min(created_at) FROM backtest_track_streams_forecast"
    )
    assert instants == 1
    assert before <= instant <= datetime.now(UTC)


OTHER_TABLES = {
    "uuid": {"row_id": "uuid DEFAULT gen_random_uuid()"},
    "uuid made by the application": {"row_id": "uuid NOT NULL"},
    "integer ids": {"cm_id": "integer", "row_id": "integer GENERATED ALWAYS AS IDENTITY"},
    "numeric": {"mldr": "numeric", "streams": "numeric"},
    "small numeric": {"mldr": "numeric(12,10)", "streams": "numeric(12,0)"},
    "timestamp": {"date": "timestamp", "created_at": "timestamp"},
    "timestamptz": {"date": "timestamptz"},
    "integer streams": {"streams": "integer", "value": "integer"},
    "floats": {"streams": "double precision", "value": "double precision", "mldr": "real"},
    "key": {"streams_key": "PRIMARY KEY (cm_track_id, date)"},
    "key on numeric": {"streams": "numeric", "streams_key": "UNIQUE (cm_track_id, date)"},
    "key the other way round": {"streams_key": "UNIQUE (date, cm_track_id)"},
    "key with another column": {"streams_key": "UNIQUE (cm_track_id, date, created_at)"},
    "key that holds all": {"streams_key": f"UNIQUE {STREAMS.key_columns}"},
    "key that holds a part": {"streams_key": "UNIQUE (cm_track_id, date) INCLUDE (daily_streams)"},
    "key on timestamp": {"date": "timestamp", "streams_key": "UNIQUE (cm_track_id, date)"},
    "no keys": {"forecast_key": ""},
}


@pytest.mark.parametrize("tables", OTHER_TABLES.values(), ids=OTHER_TABLES.keys())
def test_tables_of_other_systems(database: Dsn, tables: dict[str, str]) -> None:
    streams = golden_streams().filter(pl.col("cm_track_id") <= 60)
    if "integer" in tables.get("value", ""):
        # What no such table could hold in the first place.
        small = (
            streams.group_by("cm_track_id")
            .agg(pl.col("daily_streams").max())
            .filter(pl.col("daily_streams") < 2**26)
        )
        streams = streams.join(small, on="cm_track_id", how="semi")
    create_tables(database, **tables)
    load(database, "public", streams=streams, mldr=golden_mldr())

    report = run(Database(database), RunConfig(parameters=PRODUCTION))

    expected = in_frames(streams, golden_mldr(), age_from="first-date")
    ours = stored(database)
    assert report.rows == len(ours) == len(expected) > 24 * 40
    if tables.get("mldr") in ("numeric(12,10)", "real"):
        # The rates lost digits on their way into the table.
        joined = ours.join(expected, on=["cm_track_id", "month"])
        difference = (joined["forecasted_value"] - joined["forecasted_value_right"]).abs()
        assert (difference <= 1 + 1e-4 * joined["forecasted_value_right"]).all()
    else:
        assert_frame_equal(ours, expected)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_days_are_days_in_utc(embedded_database: Dsn, zone: str) -> None:
    """Whatever time zone the server is set to."""
    streams = golden_streams().filter(pl.col("cm_track_id") <= 20)
    create_tables(embedded_database, date="timestamptz")
    load(embedded_database, "public", streams=streams, mldr=golden_mldr())
    sql.run(embedded_database, f"ALTER DATABASE {embedded_database.dbname} SET timezone = '{zone}'")

    run(Database(embedded_database), RunConfig(parameters=PRODUCTION))

    assert_frame_equal(stored(embedded_database), in_frames(streams, golden_mldr(), age_from="first-date"))
    with open_source(embedded_database, "public") as source:
        days = source.daily(1)["date"]
    assert days.to_list() == streams.filter(cm_track_id=1)["date"].sort().to_list()


def test_both_ways_to_read_give_identical_rows(database: Dsn) -> None:
    load_golden(database)
    run(Database(database))
    by_index = sql.rows(database, STORED.replace("SELECT", "SELECT training_data_id, cm_artist_id,", 1))
    assert by_index

    sql.run(database, "TRUNCATE backtest_track_streams_forecast")
    sql.run(database, DROP_DAY_KEY)
    run(Database(database))

    assert by_index == sql.rows(
        database, STORED.replace("SELECT", "SELECT training_data_id, cm_artist_id,", 1)
    )


def test_same_input_same_output(embedded_database: Dsn) -> None:
    load_golden(embedded_database)
    columns = "month, forecasted_value, segment_used, time_used, cm_track_id, cm_artist_id, training_data_id"
    rows = f"SELECT {columns} FROM backtest_track_streams_forecast ORDER BY id"
    run(Database(embedded_database))
    first = sql.rows(embedded_database, rows)
    sql.run(embedded_database, "TRUNCATE backtest_track_streams_forecast")

    run(Database(embedded_database))

    assert sql.rows(embedded_database, rows) == first


def test_a_second_run_finds_only_the_skipped_tracks_pending(embedded_database: Dsn) -> None:
    load_golden(embedded_database)
    first = run(Database(embedded_database), RunConfig(parameters=PRODUCTION))
    assert first.skipped_by_reason == {"no_mldr": 3}
    assert first.pending == first.results + 3

    second = run(Database(embedded_database), RunConfig(parameters=PRODUCTION))

    assert (second.pending, second.results, second.rows) == (3, 0, 0)
    assert_frame_equal(second.skipped, first.skipped)
    # Once its data is there, a skipped track is picked up.
    artist = first.skipped["cm_artist_id"][0]
    rate = pl.DataFrame({"cm_artist_id": [artist], "mldr": [0.05]})
    load(embedded_database, "public", streams=None, mldr=rate)
    third = run(Database(embedded_database), RunConfig(parameters=PRODUCTION))
    assert third.results == first.skipped.filter(cm_artist_id=artist).height


def test_what_a_run_stored_is_known_by_its_instant(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    load(embedded_database, "public", streams=golden_streams(), mldr=golden_mldr())
    first, second, other = sorted(golden_streams()["cm_track_id"].unique())[:3]
    run(Database(embedded_database), RunConfig(ids=(first, second)))
    run(Database(embedded_database), RunConfig(ids=(other,)))
    of_first = f"SELECT min(created_at) FROM {FORECAST_TABLE} WHERE cm_track_id = {first}"
    at = sql.rows(embedded_database, of_first)[0][0]
    with connect(embedded_database) as connection:
        tables, asked = read_tables(connection, "public"), pl.Series([other, second])
        assert stored_at(connection, tables, asked, at, 24).to_list() == [second]
        assert stored_at(connection, tables, asked, at, 25).is_empty()
        assert stored_at(connection, tables, asked, at + timedelta(seconds=1), 24).is_empty()


def test_nothing_pending(database: Dsn) -> None:
    initialise(database)
    report = run(Database(database))
    assert (report.pending, report.results, report.rows, len(report.skipped)) == (0, 0, 0, 0)


def test_a_dry_run_writes_nothing_and_takes_no_lock(embedded_database: Dsn) -> None:
    load_golden(embedded_database)
    with connect(embedded_database) as other:
        take_lock(other, read_tables(other, "public"))
        report = run(Database(embedded_database), RunConfig(dry_run=True))
    assert report.results > 200
    assert report.rows == 0
    assert stored(embedded_database).is_empty()


def test_one_run_at_a_time(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    with connect(embedded_database) as other:
        take_lock(other, read_tables(other, "public"))
        with pytest.raises(LockedError, match="another run"):
            run(Database(embedded_database))
    run(Database(embedded_database))


def test_track_ids_and_limit(embedded_database: Dsn) -> None:
    load_golden(embedded_database)
    pending = sorted(golden_streams()["cm_track_id"].unique())
    wanted = (pending[7], pending[3], pending[3])

    assert run(Database(embedded_database), RunConfig(ids=wanted)).pending == 2
    assert stored(embedded_database)["cm_track_id"].unique().to_list() == [pending[3], pending[7]]
    # One is stored by now, so only the other is pending.
    assert run(Database(embedded_database), RunConfig(ids=(pending[3], pending[9]))).pending == 1
    assert run(Database(embedded_database), RunConfig(limit=5)).pending == 5
    assert set(stored(embedded_database)["cm_track_id"]) == set(pending[:6]) | {pending[7], pending[9]}
    with pytest.raises(NoForecastError, match=r"no streams of these tracks: -5, 987654"):
        run(Database(embedded_database), RunConfig(ids=(987654, pending[0], -5)))
    with pytest.raises(InvalidOptionError, match="limit is 0"):
        (Database(embedded_database), RunConfig(limit=0))


def test_tables_that_do_not_fit_are_named_before_anything_is_read(database: Dsn) -> None:
    sql.run(database, "CREATE TABLE backtest_artist_mldr (id text, cm_artist_id bigint, mldr boolean)")
    sql.run(
        database,
        "CREATE TABLE backtest_track_daily_training_data (id bigint, cm_track_id text, cm_artist_id bigint, "
        "date text, daily_streams bigint, created_at timestamptz)",
    )
    with pytest.raises(SchemaMismatchError) as caught:
        run(Database(database))
    message = str(caught.value)
    for offender in (
        "backtest_track_daily_training_data.cm_track_id: is text, expected",
        "backtest_track_daily_training_data.date: is text, expected date or",
        "backtest_track_daily_training_data.days_from_release: is missing, expected",
        "backtest_artist_mldr.id: is text, expected uuid or",
        "backtest_artist_mldr.mldr: is boolean, expected",
        "backtest_artist_mldr.created_at: is missing, expected",
        "backtest_track_streams_forecast: the table is missing",
    ):
        assert offender in message
    assert "daily_streams" not in message
    assert caught.value.exit_code == 4


def test_a_forecast_table_that_no_row_of_ours_could_satisfy(database: Dsn) -> None:
    create_tables(database, row_id="bigint NOT NULL")
    with pytest.raises(SchemaMismatchError, match=r"forecast.id: is NOT NULL without a default"):
        run(Database(database))
    sql.run(database, "ALTER TABLE backtest_track_streams_forecast ALTER id DROP NOT NULL")
    sql.run(database, "ALTER TABLE backtest_track_streams_forecast ADD owner text NOT NULL")
    with pytest.raises(SchemaMismatchError, match=r"forecast.owner: is NOT NULL without a default"):
        run(Database(database))
    sql.run(database, "ALTER TABLE backtest_track_streams_forecast DROP owner")
    sql.run(
        database, "ALTER TABLE backtest_track_streams_forecast ALTER training_data_id TYPE uuid USING NULL"
    )
    with pytest.raises(SchemaMismatchError, match="training_data_id: is uuid, expected bigint"):
        run(Database(database))


def test_a_value_too_large_for_its_column_names_the_track(database: Dsn) -> None:
    create_tables(database, value="integer")
    days = [date(2020, 1, 1) + timedelta(n) for n in range(400)]
    streams = pl.DataFrame(
        {"cm_track_id": 8, "cm_artist_id": 1, "date": days, "daily_streams": 10**9},
        schema_overrides={"cm_track_id": pl.Int64, "cm_artist_id": pl.Int64},
    )
    load(database, "public", streams=streams, mldr=pl.DataFrame({"cm_artist_id": [1], "mldr": [0.01]}))
    good = golden_streams().filter(pl.col("cm_track_id") == 1)
    load(database, "public", streams=good, mldr=golden_mldr())

    report = run(Database(database))

    assert report.refused == {8: "forecasted_value: a value that does not fit integer"}
    assert (report.results, report.rows) == (1, 24)
    assert stored(database)["cm_track_id"].unique().to_list() == [1]


def test_what_the_server_refuses_is_said_and_nothing_of_it_is_stored(database: Dsn) -> None:
    create_tables(database, forecast_key="CHECK (month < 20)")
    load(database, "public", streams=golden_streams().filter(pl.col("cm_track_id") < 5), mldr=golden_mldr())
    report = run(Database(database), RunConfig(parameters=PRODUCTION))
    assert [*report.refused] == [1, 2, 3, 4]
    assert all("check constraint" in reason for reason in report.refused.values())
    assert stored(database).is_empty()


@pytest.mark.parametrize("tracks", [5, 250])
def test_statements_do_not_depend_on_the_number_of_tracks(embedded_database: Dsn, tracks: int) -> None:
    initialise(embedded_database)
    load(
        embedded_database,
        "public",
        streams=golden_streams().filter(pl.col("cm_track_id") <= tracks),
        mldr=golden_mldr(),
    )
    about_data = sql.statements_of(embedded_database, lambda: run(Database(embedded_database)))
    assert 4 <= len(about_data) <= 12
