"""Ctrl-C and SIGTERM end the program within two seconds, and clean up on the way."""

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

_AGAIN = 0.1  # seconds after which what goes on is cancelled once more
_ANSWERS_WITHIN = 0.7  # seconds in which what is cancelled comes back, if the other side is there
_DEED = 0.25  # seconds for what is done before the process is ended by force
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2
_MAIN_THREAD = threading.main_thread().ident or 0
_to_say = threading.Lock()  # held by the thread that says it, until the end

_last_deed: Callable[[], object] | None = None
_in_form: Callable[[str, int], str] | None = None  # what makes a log line of the last words

T = TypeVar("T")
U = TypeVar("U")


class Interrupted(BaseException):
    """A signal asked the program to end. No `Exception`, so that nothing handles it by mistake."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum


class Cancel(NamedTuple):
    """How calls that block outside of Python are made to come back."""

    asks: Sequence[Callable[[], object]]
    """What asks the other side for it. Each may block itself, if that is not there."""
    cut: Callable[[], object]
    """What needs no other side."""


@contextmanager
def last_deed(deed: Callable[[], object]) -> Iterator[None]:
    """Have this done, for as long as the block lasts, should the process be ended within it by force."""
    global _last_deed  # noqa: PLW0603 - of the process, which has one end
    before, _last_deed = _last_deed, deed
    try:
        yield
    finally:
        _last_deed = before


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
    call: Callable[[], T],
    /,
    *,
    cancel: Cancel | None,
    timeout: float | None = None,
    watch: "Callable[[Future[Any]], None] | None" = None,
) -> T:
    """Make a call that blocks outside of Python, in a thread of its own so that a signal is not kept waiting.

    On a signal `cancel` has to make the call come back; None leaves it to itself. Raises `TimeoutError` after
    `timeout` seconds; the call is then left to itself. `watch` waits until the call is over, or raises why it
    will never be.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread and timeout is None and watch is None:
        return call()
    result: Future[T] = Future()
    try:
        threading.Thread(target=_settle, args=(result, call), daemon=True).start()
        if watch:
            watch(result)
        return outcome(result, timeout=timeout)
    except (Interrupted, KeyboardInterrupt):
        result.cancel()  # does something only if the thread has not begun
        if cancel:
            cancel_now([result], cancel)
        raise


def both(first: Callable[[], T], second: Callable[[], U], /, *, cancel: Cancel) -> tuple[T, U]:
    """Make two calls that block outside of Python at once; `cancel` has to make both come back."""
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.submit(first), threads.submit(second)
        try:
            return outcome(one), outcome(other)
        except Exception:
            cancel_all([one, other], cancel)
            raise
        except BaseException:
            cancel_now([one, other], cancel)
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


def cancel_now(calls: Sequence["Future[Any]"], cancel: Cancel) -> None:
    """Have calls in other threads come back on a signal, whether the other side answers or not."""
    cancel_all(calls, cancel, patience=_ANSWERS_WITHIN)


def cancel_all(calls: Sequence["Future[Any]"], cancel: Cancel, *, patience: float | None = None) -> None:
    """Have calls in other threads come back by way of `cancel`, and wait until all of them have.

    They are asked to; after `patience` seconds they are cut off.
    """
    for call in calls:
        call.cancel()  # those that have not begun
    # Until they are over, because their connections must not be closed under them; and so with what asks.
    asking = [threading.Thread(target=_ask, args=(ask, calls), daemon=True) for ask in cancel.asks]
    for thread in asking:
        thread.start()
    if wait(calls, timeout=threading.TIMEOUT_MAX if patience is None else patience).not_done:
        cancel.cut()
        wait(calls, timeout=threading.TIMEOUT_MAX)
    for thread in asking:
        thread.join(_AGAIN)


def _ask(ask: Callable[[], object], calls: Sequence["Future[Any]"]) -> None:
    # Again and again, because a statement that the server has not begun cannot be cancelled.
    while not all(call.done() for call in calls):
        with suppress(Exception):  # the connection may be gone; what it is cancelled for counts
            ask()
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
        value = call()
    except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the result
        settle(result, error)
        return
    with suppress(InvalidStateError):
        result.set_result(value)


def settle(result: "Future[Any]", error: BaseException) -> None:
    """Have a call end in an error, unless it is over: what it comes back with then is of no interest."""
    with suppress(InvalidStateError):
        result.set_exception(error)


def _handle(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for signum in _SIGNALS:
        signal.signal(signum, handler)


def _raise(signum: int, _frame: FrameType | None) -> None:
    # A second signal must not break into the clean-up. The watching thread bounds its time. Polars has an
    # exception of its own for the first one.
    if not any(isinstance(error, Interrupted | KeyboardInterrupt) for error in _in_hand()):
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
    if _last_deed:  # in a thread: what it needs may be held by what does not come back
        done = threading.Thread(target=_last_deed, daemon=True)
        done.start()
        done.join(_DEED)
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
