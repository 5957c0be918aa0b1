"""End the program within two seconds after Ctrl-C or SIGTERM, and clean up on the way."""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple, NoReturn, TypeVar

from forecaster.process.stdio import hush

GRACE = 1.7
"""Seconds from the signal until the process is ended, however busy it is."""

_AGAIN = 0.1  # seconds after which a running call is cancelled once more
_ANSWERS_WITHIN = 0.7  # seconds in which a cancelled call returns, if the other side answers
_ACTION_WITHIN = 0.25  # seconds in which the last action has to end, before the process is ended by force
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
_MAIN_THREAD = threading.main_thread().ident or 0
_speaking = threading.Lock()  # held until the end by the thread that writes the last words

_last_action: Callable[[int], object] | None = None
_formatter: Callable[[str, int], str] | None = None  # formats the last words as a log line

T = TypeVar("T")
U = TypeVar("U")


class Interrupted(BaseException):
    """A signal asked the program to end. Not an `Exception`, so that nothing handles it by mistake."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum
        self.at = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds that are left until the process is ended by force; may be negative."""
        return self.at + GRACE - time.monotonic()


class Cancel(NamedTuple):
    """How to end calls that block outside of Python."""

    asks: Sequence[Callable[[], object]]
    """Functions that ask the other side to cancel. Each may block if the other side does not answer."""
    cut: Callable[[], object]
    """Ends the calls without the other side."""


@contextmanager
def last_action(action: Callable[[int], object]) -> Iterator[None]:
    """Call `action`, with the number of the signal, if the process is ended by force while the block runs."""
    global _last_action  # noqa: PLW0603 - the process ends once
    before, _last_action = _last_action, action
    try:
        yield
    finally:
        _last_action = before


def set_last_words(formatter: Callable[[str, int], str] | None) -> None:
    """Format the last words with this function of text and exit code; None leaves them as they are."""
    global _formatter  # noqa: PLW0603 - the process ends once
    _formatter = formatter


@contextmanager
def ended_by_signals(stderr: int = _STDERR) -> Iterator[None]:
    """Run the program in this block: SIGINT and SIGTERM raise `Interrupted` in it, and end the process.

    The last words are written to the descriptor `stderr`. If it is a second descriptor, the messages of
    libraries that are interrupted do not appear.

    Python runs a signal handler only between two of its own instructions. If the main thread does not get
    there in time, because it is deep in a computation, the process ends without the exception. Code that
    swallows the exception, as a finaliser does, is interrupted again a moment later.
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
        finally:  # everything is done and reported
            _handle(signal.SIG_IGN)
    except Interrupted as interrupted:
        _end(interrupted.signum, stderr)


def interruptible(
    call: Callable[[], T],
    /,
    *,
    cancel: Cancel | None,
    timeout: float | None = None,
    watch: "Callable[[Future[Any]], None] | None" = None,
) -> T:
    """Make a call that blocks outside of Python in a separate thread, so that a signal takes effect at once.

    On a signal `cancel` has to make the call return; None abandons it. Raises `TimeoutError` after `timeout`
    seconds, and abandons the call. `watch` waits until the call has ended, or raises the reason why it never
    will.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread and timeout is None and watch is None:
        return call()
    result = started(call)
    try:
        if watch:
            watch(result)
        return outcome(result, timeout=timeout)
    except (Interrupted, KeyboardInterrupt):
        result.cancel()  # has an effect only if the thread has not started
        if cancel:
            cancel_now([result], cancel)
        raise


def started(call: Callable[[], T], /) -> "Future[T]":
    """Make a call in another thread, which does not keep the process from ending."""
    result: Future[T] = Future()
    threading.Thread(target=_settle, args=(result, call), daemon=True).start()
    return result


def both(first: Callable[[], T], second: Callable[[], U], /, *, cancel: Cancel) -> tuple[T, U]:
    """Make two calls that block outside of Python, at the same time; `cancel` has to make both return."""
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.submit(first), threads.submit(second)
        try:
            return outcome(one, others=[other]), outcome(other)
        except Exception:
            cancel_all([one, other], cancel)
            raise
        except BaseException:
            cancel_now([one, other], cancel)
            raise


def outcome(call: "Future[T]", /, *, others: Iterable["Future[Any]"] = (), timeout: float | None = None) -> T:
    """Wait for a call in another thread, and return or raise its result; a signal takes effect at once.

    Raises the error of one of the `others` if that call fails first, and `TimeoutError` after `timeout`
    seconds.
    """
    # Even without a timeout the wait is limited: importing Polars changes the handling of SIGINT so that the
    # system resumes an unlimited wait after it.
    patience = threading.TIMEOUT_MAX if timeout is None else timeout
    pending = {call, *others}
    while pending and not call.done():
        over, pending = wait(pending, patience, return_when=FIRST_COMPLETED)
        if not over:
            raise TimeoutError
        for other in over - {call}:
            other.result()
    return call.result()


def cancel_now(calls: Sequence["Future[Any]"], cancel: Cancel) -> None:
    """Make calls in other threads return on a signal, whether the other side answers or not."""
    cancel_all(calls, cancel, patience=_ANSWERS_WITHIN)


def cancel_all(calls: Sequence["Future[Any]"], cancel: Cancel, *, patience: float | None = None) -> None:
    """Make calls in other threads return with `cancel`, and wait until all have returned.

    First the other side is asked to cancel; after `patience` seconds the calls are cut off.
    """
    for call in calls:
        call.cancel()  # those that have not started
    # Wait until they have ended: connections that calls, or requests to cancel, use must not be closed.
    asking = [threading.Thread(target=_ask, args=(ask, calls), daemon=True) for ask in cancel.asks]
    for thread in asking:
        thread.start()
    if wait(calls, timeout=threading.TIMEOUT_MAX if patience is None else patience).not_done:
        cancel.cut()
        wait(calls, timeout=threading.TIMEOUT_MAX)
    for thread in asking:
        thread.join(_AGAIN)


def _ask(ask: Callable[[], object], calls: Sequence["Future[Any]"]) -> None:
    # Repeatedly, because a statement that the server has not started cannot be cancelled.
    while not all(call.done() for call in calls):
        with suppress(Exception):  # the connection may be lost; the error that led here counts
            ask()
        wait(calls, timeout=_AGAIN)


@contextmanager
def postponed() -> Iterator[None]:
    """Delay signals until the end of the block. For short work that must not be interrupted halfway."""
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
        value = call()
    except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
        settle(result, error)
        return
    with suppress(InvalidStateError):
        result.set_result(value)


def settle(result: "Future[Any]", error: BaseException) -> None:
    """End a call with an error unless it has ended; a result that it returns later is ignored."""
    with suppress(InvalidStateError):
        result.set_exception(error)


def _handle(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for signum in _SIGNALS:
        signal.signal(signum, handler)


def _raise(signum: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt the clean-up, whose time the watching thread limits. For the first
    # signal Polars raises an exception of its own.
    if not any(isinstance(error, Interrupted | KeyboardInterrupt) for error in _being_handled()):
        raise Interrupted(signum)


def _being_handled() -> Iterator[BaseException]:
    """Yield the exception that is being handled now, and those in whose handling it was raised."""
    error = sys.exc_info()[1]
    while error:
        yield error
        error = error.__context__


def _unraisable(ignored: "sys.UnraisableHookArgs") -> None:
    """Print what a finaliser raises, except an interruption, which is raised again later."""
    if not isinstance(ignored.exc_value, Interrupted):
        sys.__unraisablehook__(ignored)


def _end_in_time(woken: socket.socket, _wakes: socket.socket, stderr: int) -> None:
    signum = woken.recv(1)[0]
    if stderr != _STDERR:
        hush()
    deadline = time.monotonic() + GRACE
    # Send the signal once more so that it ends a system call that the main thread waits in. Then repeatedly:
    # a signal that comes while the last one is handled ends no call, and its exception may be swallowed.
    signal.siginterrupt(signum, True)  # noqa: FBT003 - takes no keyword
    while time.monotonic() < deadline:
        signal.pthread_kill(_MAIN_THREAD, signum)
        time.sleep(_AGAIN)
    if _last_action:  # in a thread: a lock that it needs may be held by a call that never returns
        done = threading.Thread(target=_last_action, args=(signum,), daemon=True)
        done.start()
        done.join(_ACTION_WITHIN)
    _end(signum, stderr)


def _end(signum: int, stderr: int) -> NoReturn:
    """End the process immediately: a thread may still be busy in a driver."""
    words, exit_code = f"Interrupted by {signal.Signals(signum).name}: nothing is half done", 128 + signum
    # The progress display may have hidden the cursor.
    cursor = "\r\x1b[?25h" if os.isatty(stderr) else ""
    line = f"{cursor}{_formatter(words, exit_code) if _formatter else words}\n"
    with suppress(OSError):
        # Not through sys.stderr, whose lock the other thread may hold. A terminal that accepts no output, as
        # after Ctrl-S, would block.
        if _speaking.acquire(timeout=_AGAIN) and select.select([], [stderr], [], 0)[1]:
            os.write(stderr, line.encode())
    os._exit(exit_code)
