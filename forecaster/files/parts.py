"""Read a directory of files as one file: all tables in it, in the order of their names."""

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.checked import are_unique
from forecaster.files.formats import format_names, table_endings
from forecaster.files.intake import Intake
from forecaster.files.listing import Place, is_mark, refuse_tables
from forecaster.files.messages import SHOWN
from forecaster.files.paths import refusing
from forecaster.process.numbers import counted
from forecaster.process.secrets import one_line

_FILE, _ROW = "_file", "_row"


def read_parts(path: Path, read: Callable[[Path], Intake], /, *, key: Sequence[str]) -> Intake:
    """Read a file, or all tables in a directory as one file.

    A table is a file with the ending of a format. Notes name the other files, except those that other
    programs leave next to their data. Raises `InvalidOptionError` for a directory that contains directories,
    or no table; `BadFileError` for a path that does not exist, for a table of Delta Lake, Hudi or Iceberg,
    and for a `key` that is in two files; and what `read` raises.
    """
    _check_exists(path)
    if not os.path.isdir(path):  # noqa: PTH112 - raises nothing
        return read(path)
    files, others = _listed(path)
    intakes = [read(file) for file in files]
    rows = pl.concat([intake.rows for intake in intakes])
    _refuse_doubled(path, files, intakes, key)
    notes = [f"{file.name}: {note}" for file, i in zip(files, intakes, strict=True) for note in i.notes]
    passed_over = f"{counted(len(others), 'name')} not read: {_named(others)}"
    return Intake(
        rows,
        tuple(dict.fromkeys(chain.from_iterable(intake.ignored for intake in intakes))),
        pl.concat([intake.left_out for intake in intakes]),
        (*notes, *([passed_over] if others else [])),
    )


def _check_exists(path: Path) -> None:
    with refusing(path, "read"):
        if not path.exists():
            raise BadFileError(
                f"{path} does not exist",
                hint=f"give the path of a {format_names()} file, or of a directory of such files",
            )


def _listed(directory: Path) -> tuple[list[Path], list[Path]]:
    """List the tables in a directory, and the other names that a note should list."""
    refuse_tables(str(directory.absolute()))
    with refusing(directory, "read"):
        entries = sorted(entry for entry in directory.iterdir() if not is_mark(entry.name))
        shown = [entry for entry in entries if not Place(str(directory)).is_hidden(entry.name)]
        deeper = [entry for entry in shown if entry.is_dir()]
    if deeper:
        raise InvalidOptionError(
            f"{directory} contains directories: {_named(deeper)}",
            hint="load each directory separately" + _of_paths(entry.name for entry in deeper),
        )
    files = [entry for entry in shown if entry.name.lower().endswith(table_endings())]
    _refuse_line_ends(files)
    if not files:
        raise InvalidOptionError(
            f"{directory} is a directory without tables",
            hint=f"a table is a file that ends in {', '.join(table_endings())}",
        )
    return files, sorted({*entries} - {*files})


def _refuse_line_ends(files: Iterable[Path]) -> None:
    """Refuse names with line ends: in a message, such a name could begin a line of its own."""
    for file in files:
        if not {"\n", "\r"}.isdisjoint(file.name):
            raise BadFileError(f"the name {one_line(str(file))} contains a line end", hint="rename the file")


def _of_paths(names: Iterable[str]) -> str:
    pair = next((name for name in names if "=" in name), None)
    column = one_line(pair.partition("=")[0]) if pair else ""
    return f"; if the column {column} is only in the path, write it into the files first" if pair else ""


def _refuse_doubled(
    directory: Path, files: Sequence[Path], intakes: Sequence[Intake], key: Sequence[str]
) -> None:
    if are_unique(pl.concat([intake.rows.select(key) for intake in intakes]), key):
        return
    keys = pl.concat(
        intake.rows.select(key).with_row_index(_ROW, offset=1).with_columns(pl.lit(file.name).alias(_FILE))
        for file, intake in zip(files, intakes, strict=True)
    )
    doubled = keys.filter(pl.struct(key).is_duplicated()).group_by(key, maintain_order=True).agg(_FILE, _ROW)
    lines = [
        ", ".join(f"{name} {value}" for name, value in zip(key, values, strict=True))
        + ": "
        + " and ".join(f"{file} row {row}" for file, row in zip(of, at, strict=True))
        for *values, of, at in doubled.head(SHOWN).iter_rows()
    ]
    more = [f"and {len(doubled) - len(lines):,} more"] if len(doubled) > len(lines) else []
    problem = f"{directory}: {counted(len(doubled), 'duplicate')} by {' and '.join(key)} in different files"
    raise BadFileError(
        "\n  ".join([f"{problem}; nothing was stored", *lines, *more]),
        hint="keep each row in one file only",
    )


def _named(entries: Sequence[Path]) -> str:
    names = [one_line(entry.name) for entry in entries[:SHOWN]]
    return ", ".join([*names, *([f"and {len(entries) - SHOWN:,} more"] if len(entries) > SHOWN else [])])
