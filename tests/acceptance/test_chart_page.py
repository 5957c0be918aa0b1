"""The page of one track in a real browser without a network."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from forecaster.process.numbers import short_range
from forecaster.views.chart import write_chart
from tests.pictures import drawn, falling


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
        *("streams", f"{month['streams']:,}"),
        *("segment", str(month["segment"]), "month since release", str(month["months_since_release"])),
        *("80 % range", short_range(month["q10"], month["q90"])),
        *("95 % range", short_range(month["q025"], month["q975"])),
        *("streams, base curve", f"{month['base_streams']:,.0f}"),
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
