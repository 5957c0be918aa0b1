"""What came of one track's forecasts."""

from datetime import date, timedelta

import polars as pl

from forecaster.scoring.since import with_streams_since

FIRST = date(2024, 1, 1)


def day(number: int) -> date:
    return FIRST + timedelta(days=number - 1)


def test_a_month_that_the_forecast_knew_a_day_of_is_not_compared() -> None:
    days = pl.DataFrame(
        {"cm_track_id": [1] * 100, "date": [day(n) for n in range(1, 101)], "daily_streams": [2.0] * 100}
    )
    forecasts = pl.DataFrame(
        {
            "run": [2, 1],
            "as_of": [day(10), day(10)],
            "last_date": [day(11), day(10)],
            "months": [[90.0, 90.0, 90.0]] * 2,
        }
    )
    compared = with_streams_since(forecasts, days)
    assert compared["left_out"].to_list() == ["seen", None, None, None, None, None]
    assert compared["actual"].to_list() == [None, 60.0, 60.0, 60.0, 60.0, 60.0]
    assert compared["error"].to_list() == [None, 0.5, 0.5, 0.5, 0.5, 0.5]
