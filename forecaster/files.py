"""CSV and Parquet in and out: whole files or none, and an error that names the line."""

import contextlib
import csv
import gzip
import os
import secrets
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PanicException, PolarsError

from forecaster.errors import BadFileError, InvalidOptionError

TABLE_ENDINGS: tuple[str, ...] = (".csv", ".csv.gz", ".parquet")
"""What a table can be read from and written to, in any case."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_COMMA, _LINE_FEED, _CARRIAGE_RETURN, _QUOTE = b',\n\r"'
_BLOCK = 1 << 22  # bytes scanned at a time, so that no mask is as large as the file

Positions = npt.NDArray[np.int64]
_NONE: Positions = np.empty(0, np.int64)


def read_table(path: Path, /) -> pl.DataFrame:
    """All rows of a CSV (every column as String; an empty value is NULL) or of a Parquet file (as typed).

    Raises `BadFileError` for a file that is not there, is no such file, is damaged, or is a CSV of which a
    line has more or fewer values than there are columns; `InvalidOptionError` for an unknown ending.
    """
    ending = _ending(path)
    with _refusing(path, "read", hint="it is damaged, cut off, or not what its ending says"):
        if not path.is_file():
            problem = "is no file" if path.exists() else "does not exist"
            raise BadFileError(f"{path} {problem}", hint="give the path of one CSV or Parquet file")
        if ending == ".parquet":
            return pl.read_parquet(path, glob=False)  # a name with [ or * in it is a name
        data = path.read_bytes()
        return _read_csv(gzip.decompress(data) if ending == ".csv.gz" else data, path)


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
    check_output_path(path, any_ending=True)
    with _replacing(path) as file:
        file.write(text.encode())


def check_output_path(path: Path, /, *, any_ending: bool = False) -> None:
    """Say early what would keep a file from being written to `path`. Writes nothing.

    Raises `InvalidOptionError` for an ending that says neither CSV nor Parquet, `BadFileError` for a
    directory that is missing or cannot be written to, and for a path that is there but is no file.
    """
    if not any_ending:
        _ending(path)
    with _refusing(path, "written"):
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


def _target(path: Path) -> Path:
    """The file itself: a link stays, and what it points to is replaced."""
    return Path(os.path.realpath(path))


def _ending(path: Path) -> str:
    name = path.name.lower()
    for ending in TABLE_ENDINGS:
        if name.endswith(ending):
            return ending
    raise InvalidOptionError(
        f"{path}: the ending {path.suffix!r} does not say what the file is",
        hint=f"known are {', '.join(TABLE_ENDINGS)}",
    )


@contextlib.contextmanager
def _refusing(path: Path, done: str, *, hint: str | None = None) -> Iterator[None]:
    """Whatever the system, a codec or Polars says about a file, as the one error that a user meets."""
    try:
        yield
    except (OSError, EOFError, zlib.error, PolarsError, PanicException) as error:
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        is_of_content = isinstance(error, gzip.BadGzipFile) or not isinstance(error, OSError)
        raise BadFileError(
            f"{path} cannot be {done}: {reason}", hint=hint if is_of_content else None
        ) from error


def _read_csv(data: bytes, path: Path) -> pl.DataFrame:
    text = data.removeprefix(_BYTE_ORDER_MARK)
    lines = text.rstrip(b"\r\n")
    if not lines:
        raise BadFileError(f"{path} is empty", hint="a CSV begins with a line of column names")
    source = _Csv(path, lines + b"\n")
    source.check_encoding()
    rows = source.rows()
    if rows.widths[0] == 1:  # then an empty line at the end is a NULL
        source = _Csv(path, text if text.endswith(b"\n") else text + b"\n")
        rows = source.rows()
    columns = source.column_names(rows)
    source.check_widths(rows, len(columns))
    frame = pl.read_csv(source.text, infer_schema=False, new_columns=columns)
    if frame.shape != (expected := (len(rows.ends) - 1, len(columns))):
        raise BadFileError(f"{path} cannot be read as CSV: {frame.shape} values instead of {expected}")
    return frame


@dataclass(frozen=True)
class _Rows:
    """Where each row of a CSV ends (the header is the first), and how many values it has."""

    ends: Positions
    widths: Positions


@dataclass(frozen=True)
class _Csv:
    """The text of a CSV, which ends in a line feed, and the checks that Polars does not make.

    Polars fills up a short line with NULLs and does not say so, and it tells no line numbers.
    """

    path: Path
    text: bytes
    """Ends in a line feed, so that every other byte has a next one."""

    @cached_property
    def codes(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.text, np.uint8)

    def error(self, position: int, problem: str, *, hint: str) -> BadFileError:
        line = self.text.count(b"\n", 0, position) + 1
        return BadFileError(f"{self.path}, line {line}: {problem}", hint=hint)

    def check_encoding(self) -> None:
        hint = "save it as CSV in UTF-8"
        if (zero := self.text.find(b"\0")) >= 0:
            raise self.error(zero, "a zero byte, so this is no UTF-8 text", hint=hint)
        if self.text.isascii():
            return
        try:
            self.text.decode()
        except UnicodeDecodeError as error:
            byte = self.text[error.start]
            raise self.error(error.start, f"byte 0x{byte:02x} is no UTF-8 text", hint=hint) from None

    def rows(self) -> _Rows:
        """Find the ends of all rows and the commas between them, but those inside quotes.

        A byte is inside quotes when the number of quotes before it is odd.
        """
        has_quotes = b'"' in self.text
        ends, marks_up_to_end = [_NONE], [np.array([-1])]
        marks_before, inside = 0, False
        for start in range(0, len(self.codes), _BLOCK):
            block = self.codes[start : start + _BLOCK]
            marks = np.flatnonzero((block == _COMMA) | (block == _LINE_FEED))
            returns = np.flatnonzero(block == _CARRIAGE_RETURN)
            if has_quotes:
                is_quote = block == _QUOTE
                self._check_quotes(start + np.flatnonzero(is_quote), inside=inside)
                quoted = np.logical_xor.accumulate(is_quote) ^ inside
                marks, returns = marks[~quoted[marks]], returns[~quoted[returns]]
                inside = bool(quoted[-1])
            self._check_returns(start + returns)
            row_ends = np.flatnonzero(block[marks] == _LINE_FEED)
            ends.append(start + marks[row_ends])
            marks_up_to_end.append(marks_before + row_ends)
            marks_before += len(marks)
        if inside:
            raise BadFileError(f'{self.path}: a quote (") is opened and never closed')
        return _Rows(np.concatenate(ends), np.diff(np.concatenate(marks_up_to_end)))

    def _check_quotes(self, quotes: Positions, *, inside: bool) -> None:
        """Quotes stand around a whole value, or twice for one inside of it."""
        opening, closing = (quotes[1::2], quotes[0::2]) if inside else (quotes[0::2], quotes[1::2])
        inner = opening[opening > 0]
        starts = np.isin(self.codes[inner - 1], [_COMMA, _LINE_FEED, _QUOTE])
        stops = np.isin(self.codes[closing + 1], [_COMMA, _LINE_FEED, _CARRIAGE_RETURN, _QUOTE])
        stray = np.concatenate([inner[~starts], closing[~stops]])
        if len(stray):
            raise self.error(
                stray.min(),
                'a quote (") in the middle of a value',
                hint='put quotes around the whole value, and write "" for one inside of it',
            )

    def _check_returns(self, returns: Positions) -> None:
        alone = returns[self.codes[returns + 1] != _LINE_FEED]
        if len(alone):
            hint = "save it with the line ends of Unix or Windows"
            raise self.error(alone[0], "a carriage return without a line feed", hint=hint)

    def column_names(self, rows: _Rows) -> list[str]:
        header = self.text[: rows.ends[0]].decode().removesuffix("\r")
        try:
            columns: list[str] = next(csv.reader([header], strict=True), [])
        except csv.Error as error:
            raise BadFileError(f"{self.path}: the column names cannot be read: {error}") from error
        if not columns:
            raise self.error(0, "no column names", hint="a CSV begins with a line of column names")
        if doubled := sorted(name for name, count in Counter(columns).items() if count > 1):
            raise BadFileError(
                f"{self.path}: several columns have the same name: {', '.join(map(repr, doubled))}",
                hint="rename or remove all but one of them",
            )
        return columns

    def check_widths(self, rows: _Rows, columns: int) -> None:
        ragged = np.flatnonzero(rows.widths != columns)
        if len(ragged):
            first, others = ragged[0], len(ragged) - 1
            raise self.error(
                rows.ends[first - 1] + 1,
                f"the row has {counted(rows.widths[first], 'value')}, but there are "
                f"{counted(columns, 'column')}"
                + (f" (and {counted(others, 'more such row')})" if others else ""),
                hint="a value with a comma in it needs quotes, and an empty value still needs its comma",
            )


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once all is written and on disk, and else is removed."""
    target = _target(path)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with _refusing(path, "written"):
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, temporary)
            temporary.replace(target)
        _sync_directory(target.parent)
    finally:
        # Also after Ctrl-C; once it has taken its place there is none.
        temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Make the new name outlive a power failure, where the system lets a directory be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
