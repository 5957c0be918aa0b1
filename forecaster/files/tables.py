"""Tables in and out: whole files or none, and an error that names the row."""

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
    """Lines of a CSV before that of its column names."""
    notes: tuple[str, ...] = ()
    """Guesses about the file, which may be wrong."""


def read_table(path: Path, /) -> pl.DataFrame:
    """Read all rows of a file: of a CSV every column as String, an empty value as NULL; of Parquet as typed.

    Raises `BadFileError` for a file that does not exist, is damaged or not what its ending says, or is a CSV
    with a row that has more or fewer values than there are columns, and `InvalidOptionError` for an unknown
    ending.
    Only an empty line is a row of NULLs, and none at the end of a CSV with several columns.
    """
    return read_form(path, ()).rows


def read_form(path: Path, forms: Forms, /) -> TableFile:
    """Read a file as `read_table` does; a CSV may have another separator, and lines above the column names.

    They are recognised by the names that the `forms` want.
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

    Raises `InvalidOptionError` for an ending that names no format, and what `check_target` raises.
    """
    if path.name and not any_ending:
        format_of(path)
    check_target(path)


def write_table(frame: pl.DataFrame, path: Path, /) -> None:
    """Write all rows, in the format of the path's ending. On failure the path stays as it was.

    Raises `InvalidOptionError` and `BadFileError` like `check_output_path`, and `BadFileError` for a write
    that fails on the way.
    """
    check_output_path(path)
    with replacing(path) as file:
        format_of(path).write(frame, file)
