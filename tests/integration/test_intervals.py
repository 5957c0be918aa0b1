"""Intervals are stored in the transaction of the forecast, for either model, and replaced with it."""

import math
from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import DatabaseError
from forecaster.model import build_forecasts
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.uncertainty import Errors, prior_errors, with_quantiles
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.intervals import intervals
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import ModelName, RunConfig
from forecaster.run.session import run
from forecaster.tables import CALIBRATIONS, FORECAST_TABLE, INTERVALS, QUANTILES
from tests import sql
from tests.calibrations import calibration, keep
from tests.conftest import Cli
from tests.forecasts import stored
from tests.tables import first_tracks, golden_mldr, golden_streams

STREAMS = golden_streams().filter(pl.col("cm_track_id") <= 20)
D: date = STREAMS["date"].max()  # type: ignore[assignment]
COUNT = f"SELECT count(*) FROM {INTERVALS.name}"


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    return first_tracks(embedded_database, 20)


@pytest.fixture
def calibrated(catalogue: Dsn) -> Calibration:
    return keep(catalogue, calibration(D))


def kept(dsn: Dsn) -> pl.DataFrame:
    """Those that belong to a stored forecast."""
    with connect(dsn) as connection:
        return query(connection, intervals(read_tables(connection, "public"), None))


def expected(one: Calibration, model: ModelName) -> pl.DataFrame:
    weight = 1.0 if model == "calibrated" else 0.0
    level = 7 if model == "calibrated" else 30
    of_model = {"model": one, "as_of": D} if model == "calibrated" else {}
    forecasts = build_forecasts(STREAMS.lazy(), golden_mldr().lazy(), **of_model).forecasts  # type: ignore[arg-type]
    return bounds_of(forecasts, one.errors_of(weight, level), one.id)


def bounds_of(forecasts: pl.LazyFrame, errors: Errors, calibration: str | None) -> pl.DataFrame:
    bounds = with_quantiles(forecasts, errors, horizon=24).sort("cm_track_id", "month")
    lists = [pl.col(name).cast(pl.Float32) for name in QUANTILES]
    return (
        bounds.group_by("cm_track_id", maintain_order=True)
        .agg(lists)
        .select("cm_track_id", pl.lit(calibration, dtype=pl.String).alias("calibration"), *QUANTILES)
        .collect()
    )


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("model", ["production", "calibrated"])
def test_are_the_quantiles_of_each_forecast(
    catalogue: Dsn, calibrated: Calibration, model: ModelName, *, far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forecaster.postgres.connection._FAR", -1.0 if far else math.inf)
    report = run(Database(catalogue), RunConfig(model=model))
    assert_frame_equal(kept(catalogue), expected(calibrated, model))
    assert report.to_dict()["intervals"] == calibrated.id
    sql.run(catalogue, f"UPDATE {INTERVALS.name} SET q10 = '{{1, 2}}'")
    run(Database(catalogue), RunConfig(model=model, replace=True))
    assert_frame_equal(kept(catalogue), expected(calibrated, model))


def test_those_of_a_forecast_that_was_replaced_do_not_count(catalogue: Dsn, calibrated: Calibration) -> None:
    run(Database(catalogue))
    number = len(kept(catalogue))
    run(Database(catalogue), RunConfig(replace=True, intervals=False, ids=(1,)))
    assert len(kept(catalogue)) == number - 1
    assert calibrated.tracks


@pytest.mark.parametrize("far", [False, True])
def test_without_a_calibration_they_are_those_of_other_catalogues(
    catalogue: Dsn, *, far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forecaster.postgres.connection._FAR", -1.0 if far else math.inf)
    report = run(Database(catalogue))
    forecasts = build_forecasts(STREAMS.lazy(), golden_mldr().lazy()).forecasts
    assert_frame_equal(kept(catalogue), bounds_of(forecasts, prior_errors(0.0), None))
    assert report.to_dict()["intervals"] is None
    assert "model" not in report.to_dict()["parameters"]
    assert report.total is not None
    # With 8 degrees of freedom, and 1.3 x 0.20 x sqrt(24 / 12) for the total of 24 months.
    factor = math.exp(1.39682 * 1.3 * 0.20 * math.sqrt(2))
    assert report.total_range == pytest.approx((report.total / factor, report.total * factor), rel=1e-4)
    assert report.to_dict()["total_high_80"] == report.total_range[1]  # type: ignore[index]


def test_a_total_of_other_forecasts_has_no_range(catalogue: Dsn, called: Cli) -> None:
    assert run(Database(catalogue)).total_range is not None
    sql.run(catalogue, f"UPDATE {FORECAST_TABLE} SET created_at = created_at - interval '1 hour'")
    report = run(Database(catalogue), RunConfig(replace=True, ids=(1,)))
    [(total, others)] = sql.rows(
        catalogue,
        "SELECT sum(forecasted_value)::float8, "
        "(sum(forecasted_value) FILTER (WHERE cm_track_id <> 1))::float8 "
        f"FROM {FORECAST_TABLE}",
    )
    assert (report.total, report.total_of_others) == (total, others)
    assert report.total_range is None
    assert report.to_dict()["total_low_80"] is None
    env = {"DATABASE_URL": catalogue.uri}
    assert "80 % range" not in called("run", "--replace", "--track-id", "1", env=env).stdout
    assert "80 % range" in called("run", "--replace", env=env).stdout


def test_none_are_stored_if_not_asked_for(catalogue: Dsn) -> None:
    report = run(Database(catalogue), RunConfig(intervals=False))
    plain = stored(catalogue)
    assert sql.rows(catalogue, COUNT) == [(0,)]
    assert "intervals" not in report.to_dict()
    assert report.total_range is None
    assert not {"total_low_80", "total_high_80"} & report.to_dict().keys()
    keep(catalogue, calibration(D))
    run(Database(catalogue), RunConfig(replace=True, intervals=False))
    assert sql.rows(catalogue, COUNT) == [(0,)]
    run(Database(catalogue), RunConfig(replace=True))
    assert sql.rows(catalogue, COUNT) == sql.rows(
        catalogue, f"SELECT count(DISTINCT cm_track_id) FROM {FORECAST_TABLE}"
    )
    assert_frame_equal(stored(catalogue), plain)  # which the calibration does not change


def test_a_table_that_no_intervals_fit_into(catalogue: Dsn) -> None:
    [(key,)] = sql.rows(
        catalogue,
        f"SELECT conname FROM pg_constraint WHERE conrelid = '{INTERVALS.name}'::regclass AND contype <> 'n'",
    )
    sql.run(catalogue, f'ALTER TABLE {INTERVALS.name} DROP CONSTRAINT "{key}"')
    report = run(Database(catalogue))
    assert "stores no intervals" in report.warnings[0]
    assert "no unique key on cm_track_id" in report.warnings[0]
    sql.run(catalogue, f"ALTER TABLE {INTERVALS.name} DROP COLUMN q90")
    report = run(Database(catalogue), RunConfig(replace=True))
    assert f"{INTERVALS.name}.q90: is missing" in report.warnings[0]
    sql.run(catalogue, f"DROP TABLE {INTERVALS.name}")
    report = run(Database(catalogue), RunConfig(replace=True))
    assert not any("intervals" in warning for warning in report.warnings)  # no version of `init` has made it
    assert report.results == 20


def test_a_track_that_is_refused_has_none(catalogue: Dsn, calibrated: Calibration) -> None:
    sql.run(catalogue, f"ALTER TABLE {FORECAST_TABLE} ADD CHECK (cm_track_id <> 2)")
    report = run(Database(catalogue))
    assert [*report.refused] == [2]
    assert 2 not in kept(catalogue)["cm_track_id"]
    assert (
        kept(catalogue)["cm_track_id"].to_list() == stored(catalogue)["cm_track_id"].unique().sort().to_list()
    )
    assert calibrated.tracks


def test_all_in_one_transaction(catalogue: Dsn, calibrated: Calibration) -> None:
    sql.run(catalogue, f"ALTER TABLE {INTERVALS.name} ADD CHECK (cm_track_id <> 2)")
    with pytest.raises(DatabaseError):
        run(Database(catalogue))
    assert stored(catalogue).is_empty()
    assert sql.rows(catalogue, COUNT) == [(0,)]
    assert calibrated.tracks


def test_a_table_that_does_not_fit_or_is_missing(catalogue: Dsn, calibrated: Calibration) -> None:
    config = RunConfig(model="calibrated", replace=True)
    sql.run(catalogue, f"ALTER TABLE {INTERVALS.name} ALTER q10 TYPE double precision[]")
    [warning] = run(Database(catalogue), config).warnings
    assert warning.startswith(f"this run stores no intervals: {INTERVALS.name}.q10: is double precision[]")
    sql.run(catalogue, f"DROP TABLE {INTERVALS.name}")
    [warning] = run(Database(catalogue), config).warnings
    assert "the table is missing; create it with `forecaster init`" in warning
    assert len(stored(catalogue)) == 24 * run(Database(catalogue), config).results
    sql.run(catalogue, f"DROP TABLE {CALIBRATIONS.name}")
    assert run(Database(catalogue), RunConfig(replace=True)).warnings == []
    assert calibrated.tracks
