"""The analysts' page: its worked example is computed again, by plain arithmetic and by the model."""

import math
import re
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from forecaster import build_forecasts
from forecaster.model.segments import FITTED_RATES, REACH_RATES, SEGMENT_STARTS
from forecaster.tables import FORECASTS

PAGE = (Path(__file__).parents[2] / "docs" / "model.md").read_text()


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """The result of each step, by its name."""
    table = PAGE.partition("\n## One track, by hand\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+?) \|[^|]*\| ([^|]+?) \|$", table, re.MULTILINE)
    return {name: result for name, result in rows if name != "step"}


def least_squares(x: tuple[int, ...], y: tuple[float, ...], *, low: float = 0.1) -> float:
    """The k at which S exp(-k x) comes closest to y, by halving the interval again and again."""

    def squares(k: float) -> float:
        e = [math.exp(-k * (at - x[0])) for at in x]
        s = sum(a * b for a, b in zip(y, e, strict=True)) / sum(b * b for b in e)
        return sum((a - s * b) ** 2 for a, b in zip(y, e, strict=True))

    high = 0.11
    for _ in range(60):
        third = (high - low) / 3
        if squares(low + third) < squares(high - third):
            high -= third
        else:
            low += third
    return (low + high) / 2


def by_hand() -> dict[str, str]:
    """Each step in the words of the page, with nothing but the tables of rates taken from the model."""
    last_30, middle, earlier, mldr, days = 313_811, 774_840, 9_000_000, 0.03, 610
    m = days // 30
    y = (earlier / 9, middle / 2, float(last_30))
    slopes = math.log(y[1] / y[2]) / 2, math.log(y[0] / y[1]) / 9
    assert slopes[0] == pytest.approx(slopes[1], rel=2e-5)
    k = least_squares((9, 18, 20), y)
    assert k == pytest.approx(slopes[1], rel=2e-5)
    base = {j: 0.67 * FITTED_RATES[j - 1] + 0.33 * REACH_RATES[9][j - 1] for j in (4, 5, 6, 7, 8)}
    observed = [max(j for j, start in enumerate(SEGMENT_STARTS, start=1) if start <= t) for t in range(9, 21)]
    assert observed == [4] * 3 + [5] * 3 + [6] * 3 + [7] * 3
    h = sum(1 / base[j] for j in observed) / len(observed)
    u = mldr * h - 1
    multiplier = max(1 + u * min(u, 1), k * h)
    rate = base[8] * multiplier
    months = [last_30 * math.exp(-rate * i) for i in (1, 2, 3)]
    return {
        "months since release": f"{m}",
        "streams, last 90 records": f"{last_30 + middle:,}",
        "streams, last 365 records": f"{last_30 + middle + earlier:,}",
        "x": f"{m - 11}, {m - 2}, {m}",
        "y, months 4 to 12": f"{y[0]:,.2f}",
        "y, months 2 to 3": f"{y[1]:,.2f}",
        "y, last 30 records": f"{y[2]:,.2f}",
        "k": f"{k:.6f}",
        "influence": f"{10 * last_30:,}",
        "influence range": "10",
        **{f"base rate, segment {j}": f"{rate_:.6f}" for j, rate_ in base.items()},
        "h": f"{h:.2f}",
        "u": f"{u:.4f}",
        "artist factor": f"{1 + u * u:.4f}",
        "k·h": f"{k * h:.4f}",
        "multiplier": f"{multiplier:.4f}",
        "rate, segment 8": f"{rate:.6f}",
        **{f"month {i}": f"{value:,.0f}" for i, value in enumerate(months, start=1)},
    }


def test_the_worked_example_by_hand(shown: dict[str, str]) -> None:
    assert shown == by_hand()


def test_the_model_gives_the_same(shown: dict[str, str]) -> None:
    def spread(total: int, days: int) -> list[int]:
        return [total // days] * (days - 1) + [total - total // days * (days - 1)]

    streams = spread(9_000_000, 275) + spread(774_840, 60) + spread(313_811, 30)
    daily = pl.LazyFrame(
        {
            "cm_track_id": 1,
            "cm_artist_id": 7,
            "date": [date(2024, 12, 31) - timedelta(days=back) for back in reversed(range(365))],
            "daily_streams": streams,
            "days_from_release": [610 - back for back in reversed(range(365))],
        }
    )
    forecasts = build_forecasts(
        daily, pl.LazyFrame({"cm_artist_id": [7], "mldr": [0.03]})
    ).forecasts.collect()
    first = forecasts.head(4)
    assert [f"{value:,.0f}" for value in first["forecasted_value"][:3]] == [
        shown[f"month {i}"] for i in (1, 2, 3)
    ]
    assert first["time_used"].to_list() == [20, 21, 22, 23]
    assert first["segment_used"].to_list() == [8, 8, 8, 9]


def test_the_boundaries_that_the_page_names() -> None:
    [named] = re.findall(r"from month ([\d, ]+) and (\d+) on", PAGE)
    assert tuple(int(month) for month in re.findall(r"\d+", " ".join(named))) == SEGMENT_STARTS
    assert "time_used" in FORECASTS.contract


def test_an_even_track_has_the_k_that_the_page_says() -> None:
    k = least_squares((20 - 11, 20 - 2, 20), (275 / 9, 30.0, 30.0), low=0.0)
    assert k == pytest.approx(0.002, abs=0.0005)
