"""Read CSV: every value as text, and errors that name the row."""

import csv
import gzip
import io
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from forecaster.errors import BadFileError
from forecaster.files.dialect import (
    Dialect,
    Forms,
    advice_on_first_line,
    as_utf8,
    dialect_of,
    refuse_other_formats,
)
from forecaster.process.numbers import counted

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

# gzip makes rows of numbers some 5 to 50 times smaller, and any data at most 1,032 times.
_MOST_PACKED, _ALWAYS_UNPACKED = 200, 100_000_000


def read_csv(path: Path, forms: Forms, /) -> tuple[pl.DataFrame, Dialect]:
    """Read a CSV: every column as String, an empty value as NULL."""
    return _read(path.read_bytes(), path, forms)


def read_packed_csv(path: Path, forms: Forms, /) -> tuple[pl.DataFrame, Dialect]:
    """Read a CSV that is packed with gzip."""
    return _read(_unpacked(path), path, forms)


def _read(data: bytes, path: Path, forms: Forms) -> tuple[pl.DataFrame, Dialect]:
    data = as_utf8(data, path)
    refuse_other_formats(data, path)
    _check_text(data, path)
    dialect = dialect_of(data, path, forms) if forms else Dialect()
    return _rows(data[dialect.size_above :], path, dialect, forms), dialect


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
            f"{path}, line {line}: byte 0x{data[bad]:02x} is not UTF-8 text", hint="save it as CSV in UTF-8"
        )


def _rows(data: bytes, path: Path, dialect: Dialect, forms: Forms) -> pl.DataFrame:
    columns = _column_names(data, path, dialect, forms)
    ends_well = data[-1:] == b"\n" and data[-2:-1] not in (b"\r", b"\n")
    if len(columns) > 1 and not ends_well:  # of a single column, an empty line at the end is a NULL
        data = data.rstrip(b"\r\n") + b"\n"
    plain = _plain_rows(data, columns, dialect.separator)
    return _checked_rows(data, columns, path, dialect, forms) if plain is None else plain


def _plain_rows(data: bytes, columns: list[str], separator: str) -> pl.DataFrame | None:
    """Read the rows by Polars, in a quarter of the time; None if the other reader has to decide.

    Polars refuses a long line, but silently fills up a short one with NULLs. Without long lines, there are
    short ones only if the number of separators is too small.
    """
    lines, expected = data.count(b"\n"), len(columns) - 1
    if b'"' in data or b"\r" in data or not expected or data.count(separator.encode()) != lines * expected:
        return None
    try:
        frame = pl.read_csv(data, separator=separator, quote_char=None, infer_schema=False)
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.columns == columns and frame.height == lines - 1 else None


def _checked_rows(
    data: bytes, columns: list[str], path: Path, dialect: Dialect, forms: Forms
) -> pl.DataFrame:
    """Read the rows by pyarrow, which says which row has too many or too few values."""
    import pyarrow as pa  # noqa: PLC0415 - takes long, and few commands need it

    ragged: list[pa_csv.InvalidRow] = []
    # `concat` fails if the two readers find different column names.
    nothing = pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    try:
        table = _table(data, columns, ragged, dialect.separator)
        return pl.concat([nothing, *map(pl.DataFrame, table.to_batches())])
    except pa.ArrowInvalid as error:
        if not ragged:
            raise
        number = ragged[0].number  # counts the header as the first row
        line = f" (line {number + dialect.above})" if b'"' not in data else ""
        is_longer = ragged[0].actual_columns > len(columns)
        raise BadFileError(
            f"{path}: row {number - 1}{line} has {counted(ragged[0].actual_columns, 'value')}, "
            f"the header has {len(columns)}",
            hint=_RAGGED[is_longer].format({",": "comma"}.get(dialect.separator, "separator"))
            if _has_a_known_name(columns, forms)
            else advice_on_first_line(columns),
        ) from error


# Hints: True for a row that is too long, False for one that is too short.
_RAGGED = {
    True: "a value with a {0} in it needs quotes, and a decimal number a point",
    False: "an empty value still needs its {0}; remove lines that are not rows",
}


def _has_a_known_name(columns: list[str], forms: Forms) -> bool:
    return not forms or not frozenset().union(*forms).isdisjoint(columns)


def _table(
    data: bytes, columns: list[str], ragged: "list[pa_csv.InvalidRow]", separator: str, /
) -> "pa.Table":
    """Read all values as text. Fail at a row longer or shorter than `columns`, and add it to `ragged`."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.csv as pa_csv  # noqa: PLC0415

    def fail(row: "pa_csv.InvalidRow") -> str:
        ragged.append(row)
        return "error"

    # Not streaming: a streaming reader that is given up half-way can abort the process at exit.
    return pa_csv.read_csv(
        pa.BufferReader(data),
        pa_csv.ReadOptions(use_threads=False),  # with threads, errors have no row number
        # Where two blocks of 1 MB meet inside of quotes, CR LF may lose its LF (apache/arrow issue 51368).
        # No column that is used contains line ends.
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


def _column_names(data: bytes, path: Path, dialect: Dialect, forms: Forms) -> list[str]:
    """Read the first row by Python's reader, which also checks all quotes.

    pyarrow reads `"1"2` as 12, and everything after a quote that is never closed as one value.
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
