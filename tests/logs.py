"""Log lines, which carry the id of their run."""

import re

MARK = re.compile(r" \[(?P<log_id>[0-9a-f]{8})\]$", re.MULTILINE)
"""At the end of each message where there is no terminal."""


def unmarked(text: str) -> str:
    """Lines without the id."""
    return MARK.sub("", text)
