"""Numbers as a person reads them."""

import pytest

from forecaster.process.numbers import change, short, short_range


def test_numbers_are_short() -> None:
    assert [short(value) for value in (0, 7, -999, 1500, 12_345, 2e6, 73_123_456_789, 1.25e12)] == [
        "0", "7", "-999", "1.5 k", "12.3 k", "2 M", "73.1 B", "1.25 T",
    ]  # fmt: skip


def test_those_of_an_axis_are_tighter_and_have_more_digits() -> None:
    assert [short(value, digits=4, gap="") for value in (0, -999, 1500, 2e6, 1.234e9, 9e18)] == [
        "0", "-999", "1.5k", "2M", "1.234B", "9E",
    ]  # fmt: skip


def test_a_number_that_is_rounded_up_gets_the_next_unit() -> None:
    assert [short(value) for value in (999, 999.6, 999_499, 999_500, -999_999_999)] == [
        "999", "1 k", "999 k", "1 M", "-1 B",
    ]  # fmt: skip


def test_a_range_has_the_unit_of_its_upper_end() -> None:
    ranges = ((58.23e9, 91.8e9), (999.6e6, 1.2e9), (0.4e6, 1e6), (0, 0), (12, 345.6), (9996, 999_600))
    assert [short_range(low, high) for low, high in ranges] == [
        "58.2 to 91.8 B", "1 to 1.2 B", "0.4 to 1 M", "0 to 0", "12 to 346", "0.01 to 1 M",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("now", "before", "said"),
    [
        (99.6, 100.0, "-0.4 %"),
        (100.0, 100.0, "+0.0 %"),
        (99.9999, 100.0, "+0.0 %"),
        (2500.0, 100.0, "+2,400.0 %"),
        (-50.0, -100.0, "+50.0 %"),
        (5.0, 0.0, ""),
        (5.0, None, ""),
        (None, 5.0, ""),
    ],
)
def test_a_change_is_in_percent(now: float | None, before: float | None, said: str) -> None:
    assert change(now, before) == said
