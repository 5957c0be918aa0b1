"""A picture as text for the terminal."""

import re
from datetime import timedelta
from itertools import pairwise

import click
import pytest

from forecaster.views.chart import as_text, text
from tests.catalogues import days
from tests.pictures import drawn, falling, parts


@pytest.mark.parametrize("width", [20, 33, 80, 300])
@pytest.mark.parametrize("color", [True, False])
def test_text_fits_and_is_coloured_only_if_wanted(width: int, color: bool) -> None:  # noqa: FBT001
    got = drawn(falling(40, first_age=10), horizon=60)
    text = as_text(got, width=width, height=24, color=color)
    lines = click.unstyle(text).split("\n")
    assert max(map(len, lines)) == width
    above, plot, below = parts(lines)  # ten rows of the plot, and one of segments
    assert len(lines) == max(24, len(above) + 11 + len(below))
    assert len(plot) >= 11
    assert ("\x1b[" in text) == color
    assert click.unstyle(text) == as_text(got, width=width, height=24, color=False)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437", "cp932", "ascii"])
def test_text_for_a_terminal_without_braille_is_drawn_with_ascii(encoding: str) -> None:
    got = drawn(falling(40, first_age=10), horizon=60)
    text = as_text(got, width=80, height=24, color=False, encoding=encoding)
    assert text.isascii()
    full = as_text(got, width=80, height=24, color=False)
    assert not full.isascii()
    assert [len(line) for line in text.splitlines()] == [len(line) for line in full.splitlines()]
    plot = text.splitlines()[3:-5]
    assert {"#", "o", "|", "+"} <= {character for line in plot for character in line}


def words(lines: list[str]) -> list[str]:
    return " ".join(lines).replace("·", " ").split()


@pytest.mark.parametrize(("width", "length"), [(20, 4), (24, 7), (40, 10)])
def test_the_axis_of_days_has_its_first_and_its_last_day(width: int, length: int) -> None:
    got = drawn(days([20_000.0] * 900, first_age=10), horizon=24)  # "600k" is as wide as a number gets
    dates = parts(as_text(got, width=width, height=24, color=False).splitlines())[1][-2].split()
    first, last = str(got.history["first_day"][0] - timedelta(days=1)), str(got.forecast["last_day"][-1])
    assert (dates[0], dates[-1]) == (first[:length], last[:length])


def test_no_word_above_or_below_the_plot_is_cut() -> None:
    got = drawn(falling(1200, first_age=10), horizon=60)
    above, _, rates = parts(as_text(got, width=300, height=24, color=False).splitlines())
    for width in range(20, 61):
        lines = as_text(got, width=width, height=24, color=False).splitlines()
        assert max(map(len, lines)) == width
        narrow, _, below = parts(lines)
        assert words(narrow) == words(above)
        assert decimals(below) == decimals(rates)


def decimals(lines: list[str]) -> list[str]:
    return re.findall(r"\d+\.\d{4}", " ".join(lines))


def test_less_than_the_least_width_is_as_good_as_that() -> None:
    got = drawn(falling(100))
    least = as_text(got, width=20, height=24, color=False)
    assert as_text(got, width=1, height=1, color=False).splitlines()[-1] == least.splitlines()[-1]
    assert as_text(got, width=1, height=24, color=False) == least


def test_text_shows_the_series_the_day_between_them_and_the_numbers_of_the_axes() -> None:
    got = drawn(falling(900), horizon=30)  # as long as the history
    (title, subtitle, legend), plot, _ = parts(as_text(got, width=120, height=34, color=False).splitlines())
    assert title == "Track 1 · artist 1"
    assert subtitle == got.subtitle
    ranges = "▒▒ 80 % range  ░░ 95 % range"
    series = f"⠒⠒ 30-day totals  •• forecast  ·· base curve  {ranges}"
    assert legend == f"{series}  ┊ as of 2024-06-30  │1│ segment"
    rule = {line.index("┊") for line in plot if "┊" in line}
    assert len(rule) == 1
    assert 55 < min(rule) < 67  # in the middle
    before, after = (
        {line[start:end] for line in plot} for start, end in ((0, min(rule)), (min(rule) + 1, 120))
    )
    assert not any("•" in part for part in before)
    assert any("•" in part for part in after)
    braille = {chr(code) for code in range(0x2801, 0x2900)}
    assert any(braille & set(part) for part in before)
    assert not any(braille & set(part) for part in after)
    first, last = got.history["first_day"][0] - timedelta(days=1), got.forecast["last_day"][-1]
    dates = plot[-2].split()
    assert (dates[0], dates[-1]) == (str(first), str(last))
    numbers = [line.partition("┤")[0].strip() for line in plot if "┤" in line]
    assert numbers == ["25k", "20k", "15k", "10k", "5k", "0"]


def test_the_narrow_range_lies_in_the_wide_one_around_the_forecast() -> None:
    got = drawn(days([1000.0] * 400), mldr=-1.0, horizon=12)
    plot = parts(as_text(got, width=80, height=40, color=False).splitlines())[1]
    columns = ["".join(marks) for marks in zip(*plot[1:-3], strict=True)]
    ranges = [re.sub("[^░▒•·]", "", column) for column in columns if "▒" in column]
    assert len(ranges) > 10
    assert all(re.fullmatch("░*▒*[•·]+▒*░*", column) for column in ranges)
    heights = [len(column) for column in ranges]
    assert heights[0] < heights[-1]


def test_the_base_curve_is_seen_where_it_is_not_the_forecast() -> None:
    apart, alike = drawn(falling(40)), drawn(days([100.0] * 200), mldr=-1.0)
    assert (alike.forecast["streams"] == alike.forecast["base_streams"]).all()
    plots = [parts(as_text(got, width=80, height=30, color=False).splitlines())[1] for got in (apart, alike)]
    assert ["·" in "".join(plot) for plot in plots] == [True, False]
    assert all("•" in "".join(plot) for plot in plots)
    for column in range(80):  # the base curve is the upper one
        marks = "".join(line[column] for line in plots[0][:-1] if line[column] in "·•")
        assert re.fullmatch("·*•*", marks)


def test_segments_stand_under_their_months_between_their_borders() -> None:
    got = drawn(falling(40, first_age=10), horizon=60)
    plot = parts(as_text(got, width=300, height=24, color=False).splitlines())[1]
    row = plot[-1]
    assert re.findall(r"\d+", row) == [str(segment) for segment in got.bands["segment"]]
    borders = [i for i, mark in enumerate(row) if mark == "│"]
    assert borders[0] == plot[1].index("┊")
    lengths = [(last - first).days + 1 for first, last in got.bands.select("first_day", "last_day").rows()]
    per_column = sum(lengths) / (borders[-1] - borders[0])
    assert [round(length / per_column) for length in lengths] == pytest.approx(
        [after - before for before, after in pairwise(borders)], abs=1
    )
    narrow = parts(as_text(got, width=20, height=24, color=False).splitlines())[1]
    assert set(re.findall(r"\d+", narrow[-1])) < set(re.findall(r"\d+", row))  # what has room


def test_the_rates_of_the_segments_of_the_forecast_stand_below() -> None:
    got = drawn(falling(900), horizon=24)
    lines = as_text(got, width=80, height=24, color=False).splitlines()
    assert parts(lines)[2] == [
        f"segment {segment}: base rate {base:.4f}, rate {rate:.4f} per month"
        for segment, base, rate in got.bands.select("segment", "base_rate", "rate").rows()
    ]
    narrow = parts(as_text(got, width=40, height=24, color=False).splitlines())[2]
    assert narrow[0] == "segment: base rate, rate per month"
    assert [cell for line in narrow[1:] for cell in re.split(" {3,}", line)] == [
        f"{segment}: {base:.4f}, {rate:.4f}"
        for segment, base, rate in got.bands.select("segment", "base_rate", "rate").rows()
    ]
    assert len(narrow) == 3  # two columns


def test_numbers_of_the_axis_are_short_and_round() -> None:
    assert text._ticks(0, 9.2e18, 4) == [0, 5e18]
    assert text._ticks(-30, 70, 5) == [-20, 0, 20, 40, 60]
    assert text._ticks(0, 1, 4) == [0, 1]
