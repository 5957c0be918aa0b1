"""The decay rate of three points, judged by a dense scan and SciPy: nobody may find a smaller SSE."""

import math

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from forecaster.model.decay import decay_rate, with_points
from forecaster.model.decay_fit import RATE_MAX, fit_decay_rates
from tests import reference

Array = npt.NDArray[np.float64]

# months_since_release, streams_30, and what the last 90 and 365 records hold beyond the last 30 and 90
Track = tuple[int, float, float, float]

SCAN = [0.0, *np.geomspace(1e-9, RATE_MAX, 2_000)]

streams = st.one_of(
    st.just(0.0),
    st.integers(0, 10**6).map(float),
    st.floats(0, 2.0**62),
    st.floats(-12, 18).map(lambda power: 10.0**power),
)
# Ages at which the shape of the points changes are drawn as often as all the others together.
ages = st.one_of(st.sampled_from([1, 2, 3, 4, 5, 11, 12, 13]), st.integers(1, 600))
tracks = st.tuples(ages, streams, streams, streams)


TINY = (1, 1.6856068461452956e-158, 0.0, 0.0)
"""Of its points, the squares are too small for a float's full number of digits."""


def points(track: Track) -> tuple[reference.Point3, reference.Point3]:
    m, last_30, to_90, to_365 = track
    return reference.points(last_30, last_30 + to_90, last_30 + to_90 + to_365, m)


def fit(*rows: tuple[reference.Point3, reference.Point3]) -> list[float]:
    x, y = (np.array([row[axis] for row in rows], dtype=np.float64) for axis in (0, 1))
    result: list[float] = fit_decay_rates(x, y).tolist()
    return result


def smallest_sse(x: reference.Point3, y: reference.Point3) -> float:
    """The best of a dense scan, and of SciPy between the neighbours of the scan's best."""
    errors = [reference.sse(k, x, y) for k in SCAN]
    best = int(np.argmin(errors))
    bounds = (SCAN[max(best - 1, 0)], SCAN[min(best + 1, len(SCAN) - 1)])
    found = minimize_scalar(
        reference.sse, bounds=bounds, args=(x, y), method="bounded", options={"xatol": 1e-14}
    )
    return min(errors[best], float(found.fun))


def near_one(y: reference.Point3) -> reference.Point3:
    """The points in a unit that makes the largest of them about one.

    Squares of what is below 1e-154 have few digits left, or none: by them, no rate can be told from another.
    A power of two changes no digit of the points.
    """
    _, power = math.frexp(max(y))
    y0, y1, y2 = (math.ldexp(value, -power) for value in y)
    return y0, y1, y2


def assert_no_better(k: float, smallest: float, x: reference.Point3, y: reference.Point3) -> None:
    # A float's own rounding of the points is the least that can be told apart.
    rounding = 1e-30 * sum(value * value for value in y)
    assert 0 <= k <= RATE_MAX
    assert reference.sse(k, x, y) <= smallest * (1 + 1e-9) + rounding


@given(track=tracks)
@example(track=(1, 50.0, 100.0, 0.0))  # m <= 2: two ages, met exactly
@example(track=(2, 100.0, 50.0, 0.0))  # and growing: the bound k >= 0 holds
@example(track=(3, 10.0, 50.0, 0.0))  # the oldest point repeats the middle one, at another age
@example(track=(4, 10.0, 50.0, 90.0))  # the oldest point covers one month
@example(track=(11, 10.0, 50.0, 900.0))  # eight of them
@example(track=(12, 10.0, 50.0, 900.0))  # nine, from here on
@example(track=(14, 0.0, 0.0, 900.0))  # dead for 90 records
@example(track=(14, 0.0, 60.0, 900.0))  # dead for 30
@example(track=(14, 0.0, 0.0, 0.0))  # dead for a year
@example(track=(14, 100.0, 0.0, 0.0))  # born again
@example(track=(14, 100.0, 0.0, 900.0))  # collapsed and revived
@example(track=(24, 100.0, 200.0, 900.0))  # steady: the best k is 0 itself
@example(track=(24, 100.0, 200.0, 900.0 + 1e-9))  # and a hair above it
@example(track=(24, 2.0**62, 2.0**62, 2.0**62))
@example(track=TINY)
@example(track=(24, 5e-324, 5e-324, 0.0))
@settings(max_examples=200, deadline=None)
def test_no_other_rate_has_a_smaller_sse(track: Track) -> None:
    x, y = points(track)
    scaled = near_one(y)
    assert_no_better(fit((x, y))[0], smallest_sse(x, scaled), x, scaled)


@given(track=tracks)
@example(track=TINY)
@settings(max_examples=100, deadline=None)
def test_the_loop_agrees_on_the_sse(track: Track) -> None:
    x, y = points(track)
    scaled = near_one(y)
    smallest = reference.sse(reference.best_rate(x, scaled), x, scaled)
    assert_no_better(fit((x, y))[0], smallest, x, scaled)


@given(
    rate=st.floats(1e-4, 3),
    m=st.integers(3, 600),
    size=st.floats(1, 1e9),
)
@example(rate=0.05, m=3, size=1000.0)
@example(rate=0.05, m=12, size=1000.0)
@example(rate=1e-4, m=600, size=1000.0)
@settings(max_examples=100, deadline=None)
def test_points_on_an_exponential_give_its_rate(rate: float, m: int, size: float) -> None:
    x = (max(m - 11, 0), m - 2, m)
    y0, y1, y2 = (size * math.exp(-rate * (age - x[0])) for age in x)
    assert fit((x, (y0, y1, y2)))[0] == pytest.approx(rate, rel=1e-9)


@given(y1=st.floats(0, 2.0**62), y2=st.floats(0, 2.0**62), m=st.sampled_from([1, 2]))
@example(y1=0.0, y2=0.0, m=1)
@example(y1=0.0, y2=5.0, m=2)  # growing from nothing
@example(y1=5.0, y2=0.0, m=2)  # dead: the cap
@example(y1=2.0**62, y2=5e-324, m=1)  # nearly dead: beyond the cap
@example(y1=1e8, y2=5e-301, m=1)  # a ratio beyond all floats
@settings(max_examples=100, deadline=None)
def test_two_ages_are_met_exactly(y1: float, y2: float, m: int) -> None:
    expected = reference.young_rate(y1, y2, m)
    assert fit(((0, 0, m), (y1, y1, y2)))[0] == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_a_flat_or_growing_track_has_the_rate_zero_itself() -> None:
    flat, growing = ((13, 22, 24), (100, 100, 100)), ((13, 22, 24), (100, 150, 200))
    assert fit(flat, growing, ((0, 1, 3), (5, 5, 6)), ((0, 0, 2), (5, 5, 5))) == [0.0] * 4


@given(rows=st.lists(tracks, min_size=1, max_size=12), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_a_track_is_not_touched_by_those_beside_it(rows: list[Track], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    together = fit(*(points(rows[i]) for i in order))
    assert together == [fit(points(rows[i]))[0] for i in order]


@given(track=tracks, power=st.integers(-40, 40))
@settings(max_examples=100, deadline=None)
def test_the_unit_of_the_streams_is_of_no_importance(track: Track, power: int) -> None:
    x, (y0, y1, y2) = points(track)
    unit = 2.0**power
    assert fit((x, (y0, y1, y2))) == fit((x, (y0 * unit, y1 * unit, y2 * unit)))


@given(
    rows=st.lists(
        st.tuples(st.integers(-(2**31), 2**31), *[st.floats(allow_nan=True, allow_infinity=True)] * 3),
        max_size=8,
    )
)
@example(rows=[])
@example(rows=[(0, 1.0, 1.0, 1.0)])  # no age at all
@example(rows=[(24, math.nan, 1.0, 1.0), (24, math.inf, 1.0, 1.0), (24, -1.0, -2.0, -3.0)])
@example(rows=[(24, 1e-270, 0.0, -1e38), (24, 0.0, 1.0, -1e154)])  # next to nothing beside a large loss
@settings(max_examples=150, deadline=None)
def test_whatever_comes_in_a_finite_rate_comes_out(rows: list[tuple[int, float, float, float]]) -> None:
    x = np.array([(max(m - 11, 0), max(m - 2, 0), m) for m, *_ in rows], dtype=np.float64).reshape(-1, 3)
    y = np.array([y for _, *y in rows], dtype=np.float64).reshape(-1, 3)
    rates = fit_decay_rates(x, y)
    assert rates.shape == (len(rows),)
    assert ((rates >= 0) & (rates <= RATE_MAX)).all()


@given(rows=st.lists(tracks, min_size=1, max_size=20))
@example(rows=[(m, 10.0, 50.0, 900.0) for m in range(1, 16)])  # every age at which a point's formula changes
@settings(max_examples=100, deadline=None)
def test_the_points_are_those_of_the_loop(rows: list[Track]) -> None:
    sums = [(m, last_30, last_30 + to_90, last_30 + to_90 + to_365) for m, last_30, to_90, to_365 in rows]
    frame = pl.LazyFrame(
        sums, schema=["months_since_release", "streams_30", "streams_90", "streams_365"], orient="row"
    )
    got = frame.pipe(with_points).with_columns(k=decay_rate()).collect()
    expected = [points(track) for track in rows]
    assert got.select("x0", "x1", "x2").rows() == [x for x, _ in expected]
    assert got.select("y0", "y1", "y2").rows() == [pytest.approx(y, rel=1e-15) for _, y in expected]
    assert got["k"].to_list() == pytest.approx(fit(*expected), rel=1e-12)


def test_the_rate_of_no_track_at_all() -> None:
    schema = ["months_since_release", "streams_30", "streams_90", "streams_365"]
    empty = pl.LazyFrame(schema=dict.fromkeys(schema, pl.Float64))
    assert empty.pipe(with_points).with_columns(k=decay_rate()).collect()["k"].dtype == pl.Float64


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((34.0, 36.0, 43.0), (10.0, 2.0, 5.0)),  # two maxima, the steeper one is higher
        ((30.0, 31.0, 40.0), (5.99, 2.8, 5.08)),  # two, the one at 0 is
    ],
)
def test_points_at_any_ages(x: reference.Point3, y: reference.Point3) -> None:
    assert_no_better(fit((x, y))[0], smallest_sse(x, y), x, y)
