"""Files of our own that are locked or written to: nobody else can hold them, or put others in their place."""

import fcntl
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from forecaster.errors import BadFileError

_MODE = 0o600
_LOOKS = 0.05  # seconds between two tries to lock
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def own_file(path: Path) -> IO[str]:
    """A file open to be appended to, made if need be, that nobody else can read or write.

    Whoever can read a file can hold it locked. Raises `BadFileError` for a link, for anything but
    a regular file, and for another user's: root would write to a file of their choice. What an older
    version left readable is closed to others.
    """
    if path.is_symlink():
        raise BadFileError(f"{path} is a link, and is not followed", hint="see who made it, and remove it")
    file = os.fdopen(os.open(path, _FLAGS, _MODE), "a")
    status = os.fstat(file.fileno())
    is_ours = status.st_uid == os.geteuid() and status.st_nlink == 1
    if not (stat.S_ISREG(status.st_mode) and is_ours):
        file.close()
        raise BadFileError(f"{path} is not a file of this user's own", hint="see who made it, and remove it")
    if stat.S_IMODE(status.st_mode) != _MODE:
        with suppress(OSError):  # of a file system without modes
            os.fchmod(file.fileno(), _MODE)
    return file


def locked_within(file: IO[str] | int, seconds: float) -> bool:
    """Lock an open file, alone, or give up after so many seconds; whether it is locked."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOKS)
        else:
            return True


def holder(descriptor: int) -> str:
    """Who has locked a file, as far as the system says."""
    try:
        entries = Path("/proc/locks").read_text().splitlines()
    except OSError:
        entries = []
    # 1: FLOCK ADVISORY WRITE 708 fd:01:1234 0 EOF. Of one who waits, the second word is an arrow.
    fields = [entry.split() for entry in entries if " FLOCK " in entry and "->" not in entry]
    inode = f":{os.fstat(descriptor).st_ino}"
    pids = {pid for _, _, _, _, pid, place, *_ in fields if place.endswith(inode)}
    known = sorted(pids - {"0", "-1"})  # those of a process in another container
    return f"process {', '.join(known)}" if known else "another process"
