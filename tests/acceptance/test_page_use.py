"""The page of a catalogue is used: sorted, searched, opened, on a phone, on paper, in light and dark."""

import polars as pl
import pytest

from tests.pages import TRACKS
from tests.seen import CONTRAST, MINUS, NONE, Opener, listed, overflow, texts, whole


def number(words: str) -> float:
    return float(words.rstrip("KMBT")) * {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}.get(words[-1], 1)


def test_every_column_sorts_both_ways_with_nothing_last(show: Opener, frame: pl.DataFrame) -> None:
    page = show()
    ids = {"Track": "cm_track_id", "Artist": "cm_artist_id"}
    for name, column in {**ids, "Forecast total": "total"}.items():
        for direction in ("ascending", "descending") if name in ids else ("descending", "ascending"):
            page.click(f"#list th button:text-is('{name}')")
            assert page.locator("#list th[aria-sort]").get_attribute("aria-sort") == direction
            values = frame[column].sort(descending=direction == "descending", nulls_last=True).head(50)
            assert listed(page, name) == ([f"{value}" for value in values] if name in ids else whole(values))
    page.click("#last")
    assert {*listed(page, "Forecast total")} == {NONE}
    for name in ("State", "Forecast from", "Age", "Segment", "Influence", "Last 30", "Months", "Change"):
        page.focus(f"#list th button:text-is('{name}')")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.textContent") == name
    shown = [
        float(change.rstrip("%").replace(",", "").replace(MINUS, "-")) for change in listed(page, "Change")
    ]
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == 50


def test_tracks_are_found_by_their_ids_and_states(show: Opener, frame: pl.DataFrame) -> None:
    page = show()

    def found(query: str, state: str = "") -> int:
        page.fill("#search", query)
        page.select_option("#state", state)
        return int(page.inner_text("#found").split()[0].replace(",", ""))

    track_id, artist_id = (pl.col(name).cast(pl.String) for name in ("cm_track_id", "cm_artist_id"))
    skipped = pl.col("reason").is_not_null()
    assert found("") == TRACKS
    assert found("track 151") == 1
    assert listed(page) == ["151"]
    assert found("Artist 12") == frame.filter(artist_id == "12").height
    assert {*listed(page, "Artist")} == {"12"}
    begins = track_id.str.starts_with("151") | artist_id.str.starts_with("151")
    assert found("151") == frame.filter(begins).height
    assert found("no_mldr") == found("", "no_mldr") == frame.filter(skipped).height
    assert {*listed(page, "State")} == {"skipped: no_mldr"}
    assert found("1 skipped") == frame.filter(
        skipped & (track_id.str.starts_with("1") | artist_id.str.starts_with("1"))
    ).height  # fmt: skip
    assert found("no such") == 0
    assert page.inner_text("#nothing") == "No track matches."
    page.click("#reasons button >> nth=0")
    assert page.inner_text("#at").endswith(f"of {frame.filter(skipped).height}")


def test_a_track_opens_by_click_and_the_back_button_closes_it(show: Opener, frame: pl.DataFrame) -> None:
    page = show()
    row = frame.sort("total", descending=True, nulls_last=True).row(2, named=True)
    page.click("#list tbody tr:nth-child(3) a")
    dialog = page.locator("dialog[open]")
    assert dialog.locator("h2").inner_text() == f"Track {row['cm_track_id']}"
    facts = dict(zip(texts(page, "dialog dt"), texts(page, "dialog dd"), strict=True))
    assert facts["Forecast total"] == f"{row['total']:,.0f}"
    low, high = facts["80 % range of the total"].split(" to ")  # half and twice the total, three digits
    assert (number(low), number(high)) == pytest.approx((row["total"] / 2, row["total"] * 2), rel=0.005)
    assert facts["Streams, last 365 records"] == f"{row['streams_365']:,.0f}"
    assert facts["Stored"] == "2025-01-01 12:30 UTC"
    change = sum(row["forecast"][:12]) / sum(row["history"]) - 1
    assert facts["Change over twelve months"] == f"{change:+.1%}".replace("-", MINUS)
    assert dialog.locator("svg rect.past").count() == 12
    assert dialog.locator("svg rect:not(.past)").count() == 24
    page.go_back()
    page.wait_for_selector("dialog:not([open])", state="attached")
    page.click("#cards a >> nth=0")
    page.wait_for_selector("dialog[open]")  # it opens when the browser tells of the new address
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")
    page.wait_for_function("location.hash === ''")  # the browser tells of the close a moment later


def test_a_link_to_a_track_opens_it_and_an_unknown_one_says_so(show: Opener) -> None:
    page = show("#track-151")
    assert page.inner_text("dialog[open] h2") == "Track 151"
    page.click("dialog button:text-is('Next')")
    page.wait_for_selector("dialog[open] h2:not(:text-is('Track 151'))")
    page.click("#dialog-close")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("location.href").endswith("report.html")
    page.evaluate("location.hash = '#track-152'")
    page.wait_for_selector("dialog[open]")
    assert page.inner_text("dialog .dialog-head p") == "It is not in this catalogue."


@pytest.mark.parametrize("address", ["", "#track-1"])
def test_a_phone_shows_it_without_scrolling_sideways(show: Opener, address: str) -> None:
    page = show(address, width=360)
    assert overflow(page) <= 0
    assert page.evaluate(
        "(box => box.scrollWidth > box.clientWidth)(document.querySelector('.list .scroll'))"
    )
    rights = page.locator("#list th").evaluate_all(
        "heads => heads.map((head) => head.getBoundingClientRect().right)"
    )
    heads = [head for head, right in zip(texts(page, "#list th"), rights, strict=True) if right <= 360]
    assert heads[:3] == ["Track", "Forecast total", "Last 30"]


def test_paper_shows_it_in_light_colours_and_whole(show: Opener) -> None:
    page = show(width=690, dark=True)  # A4 less its margins
    page.emulate_media(media="print")
    assert overflow(page) <= 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".tools, .pager, #theme").filter(visible=True).count() == 0


def test_light_and_dark_can_both_be_read(show: Opener) -> None:
    pages = [show("#track-151", dark=dark) for dark in (False, True)]
    for page in pages:
        elements, lowest = page.evaluate(CONTRAST)
        assert elements > 500
        assert lowest >= 4.5
    light, dark = (page.evaluate("getComputedStyle(document.body).backgroundColor") for page in pages)
    assert light != dark
    pages[0].click("#dialog-close")
    pages[0].click("#theme")
    assert pages[0].evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert pages[0].evaluate(CONTRAST)[1] >= 4.5
    pages[0].reload()
    assert pages[0].evaluate("getComputedStyle(document.body).backgroundColor") == light


def test_the_artist_of_a_track_leads_to_its_other_tracks(show: Opener, frame: pl.DataFrame) -> None:
    page = show("#track-151")
    artist = page.inner_text("dialog .dialog-head p button")
    page.click("dialog .dialog-head p button")
    page.wait_for_selector("dialog:not([open])", state="attached")
    assert page.input_value("#search") == f"artist {artist}"
    assert {*listed(page, "Artist")} == {artist}
    assert len(listed(page)) == frame.filter(pl.col("cm_artist_id") == int(artist)).height


def test_pages_of_the_table_are_turned_up_to_its_ends(show: Opener) -> None:
    page = show()
    assert page.inner_text("#at") == f"1\N{EN DASH}50 of {TRACKS:,}"
    first = listed(page)
    page.click("#next")
    assert not {*first} & {*listed(page)}
    page.click("#previous")
    assert listed(page) == first
    assert page.locator("#first:disabled, #previous:disabled").count() == 2
    page.click("#last")
    assert page.locator("#next:disabled, #last:disabled").count() == 2
    assert page.inner_text("#at").endswith(f"{TRACKS:,} of {TRACKS:,}")
