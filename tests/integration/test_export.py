"""The stored forecasts as the field's tools take them."""

import math
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from utilsforecast.losses import mae

from forecaster.errors import NoForecastError
from forecaster.model.calibrated.uncertainty import PRODUCTION_WIDENED
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import HISTORY, INTERVALS
from forecaster.views.export import nixtla
from tests import sql
from tests.calibrations import calibration, keep
from tests.conftest import Cli
from tests.tables import create_tables, golden_mldr, golden_streams, initialise, load_golden

ENDS = ("y-lo-80", "y-hi-80", "y-lo-95", "y-hi-95")


@pytest.fixture
def forecast(usual_database: Dsn) -> Dsn:
    load_golden(usual_database)
    run(Database(usual_database))
    return usual_database


def exported(dsn: Dsn, *, as_of: date | None = None) -> tuple[pl.DataFrame, list[str]]:
    with open_source(dsn, "public") as source:
        return nixtla(source, as_of=as_of)


def test_columns_and_dates(forecast: Dsn) -> None:
    rows, warnings = exported(forecast)
    assert warnings == []
    assert rows.schema == pl.Schema(
        {"unique_id": pl.Int64, "ds": pl.Date, "y": pl.Float64, "cutoff": pl.Date, "h": pl.Int64}
        | dict.fromkeys(ENDS, pl.Float64)
    )
    assert len(rows) == 24 * 247
    assert rows.filter(pl.col("ds") != pl.col("cutoff") + pl.duration(days=30 * pl.col("h"))).is_empty()
    last = golden_streams().group_by("cm_track_id").agg(pl.col("date").max()).rows()
    assert dict(rows.select("unique_id", "cutoff").unique().iter_rows()).items() <= dict(last).items()
    stored = sql.rows(
        forecast,
        "SELECT cm_track_id, month, forecasted_value FROM backtest_track_streams_forecast ORDER BY 1, 2",
    )
    assert rows.select("unique_id", "h", pl.col("y").cast(pl.Int64)).rows() == stored


def test_the_fields_tools_take_it(forecast: Dsn) -> None:
    rows, _ = exported(forecast)
    errors = mae(rows.with_columns(forecaster=pl.col("y") + 3), models=["forecaster"])
    assert errors["forecaster"].to_list() == pytest.approx([3.0] * 247)


def test_days_that_came_later_do_not_move_the_cutoff(forecast: Dsn) -> None:
    before, _ = exported(forecast)
    sql.run(
        forecast,
        "INSERT INTO backtest_track_daily_training_data (cm_track_id, cm_artist_id, date, daily_streams) "
        "SELECT cm_track_id, min(cm_artist_id), max(date) + 40, 5 FROM backtest_track_daily_training_data "
        "GROUP BY 1",
    )
    after, warnings = exported(forecast)
    assert after.equals(before)
    assert warnings == []


def test_a_cutoff_that_cannot_be_known_is_said(forecast: Dsn) -> None:
    sql.run(forecast, f"TRUNCATE {HISTORY.name}")
    sql.run(
        forecast,
        "UPDATE backtest_track_daily_training_data SET created_at = now() + interval '1 day' "
        "WHERE cm_track_id = 7",
    )
    sql.run(forecast, "DELETE FROM backtest_track_daily_training_data WHERE cm_track_id = 8")
    rows, warnings = exported(forecast)
    assert len(warnings) == 1
    assert "2, the first is 7" in warnings[0]
    [stored] = sql.rows(forecast, "SELECT max(created_at) FROM backtest_track_streams_forecast")[0]
    last = golden_streams().filter(cm_track_id=7)["date"].max()
    assert rows.filter(unique_id=7)["cutoff"].unique().to_list() == [last]
    assert rows.filter(unique_id=8)["cutoff"].unique().to_list() == [stored.date()]
    stated, warnings = exported(forecast, as_of=date(2025, 4, 15))
    assert (stated["cutoff"].unique().to_list(), warnings) == ([date(2025, 4, 15)], [])


def test_intervals_are_those_of_the_formula_if_none_are_stored(forecast: Dsn) -> None:
    ages = dict(
        sql.rows(
            forecast, "SELECT cm_track_id, time_used FROM backtest_track_streams_forecast WHERE month = 1"
        )
    )
    sql.run(forecast, f"TRUNCATE {INTERVALS.name}")
    rows, _ = exported(forecast)
    for row in rows.filter(h=6).head(40).iter_rows(named=True):
        factor = PRODUCTION_WIDENED * (1.5 if ages[row["unique_id"]] < 6 else 0.95)
        for end, q, z in (("80", 0.420, 1.2816), ("95", 0.738, 1.96)):
            half = math.exp(math.hypot(factor * q, z * PRODUCTION_WIDENED * 0.238))
            assert row[f"y-lo-{end}"] == round(row["y"] / half)
            assert row[f"y-hi-{end}"] == round(row["y"] * half)


def test_stored_intervals_count(forecast: Dsn) -> None:
    keep(forecast, calibration(date(2025, 4, 15)))
    run(Database(forecast), RunConfig(replace=True, ids=(7,)))
    sql.run(forecast, f"UPDATE {INTERVALS.name} SET q10[3] = 123456789 WHERE cm_track_id = 7")
    rows, _ = exported(forecast)
    other = 123456792  # the nearest that a real holds
    assert rows.filter(pl.col("y-lo-80") == other).select("unique_id", "h").rows() == [(7, 3)]
    assert rows.null_count().sum_horizontal().item() == 0
    sql.run(forecast, f"DROP TABLE {INTERVALS.name}")
    assert exported(forecast)[0].filter(unique_id=7, h=3)["y-lo-80"].item() != other


def test_other_types(database: Dsn) -> None:
    create_tables(
        database, row_id="uuid DEFAULT gen_random_uuid()", date="timestamptz", value="numeric",
        created_at="timestamp", cm_id="integer",
    )  # fmt: skip
    load(database, "public", streams=golden_streams(), mldr=golden_mldr())
    run(Database(database))
    rows, warnings = exported(database)
    assert (len(rows), warnings) == (24 * 247, [])


def test_nothing_is_stored(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    with pytest.raises(NoForecastError, match="no forecast is stored"):
        exported(embedded_database)


def test_the_command(called: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    load_golden(embedded_database)
    run(Database(embedded_database))
    env = {"DATABASE_URL": embedded_database.uri}
    for name in ("f.csv", "f.parquet"):
        result = called("export", "--out", name, env=env, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "tracks=247 rows=5928 seconds=" in result.stdout.splitlines()[-1]
    csv = pl.read_csv(tmp_path / "f.csv", try_parse_dates=True)
    assert csv.equals(pl.read_parquet(tmp_path / "f.parquet"))
    assert csv.select((pl.col("ds") - pl.col("cutoff")).dt.total_days().max()).item() == 720
    refused = called("export", "--out", "f.xlsx", env=env, cwd=tmp_path)
    assert refused.returncode == 2
