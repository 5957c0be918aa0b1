"""Other users of the machine, whom only root can become."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65_534


@contextmanager
def as_nobody() -> Iterator[None]:
    """This process with the rights of a user who has none."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def public_directory(mode: int = 0o755) -> Iterator[Path]:
    """A directory that other users can enter, as they cannot pytest's own."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(mode)
        yield Path(name)
