"""Lock files and logs that no other user can lock, or replace with a file of their own."""

import fcntl
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from forecaster.errors import BadFileError

_MODE = 0o600
_RETRY_AFTER = 0.05  # seconds between two tries to lock
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def own_file(path: Path) -> IO[str]:
    """Open a file for appending, created if it is missing, that no other user can read or write.

    A user who can read a file can lock it. Raises `BadFileError` for a link, for anything but a regular
    file, and for a file of another user: root would write to a file of their choice. A file that an older
    version left readable is closed to other users.
    """
    if path.is_symlink():
        raise BadFileError(f"{path} is a link, and is not followed", hint="check who made it, and remove it")
    file = os.fdopen(os.open(path, _FLAGS, _MODE), "a")
    status = os.fstat(file.fileno())
    is_ours = status.st_uid == os.geteuid() and status.st_nlink == 1
    if not (stat.S_ISREG(status.st_mode) and is_ours):
        file.close()
        raise BadFileError(
            f"{path} is not a regular file that belongs to this user alone",
            hint="check who made it, and remove it",
        )
    if stat.S_IMODE(status.st_mode) != _MODE:
        with suppress(OSError):  # of a file system without modes
            os.fchmod(file.fileno(), _MODE)
    return file


def locked_within(file: IO[str] | int, seconds: float) -> bool:
    """Lock an open file exclusively, or give up after `seconds`; return whether it is locked."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY_AFTER)
        else:
            return True


def holder(descriptor: int) -> str:
    """Name the process that has locked a file, as far as the system knows."""
    try:
        entries = Path("/proc/locks").read_text().splitlines()
    except OSError:
        entries = []
    # 1: FLOCK ADVISORY WRITE 708 fd:01:1234 0 EOF. In the line of a waiting process the second word is "->".
    fields = [entry.split() for entry in entries if " FLOCK " in entry and "->" not in entry]
    inode = f":{os.fstat(descriptor).st_ino}"
    pids = {pid for _, _, _, _, pid, place, *_ in fields if place.endswith(inode)}
    known = sorted(pids - {"0", "-1"})  # those of a process in another container
    return f"process {', '.join(known)}" if known else "another process"
