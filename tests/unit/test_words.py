"""What an evaluation says in words, at the top of everything."""

from dataclasses import replace
from datetime import timedelta

import polars as pl

from forecaster.scoring import evaluate, in_words
from forecaster.scoring.words import percent
from tests.evaluations import ORIGIN, forecast, monthly


def test_a_model_that_a_baseline_beats() -> None:
    """The forecast is off by 30 of 100 each month, the last 30 days by 10."""
    found = evaluate(forecast([70.0, 70.0]), monthly([100, 90], [100, 100]))
    assert found.best_baseline == "last_30_days"
    assert in_words(found) == [
        "Over 2 months, forecasts were 30 % off and 30 % too low.",
        "'The last 30 days go on' was 10 % off: better than this model.",
        "Skill against last_30_days: -2.00, from one origin: another day may say something else.",
    ]


def test_a_model_that_beats_them() -> None:
    found = evaluate(forecast([101.0, 99.0]), monthly([100, 90], [100, 100]))
    assert in_words(found)[:2] == [
        "Over 2 months, forecasts were 1 % off and right in total.",
        "'The last 30 days go on' was 10 % off: worse than this model.",
    ]


def test_a_model_that_is_as_good() -> None:
    found = evaluate(forecast([90.0, 90.0]), monthly([100, 90], [100, 100]))
    assert in_words(found)[1].endswith("10 % off: as good as this model.")


def test_a_horizon_that_is_longer_than_the_streams_is_said_first() -> None:
    found = replace(evaluate(forecast([90.0] * 12), monthly([100, 90], [100, 100])), horizon=12)
    first = "Only 2 months of the 12 asked for can be scored: the streams end before."
    assert in_words(found)[0] == first
    assert first not in in_words(replace(found, horizon=2))


def test_origins_that_overlap() -> None:
    days = [ORIGIN + timedelta(days=30 * number) for number in range(4)]
    months = pl.concat(forecast([90.0] * 3, cutoff=day, as_of=day) for day in days)
    found = evaluate(months, monthly([100, 80], [100, 110, 105, 100, 120, 110]))
    skills = found.by_cutoff["skill"].to_list()
    low, high = min(skills), max(skills)
    assert f"by origin {low:+.2f} to {high:+.2f}." in in_words(found)[-1]
    assert in_words(found)[-1].endswith(
        "The 4 origins overlap, so they are not independent: they say as much as about 2."
    )


def test_the_last_months_that_only_some_origins_have() -> None:
    later = ORIGIN + timedelta(days=60)
    months = pl.concat([forecast([90.0] * 3), forecast([90.0] * 3, cutoff=later, as_of=later)])
    found = evaluate(months, monthly([100, 80], [100, 110, 105]))
    assert in_words(found)[0].startswith("Over up to 3 months, ")


def test_intervals_that_were_held() -> None:
    months = forecast([90.0, 90.0]).with_columns(q025=50.0, q10=80.0, q50=90.0, q90=99.0, q975=130.0)
    said = in_words(evaluate(months, monthly([100, 80], [95, 120])))
    assert "Of the months that came, the 80 % intervals held 50 % and the 95 % intervals held 100 %." in said


def test_no_streams_came() -> None:
    said = in_words(evaluate(forecast([90.0]), monthly([100, 80], [0])))
    assert said == ["Over 1 month, no streams came: the error has no size."]


def test_shares() -> None:
    assert [percent(share) for share in (0.274, 0.0, 0.004, 12.0)] == ["27 %", "0 %", "0.4 %", "1,200 %"]
    assert percent(1e200) == "over 10,000 %"
