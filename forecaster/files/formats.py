"""The formats of tables in files. A format is a row of `FORMATS`."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.csvfile import read_csv, read_packed_csv
from forecaster.files.dialect import Dialect, Forms
from forecaster.files.paths import check_name
from forecaster.process.numbers import counted

_OF_TEXT = (".tsv", ".tab", ".txt")  # endings of tables, but also of other files


@dataclass(frozen=True)
class Format:
    """How tables are read from files with an ending, and written to them."""

    name: str
    ending: str
    """In lower case. Names of files may have it in upper or lower case."""
    read: Callable[[Path, Forms], tuple[pl.DataFrame, Dialect]]
    """Reads a file; in a CSV it looks for the column names of one of the forms. Other formats ignore the
    forms and return `Dialect()`."""
    write: Callable[[pl.DataFrame, BinaryIO], None]
    is_text: bool
    """Whether each row is a line of text: then errors name lines, and values are read as String."""


def _read_parquet(path: Path, _forms: Forms) -> tuple[pl.DataFrame, Dialect]:
    # Takes long, and a CSV does without.
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415

    check_name(path)
    with path.open("rb") as file, contextlib.suppress(ValueError, pa.ArrowException):  # Polars reports these
        ParquetFile(file)  # refuses too many levels, at which Polars would overflow the stack
    whole = pl.scan_parquet(path, glob=False)  # [ or * in a name is not a pattern
    rows, columns = whole.select(pl.len()).collect().item(), len(whole.collect_schema())
    needed, memory = 8 * rows * columns, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise BadFileError(
            f"{path} says that it has {rows:,} rows of {counted(columns, 'column')}, which take "
            f"{needed / 1e9:,.0f} GB of memory; this machine has {memory / 1e9:,.0f}",
            hint="split the file, or remove columns that are not needed",
        )
    return pl.read_parquet(path, glob=False), Dialect()


def _write_csv(frame: pl.DataFrame, file: BinaryIO) -> None:
    frame.write_csv(file)


def _write_packed_csv(frame: pl.DataFrame, file: BinaryIO) -> None:
    frame.write_csv(file, compression="gzip")


def _write_parquet(frame: pl.DataFrame, file: BinaryIO) -> None:
    frame.write_parquet(file)


FORMATS: tuple[Format, ...] = (
    Format("CSV", ".csv", read_csv, _write_csv, is_text=True),
    Format("CSV", ".csv.gz", read_packed_csv, _write_packed_csv, is_text=True),
    Format("Parquet", ".parquet", _read_parquet, _write_parquet, is_text=False),
)
"""Every format. Reading, writing, directories and the endings in messages use these rows."""


def table_endings() -> tuple[str, ...]:
    """Return the endings of all formats."""
    return tuple(form.ending for form in FORMATS)


def format_names() -> str:
    """Name all formats: "CSV or Parquet"."""
    *others, last = dict.fromkeys(form.name for form in FORMATS)
    return f"{', '.join(others)} or {last}"


def format_of(path: Path, /) -> Format:
    """Find the format by the path's ending. Raises `InvalidOptionError` for an unknown ending."""
    name = path.name.lower()
    for form in FORMATS:
        if name.endswith(form.ending):
            return form
    known = f"known are {', '.join(table_endings())}"
    is_text = path.suffix.lower() in _OF_TEXT
    raise InvalidOptionError(
        f"{path}: the ending {path.suffix!r} does not say what the file is",
        hint=f"{known}; rename a table of text, also one with tabs, to .csv" if is_text else known,
    )
