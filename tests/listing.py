"""Catalogues of a few tracks in Parquet, and the files that are found in them."""

from pathlib import Path

from forecaster.files.listing import list_files
from forecaster.run.buckets import BucketsConfig, run_buckets
from forecaster.run.report import BucketsReport

TRACKS = 6


def forecast(source: Path | str, sink: Path, mldr: Path | None = None) -> BucketsReport:
    return run_buckets(BucketsConfig(str(source), sink, str(mldr) if mldr else None))


def names(where: Path | str) -> list[str]:
    return [Path(path).name for path in list_files(str(where)).read]


def write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
