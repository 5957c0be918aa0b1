"""The calibrated model on data that are hard to calibrate on: it answers, and says with what."""

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecaster import Calibration, build_forecasts, calibrate
from forecaster.errors import CalibrationError, InvalidOptionError
from forecaster.model.calibrated.rates import RateSums
from forecaster.model.calibrated.rows import SHIPPED_ROWS
from forecaster.model.calibrated.weeks import last_week
from tests.building import MLDR, assert_partition, collected
from tests.catalogues import catalogue, daily_frame, days, mldr_frame, shapes
from tests.reference import Row

FIRST = date(2023, 1, 1)
LONG = 400
"""Days, enough for 26 weeks and a few origins."""


def falling(track: int, *, number: int = LONG, rate: float = 0.1, level: float = 1000.0) -> list[Row]:
    """A track that falls by this rate per month of 30 days."""
    streams = [level * math.exp(-rate * day / 30) for day in range(number)]
    return days(streams, track=track, first_age=LONG)


def calibrated(rows: list[Row], **options: Any) -> tuple[Calibration, dict[int, list[float]], dict[int, str]]:
    """The calibration, the forecasts of each track, and the reasons of the others."""
    model = calibrate(daily_frame(rows), origins=3, **options)
    assert Calibration.from_json(model.to_json()) == model
    built = collected(build_forecasts(daily_frame(rows), mldr_frame([]), model=model, horizon=12))
    values = {
        track: built.forecasts.filter(pl.col("cm_track_id") == track)["forecasted_value"].to_list()
        for track in built.forecasts["cm_track_id"].unique()
    }
    assert all(math.isfinite(value) for track in values.values() for value in track)
    return model, values, built.reasons


def test_one_track_is_too_few_for_a_rate() -> None:
    model, values, _ = calibrated(falling(1))
    assert model.rates.complete == ((0, 0, 1),) * 3
    assert model.rates.rates == ((0.0,) * 3,) * 3
    week = np.mean([row.streams for row in falling(1)[-7:]])
    expected = [30 * week * math.exp(-decay) for decay in SHIPPED_ROWS.decays(model.rates, horizon=12)[2]]
    assert values[1] == pytest.approx(expected)


def test_three_tracks_have_the_rate_that_they_fall_by() -> None:
    model, _, _ = calibrated([row for track in (1, 2, 3) for row in falling(track)])
    assert model.rates.slopes[0][2] == pytest.approx(0.1)
    # Few tracks count as ten of the whole catalogue do, which falls as they do.
    assert model.rates.rates[0][2] == pytest.approx(0.1)
    assert model.rates.slopes[0][0] is None
    assert model.rates.rates[0][0] == pytest.approx(0.1)
    assert model.rates.rates[2] == model.rates.rates[1]  # at most 20 tracks have 26 weeks


def test_a_week_of_zeros_is_outvoted() -> None:
    rows = [row for track in (1, 2, 3) for row in falling(track)]
    last = FIRST + timedelta(LONG - 1)
    dark = [
        row._replace(streams=0.0) if 14 <= (last - row.date).days < 21 else row for row in rows if row.date
    ]
    model, values, _ = calibrated(dark)
    assert model.rates.rates[0][2] == pytest.approx(0.1)
    assert values[1][0] > 0


def test_a_dead_catalogue_stays_dead() -> None:
    rows = [row for track in (1, 2, 3, 4) for row in days([0.0] * LONG, track=track, first_age=1)]
    model, values, _ = calibrated(rows)
    assert model.rates.slopes[0] == (None, None, 0.0)
    assert model.rates.complete[0] == (0, 0, 4)
    assert values == {track: [0.0] * 12 for track in (1, 2, 3, 4)}
    assert model.choice.tried == ()


def test_a_catalogue_that_died_lately_has_no_rate_of_its_own() -> None:
    rows = [
        row._replace(streams=0.0) if day >= LONG - 7 * 5 else row
        for track in (1, 2, 3)
        for day, row in enumerate(falling(track))
    ]
    model, values, _ = calibrated(rows)
    # Four weeks of 0 follow each other: falls of 0, one of infinity, and three of 0.1. The median is 0.
    assert model.rates.slopes[0][2] == 0.0
    assert values[1] == [0.0] * 12


def test_falls_that_are_mostly_infinite_are_not_known() -> None:
    week = np.array([1.0, 0.0] * 13)
    sums = RateSums.of(np.tile(week, (5, 1)), np.full(5, 2))
    assert sums.rates().slopes[1] == (None, None, None)  # 12 falls: as many up as down, all without end
    assert sums.rates().rates == ((0.0,) * 3,) * 3


def test_gaps_leave_the_level_to_the_last_30_records() -> None:
    sparse = [row for row in falling(1) if row.date and row.date.toordinal() % 3 == 0]
    model, values, _ = calibrated(sparse)
    assert model.rates.complete[0] == (0, 0, 0)
    streams_30 = sum(row.streams or 0 for row in sparse[-30:])
    decay = SHIPPED_ROWS.decays(model.rates, horizon=1)[2][0]
    assert values[1][0] == pytest.approx(streams_30 * math.exp(-decay))


@pytest.mark.parametrize(("missing", "is_whole"), [(1, True), (2, False)])
def test_a_week_needs_six_days(missing: int, *, is_whole: bool) -> None:
    week = pl.DataFrame(
        {"days": [[*range(-6 + missing, 2)]], "streams": [[5.0] * (7 - missing) + [99.0]], "as_of": [0]}
    )
    mean = last_week(week.to_struct()).item()
    assert mean == 5.0 if is_whole else np.isnan(mean)


def test_negative_streams_count_for_no_rate() -> None:
    rows = [row for track in (1, 2, 3) for row in falling(track)]
    bad = [row._replace(streams=-5000.0) for row in falling(4)]
    model, _, reasons = calibrated(rows + bad)
    assert model.rates == calibrated(rows)[0].rates
    assert reasons == {4: "negative_streams"}


def test_rows_that_are_no_records_change_nothing() -> None:
    rows = falling(1) + falling(2) + falling(3)
    junk = [
        rows[0]._replace(track=None),
        rows[-1]._replace(date=None),
        rows[5]._replace(streams=None, track=9),
    ]
    clean, values, _ = calibrated(rows)
    model, with_junk, reasons = calibrated(rows + junk)
    assert (model, with_junk) == (clean, values)
    assert reasons == {9: "no_days"}


def test_values_beyond_all_bounds_stay_finite() -> None:
    rows = [row for track in (1, 2, 3) for row in days([1e300] * LONG, track=track, first_age=1)]
    model, values, _ = calibrated(rows)
    assert values[1][0] > 1e300
    assert model.rates.rates[0][2] == 0.0


@pytest.mark.parametrize("level", [7, 30])
@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_blend_is_the_geometric_mean(weight: float, level: int) -> None:
    rows, mldr = [row for track in (1, 2, 3) for row in falling(track)], mldr_frame(MLDR)
    model = calibrate(daily_frame(rows), origins=0)

    def values(**options: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        built = build_forecasts(daily_frame(rows), mldr, **options)
        return built.forecasts.collect()["forecasted_value"].to_numpy()

    mixed = values(model=model.using(level, weight=weight))
    calibrated_, production = values(model=model.using(level)), values(level=level)
    assert mixed == pytest.approx(calibrated_**weight * production ** (1 - weight), rel=1e-12)
    if weight == 0:
        assert (mixed == production).all()


def test_a_blend_takes_0_where_an_artist_has_no_mldr() -> None:
    rows = falling(1)
    model = calibrate(daily_frame(rows), origins=0).using(weight=0.5)
    with_zero = mldr_frame([MLDR[0]._replace(mldr=0.0)])
    without = mldr_frame([MLDR[0]._replace(mldr=math.nan)])
    made = [
        build_forecasts(daily_frame(rows), m, model=model).forecasts.collect() for m in (with_zero, without)
    ]
    assert made[0].equals(made[1])
    assert len(made[0]) == 24


@pytest.mark.parametrize(("weight", "level"), [(-0.1, 7), (1.1, 7), (math.nan, 7), (1.0, 8)])
def test_impossible_models_are_refused(weight: float, level: int) -> None:
    model = calibrate(daily_frame(falling(1)), origins=0)
    with pytest.raises(InvalidOptionError, match=r"expected (0 to 1|7 or 30 days)"):
        model.using(level, weight=weight)


@settings(max_examples=25, deadline=None)
@given(tracks=st.lists(shapes, min_size=1, max_size=5), seed=st.integers(0, 2**32))
def test_every_track_has_a_forecast_or_a_reason(tracks: list[Any], seed: int) -> None:
    rows = catalogue(tracks, seed=seed)
    daily = daily_frame(rows)
    every = {row.track for row in rows if row.track is not None}
    try:
        model = calibrate(daily, origins=2)
    except CalibrationError:
        return
    assert Calibration.from_json(model.to_json()) == model
    for chosen in (model, model.using(30, weight=0.5)):
        built = collected(build_forecasts(daily, mldr_frame(MLDR), model=chosen, horizon=5))
        assert_partition(built, every, horizon=5)
        assert built.forecasts["forecasted_value"].is_finite().all()
        assert "no_mldr" not in built.reasons.values()
