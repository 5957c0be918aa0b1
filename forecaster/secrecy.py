"""Keep a password that was given on the command line out of the list of processes."""

import os
import re
import sys
from collections.abc import MutableMapping, Sequence

_OPTION = "--database-url"
_WITH_PASSWORD = re.compile(r"//[^/@]*:[^@]*@|[?&]password=")


def hide_password() -> None:
    """Start the program anew with the URL in DATABASE_URL, if the command line has one with a password.

    Everyone on the machine can read a command line; the environment only the user can.
    """
    arguments = without_password(sys.orig_argv, os.environ)
    if arguments:
        os.execv(sys.executable, [sys.executable, *arguments[1:]])  # noqa: S606 - ourselves, no shell


def without_password(arguments: Sequence[str], environ: MutableMapping[str, str]) -> list[str] | None:
    """The arguments without their URL, which goes to `environ`; None if there is no password in it."""
    kept, given = [], None
    rest = iter(arguments)
    for argument in rest:
        if argument == _OPTION:
            given = next(rest, None)
        elif argument.startswith(f"{_OPTION}="):
            given = argument.partition("=")[2]
        else:
            kept.append(argument)
    if given is None or not _WITH_PASSWORD.search(given):
        return None
    environ["DATABASE_URL"] = given
    return kept
