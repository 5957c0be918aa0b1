"""`dump` of the calibrated model: each number that it prints, worked plainly here after the formulas."""

import math
import re
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from forecaster.model.calibrated.uncertainty import PRODUCTION_WIDENED
from forecaster.postgres.diagnosis import Diagnosis, diagnose
from forecaster.postgres.dsn import Dsn
from forecaster.run.config import ModelName, RunConfig
from forecaster.tables import MLDR_TABLE, STREAMS_TABLE
from forecaster.views.track import told
from tests import sql
from tests.calibrations import RATES, calibration, keep
from tests.conftest import Cli
from tests.tables import first_tracks, golden_streams

STREAMS = golden_streams().filter(pl.col("cm_track_id") <= 20)
D: date = STREAMS["date"].max()  # type: ignore[assignment]
ROWS = (
    (0.2728, 0.7228, 2.0, 0.2515, 0.1236, 0.1391, 0.0328),
    (0.3483, 0.6490, 2.0, 0.3688, 0.1316, 0.1200, 0.0476),
    (0.6701, 0.3274, 1.198, 1.0, 0.5932, 0.6000, 0.0759),
    (1.0, 0.0, 0.5, 0.7705, 0.3747, 0.4585, 0.0121),
)


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    return first_tracks(embedded_database, 20)


def dumped(dsn: Dsn, model: ModelName, track: int = 11) -> Diagnosis:
    return diagnose(dsn, "public", RunConfig(model=model), track)


def decays(rates: tuple[float, ...], month: int) -> list[float]:
    """By the formulas of the rows; rates over 8, 13 and 26 weeks."""
    d8, d13, d26 = rates
    found = []
    for m8, m26, s, g, cap, theta, r0 in ROWS:
        b = s * (m8 * d8 + (1 - m8 - m26) * d13 + m26 * d26)
        b = min(g * b if b < 0 else b, cap)
        t = month - 0.38
        e = (1 - math.exp(-theta * t)) / theta
        found.append(b * e + r0 * (t - e))
    return found


def numbers(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in re.findall(r"-?\d[\d,.]*", line)]


def after(text: str, start: str) -> list[str]:
    lines = text.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith(start)) + 1 :]


def test_each_number_of_the_calibrated_model(catalogue: Dsn) -> None:
    keep(catalogue, calibration(D))
    found = dumped(catalogue, "calibrated")
    days = STREAMS.filter(pl.col("cm_track_id") == 11).sort("date")
    week = days.filter((D - pl.col("date")).dt.total_days() < 7)["daily_streams"]
    level = week.mean()
    assert isinstance(level, float)
    group = 2  # over two years old
    rates = tuple(of_groups[group] for of_groups in RATES.rates)
    text = told(found)
    assert max(map(len, text.splitlines())) <= 80
    assert numbers(next(line for line in text.splitlines() if "level, streams" in line))[0] == pytest.approx(
        level
    )
    for line, i in zip(after(text, "  over "), range(3), strict=False):
        _, complete, slope, whole, d = numbers(line)
        assert (complete, slope, whole) == (RATES.complete[i][2], RATES.slopes[i][2], RATES.whole[i])
        assert d == rates[i]
    values = found.forecasts["forecasted_value"].to_list()
    for month, line in zip(range(1, 7), after(text, " decay"), strict=False):
        expected = decays(rates, month)
        mean = sum(expected) / 4
        assert numbers(line) == pytest.approx([month, *expected, mean], abs=1e-5)
        assert values[month - 1] == round(30 * level * math.exp(-mean))


@pytest.mark.parametrize("model", ["calibrated", "production"])
def test_a_week_with_days_missing_is_said_to_be_so(catalogue: Dsn, model: ModelName) -> None:
    keep(catalogue, calibration(D))
    days = f"('{D}'::date - 1, '{D}'::date - 2)"
    sql.run(catalogue, f"DELETE FROM {STREAMS_TABLE} WHERE cm_track_id = 11 AND date IN {days}")
    found = diagnose(catalogue, "public", RunConfig(model=model, level_days=7), 11)
    text = told(found)
    level = found.track["streams_30"] / 30
    assert f"{level:,.10g}, from 30 records: the week has gaps" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_blend_shows_both_models_and_how_they_are_joined(catalogue: Dsn) -> None:
    keep(catalogue, calibration(D, weight=0.25))
    found, production = dumped(catalogue, "auto"), dumped(catalogue, "production")
    text = told(found)
    assert "MLDR of the artist" in text
    assert max(map(len, text.splitlines())) <= 80
    level = float(found.track["level"])
    for month, line in zip(range(1, 7), after(text, " decay"), strict=False):
        *_, mean, other, joined = numbers(line)
        assert joined == pytest.approx(0.25 * mean + 0.75 * other, abs=2e-5)
        value = found.forecasts["forecasted_value"][month - 1]
        assert value == pytest.approx(30 * level * math.exp(-joined), rel=1e-4)
        # The production model falls as much from one month to the next, wherever it starts.
        plain = production.forecasts["forecasted_value"]
        assert math.log(production.track["streams_30"] / plain[month - 1]) == pytest.approx(other, abs=1e-4)


def test_a_blend_of_an_artist_without_an_mldr(catalogue: Dsn, called: Cli, tmp_path: Path) -> None:
    keep(catalogue, calibration(D, weight=0.5))
    sql.run(catalogue, f"UPDATE {MLDR_TABLE} SET mldr = 0")
    with_0 = dumped(catalogue, "auto")
    sql.run(catalogue, f"DELETE FROM {MLDR_TABLE}")
    without = dumped(catalogue, "auto")
    assert without.forecasts.equals(with_0.forecasts)
    assert re.search("^  MLDR of the artist +none: 0 per month$", told(without), re.MULTILINE)
    options = ("--track-id", "11", "--model", "auto", "--out", f"{tmp_path / 'track.svg'}")
    ended = called("plot", *options, env={"DATABASE_URL": catalogue.uri})
    assert ended.returncode == 0, ended.stderr
    assert "no MLDR" in (tmp_path / "track.svg").read_text("utf-8")


def test_intervals_are_in_the_file_with_either_model(catalogue: Dsn, called: Cli, tmp_path: Path) -> None:
    env = {"DATABASE_URL": catalogue.uri}
    for model in ("production", "calibrated"):
        options = ("--track-id", "11", "--model", model, "--out", "t.csv")
        result = called("dump", *options, env=env, cwd=tmp_path)
        if model == "calibrated":  # which needs a calibration
            assert "needs a calibration, and there is none" in result.stderr
            keep(catalogue, calibration(D))
            result = called("dump", *options, env=env, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        rows = pl.read_csv(tmp_path / "t.csv")
        month = rows.row(5, named=True)
        wider = PRODUCTION_WIDENED if model == "production" else 1.0
        half = wider * math.hypot(0.95 * 0.738, 1.96 * 0.238)
        assert month["q975"] == pytest.approx(month["forecasted_value"] * math.exp(half), abs=0.51 * 10)
        assert month["q50"] == month["forecasted_value"]


def test_tables_of_calibrations_are_not_needed(catalogue: Dsn) -> None:
    sql.run(catalogue, "DROP TABLE backtest_forecast_calibration")
    assert "ranges of other catalogues" in told(dumped(catalogue, "production"))
