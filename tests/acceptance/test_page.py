"""The page of a catalogue: what it shows is what the frame holds."""

from pathlib import Path

import numpy as np
import polars as pl

from forecaster.model.eligibility import REASONS
from forecaster.process.numbers import short
from forecaster.views.page import LARGEST_TRACKS, POINTS
from tests.imports import loaded_by
from tests.pages import TRACKS, catalogue, synthetic, track
from tests.seen import CONTRAST, Opener, column, count, facts, listed, overflow, texts, whole

REAL_TRACKS = 8_459
MEGABYTES_2 = 2_000_000


def test_all_that_is_drawn_is_what_the_frame_holds(show: Opener, frame: pl.DataFrame) -> None:
    page = show()
    has = frame.filter(pl.col("months").is_not_null())
    reasons = frame.filter(pl.col("months").is_null())["reason"]
    assert [count(page, name) for name in ("tracks", "forecast", "pending", "skipped", "streams")] == [
        TRACKS, has.height, reasons.null_count(), reasons.count(), has["total"].sum(),
    ]  # fmt: skip
    assert page.inner_text("#count-streams") == short(float(has["total"].sum()))
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

    assert texts(page, "#reasons td") == whole(
        pl.Series([reasons.count(), *([0] * (len(REASONS) - 1)), reasons.null_count()])
    )
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
    assert facts(page, "Stored forecast")["Forecast total"] == f"{2**53 + 1:,}"
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
