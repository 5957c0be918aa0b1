"""Keep a password that was given on the command line out of the list of processes, and out of errors."""

import os
import re
import sys
from collections.abc import MutableMapping, Sequence

_OPTION = "--database-url"
# One slash, too: as a path, a URL has lost the other. What is masked already, or a pattern, is left as it is.
_IN_URL = re.compile(r"(:/{1,2}[^/@:\s]*):(?!\*\*\*@|PASSWORD@HOST)\S*@")
_AS_KEYWORD = re.compile(r"(\bpassword\s*=\s*)(?:'(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE)


def hide_password() -> None:
    """Start the program anew with the URL in DATABASE_URL, if the command line has one.

    Everyone on the machine can read a command line; the environment only the user can.
    """
    arguments = without_url(sys.orig_argv, os.environ)
    if arguments:
        os.execv(sys.executable, [sys.executable, *arguments[1:]])  # noqa: S606 - ourselves, no shell


def without_url(arguments: Sequence[str], environ: MutableMapping[str, str]) -> list[str] | None:
    """The arguments with an empty URL, so that the one in `environ` is used; None if it is so already.

    Any URL: whether there is a password in it, and where, one that cannot be read does not say.
    """
    kept = list(arguments)
    end = kept.index("--") if "--" in kept else len(kept)
    given = None
    for at, argument in enumerate(kept[:end]):
        if argument == _OPTION and at + 1 < len(kept):
            given, kept[at + 1] = kept[at + 1], ""
        elif argument.startswith(f"{_OPTION}="):
            given, kept[at] = argument.partition("=")[2], f"{_OPTION}="
    if kept == list(arguments):
        return None
    if given:
        environ["DATABASE_URL"] = given
    return kept


def masked(text: str) -> str:
    """`text` without the password of a URL or of libpq's keywords, given where none is expected."""
    return _AS_KEYWORD.sub(r"\1***", _IN_URL.sub(r"\1:***@", text))
