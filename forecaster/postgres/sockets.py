"""Whose a Unix socket is: another user's server would get the password and the rows."""

import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from forecaster.errors import DatabaseUnreachableError, UnsafeSocketError

_SERVERS_USER = "postgres"  # as nearly every installation calls it
_PATIENCE = 3.0  # seconds
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def check_socket(directory: str, port: int, peer: str | None) -> None:
    """Raise `DatabaseUnreachableError` if someone else's server may listen on the socket there.

    With `peer`, as with libpq's `requirepeer`, the server must be run by just that user. Without it, the way
    to the socket must be safe. What is not there, or is no socket, is left for the driver to say.
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
            hint="see that the server runs, and that this user may enter the directory",
        ) from None
    if why_not:
        name = _name(owner) or str(owner)
        raise UnsafeSocketError(
            f"nothing is sent to the socket {path}: {why_not}",
            hint=f"name the server with PGHOST or in the URL; if {name} is who runs it: PGREQUIREPEER={name}",
        )


def why_unsafe(path: Path) -> str | None:
    """Why someone else may have put there what is there; None if nobody else can have.

    Where only some can write, whoever put it there was allowed to. What is on the way in a directory that
    anyone can write to, such as the one for temporary files, must be root's, this user's, or postgres's.
    """
    # A link belongs to someone as well, and so does what it leads to.
    ways = dict.fromkeys((path, Path(os.path.realpath(path))))
    return next((why for way in ways for why in _dangers(way)), None)


def _dangers(path: Path) -> Iterator[str]:
    trusted = _trusted()
    for directory, name in pairwise((*reversed(path.parents), path)):
        mode, owner = directory.lstat().st_mode, name.lstat().st_uid
        if not (stat.S_ISDIR(mode) and mode & stat.S_IWOTH):
            continue
        if owner not in trusted:
            yield f"{name} belongs to {_named(owner)}, and anyone can make files in {directory}"
        elif not mode & stat.S_ISVTX:
            yield f"anyone can replace what is in {directory}"


def _trusted() -> set[int]:
    try:
        return {0, os.geteuid(), pwd.getpwnam(_SERVERS_USER).pw_uid}
    except KeyError:
        return {0, os.geteuid()}


def _other_peer(uid: int, peer: str) -> str | None:
    if peer in (_name(uid), str(uid)):
        return None
    return f"the server is run by {_named(uid)}, and PGREQUIREPEER asks for {peer!r}"


def _peer(path: Path) -> int:
    """The user who listens there; where the system does not say, the socket's owner."""
    if not hasattr(socket, "SO_PEERCRED"):
        return path.lstat().st_uid
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE)
        probe.connect(str(path))
        said = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(said)[1])


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _named(uid: int) -> str:
    name = _name(uid)
    return f"user {name!r}" if name else f"user number {uid}"
