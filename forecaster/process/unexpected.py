"""An error that nothing has foreseen, in a paragraph like the others; where it came from shows with -vv."""

import errno
import traceback
from collections.abc import Mapping
from pathlib import Path

import click

from forecaster.errors import ForecasterError, in_one_line
from forecaster.process.stdio import OutputError

_PACKAGE = Path(__file__).parents[1]
_NO_THREAD = ("can't start new thread", "failed to spawn", "ThreadPoolBuildError", "Resource temporarily")
_SHORT_OF: Mapping[int | None, tuple[str, str]] = {
    errno.EMFILE: ("too many files are open", "allow more, as with: ulimit -n 1024"),
    errno.ENFILE: ("too many files are open on this machine", "try again later"),
    errno.ENOMEM: ("there is not enough memory", "see `ulimit -v`, and the limit of the container"),
}


class UnexpectedError(ForecasterError):
    """A bug, or a machine that is short of something."""


def is_unexpected(error: BaseException) -> bool:
    """Whether no command ends by it on purpose. A panic of Rust is not an `Exception`."""
    meant = (click.ClickException, click.exceptions.Exit, click.Abort, OutputError)
    is_error = isinstance(error, Exception) or type(error).__name__ == "PanicException"
    return is_error and not isinstance(error, meant)


def in_a_line(error: BaseException) -> UnexpectedError:
    """What to say of it, as an error caused by it."""
    message, hint = _told(error)
    said = UnexpectedError(message, hint=hint)
    said.__cause__ = error
    return said


def _told(error: BaseException) -> tuple[str, str]:
    text = in_one_line(error)
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if number in _SHORT_OF:
        return _SHORT_OF[number]
    if any(sign in text for sign in _NO_THREAD):
        return (
            f"no thread can be started: {text}",
            "see `ulimit -u` and `ulimit -v`, and the container's limits",
        )
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} is not text in UTF-8", "rename what has this name, or choose another one"
    kind = type(error).__name__
    what = text if text.startswith(kind) else f"{kind}: {text}"
    return f"unexpected {what} ({_place(error)})", "this is a bug in forecaster; -vv shows where it came from"


def _place(error: BaseException) -> str:
    """The innermost line of our own on the way to it."""
    steps = traceback.extract_tb(error.__traceback__)
    ours = [step for step in steps if Path(step.filename).is_relative_to(_PACKAGE)] or steps
    return f"{Path(ours[-1].filename).name}, line {ours[-1].lineno}" if ours else "nowhere in Python"
