"""Why a track gets no forecast: each reason with its condition, in the order of the checks."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, eq=False)
class Reason:
    """A reason for having no result. Registries map names to reasons; the first that applies is given."""

    meaning: str
    """A clause about one track or artist, to follow a colon."""
    applies: pl.Expr
    """True where it applies. NULL counts as false."""


REASONS: Mapping[str, Reason] = {
    "no_mldr": Reason(
        "its artist has no MLDR, or one that is not a finite number; or none of its rows is usable, so that"
        " its artist is not known",
        pl.col("mldr").is_finite().fill_null(value=False).not_(),
    ),
    "no_days": Reason(
        "the model needs no MLDR, and none of its rows is usable, or none up to the as-of day",
        pl.col("months_since_release").is_null(),
    ),
    "too_young": Reason(
        "it is less than one month of 30 days old, and the production model has a part in the forecast",
        pl.col("months_since_release") < 1,
    ),
    "negative_streams": Reason(
        "there are negative streams among its last 365 records",
        pl.col("has_negative_streams"),
    ),
    "several_artists": Reason(
        "its last 365 records name more than one artist",
        pl.col("has_several_artists"),
    ),
}
"""Every reason to skip a track. Conditions may use all columns of `build_tracks` but `reason`.

To add a reason, add a row here. Reports, the doctor, the diagnosis of a track and the page then show it.
"""


def skip_reason() -> pl.Expr:
    """Return why a track gets no forecast: the first of `REASONS` that applies; NULL where it gets one."""
    return first_reason(REASONS)


def first_reason(reasons: Mapping[str, Reason], /) -> pl.Expr:
    """Return the name of the first reason that applies, in the order of the mapping; NULL without one."""
    return pl.coalesce(pl.when(reason.applies).then(pl.lit(name)) for name, reason in reasons.items())
