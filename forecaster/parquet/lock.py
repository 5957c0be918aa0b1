"""Lock a bucket by a file that only users with write permission on the sink can lock."""

import math
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from forecaster.errors import BadFileError, LockedError
from forecaster.files.paths import refuse_planted_links, refusing
from forecaster.process.locks import holder, locked_within
from forecaster.process.logs import log

_OWN, _OF_GROUP = 0o600, 0o660
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HOLDER = re.compile(
    r"process (?P<pid>\d{1,10}) on host (?P<host>[\w.-]{1,255}), since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
)
_LENGTH = 400  # maximum bytes of the text that names the holder


@contextmanager
def locked(path: Path, wait: float) -> Iterator[None]:
    """Hold a bucket exclusively in this block; the lock ends with the process, too.

    Raises `LockedError`, which names the holder, if the lock is not free within `wait` seconds, and
    `BadFileError` if the lock file cannot be used.
    """
    refuse_planted_links(path.parent)
    with refusing(path.parent, "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path)
    try:
        _take(descriptor, path, wait if math.isfinite(wait) else 0)
        _write_name(descriptor, _own_name())
        try:
            yield
        finally:
            _write_name(descriptor, "")
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open the lock file with a mode that admits only those who may write into its directory."""
    descriptor = os.open(path, _FLAGS, _OWN)
    state, place = os.fstat(descriptor), path.parent.stat()
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise BadFileError(f"{path} exists but is not a regular file", hint="remove it")
    is_shared = place.st_mode & stat.S_IWGRP and state.st_gid == place.st_gid
    mode = _OF_GROUP if is_shared else _OWN
    if state.st_uid == os.geteuid() and stat.S_IMODE(state.st_mode) != mode:
        with suppress(OSError):  # on a file system without modes
            os.fchmod(descriptor, mode)
    return descriptor


def _take(descriptor: int, path: Path, wait: float) -> None:
    with refusing(path, "locked"):
        if locked_within(descriptor, 0):
            return
        if wait > 0:
            log.info("waiting for %s, which holds %s", _holder(descriptor), path)
        if locked_within(descriptor, wait):
            return
    raise LockedError(
        f"another process computes this bucket: {path} is held by {_holder(descriptor)}",
        hint="wait until it has finished, or give --wait SECONDS",
    )


def _own_name() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"process {os.getpid()} on host {socket.gethostname()}, since {now}"


def _write_name(descriptor: int, name: str) -> None:
    with suppress(OSError):  # on a full disk: the lock holds without the name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, name.encode(), 0)


def _holder(descriptor: int) -> str:
    """Name the holder by the text in the file, unless a killed process left it; else by the system."""
    match = _HOLDER.fullmatch(os.pread(descriptor, _LENGTH, 0).decode(errors="replace"))
    is_gone = match is not None and match["host"] == socket.gethostname() and not _lives(int(match["pid"]))
    return match[0] if match and not is_gone else holder(descriptor)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
