"""Read and write tables: whole files or nothing, and errors that name the row."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from forecaster.errors import BadFileError
from forecaster.files.atomic import check_target, replacing
from forecaster.files.dialect import Forms
from forecaster.files.formats import format_names, format_of
from forecaster.files.paths import refusing


@dataclass(frozen=True)
class TableFile:
    """The rows of a file, and how it was read."""

    rows: pl.DataFrame
    lines_above: int = 0
    """Number of lines above the column names of a CSV."""
    notes: tuple[str, ...] = ()
    """Guesses about the file, which may be wrong."""


def read_table(path: Path, /) -> pl.DataFrame:
    """Read all rows of a file. Parquet has types; in a CSV every column is String, and an empty value NULL.

    Raises `InvalidOptionError` for an unknown ending, and `BadFileError` for a file that does not exist, is
    damaged, or is not what its ending says, and for a CSV in which a row has more or fewer values than there
    are columns. An empty line is a row of NULLs, except at the end of a CSV with several columns.
    """
    return read_form(path, ()).rows


def read_form(path: Path, forms: Forms, /) -> TableFile:
    """Read a file as `read_table` does; a CSV may have another separator, and lines above the column names.

    Both are recognised by the column names of the `forms`.
    """
    form = format_of(path)
    with refusing(path, "read", hint="it is damaged, incomplete, or not what its ending says"):
        if not path.is_file():
            problem = "is not a regular file" if path.exists() else "does not exist"
            raise BadFileError(f"{path} {problem}", hint=f"give the path of one {format_names()} file")
        rows, dialect = form.read(path, forms)
        return TableFile(rows, dialect.above, dialect.notes)


def check_output_path(path: Path, /, *, any_ending: bool = False) -> None:
    """Check early that a table can be written to `path`. Write nothing.

    Raises `InvalidOptionError` for an unknown ending, and what `check_target` raises.
    """
    if path.name and not any_ending:
        format_of(path)
    check_target(path)


def write_table(frame: pl.DataFrame, path: Path, /) -> None:
    """Write all rows, in the format of the path's ending. On failure the path stays as it was.

    Raises `InvalidOptionError` and `BadFileError` like `check_output_path`, and `BadFileError` if writing
    fails.
    """
    check_output_path(path)
    with replacing(path) as file:
        format_of(path).write(frame, file)
