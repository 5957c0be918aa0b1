"""Catalogues of a few tracks in Parquet, and the files that are found in them."""

from pathlib import Path

from forecaster.files.listing import list_files
from forecaster.parquet.session import Files
from forecaster.run.report import Report
from forecaster.run.session import run

TRACKS = 6


def forecast(source: Path | str, sink: Path, mldr: Path | None = None) -> Report:
    return run(Files(str(source), sink, str(mldr) if mldr else None))


def names(where: Path | str) -> list[str]:
    return [Path(path).name for path in list_files(str(where)).read]


def write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
