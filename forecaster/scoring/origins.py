"""How the scores differ between origins, and how many of these are independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from forecaster.model.parameters import DAYS_PER_MONTH


@dataclass(frozen=True)
class ByOrigin:
    """The range of the skill over the origins that have one."""

    number: int
    """Origins: cutoffs or runs with a month that is scored."""
    independent: float
    """How many forecasts of as many months fit into the time that the origins span: at most `number`."""
    lowest: float | None
    """Smallest skill of an origin; None if none has one."""
    highest: float | None

    @property
    def is_overlapping(self) -> bool:
        """Whether the months of one origin are also those of another."""
        return self.independent < self.number


def by_origin(scored: pl.DataFrame, days: Sequence[int], *, months: int) -> ByOrigin:
    """Describe the origins.

    `scored`: one row per cutoff or run with windows and skill; `days`: the last day that each of those with a
    month that counts knew, counted from 1970; `months`: the largest month that is scored.
    """
    counted = scored.filter(pl.col("windows") > 0)
    skill = counted["skill"].drop_nulls().to_list()
    span = max(days) - min(days)
    independent = min(len(set(days)), span / (DAYS_PER_MONTH * months) + 1)
    # Runs of one night know the same days, so they are one origin.
    return ByOrigin(len(counted), float(independent), min(skill, default=None), max(skill, default=None))
