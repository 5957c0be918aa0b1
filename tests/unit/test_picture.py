"""One track as a picture: its windows, months, bands and base curve."""

import math
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from forecaster.model.calibrated.uncertainty import PRODUCTION_WIDENED
from forecaster.process.numbers import short, short_range
from forecaster.views.chart import picture
from tests import reference
from tests.catalogues import days
from tests.pictures import LAST, diagnosis, drawn, falling


def of_history(*records: tuple[date, float]) -> pl.DataFrame:
    history = pl.DataFrame(records, schema={"date": pl.Date, "daily_streams": pl.Float64}, orient="row")
    return picture(diagnosis(falling(100)), history).history


def test_history_is_summed_in_windows_back_from_its_last_day() -> None:
    history = of_history(
        (date(2024, 3, 1), 1000.0),  # in the 31st of the days that no full window has
        (date(2024, 3, 2), 2000.0),
        (date(2024, 3, 3), 17.0),
        # No record at all from 2 April to 1 May.
        (date(2024, 5, 2), 13.0),
        (date(2024, 5, 31), 11.0),
        (date(2024, 6, 1), 5.0),
        (date(2024, 6, 30), 7.0),
    )
    assert history.select("first_day", "last_day", "streams").rows() == [
        (date(2024, 3, 3), date(2024, 4, 1), 17.0),
        (date(2024, 4, 2), date(2024, 5, 1), 0.0),
        (date(2024, 5, 2), date(2024, 5, 31), 24.0),
        (date(2024, 6, 1), date(2024, 6, 30), 12.0),
    ]
    assert history["middle"].to_list() == [day + timedelta(days=14) for day in history["first_day"]]


@pytest.mark.parametrize(
    ("number", "windows", "said"),
    [
        (1, 0, "fewer than 30 days of history"),
        (29, 0, "fewer than 30 days of history"),
        (30, 1, None),
        (1109, 36, None),
        (1110, 36, "the last 36 of 37 totals"),
        (3000, 36, "the last 36 of 100 totals"),
    ],
)
def test_only_full_windows_are_shown_and_what_is_cut_is_said(
    number: int, windows: int, said: str | None
) -> None:
    got = drawn(falling(number, first_age=100))
    assert len(got.history) == windows
    facts = [fact for fact in got.subtitle.split(" · ") if not fact.startswith("95 % range up to ")]
    assert facts[4:] == ([said] if said else [])
    assert len(facts[:4]) == 4
    assert not windows or got.history["last_day"][-1] == LAST


def q80(month: pl.Expr) -> pl.Expr:
    """80 % of the errors of a track alone are smaller, on other catalogues."""
    of_12 = (0.093, 0.194, 0.265, 0.324, 0.376, 0.420, 0.457, 0.489, 0.518, 0.548, 0.585, 0.608)
    first = pl.lit(pl.Series(of_12)).gather(month.clip(upper_bound=12) - 1)
    return first * (month.clip(lower_bound=12) / 12).sqrt()


def test_the_title_and_the_subtitle_name_what_the_forecast_follows_from() -> None:
    found = diagnosis(falling(400))
    total = int(found.forecasts["forecasted_value"].sum())
    value = found.forecasts.with_columns(own=0.95 * q80(pl.col("month")) * pl.col("forecasted_value"))
    # After month 12, with the square root of time: .20 x sqrt(2) is shared by all tracks.
    shared = stats.t.ppf(0.9, 8) * PRODUCTION_WIDENED * 0.2 * math.sqrt(2)
    half = math.exp(math.hypot(shared, PRODUCTION_WIDENED * float(value["own"].sum()) / total))
    ends = (total / half, total * half)
    got = picture(found, found.history)
    assert got.title == "Track 1 · artist 1"
    streams = f"{short(total)} streams, 80 % range {short_range(*ends)}"
    assert got.subtitle == (
        f"24 months: {streams} · k {found.track['k']:.4g} · MLDR 0.1 · "
        f"multiplier {found.track['multiplier']:.4g}"
    )


@pytest.mark.parametrize("as_of", [LAST, LAST + timedelta(days=700), LAST - timedelta(days=200)])
def test_months_follow_on_the_day_that_the_age_is_measured_on(as_of: date) -> None:
    got = drawn(falling(400), as_of=as_of, horizon=3)
    assert got.as_of == as_of
    assert got.forecast.select("month", "first_day", "last_day", "middle").rows() == [
        (month, *(as_of + timedelta(days=30 * (month - 1) + day) for day in (1, 30, 15)))
        for month in (1, 2, 3)
    ]
    # The history ends where it ends, before that day or after it.
    assert got.history["last_day"][-1] == LAST
    assert len(got.history) == 13


def test_ranges_are_drawn_up_to_the_largest_streams_and_what_is_cut_is_said() -> None:
    found = diagnosis(days([1000.0] * 400), mldr=-1.0, horizon=24)
    got = picture(found, found.history)
    highest = found.forecasts["q975"].max()
    assert got.extent[1] == found.forecasts["q90"].max()
    for name, ends in (("80 % range", ("q10", "q90")), ("95 % range", ("q025", "q975"))):
        drawn = [
            [float(min(end, got.extent[1])) for end in row] for row in found.forecasts.select(ends).rows()
        ]
        assert got.ends(name).select("low", "high").rows() == [tuple(row) for row in drawn]
    assert f"95 % range up to {short(highest)}, cut" in got.facts  # type: ignore[arg-type]


def test_bands_are_the_segments_of_the_months() -> None:
    found = diagnosis(falling(40), horizon=24)
    got = picture(found, found.history)  # a month old: the segments begin in its months 1, 2, 5, 8 ...
    months = {1: (1, 1), 2: (2, 4), 3: (5, 7), 4: (8, 10), 5: (11, 13), 6: (14, 16), 7: (17, 19), 8: (20, 22)}
    assert got.bands.select("segment", "first_day", "last_day").rows() == [
        (segment, LAST + timedelta(days=30 * (first - 1) + 1), LAST + timedelta(days=30 * last))
        for segment, (first, last) in (months | {9: (23, 24)}).items()
    ]
    rates = [found.rates[segment - 1] for segment in got.bands["segment"]]
    assert got.bands.select("base_rate", "rate").rows() == rates
    assert drawn(falling(40, first_age=3000), horizon=400).bands["segment"].to_list() == [12]


def test_the_base_curve_is_the_forecast_without_an_adjustment() -> None:
    found = diagnosis(falling(400), horizon=60)
    got = picture(found, found.history).forecast
    track = found.track
    steps = reference.forecast(
        track["streams_30"], track["months_since_release"], track["influence_range"] + 1, 1.0, horizon=60
    )
    assert track["multiplier"] > 1.5
    assert got["base_streams"].to_list() == [round(step.value) for step in steps]
    assert (got["streams"] < got["base_streams"]).all()

    growing = diagnosis([row._replace(streams=float(row.id or 0)) for row in falling(400)], mldr=-1.0)
    assert growing.track["multiplier"] == 1.0
    got = picture(growing, growing.history).forecast
    assert got["base_streams"].to_list() == got["streams"].to_list()


def test_each_month_has_its_segment_and_the_rates_of_it() -> None:
    found = diagnosis(falling(40), horizon=60)
    got = picture(found, found.history).forecast
    expected = found.forecasts.select(
        "month",
        streams="forecasted_value",
        segment="segment_used",
        months_since_release="time_used",
    )
    assert_frame_equal(got.select(expected.columns), expected)
    rates = [found.rates[segment - 1] for segment in got["segment"]]
    assert got.select("base_rate", "rate").rows() == rates
    assert got["segment"].n_unique() == 12
