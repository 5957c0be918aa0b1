"""Ctrl-C and SIGTERM end the program within two seconds, and clean up on the way."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from types import FrameType
from typing import TypeVar

GRACE = 1.7
"""Seconds from the signal until the process is ended, however busy it is."""

_CANCELLED = 1.0  # seconds that a cancelled call gets to come back

T = TypeVar("T")


class Interrupted(BaseException):
    """A signal asked the program to end. No `Exception`, so that nothing handles it by mistake."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


def install() -> None:
    """From now on SIGINT and SIGTERM raise `Interrupted` in the main thread.

    Python runs a signal's handler only between two of its own instructions. Should the main thread not get
    there in time, because it is deep in a computation, the process ends without.
    """
    woken, wakes = socket.socketpair()
    wakes.settimeout(0)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(woken, wakes), daemon=True).start()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _raise)


def interruptible(
    call: Callable[[], T], /, *, cancel: Callable[[], object], timeout: float | None = None
) -> T:
    """Make a call that blocks outside of Python, in a thread of its own so that a signal is not kept waiting.

    On a signal `cancel` is called, which has to make the call come back. Raises `TimeoutError` after
    `timeout` seconds; the call is then left to itself.
    """
    if threading.current_thread() is not threading.main_thread() and timeout is None:
        return call()
    result: Future[T] = Future()
    threading.Thread(target=_settle, args=(result, call), daemon=True).start()
    try:
        return result.result(timeout)
    except (Interrupted, KeyboardInterrupt):
        with suppress(Exception):  # the connection may be gone; the signal counts
            cancel()
        wait([result], timeout=_CANCELLED)
        raise


def _settle(result: "Future[T]", call: Callable[[], T]) -> None:
    try:
        result.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the result
        result.set_exception(error)


def _raise(signum: int, _frame: FrameType | None) -> None:
    # Once: a second signal must not break into the clean-up. The watching thread bounds its time.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(signum)


def _end_in_time(woken: socket.socket, _wakes: socket.socket) -> None:
    signum = woken.recv(1)[0]
    threading.Event().wait(GRACE)
    with suppress(Exception):
        sys.stderr.flush()
    os._exit(128 + signum)
