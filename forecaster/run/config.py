"""Configuration of a run: selection, parameters, and how to store."""

from dataclasses import dataclass, field

from forecaster.errors import InvalidOptionError
from forecaster.model.parameters import Parameters
from forecaster.run.plausible import Plausibility


@dataclass(frozen=True)
class RunConfig:
    """Configuration of a run, the same for every source and sink.

    Raises `InvalidOptionError` on creation if a value is invalid.
    """

    parameters: Parameters = field(default_factory=Parameters)
    ids: tuple[int, ...] = ()
    """Process only these tracks or artists. Empty: all."""
    limit: int | None = None
    """Process at most this many, in the order of their ids; skipped ones count. None: all."""
    replace: bool = False
    """Also process those that have a result, and replace it."""
    dry_run: bool = False
    """Do everything except write."""
    wait: float = 0.0
    """Wait up to this many seconds for another run to end."""
    plausibility: Plausibility = field(default_factory=Plausibility)
    """The checks of what comes in."""

    def __post_init__(self) -> None:
        if self.limit is not None and not 1 <= self.limit < 2**63:
            raise InvalidOptionError(f"limit is {self.limit}: expected at least 1")
        if not 0 <= self.wait < 2**31:
            raise InvalidOptionError(f"wait is {self.wait}: expected a number of seconds of at least 0")
