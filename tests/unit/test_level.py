"""The level that a forecast starts from: the last 30 records, or the last week."""

from datetime import timedelta

import pytest

from forecaster.errors import InvalidOptionError
from forecaster.model.parameters import Parameters
from tests.building import FIRST, MLDR, build
from tests.catalogues import days

STREAMS = [10.0] * 53 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 14.0]


def test_the_last_week_replaces_the_last_30_days_and_nothing_else() -> None:
    rows = days(STREAMS, first_age=100)
    month, week = build(rows), build(rows, level=7)
    ratio = week.forecasts["forecasted_value"] / month.forecasts["forecasted_value"]
    # 35 streams in the last week; 23 x 10 + 35 in the last 30 days.
    assert ratio.to_list() == pytest.approx([30 * 5.0 / 265.0] * 24)
    assert week.forecasts.drop("forecasted_value").equals(month.forecasts.drop("forecasted_value"))


def test_30_is_the_default_to_the_last_bit() -> None:
    rows = days(STREAMS, first_age=100)
    assert build(rows).forecasts.equals(build(rows, level=30).forecasts)


@pytest.mark.parametrize(("left_out", "is_week"), [((3,), True), ((3, 4), False)])
def test_a_week_with_two_gaps_leaves_it_to_the_last_30_records(
    left_out: tuple[int, ...], *, is_week: bool
) -> None:
    last = FIRST + timedelta(days=59)
    rows = days(STREAMS[:53] + [5.0] * 7, first_age=100)
    kept = [row for row in rows if row.date is None or (last - row.date).days not in left_out]
    month, week = build(kept), build(kept, level=7)
    ratio = week.forecasts["forecasted_value"][0] / month.forecasts["forecasted_value"][0]
    streams_30 = sum(row.streams or 0 for row in kept[-30:])
    assert ratio == pytest.approx(30 * 5.0 / streams_30 if is_week else 1.0)


def test_the_week_ends_on_the_as_of_date() -> None:
    """The last records count for the other sums even if they are later, but not for the week."""
    rows = days(STREAMS, first_age=100)
    as_of = FIRST + timedelta(days=52)
    month, week = build(rows, as_of=as_of), build(rows, as_of=as_of, level=7)
    ratio = week.forecasts["forecasted_value"][0] / month.forecasts["forecasted_value"][0]
    assert ratio == pytest.approx(30 * 10.0 / 265.0)


def test_a_week_long_after_the_last_record_is_missing() -> None:
    rows = days(STREAMS, first_age=100)
    as_of = FIRST + timedelta(days=99)
    assert build(rows, MLDR, as_of=as_of, level=7).forecasts.equals(build(rows, MLDR, as_of=as_of).forecasts)


@pytest.mark.parametrize("level", [0, 8, 7.0, True, "7"])
def test_other_levels_are_refused(level: object) -> None:
    with pytest.raises(InvalidOptionError, match=r"level is .*: expected 7 or 30 days"):
        Parameters(level=level)  # type: ignore[arg-type]
