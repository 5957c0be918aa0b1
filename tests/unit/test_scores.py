"""Scores are those of utilsforecast and of loops over one series, whatever the order of rows."""

import random
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from utilsforecast import losses

from forecaster.scoring import evaluate
from forecaster.setup.sample import LAST_DATE, sample_catalogue
from tests.evaluations import DAILY, forecast, frames, overall, random_catalogue, row


class Series(NamedTuple):
    """A series as a loop sees it."""

    forecast: dict[int, float]
    actual: dict[int, float]
    totals: list[float]
    """Of 30 records before the origin, oldest first."""
    recent: float


def by_loop(months: pl.DataFrame, daily: pl.DataFrame) -> dict[tuple[int, date | None], Series]:
    streams: dict[int, dict[date, float]] = {}
    for track, day, value in daily.iter_rows():
        streams.setdefault(track, {})[day] = value
    found: dict[tuple[int, date | None], Series] = {}
    for track, cutoff, as_of, month, value, *_ in months.iter_rows():
        records = [streams[track][day] for day in sorted(streams[track]) if day <= as_of]
        totals = [sum(records[end - 30 : end]) for end in range(len(records), 29, -30)][::-1]
        series = found.setdefault((track, cutoff), Series({}, {}, totals, sum(records[-30:])))
        window = [as_of + timedelta(days=30 * (month - 1) + day) for day in range(1, 31)]
        if all(day in streams[track] for day in window):
            series.forecast[month] = value
            series.actual[month] = sum(streams[track][day] for day in window)
    return {key: series for key, series in found.items() if series.actual}


def by_utilsforecast(series: Mapping[tuple[int, date | None], Series], months: set[int]) -> dict[str, float]:
    """The scores in some months, as utilsforecast has them."""
    rows, train = [], []
    for key, one in series.items():
        rows += [(f"{key}", i, one.actual[i], one.forecast[i]) for i in sorted(one.actual) if i in months]
        train += [(f"{key}", i - 100, total) for i, total in enumerate(one.totals)]
    test = pl.DataFrame(rows, ["unique_id", "ds", "y", "f"], orient="row")
    scaled = test.filter(
        pl.col("unique_id").is_in([f"{key}" for key, one in series.items() if len(one.totals) > 1])
    )
    before = pl.DataFrame(train, ["unique_id", "ds", "y"], orient="row")

    def mean(frame: pl.DataFrame) -> float:
        return float(frame["f"].to_numpy().mean())

    return {
        "wape": mean(losses.wape(test.with_columns(unique_id=1), ["f"])),
        "smape": 2 * mean(losses.smape(test, ["f"])),  # which has it without M4's factor
        "mase": mean(losses.mase(scaled, ["f"], seasonality=1, train_df=before)),
        "rmsse": mean(losses.rmsse(scaled, ["f"], seasonality=1, train_df=before)),
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_scores_are_those_of_utilsforecast_and_of_a_loop(seed: int) -> None:
    months, daily = random_catalogue(seed)
    series = by_loop(months, daily)
    found = evaluate(months, daily)
    assert found.windows_scored == sum(len(one.actual) for one in series.values())
    assert found.left_out["days_missing"] > 0
    groups: list[tuple[dict[str, float], set[int]]] = [(overall(found), {1, 2, 3, 4, 5, 6})]
    groups += [(row(found.by_month, month=month), {month}) for month in range(1, 7)]
    for scored, counted in groups:
        for name, value in by_utilsforecast(series, counted).items():
            assert scored[name] == pytest.approx(value, rel=1e-9), (name, counted)
        assert scored["without_scale"] == sum(
            len(one.totals) < 2 for one in series.values() if counted & {*one.actual}
        )
    guesses: dict[str, tuple[int, Callable[[Series], float]]] = {
        "last_30_days": (0, lambda one: one.recent),
        "mean_12_months": (12, lambda one: sum(one.totals[-12:]) / 12),
    }
    for name, (least, guess) in guesses.items():
        able = [one for one in series.values() if len(one.totals) >= least]
        absolute = sum(abs(a) for one in able for a in one.actual.values())
        error = sum(abs(guess(one) - a) for one in able for a in one.actual.values())
        assert overall(found, name)["wape"] == pytest.approx(error / absolute, rel=1e-9)


def test_the_order_of_rows_is_of_no_importance() -> None:
    months, daily = random_catalogue(3)
    expected = evaluate(months, daily)
    shuffled = evaluate(
        months.sample(fraction=1, shuffle=True, seed=1).lazy(),
        daily.sample(fraction=1, shuffle=True, seed=2).lazy(),
    )
    for name, frame in frames(expected).items():
        assert_frame_equal(frames(shuffled)[name], frame, rel_tol=1e-12)
    assert shuffled.left_out == expected.left_out


def test_the_last_digits_do_not_depend_on_the_order_of_rows_either() -> None:
    daily, _ = sample_catalogue(40)
    daily = daily.select(DAILY.names()).cast(DAILY)
    chance = random.Random(4)
    months = pl.concat(
        forecast(
            [10 ** chance.uniform(0, 5) for _ in range(12)],
            track=track,
            as_of=LAST_DATE - timedelta(days=365),
            segments=[chance.randint(1, 3) for _ in range(12)],
        )
        for track in daily["cm_track_id"].unique().sort()
    )
    expected = evaluate(months, daily)
    for seed in range(8):
        found = evaluate(
            months.sample(fraction=1, shuffle=True, seed=seed),
            daily.sample(fraction=1, shuffle=True, seed=seed),
        )
        for name, frame in frames(expected).items():
            assert_frame_equal(frames(found)[name], frame, check_exact=True)
