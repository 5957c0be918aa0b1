"""Create a directory completely or not at all, however the process ends."""

import errno
import fcntl
import glob
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from forecaster.errors import BadFileError
from forecaster.files.atomic import sync_directory
from forecaster.files.paths import check_name, refuse_planted_links, refusing

_TRIES, _PAUSE = 20, 0.05  # seconds; in total less than the time to clean up after a signal


@contextmanager
def new_directory(out: Path, *, replaces: Collection[str] | None) -> Iterator[Path]:
    """Yield a directory to fill. At the end of the block it replaces `out`; on failure it is removed.

    `out` may be an empty directory. A directory that holds exactly the names in `replaces` is replaced by two
    renames, between which no directory has the name. Raises `BadFileError` for any other directory.
    """
    check_name(out)
    refuse_planted_links(out)
    target = Path(os.path.realpath(out))
    with refusing(out, "written"):
        _check(out, target, replaces)
        for left_over in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
            _remove_if_abandoned(left_over)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    with ExitStack() as stack:
        with refusing(out, "written"):
            temporary.mkdir()
            stack.callback(_remove, temporary)
            stack.enter_context(_held(temporary))
        yield temporary
        with refusing(out, "written"):
            _take_the_place(temporary, target, replace=replaces is not None)


def _check(out: Path, target: Path, replaces: Collection[str] | None) -> None:
    """Check early that a new directory can be created at the target."""
    if target.exists() and not target.is_dir():
        raise BadFileError(f"{out} exists but is not a directory", hint="choose another name")
    if not target.parent.is_dir():
        raise BadFileError(f"{out}: the directory {target.parent} does not exist", hint="create it first")
    if os.path.ismount(target):
        raise BadFileError(f"{out} is the root of a file system", hint="choose a directory in it")
    if target in (Path.cwd(), *Path.cwd().parents):
        raise BadFileError(f"{out} is the current directory, or holds it", hint="choose a directory in it")
    there = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if there and replaces is None:
        raise BadFileError(
            f"{out} exists and is not empty",
            hint="choose another directory; --replace replaces a catalogue that was laid out there",
        )
    if there and there != set(replaces or ()):
        raise BadFileError(
            f"{out} is not a catalogue of this command, and is not replaced",
            hint="choose another directory",
        )


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Mark the directory as in use for the duration of the block, or until this process ends."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # without locks in the file system, an abandoned directory stays
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove(directory: Path) -> None:
    """Remove a directory in which an interrupted computation may still create files for a moment."""
    for _ in range(_TRIES):
        if not directory.exists():
            return
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(_PAUSE)


def _remove_if_abandoned(directory: Path) -> None:
    """Remove a directory that a killed process has left; leave one that is still in use."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(descriptor)


def _take_the_place(temporary: Path, target: Path, *, replace: bool) -> None:
    if target.is_dir():
        shutil.copymode(target, temporary)
    try:
        temporary.rename(target)  # this replaces an empty directory
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not replace:
            raise BadFileError(
                f"{target} was filled by another process in the meantime", hint="choose another directory"
            ) from error
        old = temporary.with_suffix(".old.tmp")
        target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    sync_directory(target.parent)
