"""`total`: stored forecasts added up, with ranges after the formulas of the model, worked plainly here."""

import json
import math
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from scipy import stats

from forecaster.errors import InvalidOptionError, NoForecastError
from forecaster.model.calibrated.calibration import Calibration, ModelErrors
from forecaster.model.calibrated.uncertainty import PRODUCTION_WIDENED, Errors, OwnErrors
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import FORECAST_TABLE, HISTORY, RUNS
from forecaster.views.basis import basis_of
from forecaster.views.catalogue import read_catalogue
from forecaster.views.page.summary import how_sure
from forecaster.views.total import Chosen, Condition, Total, read_total
from tests import sql
from tests.calibrations import calibration, keep
from tests.conftest import Cli
from tests.forecasts import stored
from tests.tables import golden_mldr, golden_streams, initialise, made_once

STREAMS = golden_streams().filter(pl.col("cm_track_id") <= 20)
D: date = STREAMS["date"].max()  # type: ignore[assignment]


@pytest.fixture
def forecast(embedded_database: Dsn) -> Dsn:
    def make(new: Dsn) -> None:
        initialise(new)
        load(new, "public", streams=STREAMS, mldr=golden_mldr())
        run(Database(new))

    made_once(embedded_database, "first_twenty_forecast", make)
    return embedded_database


def added(dsn: Dsn, chosen: Chosen | None = None, horizon: int | None = None) -> Total:
    return read_total(dsn, "public", chosen or Chosen(), horizon=horizon)


def on_page(dsn: Dsn) -> str:
    return how_sure(read_catalogue(dsn, "public", Parameters()).total)[1]


def month(found: Total, number: int) -> dict[str, float]:
    return found.months.row(number - 1, named=True)


def with_errors(own: tuple[OwnErrors, ...], *, as_of: date = D) -> Calibration:
    one = calibration(as_of)
    return Calibration(
        one.as_of, one.tracks, one.first_day, one.rates, errors=(ModelErrors(0.0, 30, Errors(own)),)
    )


def test_the_whole_catalogue_has_the_shared_error_of_other_catalogues(forecast: Dsn) -> None:
    found, rows = added(forecast), stored(forecast)
    assert (found.tracks, found.all_tracks, found.is_part) == (rows["cm_track_id"].n_unique(),) * 2 + (False,)
    assert len(found.months) == 24
    for number, sigma, of_sum in ((1, 0.05, 0.05), (6, 0.238, 0.14), (12, 0.344, 0.2)):
        row = month(found, number)
        assert row["total"] == rows.filter(month=number)["forecasted_value"].sum()
        assert row["cumulated"] == rows.filter(pl.col("month") <= number)["forecasted_value"].sum()
        for p, low, high in ((0.8, "q10", "q90"), (0.95, "q025", "q975")):
            t = stats.t.ppf(0.5 + p / 2, 8)
            half = math.exp(t * PRODUCTION_WIDENED * sigma)
            assert row[low] == pytest.approx(row["total"] / half, rel=1e-3)
            assert row[high] == pytest.approx(row["total"] * half, rel=1e-3)
            half = math.exp(t * PRODUCTION_WIDENED * of_sum)
            assert row[f"cumulated_{high}"] == pytest.approx(row["cumulated"] * half, rel=1e-3)
    assert basis_of(found.made_with, 24).startswith("ranges of other catalogues")


def test_a_group_of_tracks_adds_their_own_errors(forecast: Dsn) -> None:
    chosen = stored(forecast).filter(pl.col("cm_track_id").is_in([1, 2]), month=3)
    values, ages = chosen["forecasted_value"], chosen["time_used"] - 2
    found = added(forecast, Chosen(track_ids=(1, 2, 1)))
    spreads = [PRODUCTION_WIDENED * 0.265 * (1.5 if age < 6 else 0.95) / 1.2816 for age in ages]
    squares = [(s * value) ** 2 for s, value in zip(spreads, values, strict=True)]
    own = math.sqrt(sum(squares)) / float(values.sum())
    half = math.hypot(stats.t.ppf(0.9, 8) * PRODUCTION_WIDENED * 0.146, 1.2816 * own)
    row = month(found, 3)
    assert (found.tracks, found.is_part, row["total"]) == (2, True, values.sum())
    assert math.log(row["q90"] / row["total"]) == pytest.approx(half, rel=1e-3)


def test_forecasts_with_the_ranges_of_other_catalogues_keep_them(forecast: Dsn) -> None:
    """A calibration that came later is not what was stored, nor what `export` shows."""
    before = added(forecast).months
    one = keep(forecast, with_errors((OwnErrors(1, 4, 4.0, 0.3, 0.3),)))
    found = added(forecast)
    assert found.made_with.calibration is None
    assert found.months.equals(before)
    assert "then `forecaster run --replace`" in found.basis[0]
    run(Database(forecast), RunConfig(replace=True))
    assert added(forecast).made_with.calibration == one


def test_the_figures_of_the_catalogue_itself_count_if_there_are_some(forecast: Dsn) -> None:
    run(Database(forecast), RunConfig(replace=True, intervals=False))
    own = OwnErrors(1, origins=4, independent=4.0, sigma=0.3, sigma_cumulated=0.3, residuals=0)
    one = keep(forecast, with_errors((own,)))
    found = added(forecast)
    assert found.made_with.calibration == one
    assert basis_of(found.made_with, 1).splitlines() == [
        f"ranges of calibration {one.id}: 4 origins of 1 month,",
        "which count as 4.0 independent ones, and other catalogues as 3",
    ]
    assert basis_of(found.made_with, 24).startswith("ranges of other catalogues")
    sigma = math.sqrt((3 * 0.05**2 + 4 * 0.3**2) / 7)
    row = month(found, 1)
    assert math.log(row["q90"] / row["total"]) == pytest.approx(stats.t.ppf(0.9, 10) * sigma, rel=1e-3)


def test_the_calibration_that_a_run_recorded_counts_and_not_a_newer_one(forecast: Dsn) -> None:
    one = keep(forecast, with_errors((OwnErrors(1, 4, 4.0, 0.3, 0.3),)))
    run(Database(forecast), RunConfig(replace=True))
    newer = keep(forecast, with_errors((OwnErrors(1, 9, 9.0, 0.1, 0.1),), as_of=date(2030, 1, 1)))
    assert added(forecast).made_with.calibration == one
    run(Database(forecast), RunConfig(replace=True, calibration=newer.id, ids=(1,)))
    mixed = added(forecast)
    assert mixed.made_with.calibration == one
    [warning] = mixed.warnings
    assert "of the streams were forecast with another model or calibration" in warning
    assert added(forecast, Chosen(track_ids=(1,))).made_with.calibration == newer


def test_forecasts_of_another_program_without_an_instant(forecast: Dsn, called: Cli, tmp_path: Path) -> None:
    before = added(forecast).months
    sql.run(forecast, f"ALTER TABLE {FORECAST_TABLE} ALTER created_at DROP NOT NULL")
    sql.run(forecast, f"UPDATE {FORECAST_TABLE} SET created_at = NULL")
    assert added(forecast).months.equals(before)
    for command in ("export", "report"):
        ended = called(
            command,
            "--out",
            f"x.{'csv' if command == 'export' else 'html'}",
            env={"DATABASE_URL": forecast.uri},
            cwd=tmp_path,
        )
        assert ended.returncode == 0, ended.stderr


def test_forecasts_that_no_run_recorded(forecast: Dsn, called: Cli) -> None:
    env = {"DATABASE_URL": forecast.uri}
    assert "production model from the last 30 days" in called("total", env=env).stdout
    whole = added(forecast)
    assert "; production model from the last 30 days; " in on_page(forecast)
    sql.run(forecast, f"DELETE FROM {HISTORY.name}; DELETE FROM {RUNS.name}")
    assert added(forecast).months.equals(whole.months)
    assert "; model not known: no run recorded it; " in on_page(forecast)
    said = called("total", env=env).stdout
    assert "20 tracks; model not known: no run recorded it" in said
    assert "as if made by the production model from the last 30 days" in said
    assert max(map(len, said.splitlines())) <= 80
    found = json.loads(called("total", "--json", env=env).stdout)
    assert (found["weight"], found["level"]) == (None, None)
    run(Database(forecast), RunConfig(replace=True, ids=(1,)))
    [warning] = added(forecast).warnings
    assert "or not by the same recorded run" in warning


def test_tracks_are_chosen_by_artist_and_condition(forecast: Dsn) -> None:
    with open_source(forecast, "public") as source:
        rows = source.forecasts().filter(month=1)
    artist = rows["cm_artist_id"].mode().sort()[0]
    expected = rows.filter(cm_artist_id=artist)
    assert month(added(forecast, Chosen(artist_ids=(artist,))), 1)["total"] == (
        expected["forecasted_value"].sum()
    )
    least = float(expected["forecasted_value"].sort()[len(expected) // 2])
    both = Chosen(artist_ids=(artist,), conditions=(Condition.of(f"forecasted_value>={least}"),))
    expected = expected.filter(pl.col("forecasted_value") >= least)
    assert (added(forecast, both).tracks, len(expected) > 0) == (len(expected), True)
    older = added(
        forecast, Chosen(conditions=(Condition.of("time_used>12"), Condition.of("segment_used!=12")))
    )
    assert older.tracks == rows.filter(pl.col("time_used") > 12, pl.col("segment_used") != 12).height


@pytest.mark.parametrize(
    "text", ["", "month=1", "time_used", "time_used<x", "1=1", "time_used<6; DROP TABLE x", "time_used=9" * 2,
             "cm_track_id=9999999999999999999"]
)  # fmt: skip
def test_only_simple_conditions_are_taken(text: str) -> None:
    with pytest.raises(InvalidOptionError, match="is not a condition"):
        Condition.of(text)


def test_only_months_that_every_track_has_are_added_up(forecast: Dsn) -> None:
    run(Database(forecast), RunConfig(replace=True, ids=(1, 2)))
    sql.run(forecast, "DELETE FROM backtest_track_streams_forecast WHERE cm_track_id = 3 AND month > 10")
    found = added(forecast)
    assert len(found.months) == 10
    assert any("only months 1 to 10, which every track has, are added up" in said for said in found.warnings)
    assert len(added(forecast, Chosen(track_ids=(1,))).months) == 24
    assert len(added(forecast, horizon=2).months) == 2
    with pytest.raises(InvalidOptionError, match="--horizon is 11"):
        added(forecast, horizon=11)


def test_tracks_without_a_forecast(forecast: Dsn) -> None:
    assert added(forecast, Chosen(track_ids=(1, 999))).warnings == (
        "1 chosen track without a stored forecast",
    )
    for nothing in (Chosen(track_ids=(999,)), Chosen(artist_ids=(999,)), Chosen(track_ids=())):
        with pytest.raises(NoForecastError, match="no forecast of the chosen tracks"):
            added(forecast, nothing)


def test_the_command(forecast: Dsn, called: Cli, tmp_path: Path) -> None:
    pl.DataFrame({"cm_track_id": [1, 2, 2, None], "note": "x"}).write_csv(tmp_path / "ids.csv")
    env = {"DATABASE_URL": forecast.uri}
    result = called("total", "--ids", "ids.csv", "--out", "t.csv", env=env, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    row = added(forecast, Chosen(track_ids=(1, 2))).months.row(-1, named=True)
    low, high = (row[f"cumulated_{name}"] / 1e6 for name in ("q10", "q90"))
    assert (
        lines[0] == f"24 months: {row['cumulated'] / 1e6:.3g} M streams, 80 % range {low:.3g} to {high:.3g} M"
    )
    assert lines[2] == "2 tracks of 20; production model from the last 30 days"
    assert lines[-1].startswith(f"tracks=2 months=24 streams={row['cumulated']:.0f} seconds=")
    document = json.loads(called("total", "--track-id", "1", "--track-id", "2", "--json", env=env).stdout)
    assert pl.DataFrame(document["months"]).equals(pl.read_csv(tmp_path / "t.csv"))
    assert document["calibration"] is None
    exact = called("total", "--ids", "ids.csv", "--exact", env=env, cwd=tmp_path).stdout.splitlines()
    assert exact[0].startswith(f"24 months: {row['cumulated']:,.0f} streams, 80 % range ")


def test_files_of_ids_that_are_none(forecast: Dsn, called: Cli, tmp_path: Path) -> None:
    env = {"DATABASE_URL": forecast.uri}
    for text, problem in (
        ("track\n1\n", "has no column cm_track_id"),
        ("cm_track_id\nx\n", "'x' in cm_track_id is not an id"),
        ("cm_track_id,a\n,2\n", "names no track"),
    ):
        (tmp_path / "ids.csv").write_text(text)
        result = called("total", "--ids", "ids.csv", env=env, cwd=tmp_path)
        assert (result.returncode, problem in result.stderr) == (1, True), result.stderr
