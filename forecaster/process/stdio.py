"""Standard output and error that are closed, full, or read no further: no reason for the work to fail."""

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_STDERR = 2


class OutputError(OSError):
    """Standard output cannot be written, as on a full disk."""


def tolerate() -> int:
    """From now on a log that cannot be written ends nothing, and neither does `| head`.

    Standard output that cannot be written for another reason is an `OutputError`, once. A character that the
    encoding lacks is written as its number. Returns a second descriptor of standard error, by which what is
    said by us goes: what libraries say by the first can be hushed.
    """
    sys.stdout = _tolerant(sys.stdout, 1, loses_all=False)
    ours = _STDERR if sys.stderr is None else os.dup(_STDERR)
    sys.stderr = _tolerant(sys.stderr, ours, loses_all=True)
    return ours


def hush() -> None:
    """From now on nothing is seen of what libraries write to standard error by themselves."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), _STDERR)


class _Tolerant(io.FileIO):
    """Loses what cannot be written: on stderr always, on stdout where nobody reads it any more."""

    def __init__(self, descriptor: int, *, loses_all: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.loses_all = loses_all

    def write(self, data: "Buffer") -> int:
        """Write, or say that it is written."""
        try:
            return super().write(data)
        except OSError as error:
            if not (self.loses_all or isinstance(error, BrokenPipeError)):
                self.loses_all = True  # what is flushed at the end
                raise OutputError(f"standard output cannot be written: {error.strerror}") from None
            return memoryview(data).nbytes


def _tolerant(stream: TextIO | None, descriptor: int, *, loses_all: bool) -> TextIO:
    if stream is None:  # it was closed: take its place, so that nothing else that is opened gets it
        return Path(os.devnull).open("w", encoding="utf-8")
    raw = io.BufferedWriter(_Tolerant(descriptor, loses_all=loses_all))
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors="backslashreplace", line_buffering=True)
