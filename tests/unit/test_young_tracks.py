"""Tracks of less than a month: the calibrated model forecasts them, the production model does not."""

import math
from datetime import date, timedelta

import pytest

from forecaster import calibrate
from tests.building import Built, build
from tests.catalogues import daily_frame, days
from tests.reference import Mldr, Row

FIRST = date(2024, 3, 1)
LAST = FIRST + timedelta(199)
FALLING = [1000.0 - day for day in range(200)]
OLD = [row for track in (1, 2, 3) for row in days(FALLING, track=track, first=FIRST)]
MODEL = calibrate(daily_frame(OLD), origins=0)
RATES = [Mldr(artist, 0.05) for artist in range(1, 7)]


def newest(number: int, *, first_age: int | None = 0) -> list[Row]:
    """Track 9, with this many days up to the last one."""
    return days([100.0] * number, track=9, first=LAST - timedelta(number - 1), first_age=first_age)


def forecast(rows: list[Row], weight: float = 1.0, mldr: list[Mldr] = RATES) -> Built:
    return build(OLD + rows, mldr, model=MODEL.using(weight=weight), horizon=4)


@pytest.mark.parametrize("number", [1, 3, 5])
def test_starts_from_the_days_that_there_are(number: int) -> None:
    expected = [number * 100 * math.exp(-decay) for decay in MODEL.decays(horizon=4)[0]]
    steps = forecast(newest(number)).steps(9)
    assert [step.value for step in steps] == pytest.approx(expected)
    assert [(step.segment, step.time) for step in steps] == [(1, 0), (1, 1), (2, 2), (2, 3)]


def test_starts_from_its_last_week_once_it_has_one() -> None:
    [step, *_] = forecast(newest(8)).steps(9)
    assert step.value == pytest.approx(3000 * math.exp(-MODEL.decays(horizon=1)[0][0]))


def test_an_age_before_the_release_is_that_of_the_youngest() -> None:
    assert forecast(newest(29, first_age=-500)).steps(9) == forecast(newest(29)).steps(9)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_production_model_has_no_part_in_it(weight: float) -> None:
    assert forecast(newest(30), weight).reasons == {9: "too_young"}
    assert forecast(newest(31), weight).reasons == {}


@pytest.mark.parametrize(("weight", "reason"), [(1.0, "no_days"), (0.5, "no_days"), (0.0, "no_mldr")])
def test_a_track_that_has_not_begun_has_no_days(weight: float, reason: str) -> None:
    later = days([100.0] * 50, track=9, first=LAST + timedelta(1))
    assert forecast(later, weight).reasons == {9: reason}
