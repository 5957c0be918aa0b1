"""A stale forecast on the page is told from the streams as they are now."""

import pytest

from tests.pages import NO_FORECAST, STALE, catalogue, track
from tests.seen import NONE, Opener, column, count, facts, listed, overflow


def test_a_stale_forecast_is_told_from_the_streams_as_they_are_now(show_other: Opener) -> None:
    fresh, without = track(2), track(3, reason="no_mldr", months_since_release=5, **NO_FORECAST)
    page = show_other(catalogue(track(1, **STALE), fresh, without), "#track-1")
    assert "used streams up to 2024-10-17; there are streams up to 2024-12-31 now" in page.inner_text(
        "dialog .stale"
    )
    stored, now = facts(page, "Stored forecast"), facts(page, "Now, from the current streams")
    assert (stored["Forecast from"], stored["Age in months"], stored["Segment"]) == ("2024-10-17", "27", "9")
    assert (now["As of"], now["Current age in months"]) == ("2024-12-31", "30")
    assert stored["Change over twelve months"] == NONE
    page.click("dialog summary")
    ends = dict(zip(column(page, "dialog", "Month"), column(page, "dialog", "30 days to"), strict=True))
    last, first = (page.locator("dialog tbody td:first-child").nth(at).inner_text() for at in (11, 12))
    assert (ends[last], ends[first]) == ("2024-12-31", "2024-11-16")

    bars, dots = (
        page.locator(f"dialog svg {shape}").evaluate_all(
            "shapes => shapes.map((shape) => shape.getBBox()).map((box) => box.x + box.width / 2)"
        )
        for shape in ("rect.past", "circle")
    )
    slot = bars[1] - bars[0]
    assert (len(bars), len(dots)) == (12, 24)
    assert dots[0] == pytest.approx(bars[-1] + slot * (1 - 75 / 30), abs=0.1)
    assert overflow(page) <= 0
    page.click("#dialog-close")
    page.click("#list th button:text-is('Track')")
    assert listed(page, "State") == ["stale", "forecast", "skipped: no_mldr"]
    assert listed(page, "Forecast from") == ["2024-10-17", "2024-12-31", NONE]
    assert listed(page, "Age") == ["27", "30", "5"]
    assert [count(page, name) for name in ("forecast", "pending", "skipped")] == [2, 0, 1]
    page.select_option("#state", "stale")
    assert listed(page) == ["1"]
    assert "over 3 to 24 months" in page.inner_text(".counts")
    page.evaluate("location.hash = '#track-2'")
    page.wait_for_selector("dialog[open]")
    assert page.locator("dialog .stale").count() == 0
