"""Configuration of a run: selection, parameters, and how to store."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from forecaster.errors import InvalidOptionError
from forecaster.model.parameters import Parameters
from forecaster.run.plausible import Plausibility

if TYPE_CHECKING:
    from forecaster.model.calibrated.calibration import Calibration

MAX_STALE_DAYS = 45
"""Days that a calibration may be older than the run's day without a warning."""
ModelName = Literal["production", "calibrated", "auto"]


@dataclass(frozen=True)
class RunConfig:
    """Configuration of a run, the same for every source and sink.

    Raises `InvalidOptionError` on creation if a value is invalid.
    """

    parameters: Parameters = field(default_factory=Parameters)
    ids: tuple[int, ...] = ()
    """Process only these tracks or artists. Empty: all."""
    limit: int | None = None
    """Process at most this many; skipped ones count. None: all.

    With a history, those that no run has looked at come first, then those looked at longest ago.
    """
    replace: bool = False
    """Also process those that have a result, and replace it."""
    refresh: bool = False
    """Also process those whose result is stale, and replace it."""
    dry_run: bool = False
    """Do everything except write."""
    wait: float = 0.0
    """Wait up to this many seconds for another run to end."""
    plausibility: Plausibility = field(default_factory=Plausibility)
    """The checks of what comes in."""
    model: ModelName = "production"
    """The model; auto: the one that the calibration has found to suit the catalogue best."""
    calibration: "Calibration | str | None" = None
    """A calibration, or the id of one that is stored. None: the newest as of the run's day."""
    max_stale_days: int = MAX_STALE_DAYS
    """Warn of a calibration that is older than this many days."""
    intervals: bool = True
    """Whether to store intervals; in files only with a calibration."""
    level_days: int | None = None
    """Days whose mean a forecast starts from: 7 or 30. None: as the model has it."""

    def __post_init__(self) -> None:
        if self.limit is not None and not 1 <= self.limit < 2**63:
            raise InvalidOptionError(f"limit is {self.limit}: expected at least 1")
        if self.refresh and self.replace:
            raise InvalidOptionError(
                "--refresh and --replace contradict each other",
                hint="use --refresh for the stale forecasts only, --replace for all",
            )
        if self.level_days is not None:
            object.__setattr__(self, "parameters", replace(self.parameters, level=self.level_days))
        if not 0 <= self.wait < 2**31:
            raise InvalidOptionError(f"wait is {self.wait}: expected a number of seconds of at least 0")
