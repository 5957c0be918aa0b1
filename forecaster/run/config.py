"""What a run does: which tracks or artists, by which parameters, and how."""

from dataclasses import dataclass, field

from forecaster.errors import InvalidOptionError
from forecaster.model.parameters import Parameters


@dataclass(frozen=True)
class RunConfig:
    """What a run does, wherever it reads and stores.

    Raises `InvalidOptionError` on creation if a value cannot be used.
    """

    parameters: Parameters = field(default_factory=Parameters)
    ids: tuple[int, ...] = ()
    """Only these tracks or artists. Empty: all."""
    limit: int | None = None
    """Process at most this many, in the order of their ids; skipped ones count. None: all."""
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
