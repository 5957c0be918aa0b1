"""Backtests end to end: stored forecasts and rolling origins, on real servers."""

import json
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.backtest import BacktestConfig, backtest
from forecaster.dsn import Dsn
from forecaster.errors import InvalidOptionError, NoForecastError, SchemaMismatchError
from forecaster.evaluation import BASELINES
from forecaster.load import load
from forecaster.model import build_forecasts
from forecaster.model.listeners import artist_rates
from forecaster.model.parameters import Parameters
from forecaster.run import RunConfig, run
from forecaster.sample import sample_catalogue
from tests import sql
from tests.conftest import Cli
from tests.tables import GOLDEN, create_tables, initialise

CUTOFF = date(2024, 1, 1)
STREAMS, RATES = sample_catalogue(40)
BEFORE = STREAMS.filter(pl.col("date") < CUTOFF)
LATER = STREAMS.filter(pl.col("date") >= CUTOFF)


@pytest.fixture
def stored(database: Dsn) -> Dsn:
    """A catalogue that ends at the cutoff, with its forecasts."""
    initialise(database)
    load(database, "public", streams=BEFORE, mldr=RATES)
    run(RunConfig(database))
    return database


def by_hand(forecasts: pl.DataFrame, days: pl.DataFrame) -> tuple[float, int]:
    """WAPE and the number of whole months, by a loop over them."""
    streams = {(t, d): s for t, d, s in days.select("cm_track_id", "date", "daily_streams").iter_rows()}
    error = total = windows = 0
    for track, as_of, month, value in forecasts.iter_rows():
        window = [(track, as_of + timedelta(days=30 * (month - 1) + i)) for i in range(1, 31)]
        if all(day in streams for day in window):
            actual = sum(streams[day] for day in window)
            error, total, windows = error + abs(value - actual), total + abs(actual), windows + 1
    return error / total, windows


def test_stored_forecasts_against_a_file_a_table_and_days_that_arrived(stored: Dsn, tmp_path: Path) -> None:
    LATER.write_parquet(tmp_path / "later.parquet")
    of_file = backtest(BacktestConfig(stored, actuals=f"{tmp_path / 'later.parquet'}"))
    rows = sql.rows(
        stored, "SELECT cm_track_id, month, forecasted_value FROM backtest_track_streams_forecast"
    )
    last = dict(BEFORE.group_by("cm_track_id").agg(pl.col("date").max()).iter_rows())
    forecasts = pl.DataFrame([(t, last[t], m, float(v)) for t, m, v in rows], orient="row")
    wape, windows = by_hand(forecasts, STREAMS)
    assert of_file.evaluation.windows_scored == windows
    assert of_file.evaluation.overall["wape"][0] == pytest.approx(wape, rel=1e-12)
    assert of_file.warnings == []

    sql.run(stored, "CREATE TABLE later (LIKE backtest_track_daily_training_data INCLUDING ALL)")
    sql.run(stored, "CREATE SCHEMA other")
    sql.run(stored, "CREATE TABLE other.later (LIKE backtest_track_daily_training_data INCLUDING ALL)")
    load(stored, "public", streams=LATER)
    for table in ("later", "other.later"):
        sql.run(stored, f"INSERT INTO {table} SELECT * FROM backtest_track_daily_training_data")
    arrived = backtest(BacktestConfig(stored))
    sql.run(stored, "DELETE FROM backtest_track_daily_training_data WHERE date >= $1", CUTOFF)
    for other in (
        arrived,
        backtest(BacktestConfig(stored, actuals="later")),
        backtest(BacktestConfig(stored, actuals="other.later")),
    ):
        assert_frame_equal(other.evaluation.overall, of_file.evaluation.overall)


def test_forecasts_made_at_a_cutoff_are_those_that_were_stored_then(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    then = backtest(BacktestConfig(stored)).evaluation
    now = backtest(BacktestConfig(stored, cutoffs=(CUTOFF,))).evaluation
    assert_frame_equal(now.overall, then.overall)
    assert_frame_equal(now.by_month, then.by_month)
    assert now.by_cutoff["cutoff"].to_list() == [CUTOFF]


def test_rolling_origins_know_only_what_was_before(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    cutoffs = (date(2023, 6, 1), date(2023, 10, 1), CUTOFF)
    result = backtest(BacktestConfig(stored, parameters=Parameters(horizon=6), cutoffs=cutoffs))
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
        stored, "UPDATE backtest_track_daily_training_data SET daily_streams = 7 WHERE date >= $1", CUTOFF
    )
    other = backtest(BacktestConfig(stored, parameters=Parameters(horizon=6), cutoffs=cutoffs[:1]))
    first = backtest(BacktestConfig(stored, parameters=Parameters(horizon=6), cutoffs=cutoffs[:1]))
    assert_frame_equal(other.evaluation.series, first.evaluation.series)
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
    result = backtest(BacktestConfig(stored, cutoffs=(CUTOFF,)))
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
    [warning] = result.warnings
    with_rate = RATES.filter(pl.col("mldr").is_not_null())["cm_artist_id"].n_unique()
    assert f"{with_rate - 3:,} artists have no rate from listeners before it" in warning


def test_other_types_and_doubled_days_give_the_same(database: Dsn) -> None:
    create_tables(database, date="timestamptz", streams="numeric", value="double precision", cm_id="integer")
    load(database, "public", streams=STREAMS, mldr=RATES)
    sql.run(
        database,
        "INSERT INTO backtest_track_daily_training_data (cm_track_id, cm_artist_id, date, daily_streams, "
        "days_from_release, created_at) SELECT cm_track_id, cm_artist_id, date, 1, days_from_release, "
        "'2000-01-01' FROM backtest_track_daily_training_data WHERE cm_track_id < 5",
    )
    result = backtest(BacktestConfig(database, cutoffs=(CUTOFF,)))
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
    assert "a month of theirs is stored twice: 1" in result.warnings[0]


def test_what_cannot_be_scored(stored: Dsn) -> None:
    with pytest.raises(NoForecastError, match=r"no forecast month can be scored: .* not_over"):
        backtest(BacktestConfig(stored))
    with pytest.raises(NoForecastError, match="no track can be forecast from the days before 1990-01-01"):
        backtest(BacktestConfig(stored, cutoffs=(date(1990, 1, 1),)))
    with pytest.raises(NoForecastError, match="no streams of these tracks: 987654"):
        backtest(BacktestConfig(stored, track_ids=(BEFORE["cm_track_id"][0], 987654)))
    with pytest.raises(SchemaMismatchError, match="nowhere: the table is missing"):
        backtest(BacktestConfig(stored, actuals="nowhere"))
    with pytest.raises(InvalidOptionError, match="contradict"):
        BacktestConfig(stored, parameters=Parameters(as_of=CUTOFF), cutoffs=(CUTOFF,))


def test_the_command(cli: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    load(embedded_database, "public", streams=STREAMS, mldr=RATES)
    env = {"DATABASE_URL": embedded_database.uri}
    cutoffs = ("--cutoff", "2023-07-01", "--cutoff", f"{CUTOFF}")
    result = cli("evaluate", *cutoffs, "--out", "scores.csv", "--page", "p.html", env=env, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for model in ("forecaster", *BASELINES):
        assert f"\n{model}" in f"\n{result.stdout}"
    for heading in ("month ahead", "lifecycle segment", "influence range", "volume decile", "cutoff"):
        assert f"\n{heading} " in result.stdout
    assert "WAPE    sum |f - a| / sum |a|" in result.stdout
    assert "worst cutoff" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("windows=")
    assert "cutoff 2024-01-01: " in result.stderr
    scores = pl.read_csv(tmp_path / "scores.csv", infer_schema_length=None)
    assert set(scores["group"]) == {"overall", "month", "segment", "influence", "volume", "cutoff", "series"}
    assert "month ahead" in (tmp_path / "p.html").read_text()

    printed = cli("evaluate", *cutoffs, "--json", env=env)
    as_json = json.loads(printed.stdout)
    assert as_json["overall"][0]["wape"] == pytest.approx(scores["wape"][0])
    assert as_json["skipped"].keys() <= {"too_young", "no_mldr", "negative_streams", "several_artists"}
    assert len(as_json["series"]) == scores.filter(pl.col("group") == "series").height


def test_golden_files_are_read_as_actuals(stored: Dsn) -> None:
    """A file with tracks that the database does not have: they are of no account."""
    with pytest.raises(NoForecastError):
        backtest(BacktestConfig(stored, actuals=f"{GOLDEN / 'tracks.parquet'}"))
