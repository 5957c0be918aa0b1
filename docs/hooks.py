"""Pages of the site that do not lie in `docs/`: the README as the first page, and what the pages link to."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = [
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "benchmarks/results/*.md",
    "benchmarks/results/*.png",
]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside `docs/`, each under its name in the repository."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    for path in sorted(path for pattern in OUTSIDE for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Make links work in the site, where the files of the repository and of `docs/` are in one directory."""
    flat = re.sub(r"(?<=\]\()(?:docs/|\.\./)(?=[\w.-]+)", "", markdown)
    return re.sub(r"(?<=\]\()README\.md", "index.md", flat)
