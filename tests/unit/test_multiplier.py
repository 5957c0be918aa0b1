"""The newest MLDR, the multiplier of the base rates and the reasons to skip, against plain loops."""

import math
import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forecaster.frames.schemas import NEWEST_MLDR, conform
from forecaster.model.eligibility import skip_reason
from forecaster.model.mldr import newest_mldr
from forecaster.model.multiplier import FACTOR_MAX, with_multiplier
from forecaster.tables import ARTIST_MLDR
from tests import reference

OLD = datetime(2024, 1, 1, tzinfo=UTC)
NEW = OLD + timedelta(microseconds=1)

# streams_30, m, mldr, k
Track = tuple[float, int, float, float]

tracks = st.lists(
    st.tuples(
        st.floats(0, 2.0**62),
        st.integers(1, 600),
        st.floats(-2, 2),
        st.one_of(st.just(0.0), st.floats(0, 100)),
    ),
    min_size=1,
    max_size=30,
)

# Streams at, and one stream either side of, the lower edge of every influence range.
AT_THE_EDGES: list[Track] = [
    (max(edge / 10 + step, 0.0), 14, 0.05, 0.0) for edge in reference.INFLUENCE_FROM for step in (-1, 0, 1)
]
# Every age up to five years: both ends of the observed months pass every segment boundary.
OF_EVERY_AGE: list[Track] = [(5_000.0, m, 0.05, 0.01) for m in range(1, 61)]


def adjusted(rows: list[Track], *, influence: float | None) -> pl.DataFrame:
    frame = pl.LazyFrame(rows, schema=["streams_30", "months_since_release", "mldr", "k"], orient="row")
    x0 = (pl.col("months_since_release") - 11).clip(lower_bound=0)
    return with_multiplier(frame.with_columns(x0=x0), influence=influence).collect()


def newest(rows: list[reference.Mldr]) -> dict[int, float | None]:
    frame = pl.LazyFrame(
        rows,
        schema={
            "cm_artist_id": pl.Int64,
            "mldr": pl.Float64,
            "id": pl.Int64,
            "created_at": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )
    result = newest_mldr(conform(frame, ARTIST_MLDR, name="artist_mldr")).collect()
    assert tuple(result.columns) == NEWEST_MLDR
    assert result["cm_artist_id"].is_unique().all()
    return dict(result.iter_rows())


@given(rows=tracks, influence=st.one_of(st.none(), st.floats(0, 1e7)))
@example(rows=AT_THE_EDGES, influence=None)
@example(rows=OF_EVERY_AGE, influence=None)
@example(rows=OF_EVERY_AGE, influence=1000)
@example(rows=[(0.0, 1, 0.0, 0.0)], influence=0)  # the least of everything
@example(rows=[(500_000.0, 30, 0.1, 0.0), (500_001.0, 30, 0.1, 0.0)], influence=None)  # influence at its cap
@example(
    rows=[(100.0, 30, mldr, 0.0) for mldr in (-0.5, 0.0, 0.02, 0.05, 0.5)], influence=None
)  # u from <0 to >1
@settings(max_examples=150, deadline=None)
def test_the_multiplier_is_that_of_the_loop(rows: list[Track], influence: float | None) -> None:
    got = adjusted(rows, influence=influence)
    for (streams_30, m, mldr, k), row in zip(rows, got.iter_rows(named=True), strict=True):
        r = reference.influence_range(reference.influence(streams_30) if influence is None else influence)
        h = reference.base_months(max(m - 11, 0), m, r)
        factor = reference.artist_factor(mldr, h)
        assert row["influence_range"] == r - 1
        assert row["base_months"] == pytest.approx(h, rel=1e-10)
        assert row["artist_factor"] == pytest.approx(factor, rel=1e-9)
        assert row["multiplier"] == pytest.approx(max(factor, k * h), rel=1e-9)


def test_an_artist_who_decays_as_the_base_curve_changes_nothing() -> None:
    h = reference.base_months(13, 24, 1)
    (row,) = adjusted([(100.0, 24, 1 / h, 0.0)], influence=None).iter_rows(named=True)
    assert row["multiplier"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("times", "factor"),
    [(0.5, 1.0), (1.0, 1.0), (1.005, 1.000025), (1.5, 1.25), (2.0, 2.0), (2.5, 2.5), (4.0, 4.0)],
)
def test_the_factor_is_squared_below_twice_the_base_rate_and_linear_above(
    times: float, factor: float
) -> None:
    h = reference.base_months(13, 24, 1)
    (row,) = adjusted([(100.0, 24, times / h, 0.0)], influence=None).iter_rows(named=True)
    assert row["artist_factor"] == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(("mldr", "factor"), [(1.7e308, 1 + FACTOR_MAX), (-1.7e308, 1.0)])
def test_the_most_extreme_mldr_gives_a_finite_multiplier(mldr: float, factor: float) -> None:
    (row,) = adjusted([(100.0, 24, mldr, 0.0)], influence=None).iter_rows(named=True)
    assert row["multiplier"] == factor


def test_any_finite_influence_beyond_the_last_range_is_of_the_last_range() -> None:
    for influence in (5_000_001, 1e300, 10**30):
        assert adjusted([(1.0, 24, 0.1, 0.0)], influence=influence)["influence_range"].to_list() == [9]


mldr_rows = st.lists(
    st.builds(
        reference.Mldr,
        artist=st.sampled_from([None, 1, 2]),
        mldr=st.one_of(st.none(), st.floats(-1, 1)),
        id=st.one_of(st.none(), st.integers(1, 3)),
        created_at=st.sampled_from([None, OLD, NEW]),
    ),
    max_size=8,
)


@given(rows=mldr_rows, seed=st.integers(0, 9))
@example(rows=[], seed=0)
@settings(max_examples=150, deadline=None)
def test_the_newest_mldr_is_that_of_the_loop(rows: list[reference.Mldr], seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    assert newest(shuffled) == reference.newest_mldr(rows)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # created_at comes before id, and a row without one is the oldest
        ([(1, 0.1, 9, OLD), (1, 0.2, 1, NEW), (1, 0.3, 10, None)], 0.2),
        ([(1, 0.1, 2, NEW), (1, 0.2, 1, NEW), (1, 0.3, None, NEW)], 0.1),
        # the newest row counts even where it knows nothing
        ([(1, 0.1, 1, OLD), (1, None, 1, NEW)], None),
        ([(1, 0.1, 1, OLD), (1, 0.2, 1, OLD)], 0.2),
    ],
)
def test_which_mldr_is_the_newest(
    rows: list[tuple[int, float | None, int | None, datetime | None]], expected: float | None
) -> None:
    for order in (rows, rows[::-1]):
        assert newest([reference.Mldr(*row) for row in order]) == {1: expected}


def test_the_first_reason_that_applies_is_given() -> None:
    frame = pl.DataFrame(
        [
            (None, 0, True, True, "no_mldr"),
            (math.nan, 0, True, True, "no_mldr"),
            (math.inf, 5, False, False, "no_mldr"),
            (-math.inf, 5, False, False, "no_mldr"),
            (-0.1, 0, True, True, "too_young"),
            (0.1, -3, False, False, "too_young"),
            (0.1, None, False, False, "no_days"),
            (0.1, 1, True, True, "negative_streams"),
            (0.1, 1, False, True, "several_artists"),
            (0.1, 1, False, False, None),
        ],
        schema=["mldr", "months_since_release", "has_negative_streams", "has_several_artists", "expected"],
        orient="row",
    )
    assert frame.select(skip_reason()).to_series().to_list() == frame["expected"].to_list()
