"""Ctrl-C and SIGTERM end the program within two seconds, and clean up on the way."""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TypeVar

from forecaster.standard import hush

GRACE = 1.7
"""Seconds from the signal until the process is ended, however busy it is."""

_AGAIN = 0.1  # seconds after which what goes on is cancelled once more
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
_MAIN_THREAD = threading.main_thread().ident or 0
_to_say = threading.Lock()  # held by the thread that says it, until the end

_in_form: Callable[[str, int], str] | None = None  # what makes a log line of the last words

T = TypeVar("T")
U = TypeVar("U")


class Interrupted(BaseException):
    """A signal asked the program to end. No `Exception`, so that nothing handles it by mistake."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum


def set_last_words(in_form: Callable[[str, int], str] | None) -> None:
    """Have what is said at the end go through this, with the exit code; None leaves it as it is."""
    global _in_form  # noqa: PLW0603 - of the process, which has one end
    _in_form = in_form


@contextmanager
def ended_by_signals(stderr: int = _STDERR) -> Iterator[None]:
    """The whole program: SIGINT and SIGTERM raise `Interrupted` in the main thread, and end the process.

    The last words go by the descriptor `stderr`. If that is one of our own, nothing is seen of what a library
    says when it is broken off.

    Python runs a signal's handler only between two of its own instructions. Should the main thread not get
    there in time, because it is deep in a computation, the process ends without. Whatever swallows the
    exception, as a finaliser does, is interrupted again a moment later.
    """
    sys.unraisablehook = _unraisable
    woken, wakes = socket.socketpair()
    wakes.settimeout(0)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(woken, wakes, stderr), daemon=True).start()
    try:
        try:
            _handle(_raise)
            yield
        finally:  # all is done, and said
            _handle(signal.SIG_IGN)
    except Interrupted as interrupted:
        _end(interrupted.signum, stderr)


def interruptible(
    call: Callable[[], T], /, *, cancel: Callable[[], object] | None, timeout: float | None = None
) -> T:
    """Make a call that blocks outside of Python, in a thread of its own so that a signal is not kept waiting.

    On a signal `cancel` is called, which has to make the call come back; None leaves it to itself. Raises
    `TimeoutError` after `timeout` seconds; the call is then left to itself.
    """
    if threading.current_thread() is not threading.main_thread() and timeout is None:
        return call()
    result: Future[T] = Future()
    try:
        threading.Thread(target=_settle, args=(result, call), daemon=True).start()
        return outcome(result, timeout=timeout)
    except (Interrupted, KeyboardInterrupt):
        result.cancel()  # does something only if the thread has not begun
        if cancel:
            cancel_all([result], cancel)
        raise


def both(first: Callable[[], T], second: Callable[[], U], /, *, cancel: Callable[[], object]) -> tuple[T, U]:
    """Make two calls that block outside of Python at once; `cancel` has to make both come back."""
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.submit(first), threads.submit(second)
        try:
            return outcome(one), outcome(other)
        except BaseException:
            cancel_all([one, other], cancel)
            raise


def outcome(call: "Future[T]", /, *, beside: Iterable["Future[Any]"] = (), timeout: float | None = None) -> T:
    """What a call in another thread returns or raises, once it is over; a signal is not kept waiting.

    Raises what one of those `beside` it raises if that comes first; `TimeoutError` after `timeout` seconds.
    """
    # With a limit even if there is none: importing Polars has SIGINT handled in such a way that the system
    # resumes an unlimited wait after it.
    patience = threading.TIMEOUT_MAX if timeout is None else timeout
    pending = {call, *beside}
    while pending and not call.done():
        over, pending = wait(pending, patience, return_when=FIRST_COMPLETED)
        if not over:
            raise TimeoutError
        for other in over - {call}:
            other.result()
    return call.result()


def cancel_all(calls: Sequence["Future[Any]"], cancel: Callable[[], object]) -> None:
    """Have calls in other threads come back by way of `cancel`, and wait until all of them have."""
    for call in calls:
        call.cancel()  # those that have not begun
    # Again and again, because a statement that the server has not begun cannot be cancelled. Until they
    # are over, because their connections must not be closed under them.
    while not all(call.done() for call in calls):
        with suppress(Exception):  # the connection may be gone; what it is cancelled for counts
            cancel()
        wait(calls, timeout=_AGAIN)


@contextmanager
def postponed() -> Iterator[None]:
    """A signal that comes meanwhile takes effect at the end. For what is short and must not be cut in two."""
    before = signal.getsignal(signal.SIGTERM)
    if before is not _raise or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    _handle(lambda signum, _frame: came.append(signum))
    try:
        yield
    finally:
        _handle(_raise)
        if came:
            _raise(came[0], None)


def _settle(result: "Future[T]", call: Callable[[], T]) -> None:
    if not result.set_running_or_notify_cancel():
        return
    try:
        result.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the result
        result.set_exception(error)


def _handle(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for signum in _SIGNALS:
        signal.signal(signum, handler)


def _raise(signum: int, _frame: FrameType | None) -> None:
    # A second signal must not break into the clean-up. The watching thread bounds its time.
    if not any(isinstance(error, Interrupted) for error in _in_hand()):
        raise Interrupted(signum)


def _in_hand() -> Iterator[BaseException]:
    """The exception that is being handled just now, and those during whose handling it came."""
    error = sys.exc_info()[1]
    while error:
        yield error
        error = error.__context__


def _unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    """What a finaliser raises is printed, but for an interruption: that comes again."""
    if not isinstance(ignored.exc_value, Interrupted):
        sys.__unraisablehook__(ignored)


def _end_in_time(woken: socket.socket, _wakes: socket.socket, stderr: int) -> None:
    signum = woken.recv(1)[0]
    if stderr != _STDERR:
        hush()
    deadline = time.monotonic() + GRACE
    # Once more, this time so that it breaks off whatever the main thread waits for. And again: one that comes
    # while it has not done with the last does not break it off, and what one raises may be swallowed.
    signal.siginterrupt(signum, True)  # noqa: FBT003 - takes no keyword
    while time.monotonic() < deadline:
        signal.pthread_kill(_MAIN_THREAD, signum)
        time.sleep(_AGAIN)
    _end(signum, stderr)


def _end(signum: int, stderr: int) -> NoReturn:
    """End the process here and now: a thread may still be at work in a driver."""
    words, exit_code = f"Interrupted by {signal.Signals(signum).name}: nothing is half done", 128 + signum
    # A picture of the progress may have hidden the cursor.
    cursor = "\r\x1b[?25h" if os.isatty(stderr) else ""
    line = f"{cursor}{_in_form(words, exit_code) if _in_form else words}\n"
    with suppress(OSError):
        # Not by way of sys.stderr, whose lock the other thread may hold. A terminal that takes nothing (as
        # after Ctrl-S) would keep us.
        if _to_say.acquire(timeout=_AGAIN) and select.select([], [stderr], [], 0)[1]:
            os.write(stderr, line.encode())
    os._exit(exit_code)
