"""Standard output and error that may be closed, full, or no longer read, without failing the work."""

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_STDERR = 2


class OutputError(OSError):
    """Standard output cannot be written, for example on a full disk."""


def tolerate() -> int:
    """Make the program continue if its log cannot be written, or if `| head` has stopped reading.

    Standard output that cannot be written for another reason raises `OutputError`, once. A character that the
    encoding lacks is written as its number. Returns a second descriptor of standard error, for the messages
    of this program: those of libraries, on the first one, can then be silenced.
    """
    sys.stdout = _tolerant(sys.stdout, 1, loses_all=False)
    ours = _STDERR if sys.stderr is None else os.dup(_STDERR)
    sys.stderr = _tolerant(sys.stderr, ours, loses_all=True)
    return ours


def hush() -> None:
    """Silence what libraries write to standard error by themselves."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), _STDERR)


class _Tolerant(io.FileIO):
    """Drop what cannot be written: on stderr always, on stdout once its reader has ended."""

    def __init__(self, descriptor: int, *, loses_all: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.loses_all = loses_all

    def write(self, data: "Buffer") -> int:
        """Write, or drop the data and report them as written."""
        try:
            return super().write(data)
        except OSError as error:
            if not (self.loses_all or isinstance(error, BrokenPipeError)):
                self.loses_all = True  # for the flush at the end
                raise OutputError(f"standard output cannot be written: {error.strerror}") from None
            return memoryview(data).nbytes


def _tolerant(stream: TextIO | None, descriptor: int, *, loses_all: bool) -> TextIO:
    if stream is None:  # it was closed: occupy its descriptor, so that no other file gets it
        return Path(os.devnull).open("w", encoding="utf-8")
    raw = io.BufferedWriter(_Tolerant(descriptor, loses_all=loses_all))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors="backslashreplace", line_buffering=True)
