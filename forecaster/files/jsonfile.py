"""Read JSON that other programs may have written: any problem is one error that names the file."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from forecaster.errors import BadFileError
from forecaster.files.paths import refusing

_WRONG = "is not what this version of forecaster writes"


def read_json(path: Path, /, *, most: int, wrong: str = _WRONG, hint: str | None = None) -> Any:  # noqa: ANN401 - as the file says
    """Read a file of at most `most` bytes; None if there is no file.

    Raises `BadFileError` if it is not a regular file, is too large, or is not JSON.
    """
    try:
        with refusing(path, "read"):
            data = _read(path, most)
    except BadFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    return parse(data, path, wrong=wrong, hint=hint)


def parse(text: bytes | str, where: Path | str, /, *, wrong: str = _WRONG, hint: str | None = None) -> Any:  # noqa: ANN401
    """Parse a JSON text. Raises `BadFileError` if it is invalid or nested too deeply."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):  # also for bytes that are not text, or a number with too many digits
        said = None
    if said is None:
        raise BadFileError(f"{where} {wrong}", hint=hint)
    return said


def _read(path: Path, most: int) -> bytes:
    # O_NONBLOCK: if it is a pipe, do not wait for a writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BadFileError(f"{path} exists but is not a regular file", hint="remove it")
        data = file.read(most + 1)
    if len(data) > most:
        raise BadFileError(
            f"{path} is larger than {most:,} bytes, so forecaster did not write it", hint="remove it"
        )
    return data
