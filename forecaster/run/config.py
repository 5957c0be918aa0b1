"""What a run does: where it reads and stores, which tracks or artists, by which parameters."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from forecaster.errors import InvalidOptionError
from forecaster.model.parameters import Parameters

if TYPE_CHECKING:
    from forecaster.run.report import Report
    from forecaster.run.session import Session


class Place(Protocol):
    """Where a run reads and stores: a database, files, or memory. Each is one implementation."""

    def check(self, config: "RunConfig", /) -> None:
        """Raise `InvalidOptionError` if the place and the other options contradict each other."""
        ...

    def session(self, config: "RunConfig", report: "Report", /) -> "Session":
        """A run in this place, which has not begun."""
        ...


@dataclass(frozen=True)
class RunConfig:
    """What a run does. Raises `InvalidOptionError` on creation if a value cannot be used."""

    where: Place
    parameters: Parameters = field(default_factory=Parameters)
    ids: tuple[int, ...] = ()
    """Only these tracks or artists. Empty: all."""
    limit: int | None = None
    """At most so many, in the order of their ids; skipped ones count. None: all."""
    replace: bool = False
    """Also those that have a result, which the new one takes the place of."""
    dry_run: bool = False
    """Do everything except write."""
    wait: float = 0.0
    """Seconds to wait for another run to end."""

    def __post_init__(self) -> None:
        if self.limit is not None and not 1 <= self.limit < 2**63:
            raise InvalidOptionError(f"limit is {self.limit}: expected at least 1")
        if not 0 <= self.wait < 2**31:
            raise InvalidOptionError(f"wait is {self.wait}: expected a number of seconds of at least 0")
        self.where.check(self)
