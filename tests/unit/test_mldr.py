"""The artists' decay rates are those of production and of a plain loop, and no other rate fits better."""

import math
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.optimize import curve_fit

from forecaster.model import mldr_fit as module
from forecaster.model.mldr import RATE_REASONS, artist_rates
from forecaster.model.mldr_fit import RATE_MAX, fit_rates
from tests.mldr import Record, assert_best, months_of, sse

GOLDEN = Path(__file__).parents[1] / "golden"
NEAR = 1e-5
FIRST = date(2021, 1, 1)
SCHEMA = pl.Schema({"cm_artist_id": pl.Int64, "date": pl.Date, "monthly_listeners": pl.Float64})


# Data


def frame(artists: dict[int, list[Record]]) -> pl.LazyFrame:
    rows = [(artist, day, value) for artist, records in artists.items() for day, value in records]
    return pl.LazyFrame(rows, schema=SCHEMA, orient="row")


def daily(values: Sequence[float], *, first: date = FIRST, step: int = 1) -> list[Record]:
    return [(first + timedelta(days=step * i), float(value)) for i, value in enumerate(values)]


def monthly(values: Sequence[float]) -> list[Record]:
    """A history in which the first of each month is kept, with six values between that count for nothing."""
    days = [date(2021 + i // 12, i % 12 + 1, 1) for i in range(len(values))]
    return [
        (day + timedelta(days=i), value if i == 0 else 7.0)
        for day, value in zip(days, values, strict=True)
        for i in range(7)
    ]


def golden_listeners() -> pl.DataFrame:
    return pl.read_parquet(GOLDEN / "artist_listeners.parquet").cast(SCHEMA)


def shuffled(rows: pl.DataFrame, seed: int = 7) -> pl.LazyFrame:
    return rows.sample(fraction=1, shuffle=True, seed=seed).lazy()


def fit(*columns: Sequence[float]) -> list[float]:
    months = np.array([len(column) for column in columns])
    y = np.zeros((months.max(), len(columns)))
    for i, column in enumerate(columns):
        y[: len(column), i] = column
    result: list[float] = fit_rates(y, months).tolist()
    return result


def by_artist(rows: pl.DataFrame) -> dict[int, list[Record]]:
    return {
        artist: group.select("date", "monthly_listeners").rows()
        for (artist,), group in rows.group_by("cm_artist_id")
    }


# What production says


def test_the_rates_are_those_of_production() -> None:
    expected = pl.read_parquet(GOLDEN / "artist_mldr.parquet").cast({"cm_artist_id": pl.Int64})
    rows = golden_listeners()
    ours = artist_rates(shuffled(rows)).collect()
    assert ours["cm_artist_id"].to_list() == expected["cm_artist_id"].sort().to_list()
    assert ours["reason"].null_count() == ours.height == 60
    histories = by_artist(rows)
    both = ours.join(expected, on="cm_artist_id", suffix="_golden", validate="1:1")
    for artist in both.iter_rows(named=True):
        history = months_of(histories[artist["cm_artist_id"]])
        assert (artist["months"], history.anomalies) == (artist["months_golden"], artist["anomalies"])
        y = np.array(history.values)
        assert artist["mldr"] == pytest.approx(artist["mldr_golden"], rel=NEAR, abs=NEAR)
        assert sse(artist["mldr"], y) <= sse(artist["mldr_golden"], y) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("before", "rate", "records"),
    [(date.max, -0.0058586831, 1505), (date(2023, 4, 1), -0.0779305701, 763)],
)
def test_the_rates_of_a_real_artist(before: date, rate: float, records: int) -> None:
    rows = pl.read_csv(GOLDEN / "listeners_thyme.csv").select(
        cm_artist_id=pl.lit(5, dtype=pl.Int64),
        date=pl.col("Date").str.to_date("%b %d, %Y"),
        monthly_listeners=pl.col("Monthly Listeners").cast(pl.Float64),
    )
    [artist] = artist_rates(rows.lazy().filter(pl.col("date") < before)).collect().rows(named=True)
    assert artist["mldr"] == pytest.approx(rate, abs=NEAR)
    assert (artist["records"], artist["first_date"]) == (records, date(2021, 2, 27))
    assert artist["last_date"] == min(date(2025, 4, 11), before - timedelta(days=1))


# What the loop says

counts = st.one_of(
    st.integers(0, 3),
    st.integers(0, 10**9),
    st.floats(0, 9).map(lambda power: round(10.0**power)),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """At least 8 records in all sorts of months, some of them missing."""
    values = draw(st.lists(counts, min_size=8, max_size=90))
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 9, 40, 100]), min_size=8, max_size=8))
    days = np.cumsum([gaps[i % len(gaps)] for i in range(len(values))]).tolist()
    return [(FIRST + timedelta(days=day), float(value)) for day, value in zip(days, values, strict=True)]


@given(records=histories(), seed=st.integers(0, 9))
@example(records=daily([100] * 400), seed=0)
@example(records=daily([100] * 200 + [10**6] * 30 + [100] * 200), seed=0)  # one month far above all others
@example(records=daily([10**6] * 40 + [100] * 200 + [10**6] * 40), seed=0)  # the first and the last are kept
@example(records=monthly([50, 60, 50, 9000, 8000, 55, 50, 60, 50, 55, 60, 45]), seed=0)  # two in a row
@example(records=daily(range(1, 60), step=20), seed=0)  # months without a kept value
@settings(max_examples=100, deadline=None)
def test_the_months_are_those_of_the_loop(records: list[Record], seed: int) -> None:
    expected = months_of(records).values
    [artist] = artist_rates(shuffled(frame({3: records}).collect(), seed)).collect().rows(named=True)
    assert artist["months"] == len(expected)
    if len(expected) < 2:
        assert artist["reason"] == "too_few_months"
    elif not any(expected):
        assert artist["reason"] == "no_listeners"
    elif artist["mldr"] is None:
        assert artist["reason"] == "too_steep"
        limit = min((RATE_MAX, -RATE_MAX), key=lambda b: sse(b, np.array(expected)))
        assert_best(limit, expected)
    else:
        assert_best(artist["mldr"], expected)


# The fit

Shape = Callable[[list[float], float], list[float]]

SHAPES: dict[str, Shape] = {
    "any": lambda y, _: y,
    "of all sizes": lambda y, size: [10 ** (size * value) for value in y],
    "one spike": lambda y, size: [10**size if i == int(y[0] * (len(y) - 1)) else 1.0 for i in range(len(y))],
    "zeros": lambda y, _: [value if value > 0.7 else 0.0 for value in y],
    "noisy growth": lambda y, size: [math.exp(size / 9 * i) * (0.5 + value) for i, value in enumerate(y)],
    "noisy decay": lambda y, size: [math.exp(-size / 9 * i) * (0.5 + value) for i, value in enumerate(y)],
    "both ends": lambda y, size: [1.0, *(value**size for value in y[1:-1]), 0.9 + 0.2 * y[0]],
}


@given(
    y=st.lists(st.floats(0, 1), min_size=2, max_size=120),
    size=st.floats(0, 18),
    shape=st.sampled_from([*SHAPES]),
)
@example(y=[0.1, 1.0], size=8.0, shape="of all sizes")
@example(y=[1.0, 0.0, 0.0, 1.0], size=0.0, shape="any")  # two equal maxima
@example(y=[1.0, 0.0, 0.45], size=0.0, shape="any")  # the limit is best, but the last month is not met
@example(y=[1.0, 0.0, 0.55], size=0.0, shape="any")
@example(y=[85.0, 2.0, 1.0, 95.0], size=0.0, shape="any")  # several maxima close to each other
@example(y=[173.0, 99.0, 25.0, 0.0, 690.0, 2296.0, 1.0, 4727.0], size=0.0, shape="any")
@example(y=[1.0] * 50, size=0.0, shape="any")
@example(y=[0.0] + [1.0] * 50, size=0.0, shape="any")
@example(
    y=[0.0, 0.0, 0.0], size=2.0**-24, shape="one spike"
)  # all but even: an error of nothing but rounding
@settings(max_examples=150, deadline=None)
def test_no_other_rate_has_a_smaller_sse(y: list[float], size: float, shape: str) -> None:
    months = SHAPES[shape](y, size)
    (b,) = fit(months)
    if max(months) == 0:
        assert math.isnan(b)
    else:
        assert_best(b, months)


@pytest.mark.parametrize("seed", range(8))
def test_scipy_finds_nothing_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = np.arange(rng.integers(3, 60))
    y = 1e4 * np.exp(rng.normal(0, 0.1) * t) * rng.lognormal(0, 0.5, len(t))
    (b,) = fit(y)
    for start in (-0.1, 0.0, 0.1):
        (_, theirs), _ = curve_fit(lambda t, a, b: a * np.exp(-b * t), t, y, p0=(y[0], start), maxfev=10_000)
        assert sse(b, y) <= sse(theirs, y) * (1 + 1e-12)


@given(b=st.one_of(st.floats(-3, 3), st.floats(-40, 40)), months=st.integers(2, 120))
@example(b=0.0, months=2)
@example(b=1e-9, months=120)
@settings(max_examples=100, deadline=None)
def test_months_on_an_exponential_give_its_rate(b: float, months: int) -> None:
    highest = 0 if b >= 0 else months - 1
    (found,) = fit([math.exp(-b * (t - highest)) for t in range(months)])
    assert found == pytest.approx(b, rel=1e-12, abs=1e-14)


def test_two_months_are_met_exactly() -> None:
    assert fit([10, 1e9], [1e9, 10], [7, 7]) == pytest.approx([-8 * math.log(10), 8 * math.log(10), 0])


def test_no_curve_is_steep_enough() -> None:
    assert fit([1, 0], [0, 1], [1, 0, 0.49], [0.49, 0, 1], [0, 0, 0]) == [
        math.inf, -math.inf, math.inf, -math.inf, pytest.approx(math.nan, nan_ok=True)
    ]  # fmt: skip
    # To the limit of what a float can tell: at half of the first month no curve is better, above it one is.
    assert fit([6, 0, 3], [2, 0, 1, 0, 0], [0, 3, 0, 6]) == [math.inf, math.inf, -math.inf]
    assert 5 < fit([6, 0, 3.00001])[0] < 8
    # Though it falls at first, the curve of rate 0 being better than the next ones.
    assert fit([10, *[0] * 7, 5, 5, 5], [5, 5, 5, *[0] * 7, 10]) == [math.inf, -math.inf]
    # A rate there is, but none that counts of listeners could have.
    assert fit([1, math.exp(-101)], [math.exp(-101), 1]) == [math.inf, -math.inf]
    assert fit([1, math.exp(-99)], [math.exp(-99), 1]) == pytest.approx([99, -99])


def test_of_two_equally_good_rates_the_decay_is_taken() -> None:
    (b,) = fit([5, 3, *[0] * 12, 3, 5])
    assert b > 0.1


# A month so small that another unit rounds it is not the same month.
sums = st.one_of(st.just(0.0), st.floats(1e-9, 1e9))


@given(
    columns=st.lists(st.lists(sums, min_size=2, max_size=30), min_size=1, max_size=6),
    power=st.integers(-300, 300),
)
@settings(max_examples=40, deadline=None)
def test_a_rate_depends_on_its_own_months_and_not_on_their_unit(
    columns: list[list[float]], power: int
) -> None:
    together = fit(*columns)
    alone = [fit([value * 2.0**power for value in column])[0] for column in columns]
    assert together == pytest.approx(alone, rel=1e-12, abs=1e-14, nan_ok=True)


# The frame

LEFT_OUT: dict[str, list[list[Record]]] = {
    "too_few_records": [daily([5]), daily([5, 5], step=40), daily([-5, 5], step=40)],
    "too_few_months": [
        daily([5] * 3),
        daily([5] * 31),
        daily([5] * 7, step=40),  # only the first record counts
        daily([5] * 8, first=date(2021, 1, 20)),  # the eighth is of the same month
    ],
    "too_many_months": [
        [(date(1, 1, 1), 5.0), *daily([5] * 400)],
        [*monthly([5] * 12), *daily([5] * 7, first=date(9999, 12, 1))],
    ],
    "negative_listeners": [daily([5] * 100 + [-1] + [5] * 100), monthly([5, 6, -1e300])],
    "no_listeners": [
        daily([0] * 400),
        daily([0, *[3] * 6] * 60),  # those that count are zero
        daily([0] * 91 + [5] + [0] * 300),  # an April that is an anomaly
    ],
    "too_steep": [
        monthly([0, 0, 0, 0, 0, 0, 9]),
        [*daily([5] * 28), *daily([0] * 28, first=date(2021, 6, 1))],
    ],
}


def test_every_reason_is_given_and_explained() -> None:
    assert set(LEFT_OUT) == set(RATE_REASONS)
    artists = [(reason, records) for reason, several in LEFT_OUT.items() for records in several]
    # And in their midst one with a rate.
    artists.insert(7, ("", daily([5] * 8, first=date(2021, 1, 25))))
    result = artist_rates(shuffled(frame({i: records for i, (_, records) in enumerate(artists)}).collect()))
    rows = result.collect()
    assert rows["reason"].fill_null("").to_list() == [reason for reason, _ in artists]
    assert rows["mldr"].is_null().to_list() == rows["reason"].is_not_null().to_list()
    assert rows["records"].to_list() == [len(records) for _, records in artists]
    assert rows["first_date"].to_list() == [min(records)[0] for _, records in artists]
    assert rows["last_date"].to_list() == [max(records)[0] for _, records in artists]
    assert rows["months"][7] == 2
    assert rows["mldr"][7] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("block", [1, 7, 60])
def test_neither_row_order_nor_the_artists_beside_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = golden_listeners()
    left_out = frame({-i: several[0] for i, several in enumerate(LEFT_OUT.values())}).collect()
    rows = pl.concat([rows, left_out])
    together = artist_rates(rows.lazy()).collect()
    assert together["cm_artist_id"].to_list() == sorted(together["cm_artist_id"])
    monkeypatch.setattr(module, "_BLOCK", block)
    in_blocks = artist_rates(shuffled(rows, seed=block)).collect()
    assert_frame_equal(in_blocks, together, abs_tol=1e-14, rel_tol=1e-12)
    parts = [
        artist_rates(shuffled(rows.filter(pl.col("cm_artist_id") % 9 == rest))).collect() for rest in range(9)
    ]
    assert_frame_equal(pl.concat(parts).sort("cm_artist_id"), together, abs_tol=1e-14, rel_tol=1e-12)


@pytest.mark.parametrize("unit", [2.0**-900, 2.0**900, 1.7e308 / 2**20])
def test_the_largest_and_the_smallest_numbers_have_a_rate(unit: float) -> None:
    values = np.linspace(2**19, 2**20, 500)
    plain, scaled = (
        artist_rates(frame({1: daily([round(value) * factor for value in values])}))
        .collect()["mldr"]
        .to_list()
        for factor in (1.0, unit)
    )
    assert plain[0] < -0.01
    assert scaled == pytest.approx(plain, rel=1e-12)


def test_the_rates_of_nobody() -> None:
    result = artist_rates(pl.LazyFrame(schema=SCHEMA))
    assert result.collect().is_empty()
    assert result.collect().schema == result.collect_schema() == {
        "cm_artist_id": pl.Int64,
        "mldr": pl.Float64,
        "reason": pl.String,
        "records": pl.Int64,
        "months": pl.Int64,
        "first_date": pl.Date,
        "last_date": pl.Date,
    }  # fmt: skip
