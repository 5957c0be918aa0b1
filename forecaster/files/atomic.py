"""Write files completely or not at all, however the process ends."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.paths import file_itself, is_trusted, refusing


def write_text(text: str, path: Path, /) -> None:
    """Write `text` in UTF-8, whatever the path's ending. On failure the path stays as it was.

    Raises `BadFileError` like `write_table`.
    """
    write_bytes(text.encode(), path)


def write_bytes(data: bytes, path: Path, /) -> None:
    """Write `data`, whatever the path's ending. On failure the path stays as it was.

    Raises `BadFileError` like `write_table`.
    """
    check_target(path)
    with replacing(path) as file:
        file.write(data)


def check_target(path: Path, /) -> None:
    """Check early that a file can be written to `path`. Write nothing.

    Raises `InvalidOptionError` for an empty path, and `BadFileError` for a directory that is missing or not
    writable, and for a path that exists but is not a regular file.
    """
    if not path.name:  # "" is the path "."
        raise InvalidOptionError(
            "the name of a file to write is empty", hint="give one, or leave the option out"
        )
    with refusing(path, "written"):
        directory = file_itself(path).parent
        if not directory.is_dir():
            raise BadFileError(f"{path}: the directory {directory} does not exist", hint="create it first")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise BadFileError(
                f"{path}: no permission to write to the directory {directory}", hint="choose another one"
            )
        if path.exists() and not path.is_file():
            raise BadFileError(f"{path} exists but is not a regular file", hint="choose another name")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `path` once it is complete and on disk. Remove it on failure."""
    target = file_itself(path)
    temporary = target.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        with refusing(path, "written"):
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists() and is_trusted(target):
                shutil.copymode(target, temporary)
            temporary.replace(target)
        sync_directory(target.parent)
    finally:
        # Also after Ctrl-C. After the rename it does not exist.
        temporary.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the new name survive a power failure, where the system can sync a directory."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
