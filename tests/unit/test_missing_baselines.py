"""A baseline that cannot be computed for a series is missing: it is not replaced by another one."""

import importlib.util
import math
from typing import Any

import polars as pl
import pytest

from forecaster.errors import MissingExtraError
from forecaster.scoring import BASELINES, Evaluation, evaluate
from forecaster.scoring import theta as theta_module
from forecaster.scoring.theta import THETA_BASELINES, theta_months
from tests.evaluations import blocks, forecast, monthly, overall, row

AGED = monthly([100.0] * 12 + [80.0], [70.0, 60.0], track=1)
YOUNG = monthly([50.0, 40.0, 30.0], [30.0, 20.0], track=2)


def test_a_track_below_a_year_has_neither_a_mean_nor_a_rate_of_its_own() -> None:
    found = evaluate(pl.concat([forecast([75, 75]), forecast([30, 30], track=2)]), pl.concat([AGED, YOUNG]))
    assert found.missing == dict.fromkeys(BASELINES, 0) | {"mean_12_months": 2, "own_exponential": 2}
    mean = overall(found, "mean_12_months")
    assert (mean["series"], mean["windows"], mean["actual_total"]) == pytest.approx((1, 2, 130))
    assert mean["forecast_total"] == pytest.approx(2 * (11 * 100 + 80) / 12)
    assert found.best_baseline == "pooled_exponential"
    # Its skill is against the best baseline in the months that it has: those of the first track.
    alone = evaluate(forecast([75, 75]), AGED)
    of_one = overall(alone, "mean_12_months")["wape"] / overall(alone, "pooled_exponential")["wape"]
    assert mean["skill"] == pytest.approx(1 - of_one)
    assert found.to_dict()["missing"] == found.missing


def test_a_catalogue_without_a_year_has_no_rate_either() -> None:
    found = evaluate(forecast([30, 30], track=2), YOUNG)
    pooled = overall(found, "pooled_exponential")
    assert [pooled[name] for name in ("series", "windows", "wape", "skill")] == [0, 0, None, None]
    assert found.missing["pooled_exponential"] == 2
    assert found.best_baseline in ("last_30_days", "last_7_days")
    assert found.overall["model"].to_list() == ["forecaster", *BASELINES]


def test_the_last_week_goes_on() -> None:
    """10 streams a day, but 4 a day in the last week."""
    daily = blocks([(53, 530.0), (7, 28.0), (30, 150.0)], before=2)
    found = evaluate(forecast([150.0], age=None), daily)
    assert overall(found, "last_7_days")["forecast_total"] == pytest.approx(4 * 30)
    assert overall(found, "last_30_days")["forecast_total"] == pytest.approx(23 * 10 + 28)
    short = evaluate(forecast([150.0], age=None), blocks([(6, 60.0), (30, 150.0)], before=1))
    assert short.missing["last_7_days"] == 1
    assert overall(short, "last_30_days")["forecast_total"] == pytest.approx(60)


def test_a_baseline_with_nearly_all_months_may_be_the_best() -> None:
    """The mean of a year is nearly right for 19 tracks. The twentieth has no year: skill is of the others."""
    wave = [[90.0, 110.0][month % 2] for month in range(12)]
    aged = [monthly(wave, [101.0], track=track) for track in range(1, 20)]
    months = [forecast([121.0], track=track) for track in range(1, 20)] + [forecast([500.0], track=20)]
    daily = pl.concat([*aged, monthly([50.0, 50.0], [50.0], track=20)])
    found = evaluate(pl.concat(months), daily)
    assert (found.best_baseline, found.missing["mean_12_months"]) == ("mean_12_months", 1)
    assert row(found.by_month, month=1)["wape_mean_12_months"] == pytest.approx(1 / 101)
    assert overall(found)["wape"] == pytest.approx((19 * 20 + 450) / (19 * 101 + 50))
    assert overall(found)["skill"] == pytest.approx(1 - 20)
    assert overall(found, "last_30_days")["skill"] == pytest.approx(1 - 9)


def test_a_baseline_without_many_months_is_not_the_best() -> None:
    wave = [[90.0, 110.0][month % 2] for month in range(12)]
    daily = pl.concat([monthly(wave, [100.0]), monthly([50.0, 50.0], [49.0], track=2)])
    found = evaluate(pl.concat([forecast([90.0]), forecast([60.0], track=2)]), daily)
    assert overall(found, "mean_12_months")["wape"] == pytest.approx(0, abs=1e-12)
    assert found.missing["mean_12_months"] == 1
    assert found.best_baseline not in ("mean_12_months", "own_exponential")


def test_theta_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theta_module, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="statsforecast, which is not installed") as raised:
        evaluate(forecast([75, 75]), AGED, theta=True)
    assert raised.value.hint == "pip install 'forecaster[theta]'"


def with_theta() -> Evaluation:
    """A falling track of 24 months, a flat one of 14, and one that is too young."""
    curve = [1000 * math.exp(-0.05 * month) for month in range(27)]
    young = YOUNG.with_columns(cm_track_id=pl.lit(3, pl.Int64))
    daily = [monthly(curve[:24], curve[24:]), monthly([5.0] * 14, [5.0] * 3, track=2), young]
    months = pl.concat(forecast([300.0] * 2, track=track) for track in (1, 2, 3))
    return evaluate(months, pl.concat(daily), theta=True)


@pytest.mark.skipif(importlib.util.find_spec("statsforecast") is None, reason="needs the extra theta")
def test_theta_and_the_combination_are_those_of_statsforecast() -> None:
    found = with_theta()
    assert {name: found.missing[name] for name in THETA_BASELINES} == {"theta": 2, "combination": 2}
    assert found.baselines.keys() == {*BASELINES, *THETA_BASELINES}
    assert overall(found, "theta")["series"] == 2

    import numpy as np  # noqa: PLC0415
    from statsforecast.models import AutoETS, Holt, SimpleExponentialSmoothingOptimized, Theta  # noqa: PLC0415

    curve = np.array([1000 * math.exp(-0.05 * month) for month in range(24)])
    flat = np.array([5.0] * 14)
    expected = sum(Theta(season_length=1).forecast(y, h=2)["mean"].sum() for y in (curve, flat))
    assert overall(found, "theta")["forecast_total"] == pytest.approx(expected, rel=1e-6)
    three: list[Any] = [SimpleExponentialSmoothingOptimized(), Holt(), AutoETS(model="AAN", damped=True)]
    means = [np.mean([model.forecast(y, h=2)["mean"].sum() for model in three]) for y in (curve, flat)]
    assert overall(found, "combination")["forecast_total"] == pytest.approx(sum(means), rel=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("statsforecast") is None, reason="needs the extra theta")
def test_theta_of_no_series_that_is_long_enough() -> None:
    totals = pl.DataFrame({"series": [0], "back": [0], "months": [1], "total": [5.0]})
    assert theta_months(totals, 3).is_empty()
    found = evaluate(forecast([30, 30], track=2), YOUNG, theta=True)
    assert found.missing["theta"] == 2
