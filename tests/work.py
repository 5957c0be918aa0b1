"""What Dask's workers are given to do: in a module that imports little, as each new one has to import it."""

import os
import signal
import time
from pathlib import Path

from forecaster.errors import ForecasterError


def variable(name: str) -> str | None:
    return os.environ.get(name)


def worked(item: int) -> int:
    if item == 7:
        raise ForecasterError("seven", hint="take eight")
    return item * 2 if item != 9 else item // 0


class Counted:
    """How many are at work at the same time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, item: int) -> int:
        mine = self.directory / str(item)
        mine.touch()
        time.sleep(0.05)
        most = len(list(self.directory.iterdir()))
        mine.unlink()
        return most


def deadly(item: int) -> int:
    if item == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return item
