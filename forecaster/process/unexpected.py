"""Unexpected errors: shown as a paragraph like the others; -vv shows the traceback."""

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
    errno.EMFILE: ("too many files are open", "allow more, for example with: ulimit -n 1024"),
    errno.ENFILE: ("too many files are open on this machine", "try again later"),
    errno.ENOMEM: ("there is not enough memory", "check `ulimit -v` and the limit of the container"),
}


class UnexpectedError(ForecasterError):
    """A bug, or a machine that lacks memory, threads or files. A retry only makes sense after such a lack."""


def is_unexpected(error: BaseException) -> bool:
    """Whether the error is one that no command raises on purpose. A panic of Rust is not an `Exception`."""
    meant = (click.ClickException, click.exceptions.Exit, click.Abort, OutputError)
    is_error = isinstance(error, Exception) or type(error).__name__ == "PanicException"
    return is_error and not isinstance(error, meant)


def translated(error: BaseException) -> UnexpectedError:
    """Translate an unexpected error; the original is the cause of the one returned."""
    message, hint = _text_and_hint(error)
    translation = UnexpectedError(message, hint=hint)
    translation.__cause__ = error
    return translation


def _text_and_hint(error: BaseException) -> tuple[str, str]:
    text = in_one_line(error)
    number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if number in _SHORT_OF:
        return _SHORT_OF[number]
    if any(sign in text for sign in _NO_THREAD):
        return (
            f"no thread can be started: {text}",
            "check `ulimit -u`, `ulimit -v` and the limits of the container",
        )
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} is not text in UTF-8", "rename the file of this name, or choose another one"
    kind = type(error).__name__
    what = text if text.startswith(kind) else f"{kind}: {text}"
    return f"unexpected {what} ({_place(error)})", "report it as a bug in forecaster; -vv shows the traceback"


def _place(error: BaseException) -> str:
    """Name the innermost line of this package in the traceback."""
    steps = traceback.extract_tb(error.__traceback__)
    own = [step for step in steps if Path(step.filename).is_relative_to(_PACKAGE)] or steps
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else "nowhere in Python"
