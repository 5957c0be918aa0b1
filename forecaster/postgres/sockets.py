"""Check the owner of a Unix socket: another user's server would get the password and the rows."""

import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from forecaster.errors import DatabaseUnreachableError, UnsafeSocketError

_SERVERS_USER = "postgres"  # in nearly every installation
_PATIENCE = 3.0  # seconds
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def check_socket(directory: str, port: int, peer: str | None) -> None:
    """Raise `DatabaseUnreachableError` if another user's server may listen on the socket in a directory.

    With `peer`, as with libpq's `requirepeer`, that user must run the server. Without it, the path of the
    socket must be safe. A path that does not exist, or is not a socket, is an error of the driver.
    """
    path = Path(os.path.abspath(f"{directory}/.s.PGSQL.{port}"))  # noqa: PTH100 - a link is checked, too
    try:
        if not path.is_socket():
            return
        owner = _peer(path) if peer else path.lstat().st_uid
        why_not = _other_peer(owner, peer) if peer else why_unsafe(path)
    except OSError as error:
        raise DatabaseUnreachableError(
            f"the socket {path} cannot be used: {error.strerror or error}",
            hint="check that the server runs, and that this user may enter the directory",
        ) from None
    if why_not:
        name = _name(owner) or str(owner)
        raise UnsafeSocketError(
            f"the socket {path} is not safe, and nothing was sent to it: {why_not}",
            hint="name another server with PGHOST or in the URL; if this server is run by "
            f"{name}, set PGREQUIREPEER={name}",
        )


def why_unsafe(path: Path) -> str | None:
    """Return why another user may have created or replaced the path; None if none can have.

    Users who can write to a restricted directory are trusted. In a directory that anyone can write to, such
    as the one for temporary files, each part of the path must belong to root, this user or postgres.
    """
    # Both a link and its target have an owner.
    paths = dict.fromkeys((path, Path(os.path.realpath(path))))
    return next((why for one in paths for why in _dangers(one)), None)


def _dangers(path: Path) -> Iterator[str]:
    trusted = _trusted()
    for directory, name in pairwise((*reversed(path.parents), path)):
        mode, owner = directory.lstat().st_mode, name.lstat().st_uid
        if not (stat.S_ISDIR(mode) and mode & stat.S_IWOTH):
            continue
        if owner not in trusted:
            yield f"{name} belongs to {_named(owner)}, and anyone can create files in {directory}"
        elif not mode & stat.S_ISVTX:
            yield f"anyone can replace files in {directory}"


def _trusted() -> set[int]:
    try:
        return {0, os.geteuid(), pwd.getpwnam(_SERVERS_USER).pw_uid}
    except KeyError:
        return {0, os.geteuid()}


def _other_peer(uid: int, peer: str) -> str | None:
    if peer in (_name(uid), str(uid)):
        return None
    return f"the server is run by {_named(uid)}, but PGREQUIREPEER requires {peer!r}"


def _peer(path: Path) -> int:
    """Return the user that listens on the socket; the socket's owner if the system does not say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return path.lstat().st_uid
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE)
        probe.connect(str(path))
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _named(uid: int) -> str:
    name = _name(uid)
    return f"user {name!r}" if name else f"user number {uid}"
