"""Forecasts of past nights are scored with the intervals that they came with."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from forecaster.model.calibrated.calibration import Calibration, ModelErrors
from forecaster.model.calibrated.uncertainty import Errors, OwnErrors, prior_errors
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.run.config import RunConfig
from forecaster.scoring import Evaluation
from forecaster.tables import CALIBRATIONS, HISTORY, INTERVALS, QUANTILES, RUNS
from forecaster.views.backtest import BacktestConfig, backtest
from tests import sql
from tests.calibrations import calibration, keep
from tests.conftest import Cli
from tests.scored_nights import FIRST, NEWEST, NIGHTS, arrive, shift, spend, tonight
from tests.tables import made_once

OWN = OwnErrors(1, 5, 2.0, sigma=0.05, sigma_cumulated=0.05, residuals=100, q80=0.01, q95=0.4)
ONE: Calibration = replace(
    calibration(FIRST - timedelta(1)),
    errors=tuple(
        ModelErrors(weight, level, Errors((replace(OWN, q80=0.01 + weight / 9),)))
        for weight, level in ((0.0, 30), (1.0, 7))
    ),
)
CONFIGS: tuple[dict[str, Any], ...] = (
    {},  # without a calibration
    {},
    {"intervals": False, "horizon": 3},
    {"model": "calibrated"},
)


def nights(dsn: Dsn) -> None:
    spend(dsn, ())
    since = date.min
    for night, given in zip(NIGHTS, CONFIGS, strict=True):
        arrive(dsn, since, night)
        config = RunConfig(**({"parameters": Parameters(horizon=6)} | changed(given)))
        tonight(dsn, config)
        shift(dsn, night)
        sql.run(dsn, f"CREATE TABLE of_{night:%m%d} AS SELECT * FROM {INTERVALS.name}")
        if night == NIGHTS[0]:
            keep(dsn, ONE)
        since = night
    arrive(dsn, since, NEWEST + timedelta(1))


def changed(given: dict[str, Any]) -> dict[str, Any]:
    horizon = given.get("horizon", 6)
    return {k: v for k, v in given.items() if k != "horizon"} | {"parameters": Parameters(horizon=horizon)}


@pytest.fixture
def scored_nights(embedded_database: Dsn) -> Dsn:
    made_once(embedded_database, "nights_with_intervals", nights)
    return embedded_database


def scored(dsn: Dsn) -> Evaluation:
    return backtest(BacktestConfig(dsn)).evaluation


def then(dsn: Dsn, night: date) -> pl.DataFrame:
    """The intervals that were stored that night, a row per month."""
    rows = sql.rows(dsn, f"SELECT cm_track_id, {', '.join(QUANTILES)} FROM of_{night:%m%d} ORDER BY 1")
    lists = {"cm_track_id": pl.Int64} | dict.fromkeys(QUANTILES, pl.List(pl.Float64))
    frame = pl.DataFrame(rows, schema=lists, orient="row")
    months = pl.int_ranges(1, pl.col("q50").list.len() + 1).alias("month")
    return frame.with_columns(months).explode("month", *QUANTILES)


def test_each_night_has_its_own(scored_nights: Dsn) -> None:
    months = scored(scored_nights).months.collect()
    assert months.filter(run=3)["q10"].null_count() == months.filter(run=3).height > 0
    for run in (1, 2, 4):
        ours = months.filter(run=run)
        both = ours.join(then(scored_nights, NIGHTS[run - 1]), on=["cm_track_id", "month"], suffix="_then")
        assert len(both) == len(ours) > 0
        for name in QUANTILES:
            off = (pl.col(name) / pl.col(f"{name}_then") - 1).abs()
            # The history has forecasts in whole streams.
            assert both.select((off <= 0.501 / pl.col("forecast") + 1e-6).all()).item()


def test_scores_are_those_of_the_months_that_have_some(scored_nights: Dsn) -> None:
    found = scored(scored_nights)
    months = found.months.collect().filter(pl.col("q10").is_not_null())
    for level, low, high in ((80, "q10", "q90"), (95, "q025", "q975")):
        inside = pl.col("actual").is_between(low, high)
        assert found.overall[f"inside_{level}"][0] == pytest.approx(months.select(inside.mean()).item())
        by_run = dict(months.group_by("run").agg(inside.mean()).iter_rows())
        assert found.by_run is not None
        assert dict(found.by_run.select("run", f"inside_{level}").iter_rows()) == pytest.approx(
            {1: by_run[1], 2: by_run[2], 3: None, 4: by_run[4]}
        )
    assert found.by_month["interval_80"].null_count() == 0


def test_totals_of_whole_runs_have_their_own(scored_nights: Dsn) -> None:
    found = scored(scored_nights)
    errors = {1: prior_errors(0.0), 2: ONE.errors_of(0.0, 30), 4: ONE.errors_of(1.0, 7)}
    added = found.totals.filter(of="cumulated")
    assert {*added["run"]} == {1, 2, 3, 4}
    for row in added.iter_rows(named=True):
        of_run = errors.get(row["run"])
        expected = of_run and row["forecast"] * of_run.total_factor(80, row["month"])
        assert row["q90"] == (expected and pytest.approx(expected, rel=1e-9))
    assert found.by_total["inside_80"].null_count() == 0
    one = backtest(BacktestConfig(scored_nights, track_ids=(found.series["cm_track_id"][0],)))
    assert "q90" not in one.evaluation.totals.columns  # of a track, which is no catalogue
    sql.run(scored_nights, f"""UPDATE {RUNS.name} SET parameters = parameters || '{{"limit": 5}}'""")
    assert "q90" not in scored(scored_nights).totals.columns


def test_those_that_are_stored_come_first(scored_nights: Dsn) -> None:
    """Nothing tells how a calibration from a file went, but the intervals themselves are there."""
    sql.run(scored_nights, f"TRUNCATE {CALIBRATIONS.name}")
    months = scored(scored_nights).months.collect()
    assert with_intervals(months) == [1, 4]  # the first had none
    sql.run(scored_nights, f"TRUNCATE {INTERVALS.name}")
    sql.run(scored_nights, f"INSERT INTO {INTERVALS.name} SELECT * FROM of_{NIGHTS[1]:%m%d}")
    sql.run(scored_nights, f"UPDATE {INTERVALS.name} SET q10 = array_replace(q10, q10[1], 7.5)")
    months = scored(scored_nights).months.collect()
    of_second = months.filter(run=2, month=1)
    assert of_second["q10"].to_list() == [7.5] * len(of_second)
    assert with_intervals(months) == [1, 2]


def with_intervals(months: pl.DataFrame) -> list[int]:
    return months.filter(pl.col("q10").is_not_null())["run"].unique().sort().to_list()


def test_from_a_calibration_that_was_changed_nothing_follows(scored_nights: Dsn) -> None:
    sql.run(scored_nights, f"UPDATE {CALIBRATIONS.name} SET record = replace(record, '0.11', '0.12')")
    result = backtest(BacktestConfig(scored_nights))
    [warning] = result.warnings
    assert warning.startswith(f"calibration {ONE.id} was changed: it does not agree with its checksum; of")
    assert with_intervals(result.evaluation.months.collect()) == [1, 4]


def test_without_a_history_those_beside_the_forecasts_count(scored_nights: Dsn) -> None:
    for table in (RUNS.name, HISTORY.name):
        sql.run(scored_nights, f"DROP TABLE {table} CASCADE")
    arrive(scored_nights, NEWEST + timedelta(1), NEWEST + timedelta(40))
    found = scored(scored_nights)
    both = found.months.collect().join(
        then(scored_nights, NIGHTS[3]), on=["cm_track_id", "month"], suffix="_then"
    )
    assert len(both) == found.windows_scored > 0
    assert both["q90"].to_list() == pytest.approx(both["q90_then"].to_list(), rel=1e-6)  # sent as text
    assert (found.by_run, found.overall["inside_80"][0] is None) == (None, False)


def runs_of(dsn: Dsn) -> Iterator[int]:
    yield from (run for (run,) in sql.rows(dsn, f"SELECT id FROM {RUNS.name} ORDER BY 1"))


def test_the_command_says_so(scored_nights: Dsn, called: Cli) -> None:
    env = {"DATABASE_URL": scored_nights.uri}
    ended = called("evaluate", "--by", "run", env=env)
    assert ended.returncode == 0, ended.stderr
    assert "Of the months that came, the 80 % intervals held" in " ".join(ended.stdout.split("\n"))
    found = json.loads(called("evaluate", "--json", env=env).stdout)
    assert [row["inside_95"] is None for row in found["by_run"]] == [False, False, True, False]
    assert [row["run"] for row in found["by_run"]] == [*runs_of(scored_nights)]
