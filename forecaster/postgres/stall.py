"""A server that says nothing more: noticed after a limit, asked what it does, and given up if nothing."""

import ipaddress
import os
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from forecaster.errors import ForecasterError, StalledError, TurnedAwayError
from forecaster.postgres.dsn import Dsn
from forecaster.process.signals import interruptible, settle

ANSWERS_WITHIN = 5.0
"""Seconds for a new connection to say what the server does for us, or to end our sessions."""

_LOOKS = 4  # at what goes over the wire, within the limit
_COMES_BACK_WITHIN = 0.3  # seconds for a call whose connection is closed under it
_COUNTERS = struct.Struct("=QQ")  # bytes acknowledged and received, in Linux' tcp_info
_COUNTERS_AT = 120
_OPEN_FILES = "/dev/fd"
_MOST_FILES = 4096  # that are looked at where the system does not list them
_SILENT = "says nothing any more"
_HINT = "see whether the server and the network are up; --stall-timeout SECONDS waits longer"

T = TypeVar("T")


@dataclass(eq=False)
class _Going:
    """A call of a driver that is not over yet."""

    server: tuple[str, int]
    result: "Future[Any]"
    ended: StalledError | None = None
    """Why its connection was closed under it."""


_going: list[_Going] = []
_probing = threading.Lock()  # one at a time asks: the others learn from what becomes of their own calls


@dataclass(frozen=True)
class Watch:
    """Waits for a call of a driver, but not for ever."""

    dsn: Dsn
    at_work: Callable[[], bool]
    """Whether a session of ours does anything on the server, asked over a new connection."""
    end: Callable[[], int]
    """Ends our sessions, over a new connection; their number."""

    def __call__(self, result: "Future[Any]") -> None:
        """Wait until the call is over. Raise `StalledError` if it never will be."""
        with _known(self.dsn, result) as going:
            if self.dsn.stall_timeout:
                self._wait(result)
            wait([result], timeout=threading.TIMEOUT_MAX)
            if going.ended and result.exception():
                raise going.ended

    def _wait(self, result: "Future[Any]") -> None:
        limit = self.dsn.stall_timeout
        since, seen = time.monotonic(), None
        while wait([result], timeout=limit / _LOOKS).not_done:
            now = bytes_passed(self.dsn)
            if seen is not None and seen != now:
                since = time.monotonic()
            seen = now
            if time.monotonic() - since >= limit:
                self._ask(result)
                since = time.monotonic()

    def _ask(self, result: "Future[Any]") -> None:
        with _probing:
            if result.done():
                return
            said = f"{self.dsn} {_SILENT}: nothing came in {self.dsn.stall_timeout:g} s, and"
            error = StalledError(f"{said} it is at no work for us", hint=_HINT)
            try:
                # Twice, because a call may be of several statements, and the server just then between two.
                if self._in_time(self.at_work) or self._in_time(self.at_work) or result.done():
                    return
                _give_up(self.dsn, error)  # before the end of a session looks like a lost connection
                ended = self._in_time(self.end)
                error.args = (f"{error}; ended on the server: {ended} sessions of this process",)
            except TurnedAwayError:  # as with too many connections: it is there, and that is all we know
                _give_up(self.dsn, None)
                return
            except (ForecasterError, TimeoutError):
                if result.done():
                    return
                what = "new connections are not answered either; it ends our sessions once it notices"
                error.args = (f"{said} {what}",)
            hang_up(self.dsn, error)

    @staticmethod
    def _in_time(call: Callable[[], T]) -> T:
        return interruptible(call, cancel=None, timeout=ANSWERS_WITHIN)


def hang_up(dsn: Dsn, error: StalledError | None = None) -> None:
    """Close all connections to the server, so that the calls on them come back, or give these up."""
    error = error or StalledError(f"{dsn} {_SILENT}", hint=_HINT)
    calls = _give_up(dsn, error)
    for one in _sockets(dsn):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    wait([going.result for going in calls], timeout=_COMES_BACK_WITHIN)
    for going in calls:  # connectorx tries to connect for half a minute
        settle(going.result, error)


def _give_up(dsn: Dsn, error: StalledError | None) -> list[_Going]:
    """Have the calls that go on, and fail from now on, fail with that; None takes it back."""
    calls = [going for going in _going if going.server == (dsn.host, dsn.port)]
    for going in calls:
        going.ended = error
    return calls


@contextmanager
def _known(dsn: Dsn, result: "Future[Any]") -> Iterator[_Going]:
    going = _Going((dsn.host, dsn.port), result)
    _going.append(going)
    try:
        yield going
    finally:
        _going.remove(going)


def bytes_passed(dsn: Dsn) -> int:
    """Sent to the server and acknowledged, or received; always 0 where the system does not count them."""
    if sys.platform != "linux" or dsn.host.startswith("/"):
        return 0
    counted = 0
    for one in _sockets(dsn):
        with suppress(OSError, struct.error):
            size = _COUNTERS_AT + _COUNTERS.size
            info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
            counted += sum(_COUNTERS.unpack_from(info, _COUNTERS_AT))
    return counted


def _sockets(dsn: Dsn) -> Iterator[socket.socket]:
    """All connections of this process to the server: the drivers do not show theirs."""
    for number in _open_files():
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as one:
                if _is_of(dsn, one.getpeername()):
                    yield one


def _open_files() -> Sequence[int]:
    """The descriptors of this process; all there may be where they are not listed, as in some containers."""
    try:
        return [int(name) for name in os.listdir(_OPEN_FILES)]  # noqa: PTH208 - numbers
    except (OSError, ValueError):
        return range(_MOST_FILES)


def _is_of(dsn: Dsn, peer: Any) -> bool:  # noqa: ANN401 - of any kind of socket
    if dsn.host.startswith("/"):
        return bool(peer == f"{dsn.host}/.s.PGSQL.{dsn.port}")
    if not isinstance(peer, tuple) or peer[1] != dsn.port:
        return False
    try:
        return ipaddress.ip_address(dsn.host) == ipaddress.ip_address(peer[0])
    except ValueError:  # a name, for which there may be several addresses
        return True
