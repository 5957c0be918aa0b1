"""Stalled servers: after a time of silence, ask what the server is doing; if nothing, give it up."""

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
"""Seconds for a new connection to find out what the server is doing for us, or to end our sessions."""

_CHECKS = 4  # of the traffic, within the limit
_RETURNS_WITHIN = 0.3  # seconds for a call whose connection is closed under it
_COUNTERS = struct.Struct("=QQ")  # bytes acknowledged and received, in Linux' tcp_info
_COUNTERS_AT = 120
_OPEN_FILES = "/dev/fd"
_MOST_FILES = 4096  # that are checked if the system does not list them
_SILENT = "no longer responds"
_HINT = "check that the server and the network are up, or wait longer with --stall-timeout SECONDS"

T = TypeVar("T")


@dataclass(eq=False)
class _Call:
    """A call of a driver in progress."""

    server: tuple[str, int]
    result: "Future[Any]"
    ended: StalledError | None = None
    """Why its connection was closed under it."""


_calls: list[_Call] = []
_probing = threading.Lock()  # one thread at a time asks: the others learn from the outcome of their own calls


@dataclass(frozen=True)
class Watch:
    """Wait for a call of a driver until it ends, or the server has stalled."""

    dsn: Dsn
    at_work: Callable[[], bool]
    """Asks over a new connection whether one of our sessions does anything on the server."""
    end: Callable[[], int]
    """Ends our sessions, over a new connection; returns their number."""

    def __call__(self, result: "Future[Any]") -> None:
        """Wait until the call ends. Raise `StalledError` if it was given up."""
        with _known(self.dsn, result) as call:
            if self.dsn.stall_timeout:
                self._wait(result)
            wait([result], timeout=threading.TIMEOUT_MAX)
            if call.ended and result.exception():
                raise call.ended

    def _wait(self, result: "Future[Any]") -> None:
        limit = self.dsn.stall_timeout
        since, seen = time.monotonic(), None
        while wait([result], timeout=limit / _CHECKS).not_done:
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
            silence = f"{self.dsn} {_SILENT}: nothing was received for {self.dsn.stall_timeout:g} s, and"
            error = StalledError(f"{silence} it is not doing any work for us", hint=_HINT)
            try:
                # Twice, because a call may have several statements, and the server may be between two.
                if self._in_time(self.at_work) or self._in_time(self.at_work) or result.done():
                    return
                _give_up(self.dsn, error)  # first, because the end of a session looks like a lost connection
                ended = self._in_time(self.end)
                error.args = (f"{error}; sessions of this process ended on the server: {ended}",)
            except TurnedAwayError:  # for example too many connections: the server runs
                _give_up(self.dsn, None)
                return
            except (ForecasterError, TimeoutError):
                if result.done():
                    return
                what = "it does not answer new connections; it ends our sessions once it notices"
                error.args = (f"{silence} {what}",)
            hang_up(self.dsn, error)

    @staticmethod
    def _in_time(call: Callable[[], T]) -> T:
        return interruptible(call, cancel=None, timeout=ANSWERS_WITHIN)


def hang_up(dsn: Dsn, error: StalledError | None = None) -> None:
    """Close all connections to the server, so that calls on them return; give up calls that do not."""
    error = error or StalledError(f"{dsn} {_SILENT}", hint=_HINT)
    calls = _give_up(dsn, error)
    for one in _sockets(dsn):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    wait([call.result for call in calls], timeout=_RETURNS_WITHIN)
    for call in calls:  # connectorx tries to connect for half a minute
        settle(call.result, error)


def _give_up(dsn: Dsn, error: StalledError | None) -> list[_Call]:
    """Set the error that calls in progress raise if they fail from now on; None removes it."""
    calls = [call for call in _calls if call.server == (dsn.host, dsn.port)]
    for call in calls:
        call.ended = error
    return calls


@contextmanager
def _known(dsn: Dsn, result: "Future[Any]") -> Iterator[_Call]:
    call = _Call((dsn.host, dsn.port), result)
    _calls.append(call)
    try:
        yield call
    finally:
        _calls.remove(call)


def bytes_passed(dsn: Dsn) -> int:
    """Count the bytes received, and those sent and acknowledged; 0 if the system does not count them."""
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
    """Find all connections of this process to the server: the drivers do not expose theirs."""
    for number in _open_files():
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as one:
                if _is_of(dsn, one.getpeername()):
                    yield one


def _open_files() -> Sequence[int]:
    """Return the descriptors of this process; all possible ones where the system does not list them."""
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
    except ValueError:  # a name, which may have several addresses
        return True
