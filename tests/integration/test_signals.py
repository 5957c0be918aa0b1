"""Signals end a process in order, whatever is under way."""

import signal

import pytest

from tests.faults import end_of, started
from tests.interrupts import SIGNALS, assert_interrupted


@pytest.mark.parametrize("signum", SIGNALS)
def test_what_must_not_be_cut_in_two(signum: signal.Signals) -> None:
    program = f"""
import os
from forecaster.process.signals import ended_by_signals, postponed
with ended_by_signals():
    with postponed():
        os.kill(os.getpid(), {signum.value})
        print("one", flush=True)
        os.kill(os.getpid(), {signum.value})
        print("two", flush=True)
    print("three", flush=True)
"""
    with started(None, before=program) as process:
        ended = end_of(process)
    assert_interrupted(ended, signum)
    assert ended.stdout == "one\ntwo\n"


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize(
    "swallows",
    [
        "weakref.ref(things.pop(), lambda _: kill())",
        "try: kill()\n    except BaseException: pass",
    ],
)
def test_what_swallows_exceptions(swallows: str, signum: signal.Signals) -> None:
    """Nothing does for long: neither a finaliser nor a library that handles whatever it gets."""
    program = f"""
import os, time, weakref
from forecaster.process.signals import ended_by_signals
things = [set()]
def kill():
    os.kill(os.getpid(), {signum.value})
    for _ in range(1000): pass
with ended_by_signals():
    {swallows}
    try:
        time.sleep(10)
        print("went on", flush=True)
    finally:  # which is not broken off by the signals that come meanwhile
        time.sleep(0.5)
        print("cleaned up", flush=True)
"""
    with started(None, before=program) as process:
        ended = end_of(process)
    assert_interrupted(ended, signum)
    assert ended.stdout == "cleaned up\n"
