"""Backtests end to end: stored forecasts and rolling origins, on real servers."""

import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import NoForecastError
from forecaster.model import build_forecasts
from forecaster.model.mldr import artist_rates
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.setup.load import load
from forecaster.views.backtest import BacktestConfig, backtest
from tests import sql
from tests.backtests import BEFORE, CUTOFF, LATER, RATES, STREAMS, by_hand
from tests.tables import GOLDEN, create_tables


def test_stored_forecasts_against_a_file_a_table_and_days_that_arrived(
    stored_on_each: Dsn, tmp_path: Path
) -> None:
    LATER.write_parquet(tmp_path / "later.parquet")
    of_file = backtest(BacktestConfig(stored_on_each, actuals=f"{tmp_path / 'later.parquet'}"))
    rows = sql.rows(
        stored_on_each, "SELECT cm_track_id, month, forecasted_value FROM backtest_track_streams_forecast"
    )
    last = dict(BEFORE.group_by("cm_track_id").agg(pl.col("date").max()).iter_rows())
    forecasts = pl.DataFrame([(t, last[t], m, float(v)) for t, m, v in rows], orient="row")
    wape, windows = by_hand(forecasts, STREAMS)
    assert of_file.evaluation.windows_scored == windows
    assert of_file.evaluation.overall["wape"][0] == pytest.approx(wape, rel=1e-12)
    assert of_file.warnings == []

    sql.run(stored_on_each, "CREATE TABLE later (LIKE backtest_track_daily_training_data INCLUDING ALL)")
    sql.run(stored_on_each, "CREATE SCHEMA other")
    sql.run(
        stored_on_each, "CREATE TABLE other.later (LIKE backtest_track_daily_training_data INCLUDING ALL)"
    )
    load(stored_on_each, "public", streams=LATER)
    for table in ("later", "other.later"):
        sql.run(stored_on_each, f"INSERT INTO {table} SELECT * FROM backtest_track_daily_training_data")
    arrived = backtest(BacktestConfig(stored_on_each))
    sql.run(stored_on_each, "DELETE FROM backtest_track_daily_training_data WHERE date >= $1", CUTOFF)
    for other in (
        arrived,
        backtest(BacktestConfig(stored_on_each, actuals="later")),
        backtest(BacktestConfig(stored_on_each, actuals="other.later")),
    ):
        assert_frame_equal(other.evaluation.overall, of_file.evaluation.overall)


def test_forecasts_made_at_a_cutoff_are_those_that_were_stored_then(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    then = backtest(BacktestConfig(stored)).evaluation
    now = backtest(BacktestConfig(stored, cutoffs=(CUTOFF,), later_rates=True)).evaluation
    of_runs = cs.starts_with("inside_", "interval_")  # a run says how sure it is
    for one, other in ((now.overall, then.overall), (now.by_month, then.by_month)):
        assert_frame_equal(one.drop(of_runs), other.drop(of_runs))
    assert now.by_cutoff["cutoff"].to_list() == [CUTOFF]


def test_rolling_origins_know_only_what_was_before(stored_on_each: Dsn) -> None:
    load(stored_on_each, "public", streams=LATER)
    cutoffs = (date(2023, 6, 1), date(2023, 10, 1), CUTOFF)
    six = partial(BacktestConfig, stored_on_each, parameters=Parameters(horizon=6), later_rates=True)
    result = backtest(six(cutoffs=cutoffs))
    assert result.evaluation.by_cutoff["cutoff"].to_list() == list(cutoffs)
    assert result.evaluation.worst_cutoff in cutoffs
    made = []
    for cutoff in cutoffs:
        before = STREAMS.filter(pl.col("date") < cutoff)
        built = build_forecasts(before.lazy(), RATES.lazy(), horizon=6).forecasts.collect()
        last = before.group_by("cm_track_id").agg(pl.col("date").max().alias("as_of"))
        made.append(
            built.join(last, on="cm_track_id").select(
                "cm_track_id", "as_of", "month", pl.col("forecasted_value").round()
            )
        )
    wape, windows = by_hand(pl.concat(made), STREAMS)
    assert result.evaluation.windows_scored == windows
    assert result.evaluation.overall["wape"][0] == pytest.approx(wape, rel=1e-12)
    # Whatever comes later changes neither the forecasts nor the baselines, only the actual streams.
    sql.run(
        stored_on_each,
        "UPDATE backtest_track_daily_training_data SET daily_streams = 7 WHERE date >= $1",
        CUTOFF,
    )
    other = backtest(six(cutoffs=cutoffs[:1]))
    totals = result.evaluation.series.filter(cutoff=cutoffs[0])["forecast_total"]
    assert other.evaluation.series["forecast_total"].to_list() == totals.to_list()


def test_rates_are_those_of_the_listeners_before_the_cutoff(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    artists = RATES["cm_artist_id"].head(3).to_list()
    days = pl.date_range(date(2022, 1, 1), date(2024, 12, 31), eager=True).alias("date").to_frame()
    listeners = pl.concat(
        days.select(
            pl.lit(artist, pl.Int64).alias("cm_artist_id"),
            "date",
            # A fall that begins after the cutoff, so that a rate that knew of it would be another one.
            monthly_listeners=pl.when(pl.col("date") < CUTOFF)
            .then(1000 * number)
            .otherwise(10)
            .cast(pl.Int64),
        )
        for number, artist in enumerate(artists, start=1)
    )
    load(stored, "public", listeners=listeners)
    result = backtest(BacktestConfig(stored, cutoffs=(CUTOFF,), later_rates=True))
    known = artist_rates(listeners.lazy().filter(pl.col("date") < CUTOFF)).collect()
    rates = pl.concat(
        [
            known.select("cm_artist_id", "mldr"),
            RATES.filter(~pl.col("cm_artist_id").is_in(artists)).select("cm_artist_id", "mldr"),
        ]
    )
    built = build_forecasts(BEFORE.lazy(), rates.lazy()).forecasts.collect()
    expected = built.filter(pl.col("month") <= 12).group_by("cm_track_id").agg(pl.len())
    series = result.evaluation.series.filter(months=12)
    sums = (
        built.filter(pl.col("month") <= 12)
        .group_by("cm_track_id")
        .agg(pl.col("forecasted_value").round().sum().alias("sum"))
    )
    both = series.join(sums, on="cm_track_id")
    assert len(both) > 10
    assert len(expected) >= len(both)
    assert both["forecast_total"].to_list() == pytest.approx(both["sum"].to_list())
    later = built.filter(~pl.col("cm_artist_id").is_in(artists))["cm_track_id"].n_unique()
    assert 0 < later < built["cm_track_id"].n_unique()
    assert result.later_rates == later
    [warning] = result.warnings
    assert warning.startswith("tracks forecast with a decay rate (MLDR) that was not known at the cutoff")
    assert warning.endswith(f": {later} at 2024-01-01")
    strict = backtest(BacktestConfig(stored, cutoffs=(CUTOFF,)))
    assert (strict.later_rates, strict.warnings) == (0, [])
    assert strict.skipped["no_mldr_at_cutoff"] >= later
    of_artists = STREAMS.filter(pl.col("cm_artist_id").is_in(artists))["cm_track_id"]
    assert strict.evaluation.series.equals(
        result.evaluation.series.filter(pl.col("cm_track_id").is_in(of_artists.implode()))
        .drop("volume_decile")
        .join(strict.evaluation.series.select("cm_track_id", "volume_decile"), on="cm_track_id")
        .select(strict.evaluation.series.columns)
    )


def test_other_types_and_doubled_days_give_the_same(database: Dsn) -> None:
    create_tables(database, date="timestamptz", streams="numeric", value="double precision", cm_id="integer")
    load(database, "public", streams=STREAMS, mldr=RATES)
    sql.run(
        database,
        "INSERT INTO backtest_track_daily_training_data (cm_track_id, cm_artist_id, date, daily_streams, "
        "days_from_release, created_at) SELECT cm_track_id, cm_artist_id, date, 1, days_from_release, "
        "'2000-01-01' FROM backtest_track_daily_training_data WHERE cm_track_id < 5",
    )
    result = backtest(BacktestConfig(database, cutoffs=(CUTOFF,), later_rates=True))
    built = build_forecasts(BEFORE.lazy(), RATES.lazy()).forecasts.collect()
    last = BEFORE.group_by("cm_track_id").agg(pl.col("date").max().alias("as_of"))
    wape, windows = by_hand(
        built.join(last, on="cm_track_id").select(
            "cm_track_id", "as_of", "month", pl.col("forecasted_value").round()
        ),
        STREAMS,
    )
    assert result.evaluation.windows_scored == windows
    assert result.evaluation.overall["wape"][0] == pytest.approx(wape, rel=1e-12)


def test_what_was_known_at_an_origin_comes_from_the_streams_table_alone(stored: Dsn, tmp_path: Path) -> None:
    load(stored, "public", streams=LATER)
    path = tmp_path / "tripled.parquet"
    before = pl.col("date") < CUTOFF
    STREAMS.with_columns(
        daily_streams=pl.col("daily_streams") * pl.when(before).then(3).otherwise(1)
    ).write_parquet(path)
    changed = len(BEFORE.filter(pl.col("daily_streams") != 0))
    for config in (
        BacktestConfig(stored, months=6),
        BacktestConfig(stored, parameters=Parameters(horizon=6), cutoffs=(CUTOFF,), later_rates=True),
    ):
        alone, beside = backtest(config), backtest(replace(config, actuals=f"{path}"))
        assert beside.evaluation.to_dict(series=True) == alone.evaluation.to_dict(series=True)
        forecast = alone.evaluation.series["cm_track_id"]
        [warning] = set(beside.warnings) - set(alone.warnings)
        found = re.search(r"differs from the streams table on ([0-9,]+) days before an", warning)
        assert found
        assert 0 < int(found[1].replace(",", "")) <= changed
        assert f"(first: track {forecast[0]});" in warning


def test_a_rate_is_known_once_it_is_stored(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    at_cutoff = BacktestConfig(stored, parameters=Parameters(horizon=3), cutoffs=(CUTOFF,))
    with pytest.raises(NoForecastError, match=r"[0-9]+ no_mldr_at_cutoff") as raised:
        backtest(at_cutoff)
    assert "--later-rates" in (raised.value.hint or "")
    assert "`forecaster load --listeners FILE`" in (raised.value.hint or "")
    later = backtest(replace(at_cutoff, later_rates=True))

    sql.run(stored, "UPDATE backtest_artist_mldr SET created_at = '2023-12-31 23:59+00'")
    sql.run(
        stored,
        "INSERT INTO backtest_artist_mldr (cm_artist_id, mldr) "
        "SELECT cm_artist_id, 5 FROM backtest_artist_mldr",
    )
    for config in (at_cutoff, replace(at_cutoff, later_rates=True)):
        known = backtest(config)
        assert_frame_equal(known.evaluation.series, later.evaluation.series)
        assert (known.later_rates, known.warnings) == (0, [])
    assert "no_mldr_at_cutoff" not in known.skipped

    # The newest rate of the time counts, also if there is none in it.
    artist = RATES["cm_artist_id"][0]
    sql.run(
        stored,
        "INSERT INTO backtest_artist_mldr (cm_artist_id, mldr, created_at) "
        "VALUES ($1, NULL, '2023-12-31 23:59:59+00')",
        artist,
    )
    tracks = set(STREAMS.filter(cm_artist_id=artist)["cm_track_id"])
    without = backtest(at_cutoff)
    assert not tracks & set(without.evaluation.series["cm_track_id"])
    assert without.skipped["no_mldr_at_cutoff"] > 0


def test_an_as_of_date_that_is_stated(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    by_created_at = backtest(BacktestConfig(stored))
    last = CUTOFF - timedelta(days=1)
    stated = backtest(BacktestConfig(stored, parameters=Parameters(as_of=last)))
    assert (by_created_at.known_by, stated.known_by, stated.warnings) == ("by created_at", "--as-of", [])
    assert_frame_equal(stated.evaluation.series, by_created_at.evaluation.series)
    early = backtest(BacktestConfig(stored, parameters=Parameters(as_of=last - timedelta(days=1))))
    tracks = sql.rows(stored, "SELECT DISTINCT cm_track_id FROM backtest_track_streams_forecast ORDER BY 1")
    [warning] = early.warnings
    assert f"{len(tracks)} tracks had streams after --as-of 2023-12-30 when the forecast" in warning
    assert f"(first: track {tracks[0][0]}): the scores include days" in warning


def test_only_the_first_months_of_what_is_stored(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    found = backtest(BacktestConfig(stored, months=3)).evaluation
    assert found.by_month["month"].to_list() == [1, 2, 3]
    every = backtest(BacktestConfig(stored)).evaluation
    # The skill is against the baseline that is best in all months.
    assert_frame_equal(found.by_month.drop("skill"), every.by_month.head(3).drop("skill"))


def test_last_days_that_are_known_are_the_same_with_and_without_a_key(database: Dsn) -> None:
    create_tables(database, date="timestamp", created_at="timestamp", streams="double precision")
    rows = "(cm_track_id, cm_artist_id, date, daily_streams, created_at)"
    sql.run(
        database,
        f"INSERT INTO backtest_track_daily_training_data {rows} VALUES "
        "(1, 1, '2024-01-05 13:00', 5, '2024-02-01'), (1, 1, '2024-01-05 14:00', 6, '2024-02-03'), "
        "(1, 1, '2024-01-09', 5, '2024-02-03'), (1, 1, '2024-01-07', NULL, '2024-02-01'), "
        "(1, 1, 'infinity', 5, '2024-02-01'), (1, 1, NULL, 5, '2024-02-01'), "
        "(2, 1, '2024-01-03', 5, '2024-02-03'), (2, 1, '2024-01-08', 5, NULL), "
        "(3, 1, '2024-01-03', 'NaN', '2024-02-01'), (5, 1, '2024-01-03', 1, '2024-02-01')",
    )
    for track in (1, 2, 3, 4):
        for made in ("2024-02-01", "2024-02-02"):
            sql.run(
                database,
                "INSERT INTO backtest_track_streams_forecast (cm_track_id, month, created_at) "
                "VALUES ($1, $2, $3)",
                track,
                int(made[-1]),
                datetime.fromisoformat(made),
            )
    tracks = [1, 2, 3, 4, 5, 6]
    with open_source(database, "public") as source:
        in_one_pass = source.cutoffs(tracks)
    assert in_one_pass.rows() == [
        (1, date(2024, 1, 5), True),
        (2, date(2024, 1, 8), False),
        (3, None, False),
        (4, None, False),
    ]
    sql.run(database, "DELETE FROM backtest_track_daily_training_data WHERE date = '2024-01-05 14:00'")
    sql.run(database, "ALTER TABLE backtest_track_daily_training_data ALTER date TYPE date")
    sql.run(database, "CREATE UNIQUE INDEX ON backtest_track_daily_training_data (cm_track_id, date)")
    with open_source(database, "public") as source:
        assert source.reads_by_index
        assert_frame_equal(source.cutoffs(tracks), in_one_pass)


def test_golden_files_are_read_as_actuals(stored: Dsn) -> None:
    """A file with tracks that the database does not have: they are of no account."""
    with pytest.raises(NoForecastError, match=r"rows left out of --actuals: other_tracks [0-9,]+"):
        backtest(BacktestConfig(stored, actuals=f"{GOLDEN / 'tracks.parquet'}"))
