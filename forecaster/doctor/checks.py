"""The registry of checks. Each check registers itself where it is defined."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from forecaster.doctor.context import Context
from forecaster.doctor.findings import Seen

Function = Callable[[Context], Iterator[Seen]]


@dataclass(frozen=True)
class Check:
    """A registered check."""

    about: str
    """The subject of its findings, in a few words."""
    order: int
    function: Function


_REGISTERED: list[Check] = []


def check(about: str, /, *, order: int) -> Callable[[Function], Function]:
    """Register a function as a check.

    Checks run in ascending `order`: the order in which a run would meet the problems. A check may use what
    earlier ones put into the context. From 10 on, both drivers connect; from 50 on, the tables are known.
    """

    def register(function: Function) -> Function:
        _REGISTERED.append(Check(about, order, function))
        return function

    return register


def registered() -> list[Check]:
    """Return all checks in their order."""
    return sorted(_REGISTERED, key=lambda one: one.order)
