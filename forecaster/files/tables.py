"""CSV and Parquet in and out: whole files or none, and an error that names the row."""

import contextlib
import csv
import gzip
import io
import os
import pwd
import re
import secrets
import shutil
import stat
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
from polars.exceptions import PanicException, PolarsError

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.dialect import (
    Dialect,
    Forms,
    advice_on_first_line,
    as_utf8,
    dialect_of,
    refuse_other_formats,
)

TABLE_ENDINGS: tuple[str, ...] = (".csv", ".csv.gz", ".parquet")
"""What a table can be read from and written to, in any case."""


# gzip makes rows of numbers some 5 to 50 times smaller, and nothing more than 1,032 times.
_MOST_PACKED, _ALWAYS_UNPACKED = 200, 100_000_000
# Of what Polars says of a store that it cannot reach, its own settings tell a user nothing.
_OF_STORE = re.compile(
    r"object-store error: .{1,2000}, retry_timeout: \S{1,20}\s{1,9}- (.*?)(?: \((?:location|path): .*)?\Z"
)
_OF_TEXT = (".tsv", ".tab", ".txt")  # endings of tables and of all else
_MOST_LINKS = 40  # as many as the kernel follows


@dataclass(frozen=True)
class TableFile:
    """What is in a file, and how it was read."""

    rows: pl.DataFrame
    lines_above: int = 0
    """Lines of a CSV before that of its column names."""
    notes: tuple[str, ...] = ()
    """What was found out about the file and could be wrong."""


def read_table(path: Path, /) -> pl.DataFrame:
    """All rows of a CSV (every column as String; an empty value is NULL) or of a Parquet file (as typed).

    Raises `BadFileError` for a file that is not there, is no such file, is damaged, or is a CSV of which a
    row has more or fewer values than there are columns; `InvalidOptionError` for an unknown ending.
    Only an empty line is a row of NULLs, and none at the end of a CSV with several columns.
    """
    return read_form(path, ()).rows


def read_form(path: Path, forms: Forms, /) -> TableFile:
    """Like `read_table`, and a CSV may have another separator and lines above the names of the columns.

    They are told by the names that the `forms` want.
    """
    ending = _ending(path)
    with refusing(path, "read", hint="it is damaged, cut off, or not what its ending says"):
        if not path.is_file():
            problem = "is no file" if path.exists() else "does not exist"
            raise BadFileError(f"{path} {problem}", hint="give the path of one CSV or Parquet file")
        if ending == ".parquet":
            return TableFile(_read_parquet(path))
        data = as_utf8(_unpacked(path) if ending == ".csv.gz" else path.read_bytes(), path)
        refuse_other_formats(data, path)
        _check_text(data, path)
        dialect = dialect_of(data, path, forms) if forms else Dialect()
        rows = _read_csv(data[dialect.size_above :], path, dialect, forms)
        return TableFile(rows, dialect.above, dialect.notes)


def write_table(frame: pl.DataFrame, path: Path, /) -> None:
    """Write all rows, as CSV or Parquet by the path's ending. On failure the path stays as it was.

    Raises `InvalidOptionError` and `BadFileError` like `check_output_path`, and `BadFileError` for a write
    that fails on the way.
    """
    check_output_path(path)
    with _replacing(path) as file:
        if _ending(path) == ".parquet":
            frame.write_parquet(file)
        else:
            frame.write_csv(file, compression="gzip" if _ending(path) == ".csv.gz" else "uncompressed")


def write_text(text: str, path: Path, /) -> None:
    """Write `text` in UTF-8, whatever the path's ending. On failure the path stays as it was.

    Raises `BadFileError` like `write_table`.
    """
    write_bytes(text.encode(), path)


def write_bytes(data: bytes, path: Path, /) -> None:
    """Write `data`, whatever the path's ending. On failure the path stays as it was.

    Raises `BadFileError` like `write_table`.
    """
    check_output_path(path, any_ending=True)
    with _replacing(path) as file:
        file.write(data)


def check_output_path(path: Path, /, *, any_ending: bool = False) -> None:
    """Say early what would keep a file from being written to `path`. Writes nothing.

    Raises `InvalidOptionError` for an ending that says neither CSV nor Parquet, `BadFileError` for a
    directory that is missing or cannot be written to, and for a path that is there but is no file.
    """
    if not path.name:  # "" is the path "."
        raise InvalidOptionError(
            "the name of a file to write is empty", hint="give one, or leave the option out"
        )
    if not any_ending:
        _ending(path)
    with refusing(path, "written"):
        directory = _target(path).parent
        if not directory.is_dir():
            raise BadFileError(f"{path}: there is no directory {directory}", hint="create it first")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise BadFileError(
                f"{path}: no permission to write to the directory {directory}", hint="choose another one"
            )
        if path.exists() and not path.is_file():
            raise BadFileError(f"{path} is there already and is no file", hint="choose another name")


def counted(number: int, noun: str) -> str:
    """The number with its noun, in the plural unless it is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextlib.contextmanager
def refusing(path: Path | str, done: str, *, hint: str | None = None) -> Iterator[None]:
    """Whatever the system, a codec or Polars says about a file, as the one error that a user meets."""
    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowInvalid, PolarsError, PanicException) as error:
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        if of_store := _OF_STORE.match(reason):
            reason = of_store[1]
        is_of_system = getattr(error, "errno", None) is not None
        raise BadFileError(
            f"{path} cannot be {done}: {reason}", hint=None if is_of_system else hint
        ) from error


def check_name(name: Path | str) -> None:
    """Raise `BadFileError` for a name that is not in UTF-8, which Polars cannot open."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise BadFileError(
            f"the name {str(name)!r} is not in UTF-8", hint="rename it, or choose another one"
        ) from None


def refuse_planted_links(path: Path) -> None:
    """Raise `BadFileError` for a link on the way to `path` that somebody else may have put there.

    As the kernel's `protected_symlinks` has it: in a sticky directory that all may write to, a link counts
    only if it belongs to this user, to the owner of the directory, or to root.
    """
    _target(path)


def _target(path: Path) -> Path:
    """The file itself: a link stays, and what it points to is replaced. Refuses planted ones."""
    at, left, links = Path(), [*reversed(path.absolute().parts)], 0
    while left:
        part = left.pop()
        at = at.parent if part == ".." else at / part
        if os.path.islink(at) and links < _MOST_LINKS:  # noqa: PTH114 - no error where all is closed
            if not _is_trusted(at):
                raise BadFileError(
                    f"{path}: the link {at} belongs to another user, {_owner(at)}, and anyone can write to "
                    "its directory",
                    hint="remove the link, or choose a directory of your own",
                )
            links += 1
            left += reversed(at.readlink().parts)
            at = at.parent
    return at


def _is_trusted(entry: Path) -> bool:
    """Whether nobody else can have put this link or file where it is."""
    directory = entry.parent.stat()
    is_for_all = directory.st_mode & stat.S_ISVTX and directory.st_mode & stat.S_IWOTH
    return not is_for_all or entry.lstat().st_uid in (os.geteuid(), directory.st_uid, 0)


def _owner(entry: Path) -> str:
    number = entry.lstat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"{number}"


def _read_parquet(path: Path) -> pl.DataFrame:
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - takes long, and a CSV does without

    check_name(path)
    with path.open("rb") as file, contextlib.suppress(ValueError, pa.ArrowException):  # which Polars will say
        ParquetFile(file)  # refuses levels so many that Polars would overflow the stack
    whole = pl.scan_parquet(path, glob=False)  # a name with [ or * in it is a name
    rows, columns = whole.select(pl.len()).collect().item(), len(whole.collect_schema())
    needed, memory = 8 * rows * columns, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise BadFileError(
            f"{path} says that it has {rows:,} rows of {counted(columns, 'column')}, which take "
            f"{needed / 1e9:,.0f} GB of memory; this machine has {memory / 1e9:,.0f}",
            hint="split the file, or remove columns that are not needed",
        )
    return pl.read_parquet(path, glob=False)


def _unpacked(path: Path) -> bytes:
    limit = max(_ALWAYS_UNPACKED, _MOST_PACKED * path.stat().st_size)
    pieces, size = [], 0
    with gzip.open(path) as file:
        while piece := file.read(2**20):
            pieces.append(piece)
            if (size := size + len(piece)) > limit:
                raise BadFileError(
                    f"{path} unpacks to more than {limit // 1_000_000:,} MB, which is too much for its size",
                    hint="if that is right, unpack it with gunzip, and load the CSV",
                )
    return b"".join(pieces)


def _ending(path: Path) -> str:
    name = path.name.lower()
    for ending in TABLE_ENDINGS:
        if name.endswith(ending):
            return ending
    known = f"known are {', '.join(TABLE_ENDINGS)}"
    is_text = path.suffix.lower() in _OF_TEXT
    raise InvalidOptionError(
        f"{path}: the ending {path.suffix!r} does not say what the file is",
        hint=f"{known}; rename a table of text, also one with tabs, to .csv" if is_text else known,
    )


def _read_csv(data: bytes, path: Path, dialect: Dialect, forms: Forms) -> pl.DataFrame:
    """By pyarrow, because Polars fills up a short line with NULLs and does not say so."""
    columns = _column_names(data, path, dialect, forms)
    if len(columns) > 1:  # else an empty line at the end is a NULL
        data = data.rstrip(b"\r\n") + b"\n"
    ragged: list[pa_csv.InvalidRow] = []
    # Refuses other column names than these, should the two readers ever differ.
    nothing = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    try:
        table = _table(data, columns, ragged, dialect.separator)
        return pl.concat([nothing, *map(pl.DataFrame, table.to_batches())])
    except pa.ArrowInvalid as error:
        if not ragged:
            raise
        number = ragged[0].number  # of the rows, of which the header is the first
        line = f" (line {number + dialect.above})" if b'"' not in data else ""
        is_longer = ragged[0].actual_columns > len(columns)
        raise BadFileError(
            f"{path}: row {number - 1}{line} has {counted(ragged[0].actual_columns, 'value')}, "
            f"the header has {len(columns)}",
            hint=_RAGGED[is_longer].format({",": "comma"}.get(dialect.separator, "separator"))
            if _has_a_known_name(columns, forms)
            else advice_on_first_line(columns),
        ) from error


# By whether the row is too long.
_RAGGED = {
    True: "a value with a {0} in it needs quotes, and a decimal number a point",
    False: "an empty value still needs its {0}; remove lines that are not rows",
}


def _has_a_known_name(columns: list[str], forms: Forms) -> bool:
    return not forms or not frozenset().union(*forms).isdisjoint(columns)


def _table(data: bytes, columns: list[str], ragged: list[pa_csv.InvalidRow], separator: str, /) -> pa.Table:
    """All values as text. Fails at a row longer or shorter than `columns`, and adds it to `ragged`."""

    def fail(row: pa_csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    # At once: a streaming reader that is given up half-way can abort the process at its end.
    return pa_csv.read_csv(
        pa.BufferReader(data),
        pa_csv.ReadOptions(use_threads=False),  # with threads it does not number the rows
        # Where two blocks of 1 MB meet inside of quotes, CR LF may lose its LF (apache/arrow issue 51368).
        # No column that is used has line ends in it.
        pa_csv.ParseOptions(
            delimiter=separator,
            newlines_in_values=True,
            ignore_empty_lines=False,
            invalid_row_handler=fail,
        ),
        pa_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _check_text(data: bytes, path: Path) -> None:
    bad = data.find(b"\0")
    try:
        if not data.isascii():
            data.decode()
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        line = data.count(b"\n", 0, bad) + 1
        raise BadFileError(
            f"{path}, line {line}: byte 0x{data[bad]:02x} is no UTF-8 text", hint="save it as CSV in UTF-8"
        )


def _column_names(data: bytes, path: Path, dialect: Dialect, forms: Forms) -> list[str]:
    """The first row, by Python's reader. It checks all quotes as well.

    pyarrow reads `"1"2` as 12, and what follows a quote that is never closed as one value.
    """
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="")
    reader = csv.reader(text, strict=True, delimiter=dialect.separator)
    try:
        columns = next(reader, [])
        if b'"' in data:
            deque(reader, maxlen=0)
    except csv.Error as error:
        raise BadFileError(
            f"{path}, line {reader.line_num + dialect.above}: {error}",
            hint="a line without an end, or a quote that is never closed"
            if "larger than field limit" in str(error)
            else 'put quotes around the whole value, and write "" for one inside of it',
        ) from error
    if not columns:
        raise BadFileError(f"{path} has no column names", hint="a CSV begins with a line of them")
    if doubled := sorted(name for name, count in Counter(columns).items() if count > 1):
        raise BadFileError(
            f"{path}: several columns have the same name: {', '.join(map(repr, doubled))}",
            hint="rename or remove all but one of them"
            if _has_a_known_name(columns, forms)
            else advice_on_first_line(columns),
        )
    return columns


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once all is written and on disk, and else is removed."""
    target = _target(path)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with refusing(path, "written"):
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists() and _is_trusted(target):
                shutil.copymode(target, temporary)
            temporary.replace(target)
        sync_directory(target.parent)
    finally:
        # Also after Ctrl-C; once it has taken its place there is none.
        temporary.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the new name outlive a power failure, where the system lets a directory be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
