"""The catalogue as it is stored."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import NoForecastError
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.views import catalogue
from forecaster.views.catalogue import read_catalogue
from forecaster.views.total import Chosen, read_total
from tests import sql
from tests.tables import golden_streams, initialise, load_golden, made_once


def of_100_tracks(new: Dsn) -> None:
    load_golden(new)
    run(Database(new), RunConfig(ids=tuple(range(1, 101))))


@pytest.fixture
def forecast(usual_database: Dsn) -> Dsn:
    made_once(usual_database, "forecast_of_100", of_100_tracks)
    return usual_database


@pytest.fixture
def forecast_on_each(database: Dsn) -> Dsn:
    made_once(database, "forecast_of_100", of_100_tracks)
    return database


def test_every_track_with_what_is_stored(forecast_on_each: Dsn) -> None:
    tracks = read_catalogue(forecast_on_each, "public", Parameters()).tracks
    assert tracks["cm_track_id"].to_list() == sorted(golden_streams()["cm_track_id"].unique())
    stored = dict(
        sql.rows(
            forecast_on_each,
            "SELECT cm_track_id, array_agg(forecasted_value ORDER BY month) "
            "FROM backtest_track_streams_forecast GROUP BY 1",
        )
    )
    with_forecast = tracks.filter(pl.col("months").is_not_null())
    assert dict(with_forecast.select("cm_track_id", "forecast").iter_rows()) == stored
    assert with_forecast["total"].to_list() == [float(sum(stored[t])) for t in with_forecast["cm_track_id"]]
    assert with_forecast["segment"].is_between(1, 12).all()
    assert tracks.filter(pl.col("months").is_null())["forecast"].list.len().sum() == 0
    skipped = tracks.filter(pl.col("reason").is_not_null())
    assert skipped["reason"].to_list() == ["no_mldr"] * 3


def test_totals_have_the_ranges_that_the_command_gives_them(forecast: Dsn) -> None:
    read = read_catalogue(forecast, "public", Parameters())
    assert read.total
    assert_frame_equal(read.total.months, read_total(forecast, "public", Chosen()).months)
    for track in (1, 50):
        row = read_total(forecast, "public", Chosen(track_ids=(track,))).months.row(-1, named=True)
        of_track = read.tracks.filter(cm_track_id=track).select("low", "high").row(0)
        assert of_track == pytest.approx((row["cumulated_q10"], row["cumulated_q90"]))
    assert read.tracks.filter(pl.col("months").is_null())["low"].count() == 0


def test_history_ends_with_the_last_30_records(forecast: Dsn) -> None:
    tracks = read_catalogue(forecast, "public", Parameters()).tracks
    streams = golden_streams().sort("date").group_by("cm_track_id").agg("daily_streams")
    for track, daily in streams.iter_rows():
        sums = [sum(daily[-30 * back : len(daily) - 30 * (back - 1)]) for back in range(12, 0, -1)]
        full = min(12, len(daily) // 30)
        row = tracks.row(by_predicate=pl.col("cm_track_id") == track, named=True)
        assert row["history"] == [float(s) for s in sums[len(sums) - full :]], track
        if full:
            assert row["history"][-1] == row["streams_30"]


def test_it_does_not_depend_on_the_chunks(forecast: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_catalogue(forecast, "public", Parameters()).tracks
    monkeypatch.setattr(catalogue, "AT_ONCE", 17)
    # The last digits of k depend on how many tracks are fitted at once.
    assert_frame_equal(read_catalogue(forecast, "public", Parameters()).tracks, whole, rel_tol=1e-9)


def test_a_forecast_without_streams_is_there_too(forecast: Dsn) -> None:
    sql.run(forecast, "DELETE FROM backtest_track_daily_training_data WHERE cm_track_id = 7")
    row = read_catalogue(forecast, "public", Parameters()).tracks.filter(cm_track_id=7).row(0, named=True)
    assert (row["months"], row["streams_30"], row["history"]) == (24, None, [])
    assert row["cm_artist_id"] == golden_streams().filter(cm_track_id=7)["cm_artist_id"][0]


def test_nothing_at_all(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    with pytest.raises(NoForecastError, match="neither streams nor forecasts"):
        read_catalogue(embedded_database, "public", Parameters())


def test_a_stale_forecast_is_told_from_one_that_is_not(forecast: Dsn) -> None:
    fresh = read_catalogue(forecast, "public", Parameters())
    assert not fresh.tracks["is_stale"].any()
    assert fresh.warnings == ()
    sql.run(
        forecast,
        "INSERT INTO backtest_track_daily_training_data (cm_track_id, cm_artist_id, date, daily_streams) "
        "SELECT cm_track_id, min(cm_artist_id), max(date) + 1, 5 FROM backtest_track_daily_training_data "
        "WHERE cm_track_id IN (7, 200) GROUP BY 1",
    )
    catalogue = read_catalogue(forecast, "public", Parameters())
    [stale] = catalogue.tracks.filter("is_stale").rows(named=True)
    assert stale["cm_track_id"] == 7  # 200 has no forecast
    assert (stale["as_of"] - stale["cutoff"]).days == 1
    assert "came after their forecast: 1, the first is 7" in catalogue.warnings[0]
