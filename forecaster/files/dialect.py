"""The dialect of a CSV: its encoding, separator, and the lines above its column names."""

import codecs
import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from forecaster.errors import BadFileError

Forms = Sequence[frozenset[str]]
"""Sets of column names. A line with all names of one of the sets is the line of column names."""

_FIRST_LINE = "the first line must have the column names: remove the lines above them"
_NO_NAMES = "the first line has values: add a line of column names above it"

_SEPARATORS = {",": "','", ";": "';' (semicolon)", "\t": "tab", "|": "'|'"}
_HEAD, MOST_ABOVE = 2**16, 50  # bytes and lines in which to look for the column names
_LONGEST_SHOWN = 40
_OTHER_FORMATS = {
    "a zip archive or an Excel workbook": rb"PK\x03\x04",
    "an old Excel workbook": rb"\xd0\xcf\x11\xe0",
    "packed with gzip": rb"\x1f\x8b",
    "a Parquet file": rb"PAR1",
    "JSON": rb"\s{0,99}(\{\s{0,99}[\"}]|\[\s{0,99}[\[{])",
    "a web page or XML": rb"(?i)\s{0,99}<(!doctype|!--|html|head|body|table|\?xml)",
}


@dataclass(frozen=True)
class Dialect:
    """How a CSV was written, and notes on anything unusual."""

    separator: str = ","
    above: int = 0
    """Number of lines above the column names."""
    size_above: int = 0
    """Size of these lines in bytes."""
    notes: tuple[str, ...] = ()


def refuse_other_formats(data: bytes, path: Path) -> None:
    """Raise `BadFileError` for data that begins like a file of another format."""
    for name, beginning in _OTHER_FORMATS.items():
        if re.match(beginning, data):
            raise BadFileError(
                f"{path} is {name}, not a CSV",
                hint="give it the ending that says what it is"
                if name in ("packed with gzip", "a Parquet file")
                else "save or export it as CSV",
            )


def advice_on_first_line(names: Sequence[str], *, has_lines_above: bool = True) -> str | None:
    """Advise on a first line without a known name; None if it may be the line of column names."""
    values = sum(_is_number(re.sub("[-/: ]", "", name)) for name in names)
    if 2 * values > len(names):
        return _NO_NAMES
    return _FIRST_LINE if has_lines_above else None


def as_utf8(data: bytes, path: Path) -> bytes:
    """Convert the text to UTF-8 without a byte order mark. UTF-16 is recognised by its mark."""
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-16").encode()
    except UnicodeError as error:
        raise BadFileError(f"{path} is not UTF-16 text: {error}", hint="save it as CSV in UTF-8") from None


def dialect_of(data: bytes, path: Path, forms: Forms) -> Dialect:
    """Look for the column names of one of the forms; without them, take the first line.

    Raises `BadFileError` if a line above them may be a row.
    """
    lines = _head(data)
    named = _named(lines[0]) if lines else None
    start = 0 if named is None else 1
    separators = [*_SEPARATORS] if named is None else [named]
    above, separator = _place(lines, start, separators, forms) or (start, _likely(lines[start:], separators))
    if above > start:
        _refuse_rows(lines[start:above], separator, len(_values(lines[above], separator)), path)
    return Dialect(
        separator, above, sum(map(len, lines[:above])), tuple(_notes(lines, start, above, separator))
    )


def _head(data: bytes) -> list[bytes]:
    return data[:_HEAD].splitlines(keepends=True)[:MOST_ABOVE]


def _named(line: bytes) -> str | None:
    """Return the separator that a first line from Excel names, such as `sep=;`."""
    key, equals, value = line.decode(errors="replace").rstrip("\r\n").strip('"').partition("=")
    return value if equals and key.lower() == "sep" and value in _SEPARATORS else None


def _place(
    lines: Sequence[bytes], start: int, separators: Collection[str], forms: Forms
) -> tuple[int, str] | None:
    for number, line in enumerate(lines[start:], start):
        for separator in separators:
            names = {*_values(line, separator)}
            names |= {name.lower() for name in names}
            if any(form <= names for form in forms):
                return number, separator
    return None


def _likely(lines: Sequence[bytes], separators: Sequence[str]) -> str:
    """Return the first separator that occurs in the first line; the comma without any."""
    line = lines[0] if lines else b""
    return next((s for s in separators if len(_values(line, s)) > 1), separators[0])


def _values(line: bytes, separator: str) -> list[str]:
    return next(csv.reader([line.decode(errors="replace")], delimiter=separator), [])


def _refuse_rows(above: Sequence[bytes], separator: str, width: int, path: Path) -> None:
    for line in above:
        values = _values(line, separator)
        if len(values) == width > 1 and any(map(_is_number, values)):
            raise BadFileError(
                f"{path}: the line {_shown(line)} is above the column names, and may be a row",
                hint=_FIRST_LINE,
            )


def _is_number(value: str) -> bool:
    return value.strip().replace(".", "").replace(",", "").isdecimal()


def _notes(lines: Sequence[bytes], start: int, above: int, separator: str) -> list[str]:
    notes = []
    if start:
        notes.append(f"read with the separator {_SEPARATORS[separator]}, which its first line (sep=) names")
    elif separator != ",":
        notes.append(f"read with the separator {_SEPARATORS[separator]}")
    if above > start:
        number = above - start
        lines_above = "1 line" if number == 1 else f"{number} lines"
        notes.append(f"{lines_above} above the column names left out, the first is {_shown(lines[start])}")
    return notes


def _shown(line: bytes) -> str:
    text = line.decode(errors="replace").rstrip("\r\n")
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")
