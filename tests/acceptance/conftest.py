"""A real browser without a network, and the page of a catalogue in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

from forecaster.scoring import Evaluation
from forecaster.views.catalogue import Catalogue
from forecaster.views.page import render
from tests.needs import chromium
from tests.pages import TRACKS, catalogue, synthetic
from tests.seen import Opener


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
