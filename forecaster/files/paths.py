"""Paths of files: refuse unsafe ones, and turn failures into errors that name the file."""

import contextlib
import os
import pwd
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from polars.exceptions import PanicException, PolarsError

from forecaster.errors import BadFileError

# When a store cannot be reached, Polars also prints its settings, which do not help a user.
_OF_STORE = re.compile(
    r"object-store error: .{1,2000}, retry_timeout: \S{1,20}\s{1,9}- (.*?)(?: \((?:location|path): .*)?\Z"
)
_MOST_LINKS = 40  # as many as the kernel follows


@contextlib.contextmanager
def refusing(path: Path | str, done: str, *, hint: str | None = None) -> Iterator[None]:
    """Turn the errors of the system, codecs and Polars about a file into `BadFileError`."""
    try:
        yield
    except _failures() as error:
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        if of_store := _OF_STORE.match(reason):
            reason = of_store[1]
        is_of_system = getattr(error, "errno", None) is not None
        raise BadFileError(
            f"{path} cannot be {done}: {reason}", hint=None if is_of_system else hint
        ) from error


def _failures() -> tuple[type[BaseException], ...]:
    known = (OSError, EOFError, zlib.error, PolarsError, PanicException)
    # Not imported for its error, which takes long: if it is not there, or still being imported by another
    # thread, it has raised none.
    invalid = getattr(sys.modules.get("pyarrow"), "ArrowInvalid", None)
    return (*known, invalid) if invalid else known


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

    The rule is that of the kernel's `protected_symlinks`: in a sticky directory that everybody may write to,
    a link is followed only if it belongs to this user, to the owner of the directory, or to root.
    """
    file_itself(path)


def file_itself(path: Path) -> Path:
    """Follow links to the file itself, so that links stay when it is replaced. Refuse planted links."""
    at, left, links = Path(), [*reversed(path.absolute().parts)], 0
    while left:
        part = left.pop()
        at = at.parent if part == ".." else at / part
        if os.path.islink(at) and links < _MOST_LINKS:  # noqa: PTH114 - no error where all is closed
            if not is_trusted(at):
                raise BadFileError(
                    f"{path}: the link {at} belongs to another user, {_owner(at)}, and anyone can write to "
                    "its directory",
                    hint="remove the link, or choose your own directory",
                )
            links += 1
            left += reversed(at.readlink().parts)
            at = at.parent
    return at


def is_trusted(entry: Path) -> bool:
    """Whether nobody else can have created this link or file."""
    directory = entry.parent.stat()
    is_for_all = directory.st_mode & stat.S_ISVTX and directory.st_mode & stat.S_IWOTH
    return not is_for_all or entry.lstat().st_uid in (os.geteuid(), directory.st_uid, 0)


def _owner(entry: Path) -> str:
    number = entry.lstat().st_uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"{number}"
