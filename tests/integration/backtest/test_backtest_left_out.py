"""Forecasts that a backtest leaves out and counts, and backtests that are refused."""

import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from forecaster.errors import (
    BadFileError,
    ForecasterError,
    InvalidOptionError,
    NoForecastError,
    SchemaMismatchError,
)
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.setup.load import load
from forecaster.views.backtest import BacktestConfig, backtest
from tests import sql
from tests.backtests import BEFORE, CUTOFF, LATER, STREAMS
from tests.tables import initialise


def test_a_doubled_forecast_is_left_out_and_said(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    track = backtest(BacktestConfig(stored)).evaluation.series["cm_track_id"][0]
    sql.run(
        stored,
        "ALTER TABLE backtest_track_streams_forecast "
        "DROP CONSTRAINT backtest_track_streams_forecast_cm_track_id_month_key",
    )
    sql.run(
        stored,
        "INSERT INTO backtest_track_streams_forecast (month, forecasted_value, segment_used, time_used, "
        "cm_track_id, cm_artist_id, training_data_id, created_at) SELECT month, 1, segment_used, time_used, "
        "cm_track_id, cm_artist_id, training_data_id, created_at FROM backtest_track_streams_forecast "
        "WHERE cm_track_id = $1 AND month = 1",
        track,
    )
    result = backtest(BacktestConfig(stored))
    assert track not in result.evaluation.series["cm_track_id"].to_list()
    assert "one of their months is stored twice: 1" in result.warnings[0]
    assert result.skipped == {"month_stored_twice": 1}


def test_what_cannot_be_scored(stored: Dsn) -> None:
    with pytest.raises(NoForecastError, match=r"no forecast month can be scored: .* not_over") as raised:
        backtest(BacktestConfig(stored))
    assert "; as of 2023-12-31 (by created_at); the days with streams are " in f"{raised.value}"
    with pytest.raises(
        NoForecastError, match="no track can be forecast from the days before 1990-01-01"
    ) as raised:
        backtest(BacktestConfig(stored, cutoffs=(date(1990, 1, 1),)))
    tracks, first = BEFORE["cm_track_id"].n_unique(), BEFORE["date"].sort()[0]
    ends = f": {tracks} no_days_before_cutoff; the days with streams are {first} to 2023-12-31"
    assert f"{raised.value}".endswith(ends)
    assert raised.value.hint == "choose cutoffs within the days of the streams table"
    with pytest.raises(NoForecastError, match=r"not_over.*as of 2023-12-31 \(cutoff\)"):
        backtest(BacktestConfig(stored, cutoffs=(CUTOFF,), later_rates=True))
    with pytest.raises(NoForecastError, match="no streams of these tracks: 987654"):
        backtest(BacktestConfig(stored, track_ids=(BEFORE["cm_track_id"][0], 987654)))
    with pytest.raises(InvalidOptionError, match="contradict"):
        BacktestConfig(stored, parameters=Parameters(as_of=CUTOFF), cutoffs=(CUTOFF,))


def test_what_is_left_out_is_counted(stored: Dsn, tmp_path: Path) -> None:
    never = date(1990, 1, 1)
    load(stored, "public", streams=LATER)
    both = BacktestConfig(stored, cutoffs=(CUTOFF, never), later_rates=True)
    result = backtest(both)
    tracks = STREAMS["cm_track_id"].n_unique()
    young = tracks - BEFORE["cm_track_id"].n_unique()
    assert result.skipped["no_days_before_cutoff"] == tracks + young
    series = result.evaluation.series["cm_track_id"].n_unique()
    forecast = backtest(replace(both, cutoffs=(CUTOFF,)))
    assert series == forecast.evaluation.series["cm_track_id"].n_unique()
    assert result.evaluation.by_cutoff.select("cutoff", "windows").row(0) == (never, 0)
    assert "no month can be scored at 1990-01-01" in result.warnings

    sql.run(stored, "CREATE TABLE later (cm_track_id integer, date timestamptz, daily_streams float8)")
    sql.run(
        stored,
        "INSERT INTO later SELECT cm_track_id, date, daily_streams FROM backtest_track_daily_training_data "
        f"WHERE date >= '{CUTOFF}'",
    )
    expected = backtest(replace(both, actuals="later"))
    assert expected.actuals_left_out == {"other_tracks": 0, "duplicates": 0, "unusable": 0}
    sql.run(
        stored,
        "INSERT INTO later VALUES (987654, '2024-01-01', 5), (987654, NULL, 5), (NULL, '2024-01-01', 1), "
        "($1, '2024-02-01 07:00+00', -3), ($1, NULL, 5), ($1, '2025-06-01', NULL), ($1, '2025-06-01', 'NaN')",
        BEFORE["cm_track_id"][0],
    )
    dirty = backtest(replace(both, actuals="later"))
    assert dirty.actuals_left_out == {"other_tracks": 2, "duplicates": 1, "unusable": 4}
    assert dirty.evaluation.to_dict(series=True) == expected.evaluation.to_dict(series=True)

    strange = LATER.head(2).with_columns(cm_track_id=pl.lit(987654, pl.Int64))
    empty = LATER.head(1).with_columns(daily_streams=None, date=date(2030, 1, 1))
    pl.concat([LATER, strange, empty.cast(LATER.schema)]).write_parquet(tmp_path / "later.parquet")
    of_file = backtest(replace(both, actuals=f"{tmp_path / 'later.parquet'}"))
    assert of_file.actuals_left_out == {"other_tracks": 2, "duplicates": 0, "unusable": 1}
    assert of_file.evaluation.to_dict(series=True) == expected.evaluation.to_dict(series=True)


def test_why_stored_forecasts_cannot_be_scored(stored: Dsn) -> None:
    """Every day is there, but rows that were loaded anew are no older than the forecasts."""
    load(stored, "public", streams=LATER)
    sql.run(stored, "UPDATE backtest_track_daily_training_data SET created_at = now() + interval '1 day'")
    tracks = sql.rows(stored, "SELECT DISTINCT cm_track_id FROM backtest_track_streams_forecast ORDER BY 1")
    with pytest.raises(NoForecastError, match=r"no forecast month can be scored: [0-9]+ not_over") as raised:
        backtest(BacktestConfig(stored))
    message = f"{raised.value}"
    assert "; as of 2024-12-31 (by created_at); " in message
    assert (
        f"not known by created_at: {len(tracks)}, the first is {tracks[0][0]} ({len(tracks)} with " in message
    )
    assert "streams that are all newer than the forecast, for which the last date is taken)" in message
    assert "--as-of DATE gives the last day that the forecasts used" in (raised.value.hint or "")


def test_forecasts_of_tracks_whose_streams_are_gone(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    track = backtest(BacktestConfig(stored)).evaluation.series["cm_track_id"][0]
    sql.run(stored, "DELETE FROM backtest_track_daily_training_data WHERE cm_track_id = $1", track)
    result = backtest(BacktestConfig(stored))
    assert result.evaluation.left_out["no_streams"] == 24
    [warning] = result.warnings
    assert f"1, the first is {track} (1 without streams, for which the day" in warning
    assert "newer" not in warning


def test_negative_streams_are_scored_and_said(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    track = backtest(BacktestConfig(stored)).evaluation.series["cm_track_id"][1]
    for day in (CUTOFF, CUTOFF + timedelta(days=40)):
        sql.run(
            stored,
            "UPDATE backtest_track_daily_training_data SET daily_streams = -5 "
            "WHERE cm_track_id = $1 AND date = $2",
            track,
            day,
        )
    [warning] = backtest(BacktestConfig(stored)).warnings
    assert f"negative on 2 days (first: track {track});" in warning


@pytest.mark.parametrize(
    ("named", "error", "said"),
    [
        ("nowhere", SchemaMismatchError, "nowhere: the table is missing"),
        ("public.nowhere", SchemaMismatchError, "nowhere: the table is missing"),
        ("backtest_artist_mldr", SchemaMismatchError, "backtest_artist_mldr.cm_track_id: is missing"),
        (
            "backtest_track_streams_forecast",
            SchemaMismatchError,
            "backtest_track_streams_forecast.date: is missing",
        ),
        ("backtest_artist_daily_training_data", SchemaMismatchError, "data.daily_streams: is missing"),
        ("later.tsv", InvalidOptionError, "the ending '.tsv' does not say what the file is"),
        ("nowhere.csv", BadFileError, "nowhere.csv does not exist"),
        ("data/later", InvalidOptionError, "data/later: the ending '' does not say"),
        ("data", InvalidOptionError, "--actuals data is a directory"),
        (".", InvalidOptionError, "--actuals . is a directory"),
        ("", InvalidOptionError, "--actuals is empty"),
        (".later", InvalidOptionError, "--actuals .later does not name a table"),
        ("public.", InvalidOptionError, "--actuals public. does not name a table"),
    ],
)
def test_actuals_that_are_none(
    stored_embedded: Dsn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
    error: type[ForecasterError],
    said: str,
) -> None:
    (tmp_path / "later.tsv").write_text("cm_track_id\n1\n")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(said)) as raised:
        backtest(BacktestConfig(stored_embedded, cutoffs=(CUTOFF,), later_rates=True, actuals=named))
    if error is SchemaMismatchError:
        assert raised.value.hint == "name later daily streams with --actuals TABLE|SCHEMA.TABLE|FILE"


def test_an_empty_table(database: Dsn) -> None:
    initialise(database)
    with pytest.raises(NoForecastError, match="training_data in schema 'public' is empty"):
        backtest(BacktestConfig(database, cutoffs=(CUTOFF,)))
