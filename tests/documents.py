"""The README and the pages below `docs/`, and the commands on them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
CONSOLE = re.compile(r"^```console\n\$ (?P<command>[^\n]+)\n(?P<output>.*?)^```$", re.MULTILINE | re.DOTALL)

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<block>.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    """As the page is called in the repository, `docs/load.md`."""
    return page.relative_to(ROOT).as_posix()


def page_named(name: str) -> str:
    """The text of a page."""
    return (ROOT / name).read_text()


def before(page: Path) -> list[str]:
    """Commands that a page's own commands suppose. A reader does not see them."""
    return re.findall(r"^<!-- before: (.+) -->$", page.read_text(), re.MULTILINE)


def blocks() -> list[tuple[str, str]]:
    """Language and text of each block of code, of all pages."""
    return [
        (match["language"], match["block"]) for page in PAGES for match in _FENCE.finditer(page.read_text())
    ]


def configuration(page: Path) -> str:
    """The configuration file that a page shows; its commands run in a directory that has it."""
    return "".join(
        match["block"] for match in _FENCE.finditer(page.read_text()) if match["language"] == "toml"
    )


def fenced(language: str, mark: str) -> str:
    """The block of code in a language that has a mark in it, of all pages."""
    [block] = [block for of, block in blocks() if of == language and mark in block]
    return block
