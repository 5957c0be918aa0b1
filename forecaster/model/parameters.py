"""The parameters of the model."""

import math
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, get_args

from forecaster.errors import InvalidOptionError

AgeFrom = Literal["release", "first-date"]

HORIZON_MAX = 400
DAYS_PER_MONTH = 30
LEVELS = (7, 30)
"""Days whose mean a forecast may start from."""

NameByWeight = Literal["production", "calibrated", "blend"]


def model_name(weight: float) -> NameByWeight:
    """Return the name of the model with this weight of the calibrated forecast."""
    return "production" if weight == 0 else "calibrated" if weight == 1 else "blend"


@dataclass(frozen=True)
class Parameters:
    """What a forecast depends on, apart from the data.

    Raises `InvalidOptionError` on creation if a value cannot be used.
    """

    horizon: int = 24
    """Months to forecast, 1 to 400. 24 is the length of a backtest, 400 that of a valuation."""
    age_from: AgeFrom = "release"
    """Where a track's age comes from: its `days_from_release`, or its first date."""
    as_of: date | None = None
    """The day on which ages are measured. None: the last date of each track."""
    influence: float | None = None
    """One influence for all tracks. None: each track's own, min(10 x streams_30, 5,000,000)."""
    level: int = 30
    """Days whose mean the forecast starts from: 7 or 30."""

    def __post_init__(self) -> None:
        if type(self.horizon) is not int or not 1 <= self.horizon <= HORIZON_MAX:
            raise InvalidOptionError(f"horizon is {self.horizon!r}: expected 1 to {HORIZON_MAX} months")
        if self.age_from not in get_args(AgeFrom):
            raise InvalidOptionError(f"age_from is {self.age_from!r}: expected 'release' or 'first-date'")
        if self.as_of is not None and type(self.as_of) is not date:
            raise InvalidOptionError(f"as_of is {self.as_of!r}: expected a date")
        months = timedelta(days=DAYS_PER_MONTH * self.horizon)
        if self.as_of and self.as_of > date.max - months:
            raise InvalidOptionError(
                f"as_of is {self.as_of}: {self.horizon} months later the year has more than four digits"
            )
        if self.level not in LEVELS or type(self.level) is not int:
            raise InvalidOptionError(f"level is {self.level!r}: expected 7 or 30 days")
        is_number = isinstance(self.influence, int | float)
        if self.influence is not None and not (is_number and 0 <= self.influence < math.inf):
            raise InvalidOptionError(
                f"influence is {self.influence!r}: expected a finite number of at least 0"
            )
