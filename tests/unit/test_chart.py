"""One track as a picture: its numbers, and what becomes of them in a browser, a file and a terminal."""

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import polars as pl
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.model import build_tracks
from forecaster.model.features import clean, track_facts, usable_records
from forecaster.model.parameters import Parameters
from forecaster.model.projection import project
from forecaster.model.segments import base_rate
from forecaster.views.chart import (
    CHART_ENDINGS,
    Picture,
    as_text,
    check_chart_path,
    picture,
    text,
    write_chart,
)
from forecaster.views.track import Diagnosis
from tests import reference
from tests.catalogues import daily_frame, days, mldr_frame
from tests.needs import chromium
from tests.reference import Mldr, Row

LAST = date(2024, 6, 30)


def diagnosis(rows: list[Row], *, mldr: float = 0.1, **options: Any) -> Diagnosis:
    """Of the one track in `rows`, without a server."""
    daily, parameters = clean(daily_frame(rows)), Parameters(**options)
    rates = mldr_frame([Mldr(1, mldr, 1, None)]).select("cm_artist_id", "mldr")
    track = build_tracks(usable_records(daily), track_facts(daily), rates, parameters).collect()
    assert track["reason"].to_list() == [None]
    base = track.select(base_rate(pl.col("influence_range"), j).alias(str(j)) for j in range(1, 13)).row(0)
    forecasts = project(track.lazy(), horizon=parameters.horizon).with_columns(
        pl.col("forecasted_value").round().cast(pl.Int64)
    )
    row = track.row(0, named=True)
    adjusted = tuple((rate, rate * row["multiplier"]) for rate in base)
    history = daily.select("date", "daily_streams").sort("date").collect()
    return Diagnosis(row, forecasts.collect(), adjusted, history)


def falling(number: int, *, first_age: int | None = None, last: date = LAST) -> list[Row]:
    """So many days up to the last one, each with a hundredth less streams than the one before."""
    first = last - timedelta(days=number - 1)
    return days([1000.0 * 0.99**day for day in range(number)], first=first, first_age=first_age)


def drawn(rows: list[Row], **options: Any) -> Picture:
    found = diagnosis(rows, **options)
    return picture(found, found.history)


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
    facts = got.subtitle.split(" · ")
    assert facts[4:] == ([said] if said else [])
    assert len(facts[:4]) == 4
    assert not windows or got.history["last_day"][-1] == LAST


def test_the_title_and_the_subtitle_name_what_the_forecast_follows_from() -> None:
    found = diagnosis(falling(400))
    total = found.forecasts["forecasted_value"].sum()
    got = picture(found, found.history)
    assert got.title == "Track 1 · artist 1"
    assert got.subtitle == (
        f"24 months: {total:,} streams · k {found.track['k']:.4g} · MLDR 0.1 · "
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


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (days([2.0**58] * 200, first=LAST - timedelta(days=199)), {}),
        (days([1.7e308] * 60 + [2.0**58] * 400), {"horizon": 1}),
        (days([0.0] * 200), {}),
        (days([0.01] * 200), {}),
        (days([-50.0] * 100 + [10.0] * 400), {}),
        (days([5.0], first_age=40), {"horizon": 400}),
        (days([5.0] * 390, first=date(1, 1, 1)), {"horizon": 1}),
        (falling(400, last=date(9999, 12, 31) - timedelta(days=360)), {"horizon": 12}),
    ],
    ids=["2^63", "overflow", "nothing", "hundredths", "negative", "one day", "the first year", "the last"],
)
def test_whatever_can_be_forecast_can_be_drawn(
    rows: list[Row], options: dict[str, Any], tmp_path: Path
) -> None:
    got = drawn(rows, **options)
    write_chart(got, tmp_path / "chart.svg")
    texts = [text.text or "" for text in svg(tmp_path / "chart.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {got.title, got.subtitle, f"as of {got.as_of}", "base curve"} < set(texts)
    assert ("30-day totals" in texts) == (len(got.history) > 0)
    # Half a stream is no mark on the axis, and nothing is not a number.
    assert not [text for text in texts if text.endswith("m") or "NaN" in text or "Infinity" in text]
    assert "NaN" not in (tmp_path / "chart.svg").read_text("utf-8")
    _, plot, rates = parts(as_text(got, width=100, height=24, color=False).splitlines())
    assert {len(line) for line in plot[:-1]} == {100}
    assert len(rates) >= 1


def svg(path: Path) -> ET.Element:
    return ET.parse(path).getroot()


@pytest.mark.parametrize("ending", [".svg", ".PNG"])  # HTML: see what a browser makes of it
def test_the_ending_says_what_is_written(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"track{ending}"
    write_chart(drawn(falling(200)), path)
    data = path.read_bytes()
    if ending == ".svg":
        assert ET.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"
    else:
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
        assert 1750 < width < 1850
        assert 800 < height < 950


@pytest.mark.parametrize("ending", [*CHART_ENDINGS, ".Html", ".SVG"])
def test_known_endings_are_known_in_any_case(ending: str, tmp_path: Path) -> None:
    check_chart_path(tmp_path / f"chart{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["chart.jpg", "chart", "chart.svg.gz", ".png"])
def test_another_ending_is_refused_with_those_that_are_known(name: str, tmp_path: Path) -> None:
    for refusing in (check_chart_path, lambda path: write_chart(drawn(falling(40)), path)):
        with pytest.raises(InvalidOptionError, match="does not say") as caught:
            refusing(tmp_path / name)
        assert caught.value.hint == "known are .html, .png, .svg"
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_missing_is_said_early(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="no directory"):
        check_chart_path(tmp_path / "missing" / "chart.svg")


def elsewhere(script: str, got: Picture, **environ: str) -> str:
    """What a process of its own prints, with the picture in `picture` and the names of the module."""
    start = "import pickle, sys\nfrom pathlib import Path\n"
    load = "from forecaster.views.chart import *\npicture = pickle.load(sys.stdin.buffer)\n"
    done = subprocess.run(
        [sys.executable, "-c", start + script.replace("LOAD\n", load)],
        check=True,
        input=pickle.dumps(got),
        stdout=subprocess.PIPE,
        env=os.environ | environ,
    )
    return done.stdout.decode()


def test_the_same_picture_gives_the_same_bytes_in_any_time_zone(tmp_path: Path) -> None:
    got, path = drawn(falling(200)), tmp_path / "there.svg"
    elsewhere(f"LOAD\nwrite_chart(picture, Path({str(path)!r}))", got, TZ="America/Los_Angeles")
    write_chart(drawn(falling(40), horizon=400), tmp_path / "here.svg")  # leaves nothing behind
    write_chart(got, tmp_path / "here.svg")
    assert (tmp_path / "here.svg").read_bytes() == path.read_bytes()


def test_a_missing_extra_is_named() -> None:
    script = """
class Blocker:
    blocked = {"altair", "vl_convert", "plotext"}
    def find_spec(self, name, path=None, target=None):
        if name in self.blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
LOAD
from forecaster.errors import MissingExtraError

def say(draw):
    try:
        draw()
    except MissingExtraError as error:
        print(error, error.hint, sep="; ")

say(lambda: as_text(picture, width=80, height=24, color=False))
say(lambda: check_chart_path(Path("chart.svg")))
Blocker.blocked = {"vl_convert"}
say(lambda: write_chart(picture, Path("chart.svg")))
"""
    told = "drawing this needs the extra '{0}', which is not installed (No module named '{1}'); "
    told += "pip install 'forecaster[{0}]'"
    assert elsewhere(script, drawn(falling(40))).splitlines() == [
        told.format(extra, module)
        for extra, module in (("term", "plotext"), ("plot", "altair"), ("plot", "vl_convert"))
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program = chromium(playwright.chromium.executable_path)
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """One that is offline, in a time zone far from UTC, and may neither complain nor ask for more."""
    events: list[str] = []
    context = browser.new_context(offline=True, timezone_id="America/Los_Angeles")
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("console", lambda message: events.append(message.text))
    page.on("pageerror", lambda error: events.append(error.message))
    page.on("request", lambda request: events.append(request.url))
    yield page
    assert events == [page.url]
    context.close()


def told(page: Page) -> list[str]:
    """What the tooltip says."""
    tooltip = page.locator("#vg-tooltip-element.visible")
    return [line.strip() for line in tooltip.inner_text().splitlines() if line.strip()]


def test_the_page_draws_itself_without_a_network(page: Page, tmp_path: Path) -> None:
    got = drawn(falling(900, first_age=10), horizon=400)
    path = tmp_path / "chart.html"
    write_chart(got, path)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", path.read_text("utf-8"))
    page.goto(path.as_uri())
    page.wait_for_selector("#chart svg.marks")
    assert page.title() == got.title
    assert page.locator(".vega-actions a").all_text_contents() == ["Save as SVG", "Save as PNG"]
    assert page.locator("g.mark-line > path").count() == 3
    bands = page.locator("g.mark-rect > path")
    assert bands.count() == len(got.bands)
    points = page.locator("g.mark-symbol[role=graphics-object] > path")
    assert points.count() == len(got.history) + 400

    points.last.hover(force=True)  # the others lie below it
    month = got.forecast.row(-1, named=True)
    assert told(page) == [
        *("month", "400", "days", f"{month['first_day']} to {month['last_day']}"),
        *("streams", f"{month['streams']:,}", "streams, base curve", f"{month['base_streams']:,.0f}"),
        *("segment", str(month["segment"]), "month since release", str(month["months_since_release"])),
        *("base rate per month", f"{month['base_rate']:.6f}", "rate per month", f"{month['rate']:.6f}"),
    ]
    # The first band has no room for a label.
    labels = {*page.locator("svg.marks text").all_text_contents()}
    assert "segment 12" in labels
    assert not {"segment 10", "10"} & labels
    bands.first.hover(force=True)
    segment, first, last, base, rate = got.bands.row(0)
    assert told(page) == [
        *("lifecycle", f"segment {segment}", "days", f"{first} to {last}"),
        *("base rate per month", f"{base:.6f}", "rate per month", f"{rate:.6f}"),
    ]


def test_the_page_fits_narrow_screens_and_follows_the_colour_scheme(page: Page, tmp_path: Path) -> None:
    got = drawn(falling(3000, first_age=10), horizon=60)
    write_chart(got, tmp_path / "chart.html")

    def see(width: int, ink: str, background: str) -> None:
        """Wait until the page has drawn itself anew, and look at its colours and where it ends."""
        subtitle = page.locator(f".role-title-subtitle text[fill='{ink}']")
        subtitle.wait_for()
        for place in ("body", "svg.marks"):
            color = page.locator(place).evaluate("place => getComputedStyle(place).backgroundColor")
            assert color == background
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert 0.8 * width < page.locator("svg.marks").evaluate("svg => svg.getBoundingClientRect().width")
        ends = "texts => Math.max(...texts.map(text => text.getBoundingClientRect().right))"
        assert page.locator("svg.marks text").evaluate_all(ends) < width
        assert (subtitle.text_content() == got.subtitle) == (width == 1000)

    page.set_viewport_size({"width": 360, "height": 640})
    page.emulate_media(color_scheme="dark")
    page.goto((tmp_path / "chart.html").as_uri())
    see(360, "#E5E7EA", "rgb(26, 29, 33)")
    page.emulate_media(color_scheme="light")
    see(360, "#222222", "rgb(255, 255, 255)")
    page.set_viewport_size({"width": 1000, "height": 640})
    page.get_by_text(got.subtitle).wait_for()
    see(1000, "#222222", "rgb(255, 255, 255)")


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


def parts(lines: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What is above the plot, the plot with the row of the segments, what is below it."""
    top = next(i for i, line in enumerate(lines) if "┌" in line)
    bottom = next(i for i, line in enumerate(lines) if "└" in line) + 3
    return lines[:top], lines[top:bottom], lines[bottom:]


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
    assert legend == ("⠒⠒ 30-day totals  •• forecast  ·· base curve  ┊ as of 2024-06-30  │1│ segment")
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
    assert [text._short(value) for value in (0, -999, 1500, 2e6, 1.25e9, 9e18)] == [
        "0", "-999", "1.5k", "2M", "1.25B", "9E",
    ]  # fmt: skip
