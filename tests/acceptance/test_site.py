"""The documents as a site and in the repository: each page is reached, each link works."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.conftest import bare_environment
from tests.documents import PAGES, ROOT, name

OUTSIDE = [ROOT / page for page in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]


class Html(HTMLParser):
    """What a page links to, what it loads, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value for key, value in attrs if value is not None}
        self.ids.add(values.get("id", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.loaded += [values[key] for key in ("src", "href") if key in values and tag != "a"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it, elsewhere."""
    where = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(where)]
    environment = bare_environment() | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return where


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    return {path: Html(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}


def leaves(nav: object) -> list[str]:
    """The files that a navigation names, in its order."""
    if isinstance(nav, str):
        return [nav]
    inside = nav.values() if isinstance(nav, dict) else nav
    return [leaf for part in inside for leaf in leaves(part)]  # type: ignore[attr-defined]


def test_each_page_is_in_the_navigation(pages: dict[Path, Html], site: Path) -> None:
    named = leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(named) == len(set(named))
    below_docs = {page.name for page in PAGES if page.parent.name == "docs"}
    assert below_docs | {"index.md", *(page.name for page in OUTSIDE)} <= set(named)
    assert {path.relative_to(site).with_suffix(".md").as_posix() for path in pages} == set(named)


def test_each_link_leads_to_a_place(pages: dict[Path, Html], site: Path) -> None:
    for path, html in pages.items():
        for link in [*html.links, *html.loaded]:
            there = urlsplit(link)
            if not there.scheme:
                target = (path.parent / unquote(there.path)).resolve() if there.path else path
                target = target / "index.html" if target.is_dir() else target
                assert target.is_file(), (path.name, link)
                assert target.is_relative_to(site.resolve()), (path.name, link)
                assert target.suffix != ".html" or {there.fragment, unquote(there.fragment)} & (
                    pages[target].ids | {""}
                ), (path.name, link)


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Html]) -> None:
    loaded = {urlsplit(link).netloc for html in pages.values() for link in html.loaded}
    assert loaded == {""}


def test_all_of_it_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"] if "lock" in entry["text"]}
    assert {"nightly.html", "parquet.html", "faults.html"} <= found


def anchors(page: Path) -> set[str]:
    """The anchors that a host of repositories makes of headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=name)
def test_each_link_works_in_the_repository_too(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        there = urlsplit(link)
        if not there.scheme:
            target = (page.parent / there.path).resolve() if there.path else page
            assert target.is_file(), link
            assert target.is_relative_to(ROOT), link
            assert not there.fragment or there.fragment in anchors(target), link
