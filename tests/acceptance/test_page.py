"""The page of a catalogue in a real browser without a network: what it shows, and that it can be used."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

from forecaster.scoring import BASELINES, GROUPS, METRICS, Evaluation, evaluate
from forecaster.views.catalogue import Catalogue
from forecaster.views.page import LARGEST_TRACKS, POINTS, render
from tests.imports import loaded_by
from tests.needs import chromium

TRACKS = 1_530
REAL_TRACKS = 8_459
NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
MEGABYTES_2 = 2_000_000
READ_AT = datetime(2025, 1, 2, 3, 4, tzinfo=UTC)
STORED_AT = datetime(2025, 1, 1, 12, 30, tzinfo=UTC)
Row = dict[str, Any]
SCHEMA: dict[str, type[pl.DataType] | pl.DataType] = {
    "cm_track_id": pl.Int64, "cm_artist_id": pl.Int64, "as_of": pl.Date, "months_since_release": pl.Int64,
    "streams_30": pl.Float64, "streams_365": pl.Float64, "influence_range": pl.Int64, "mldr": pl.Float64,
    "k": pl.Float64, "multiplier": pl.Float64, "reason": pl.String, "history": pl.List(pl.Float64),
    "forecast": pl.List(pl.Float64), "months": pl.Int64, "total": pl.Float64, "segment": pl.Int64,
    "created_at": pl.Datetime("us", "UTC"), "age": pl.Int64, "cutoff": pl.Date, "is_stale": pl.Boolean,
}  # fmt: skip
NO_STREAMS: Row = {
    "as_of": None, "months_since_release": None, "streams_30": None, "streams_365": None, "mldr": None,
    "influence_range": None, "k": None, "multiplier": None, "history": [],
}  # fmt: skip
NO_FORECAST: Row = {
    "forecast": [], "months": None, "total": None, "segment": None, "created_at": None, "age": None,
    "cutoff": None,
}  # fmt: skip


def track(track_id: int = 1, **columns: object) -> Row:
    """One good row with the columns given replaced; months and total follow from the forecast."""
    good: Row = {
        "cm_track_id": track_id, "cm_artist_id": 7, "as_of": date(2024, 12, 31), "months_since_release": 30,
        "streams_30": 1000.0, "streams_365": 13000.0, "influence_range": 1, "mldr": 0.03, "k": 0.01,
        "multiplier": 1.5, "reason": None, "history": [1100.0, 1000.0], "forecast": [900.0, 800.0, 700.0],
        "segment": 10, "created_at": STORED_AT, "age": 30, "cutoff": date(2024, 12, 31), "is_stale": False,
    }  # fmt: skip
    row = good | columns
    forecast = row["forecast"]
    return {"months": len(forecast) or None, "total": sum(forecast) if forecast else None} | row


def catalogue(
    *rows: Row,
    database: str = "postgresql://user@host:5432/music",
    schema: str = "public",
    tracks: pl.DataFrame | None = None,
    warnings: tuple[str, ...] = (),
) -> Catalogue:
    frame = pl.DataFrame([*rows], schema=pl.Schema(SCHEMA.items())) if tracks is None else tracks
    return Catalogue(database, schema, READ_AT, warnings, frame)


def synthetic(tracks: int, months: int) -> pl.DataFrame:
    """A catalogue of as much variety as a real one; every 50th track pending, every 75th skipped."""
    chance = np.random.default_rng(5)
    size = chance.lognormal(9, 3.5, tracks).round()
    history = (size[:, None] * chance.lognormal(0.05, 0.3, (tracks, 12))).round()
    decay = chance.gamma(2, 0.02, (tracks, 1)) * (1 + 3 / np.arange(1, months + 1))
    forecast = (size[:, None] * np.exp(-np.cumsum(decay, axis=1))).round()
    number = np.arange(tracks)
    frame = pl.DataFrame(
        {
            "cm_track_id": number * 3 + 1, "cm_artist_id": chance.integers(1, 1500, tracks),
            "months_since_release": chance.integers(1, 400, tracks), "streams_30": size,
            "streams_365": history.sum(axis=1), "influence_range": chance.integers(0, 10, tracks),
            "mldr": chance.normal(0.03, 0.02, tracks), "k": chance.gamma(1, 0.02, tracks),
            "multiplier": 1 + chance.gamma(1, 2, tracks), "history": history, "forecast": forecast,
            "segment": chance.integers(1, 13, tracks),
        }
    )  # fmt: skip
    pending, skipped = pl.lit(number % 50 == 49), pl.lit(number % 75 == 74)
    has = (pending | skipped).not_()
    return (
        frame.with_columns(pl.col("history", "forecast").arr.to_list())
        .with_columns(
            as_of=pl.lit(date(2024, 12, 31)),
            reason=pl.when(skipped).then(pl.lit("no_mldr")),
            mldr=pl.when(skipped.not_()).then("mldr"),
            forecast=pl.when(has).then("forecast").otherwise(pl.lit([], dtype=pl.List(pl.Float64))),
            segment=pl.when(has).then("segment"),
            created_at=pl.when(has).then(pl.lit(STORED_AT)),
            age=pl.when(has).then("months_since_release"),
            cutoff=pl.when(has).then(pl.lit(date(2024, 12, 31))),
            is_stale=pl.lit(value=False),
        )
        .with_columns(
            months=pl.when(has).then(pl.lit(months)), total=pl.when(has).then(pl.col("forecast").list.sum())
        )
        .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    )


ORIGIN = date(2023, 12, 31)


def evaluated(*, cutoffs: int = 1) -> Evaluation:
    """Forecasts of 30 tracks, one without streams: too high at first, too low in month 4.

    At the last cutoff the fifth month is not over.
    """
    chance = np.random.default_rng(3)
    tracks = chance.lognormal(8, 2, 30)
    tracks[0] = 0.0
    days = pl.DataFrame({"day": range(-400, 130)})
    numbered = pl.DataFrame({"cm_track_id": range(1, 31), "size": tracks})
    daily = numbered.join(days, how="cross").select(
        "cm_track_id",
        date=pl.lit(ORIGIN) + pl.duration(days="day"),
        daily_streams=(pl.col("size") * (-pl.col("day") / 300).exp()).round(),
    )  # fmt: skip
    months = pl.DataFrame({"month": range(1, 6), "factor": [1.5, 4.0, 1.0, 0.5, 1.0]})
    at = pl.DataFrame({"back": [60 * number for number in range(cutoffs)]})
    forecasts = numbered.join(months, how="cross").join(at, how="cross").select(
        "cm_track_id", "month",
        cutoff=pl.lit(ORIGIN) - pl.duration(days="back"),
        as_of=pl.lit(ORIGIN) - pl.duration(days="back"),
        forecasted_value=pl.col("size") * 30 * pl.col("factor"),
        segment_used=pl.when(pl.col("cm_track_id") == 1).then(3).otherwise(12),
    )  # fmt: skip
    return evaluate(forecasts, daily)


Opener = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program = chromium(playwright.chromium.executable_path)
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def windows(browser: Browser) -> Iterator[Opener]:
    """Pages without a network, one for each width, colour scheme and use of scripts: to start one is slow."""
    pages: dict[tuple[int, bool, bool], Page] = {}

    def window(width: int, *, dark: bool, scripts: bool) -> Page:
        if (width, dark, scripts) not in pages:
            context = browser.new_context(
                viewport={"width": width, "height": 800},
                color_scheme="dark" if dark else "light",
                java_script_enabled=scripts,
                offline=True,
            )
            pages[width, dark, scripts] = context.new_page()
            pages[width, dark, scripts].set_default_timeout(10_000)
        return pages[width, dark, scripts]

    yield window
    for page in pages.values():
        page.context.close()


@contextmanager
def opener(windows: Opener, path: Path) -> Iterator[Opener]:
    """Opens the page of a file; none may complain, or ask for anything but itself."""
    complaints: list[str] = []
    listened: set[Page] = set()

    def said(message: ConsoleMessage) -> None:
        complaints.append(message.text)

    def failed(error: Error) -> None:
        complaints.append(error.message)

    def requested(request: Request) -> None:
        if request.url.partition("#")[0] not in {path.as_uri(), "about:blank"}:
            complaints.append(request.url)

    def start(address: str = "", *, width: int = 1280, dark: bool = False, scripts: bool = True) -> Page:
        page = windows(width, dark=dark, scripts=scripts)
        page.emulate_media(media="screen")
        page.goto("about:blank")  # else an address with another fragment would not be loaded anew
        page.mouse.move(0, 0)
        if page not in listened:
            listened.add(page)
            page.on("console", said)
            page.on("pageerror", failed)
            page.on("request", requested)
        page.goto(path.as_uri() + address)
        if scripts:
            page.wait_for_selector("html[data-ready]")
            assert page.locator("#problem").is_hidden()
        return page

    yield start
    for page in listened:
        page.remove_listener("console", said)
        page.remove_listener("pageerror", failed)
        page.remove_listener("request", requested)
    assert complaints == []


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return synthetic(TRACKS, 24)


@pytest.fixture(scope="module")
def written(frame: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(catalogue(tracks=frame)), "utf-8")
    return path


@pytest.fixture
def show(windows: Opener, written: Path) -> Iterator[Opener]:
    """Opens the page of the synthetic catalogue."""
    with opener(windows, written) as start:
        yield start


@pytest.fixture
def show_other(windows: Opener, tmp_path: Path) -> Iterator[Opener]:
    """Opens the page of the catalogue that is given."""
    path = tmp_path / "other.html"
    with opener(windows, path) as start:

        def write_and_start(
            shown: Catalogue, address: str = "", *, evaluation: Evaluation | None = None, **window: Any
        ) -> Page:
            path.write_text(render(shown, evaluation), "utf-8")
            return start(address, **window)

        yield write_and_start


def count(page: Page, name: str) -> int:
    return int(page.inner_text(f"#count-{name}").replace(",", ""))


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def listed(page: Page, column: str = "Track") -> list[str]:
    heads = [head.strip("↓↑ ") for head in texts(page, "#list thead th")]
    return texts(page, f"#list tbody td:nth-child({heads.index(column) + 1})")


def whole(values: pl.Series) -> list[str]:
    return [f"{value:,.0f}" for value in values]


def overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def test_all_that_is_drawn_is_what_the_frame_holds(show: Opener, frame: pl.DataFrame) -> None:
    page = show()
    has = frame.filter(pl.col("months").is_not_null())
    reasons = frame.filter(pl.col("months").is_null())["reason"]
    assert [count(page, name) for name in ("tracks", "forecast", "pending", "skipped", "streams")] == [
        TRACKS, has.height, reasons.null_count(), reasons.count(), has["total"].sum(),
    ]  # fmt: skip
    assert page.inner_text("#source") == "postgresql://user@host:5432/music, read 2025-01-02 03:04 UTC"

    page.click("#totals summary")
    by_month = np.array(has["forecast"].to_list()).sum(axis=0)
    assert texts(page, "#totals td:nth-child(2)") == whole(pl.Series(by_month))
    assert page.locator("#totals svg rect").count() == 24

    by_segment = has.group_by("segment").len().sort("segment")["len"]
    assert texts(page, "#segments tbody tr:not(.rest) td:nth-child(3)") == whole(by_segment)
    by_range = frame.group_by("influence_range").agg(pl.len(), pl.col("total").sum()).sort("influence_range")
    assert texts(page, "#ranges td:nth-child(3)") == whole(by_range["len"])
    shares = by_range["total"] / by_range["total"].sum()
    assert texts(page, "#ranges td:nth-child(5)") == [f"{share:.1%}" for share in shares]
    assert "from 950,000" in page.inner_text("#ranges tbody tr:last-child th")

    assert texts(page, "#reasons td") == whole(pl.Series([reasons.count(), 0, 0, 0, reasons.null_count()]))
    largest = has.sort("total", descending=True)["cm_track_id"].head(12)
    assert texts(page, "#cards h3") == [f"Track {number}" for number in largest]


def test_months_are_read_with_the_pointer_and_the_arrow_keys(show: Opener, frame: pl.DataFrame) -> None:
    page = show()
    page.hover("#totals svg", position={"x": 50, "y": 100})
    first, last = (frame["forecast"].list.get(at, null_on_oob=True).sum() for at in (0, 23))
    assert page.inner_text("#totals .tip").splitlines()[:2] == ["Month 1", f"{first:,.0f} streams"]
    page.focus("#totals svg")
    page.keyboard.press("End")
    assert page.inner_text("#totals .tip").splitlines()[:2] == ["Month 24", f"{last:,.0f} streams"]


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


# The lowest contrast of any text with what lies behind it, of all that is shown and not switched off.
CONTRAST = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).slice(0, 3).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((parts(colour)[3] ?? 1) === 1) return colour;
    }
    throw new Error("nothing behind");
  };
  const ratios = [...document.querySelectorAll("body *")]
    .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .filter((element) => element.getClientRects().length && !element.disabled)
    .map((element) => {
      const style = getComputedStyle(element);
      const colour = element instanceof SVGElement ? style.fill : style.color;
      const [a, b] = [light(colour), light(behind(element))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
  return [ratios.length, Math.min(...ratios)];
}"""


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


STALE: Row = {
    "as_of": date(2024, 12, 31), "cutoff": date(2024, 10, 17), "is_stale": True,  # 75 days
    "age": 27, "months_since_release": 30, "segment": 9, "history": [1000.0] * 12, "forecast": [900.0] * 24,
}  # fmt: skip


def facts(page: Page, title: str) -> dict[str, str]:
    place = f"dialog h3:text-is('{title}') + dl"
    return dict(zip(texts(page, f"{place} dt"), texts(page, f"{place} dd"), strict=True))


def test_a_stale_forecast_is_told_from_the_streams_as_they_are_now(show_other: Opener) -> None:
    fresh, without = track(2), track(3, reason="no_mldr", months_since_release=5, **NO_FORECAST)
    page = show_other(catalogue(track(1, **STALE), fresh, without), "#track-1")
    assert "knew the streams up to 2024-10-17; streams up to 2024-12-31" in page.inner_text("dialog .stale")
    stored, now = facts(page, "Forecast, as it is stored"), facts(page, "Now, from the streams as they are")
    assert (stored["Forecast from"], stored["Age in months"], stored["Segment"]) == ("2024-10-17", "27", "9")
    assert (now["As of"], now["Age in months, now"]) == ("2024-12-31", "30")
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
    assert "of 3 to 24 months" in page.inner_text(".counts")
    page.evaluate("location.hash = '#track-2'")
    page.wait_for_selector("dialog[open]")
    assert page.locator("dialog .stale").count() == 0


def test_warnings_are_shown_where_there_are_any(show_other: Opener) -> None:
    words = "tracks of <b>: 2; `forecaster run --schema '<i>'` and `forecaster init` mend them"
    page = show_other(catalogue(track(), warnings=(words, "more")), width=360, dark=True)
    assert texts(page, ".warnings p") == [f"Warning: {words.replace('`', '')}", "Warning: more"]
    assert texts(page, ".warnings code") == ["forecaster run --schema '<i>'", "forecaster init"]
    assert overflow(page) <= 0
    assert page.evaluate(CONTRAST)[1] >= 4.5
    assert show_other(catalogue(track())).locator(".warnings").count() == 0


def test_totals_that_no_float_holds_are_exact(show_other: Opener) -> None:
    most = float(2**62)
    rows = [track(1, forecast=[2.0**53, 1.0]), track(2, forecast=[most, 1.0, 1.0]), track(3, forecast=[5.0])]
    page = show_other(catalogue(*rows), "#track-1")
    assert facts(page, "Forecast, as it is stored")["Forecast total"] == f"{2**53 + 1:,}"
    page.click("#dialog-close")
    assert listed(page, "Forecast total") == [f"{2**62 + 2:,}", f"{2**53 + 1:,}", "5"]
    assert count(page, "streams") == 2**62 + 2**53 + 8
    page.click("#totals summary")
    assert column(page, "#totals", "Streams") == [f"{2**62 + 2**53 + 5:,}", "2", "1"]
    title = page.get_attribute("#segments tbody td[title]:not([title='0 streams'])", "title")
    assert title == f"{2**62 + 2**53 + 8:,} streams"


def test_without_scripts_the_counts_are_there_and_the_rest_is_explained(show: Opener) -> None:
    page = show(scripts=False)
    assert count(page, "tracks") == TRACKS
    assert "switched off" in page.inner_text("main")


def test_names_are_text_whatever_they_hold(show_other: Opener) -> None:
    schema = """</script><script>document.title = "x"</script>"' {{rows}} <!-- & </title>"""
    page = show_other(catalogue(track(reason="<b>&</script>"), database=f"{schema}@host", schema=schema))
    assert page.inner_text("h1") == f"Catalogue {schema}"
    assert page.title() == f"Catalogue {schema}"
    assert page.inner_text("#source").startswith(f"{schema}@host")
    assert "<b>&</script>" in page.inner_text("#reasons")


def test_a_page_of_8459_tracks_is_no_larger_than_2_megabytes(show_other: Opener, tmp_path: Path) -> None:
    frame = synthetic(REAL_TRACKS, 400)
    page = show_other(catalogue(tracks=frame), "#track-1")
    assert (tmp_path / "other.html").stat().st_size <= MEGABYTES_2
    last = frame["forecast"].list.get(399, null_on_oob=True).sum()
    totals = page.locator("#totals tbody tr:last-child td").all_text_contents()
    assert totals[:2] == ["400", f"{last:,.0f}"]
    drawn = page.locator("dialog tbody td:first-child").all_text_contents()[12:]
    assert (len(drawn), drawn[0], drawn[-1]) == (POINTS, "1", "400")


def test_of_a_big_catalogue_the_largest_are_listed_and_all_are_counted(show_other: Opener) -> None:
    frame = synthetic(LARGEST_TRACKS + 500, 1)
    page = show_other(catalogue(tracks=frame))
    assert count(page, "tracks") == frame.height
    assert count(page, "streams") == frame["total"].sum()
    assert "20,500" in page.inner_text("#tracks-note")
    assert page.inner_text("#found") == "20,000 tracks"
    without = frame.filter(pl.col("total").is_null()).sort("streams_30")["cm_track_id"]
    for number, title in ((without[-1], "Artist"), (without[0], "It is not among the 20,000 largest")):
        page.evaluate(f"location.hash = '#track-{number}'")
        page.wait_for_selector(f"dialog[open] h2:text-is('Track {number}')")
        assert page.inner_text("dialog .dialog-head p").startswith(title)


def percent(values: pl.Series, sign: str = "") -> list[str]:
    """As the page writes them: negative numbers have a true minus sign, none has a sign for zero."""
    written = (NONE if value is None else f"{value:{sign}.1%}" for value in values)
    return [{"+0.0%": "0.0%", "-0.0%": "0.0%"}.get(value, value).replace("-", MINUS) for value in written]


def column(page: Page, place: str, name: str) -> list[str]:
    number = texts(page, f"{place} thead th").index(name) + 1
    return texts(page, f"{place} tbody tr > :nth-child({number})")


def test_an_evaluation_says_how_good_the_forecasts_were(show_other: Opener) -> None:
    evaluation = evaluated(cutoffs=2)
    page = show_other(catalogue(track()), evaluation=evaluation, width=690)  # paper
    own = evaluation.overall.head(1)
    assert page.locator("section:has(#totals) + #evaluation").count() == 1
    best = evaluation.best_baseline.replace("_", " ")
    for name, value, more in (
        ("wape", percent(own["wape"])[0], ""),
        ("bias", percent(own["bias"], "+")[0], "too high"),
        ("within_20", percent(own["within_20"])[0], "of 60 series"),
        ("skill", percent(own["skill"], "+")[0], best),
        ("windows", f"{evaluation.windows_scored}", f"{sum(evaluation.left_out.values())} left out"),
    ):
        assert page.inner_text(f"#score-{name} dd").startswith(value)
        assert more in page.inner_text(f"#score-{name} small")
    note = page.inner_text("#scored-note")
    assert f"Worst cutoff: {evaluation.worst_cutoff}" in note
    assert f"{evaluation.left_out['not_over']} not_over" in note

    assert column(page, "#models", "WAPE") == percent(evaluation.overall["wape"])
    assert column(page, "#models", "Model")[1:] == [name.replace("_", " ") for name in BASELINES]
    frames = (evaluation.by_segment, evaluation.by_influence, evaluation.by_volume, evaluation.by_cutoff)
    for number, frame in enumerate(frames, start=1):
        box = f"#score-groups .box:nth-child({number})"
        assert column(page, box, "WAPE") == percent(frame["wape"])
        assert column(page, box, "Bias") == percent(frame["bias"], "+")
        assert column(page, box, "Series") == whole(frame["series"])
    assert column(page, "#score-groups .box:nth-child(1)", "WAPE")[0] == NONE  # nothing came of that track
    titles = page.locator("#models thead [title]").evaluate_all("heads => heads.map((head) => head.title)")
    assert {*titles} - {"tracks at a cutoff"} < {metric.formula for metric in METRICS.values()}
    assert len(titles) == 12
    page.click("#formulas summary")
    assert {*titles, *BASELINES.values()} - {"tracks at a cutoff"} <= {*texts(page, "#formulas dd")}
    page.emulate_media(media="print")
    assert overflow(page) <= 0


def test_the_error_of_each_month_ahead_is_drawn_and_can_be_read(show_other: Opener) -> None:
    evaluation = evaluated()
    by_month = evaluation.by_month
    page = show_other(catalogue(track()), evaluation=evaluation, width=360, dark=True)
    assert by_month["month"].to_list() == [1, 2, 3, 4]
    assert page.locator("#errors .chart path.error-line").count() == 1 + len(BASELINES)
    up, down = page.evaluate("""() => {
      const box = (element) => element.getBoundingClientRect();
      const bars = [...document.querySelectorAll("#errors rect.bar")].map(box);
      const zero = box([...document.querySelectorAll("#errors .base")].at(-1)).top;
      return [bars.map((bar) => bar.top < zero - 1), bars.map((bar) => bar.bottom > zero + 1)];
    }""")
    assert up == (by_month["bias"] > 0).to_list() == [True, True, True, False]
    assert down == [not above for above in up]
    page.hover("#errors .chart svg", position={"x": 70, "y": 100})
    tip = page.inner_text("#errors .tip").splitlines()
    assert tip[:2] == ["Month 1", f"WAPE {percent(by_month['wape'])[0]}"]
    page.focus("#errors .chart svg")
    page.keyboard.press("End")
    tip = page.inner_text("#errors .tip").splitlines()
    assert tip[0] == "Month 4"
    assert tip[2] == f"Bias {percent(by_month['bias'], '+')[3]}, too low"
    names = {name: name.replace("_", " ") for name in BASELINES}
    rivals = {name: percent(by_month[f"wape_{name}"]) for name in BASELINES}
    assert tip[3:7] == [f"{names[name]} {rivals[name][3]}" for name in BASELINES]
    assert f"{names[evaluation.best_baseline]} (best baseline)" in texts(page, "#errors .key .line")
    page.click("#errors summary")
    for name in BASELINES:
        assert column(page, "#errors", names[name]) == rivals[name]
    assert page.locator("#score-groups .box").count() == 3  # one cutoff needs no table
    assert overflow(page) <= 0
    assert page.evaluate(CONTRAST)[1] >= 4.5


def test_an_evaluation_that_hurts_is_drawn(show_other: Opener) -> None:
    number = pl.selectors.float()
    good = evaluated()
    none = {name: getattr(good, name).with_columns(number * np.nan) for name in ("overall", *GROUPS)}
    name = "</script><b>&"
    undefined = replace(good, **none, left_out={name: 1}, worst_cutoff=None)
    huge = {name: getattr(good, name).with_columns(number * 1e200) for name in ("overall", *GROUPS)}
    long = pl.concat([good.by_month.with_columns(month=pl.lit(month)) for month in range(1, 401)])
    long = long.unique("month", keep="first", maintain_order=True).with_columns(
        wape=pl.when(pl.col("month") % 7 > 0).then("wape"), wape_last_30_days=pl.lit(1e6)
    )
    for evaluation in (undefined, replace(good, **huge), replace(good, by_month=long)):
        shown = catalogue(track())
        page = show_other(shown, evaluation=evaluation, width=360)
        if evaluation is undefined:
            assert page.inner_text("#errors .empty") == "There is nothing to draw."
            assert {*column(page, "#models", "WAPE")} == {NONE}
            assert name in page.inner_text("#scored-note")
        else:
            page.focus("#errors .chart svg")
            page.keyboard.press("Home")
            assert page.inner_text("#errors .tip b") == "Month 1"
        assert not re.search("NaN|Infinity|undefined|null", page.inner_html("#evaluation"))
        assert overflow(page) <= 0
        assert render(shown, evaluation) == render(shown, evaluation)
    assert "leave the chart" in page.inner_text("#errors")


def test_without_an_evaluation_nothing_is_said_of_one() -> None:
    page = render(catalogue(track()))
    assert not re.search("evaluation|error-line|WAPE|[{]{2}", page)
    assert "error-line" in render(catalogue(track()), evaluated())


HURT = {
    "one track": [track()],
    "no forecasts": [track(1, **NO_FORECAST), track(2, reason="too_young", **NO_FORECAST)],
    "no streams": [track(1, **NO_STREAMS), track(2, **NO_STREAMS, cm_artist_id=None)],
    "stored before it was skipped": [track(reason="several_artists")],
    "differing lengths": [track(1, forecast=[5.0]), track(2, forecast=[3.0] * 90), track(3, **NO_FORECAST)],
    "zero streams": [track(streams_30=0.0, streams_365=0.0, history=[0.0] * 12, forecast=[0.0] * 12)],
    "huge": [track(number, forecast=[1e19, 3e18], history=[1e19], streams_30=1e19) for number in (1, 2)],
    "no numbers": [
        track(1, streams_30=np.nan, history=[np.nan, 5.0], forecast=[2.0, np.nan, 1.0], total=np.nan),
        track(2, forecast=[np.nan], k=np.inf, mldr=-np.inf, total=np.inf),
    ],
    "ids at the limits": [track(number) for number in (-(2**63), -5, 0, 2**63 - 2, 2**63 - 1)],
    "stale": [
        track(1, **STALE | {"cutoff": date(1, 1, 1)}),
        track(2, **STALE | {"as_of": date(9999, 12, 31), "forecast": [7.0]}),
        track(3, cutoff=date(2025, 12, 31)),
        track(4, **STALE | {"history": []}),
    ],
    "outside the tables": [track(segment=13, influence_range=None)],
}  # fmt: skip


@pytest.mark.parametrize("rows", HURT.values(), ids=HURT)
def test_what_hurts_is_drawn(rows: list[Row], show_other: Opener) -> None:
    shown = catalogue(*rows)
    ids = [f"{row['cm_track_id']}" for row in rows]
    page = show_other(shown, f"#track-{ids[0]}", width=360)
    assert page.inner_text("dialog[open] h2") == f"Track {ids[0]}"
    assert page.locator("dialog .tip, dialog .empty").count() == 1
    page.click("#dialog-close")
    page.click("#list th button:text-is('Track')")
    assert listed(page) == ids
    has = [row for row in rows if row["forecast"]]
    assert (count(page, "tracks"), count(page, "forecast")) == (len(rows), len(has))
    total = np.nansum([value for row in has for value in row["forecast"]])
    assert count(page, "streams") == total
    assert not {"NaN", "Infinity", "undefined", "null"} & {*page.inner_text("body").split()}
    assert overflow(page) <= 0
    assert render(shown) == render(shown)


def test_streams_that_no_sum_can_hold_are_left_out(show_other: Opener) -> None:
    beyond = {"forecast": [1e308] * 3, "history": [1e308] * 12, "streams_30": 1e308, "streams_365": 1.7e308}
    tiny = {"forecast": [1e10] * 12, "history": [5e-324] * 12}
    page = show_other(catalogue(track(1, **beyond), track(2, **beyond), track(3), track(4, **tiny)))
    assert count(page, "streams") == 2_400 + 12e10
    assert not {"NaN", "Infinity", "undefined", "null"} & {*page.inner_text("body").split()}
    assert overflow(page) <= 0


def test_rendering_loads_neither_drivers_nor_a_library_of_charts() -> None:
    loaded = loaded_by("from forecaster.views.page import render")
    assert "polars" in loaded
    assert not {"connectorx", "adbc_driver_manager", "adbc_driver_postgresql", "altair", "pyarrow"} & loaded
