"""Polars loads NumPy when it meets the first array, which fails if two threads meet theirs at once."""

import subprocess
import sys

import pytest

# Loading takes until a second thread loads as well, or one second is over.
AT_ONCE = """
import threading
import polars as pl
import polars._dependencies as lazy

load, meeting, failures = lazy.import_module, threading.Barrier(2, timeout=1), []

def slowly(name):
    module = load(name)
    try:
        meeting.wait()
    except threading.BrokenBarrierError:
        pass
    return module

def meet():
    try:
        {imported}
        pl.Series(np.ones(1))
    except TypeError as error:
        failures.append(str(error))

lazy.import_module = slowly
threads = [threading.Thread(target=meet) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*failures, end="")
"""


def failures(imported: str) -> str:
    code = AT_ONCE.format(imported=imported)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_two_threads_may_meet_their_first_array_at_once() -> None:
    if not failures("import numpy as np"):
        pytest.skip("this Polars loads NumPy once: forecaster.frames.arrays is no longer needed")
    assert failures("from forecaster.frames.arrays import np") == ""
