"""Base rates, the artist's MLDR and the track's own decay -> the multiplier of each track's base rates."""

import polars as pl

from forecaster.model.segments import (
    BASE_RATES,
    INFLUENCE_MAX,
    INFLUENCE_PER_STREAM,
    SEGMENT_STARTS,
    Table,
    influence_range,
    summed_before,
)

_MONTHS_PER_DECAY: Table = tuple(tuple(1 / rate for rate in rates) for rates in BASE_RATES)

FACTOR_MAX = 1e9
"""Largest artist factor. Even at the lowest base rate it leaves exp(-4e6) of the streams: zero."""


def with_multiplier(tracks: pl.LazyFrame, /, *, influence: float | None) -> pl.LazyFrame:
    """Add the adjustment of section 5 of the model. The frame has `mldr` and `k`.

    Adds: influence_range (0 to 9), base_months (h, the mean of 1 / base rate over the observed months),
    artist_factor (>= 1) and multiplier (>= 1).
    """
    own = (pl.col("streams_30") * INFLUENCE_PER_STREAM).clip(0, INFLUENCE_MAX)
    used_range = (
        # `first` makes it a scalar, which fits a frame of any height, even 0.
        influence_range(own)
        if influence is None
        else influence_range(pl.lit(min(influence, INFLUENCE_MAX))).first()
    )
    m, first = pl.col("months_since_release"), pl.col("x0").clip(lower_bound=1)
    u = pl.col("artist_excess")
    return (
        tracks.with_columns(influence_range=used_range)
        .with_columns(base_months=(_months_per_decay(m + 1) - _months_per_decay(first)) / (m + 1 - first))
        .with_columns(artist_excess=(pl.col("mldr") * pl.col("base_months") - 1).clip(upper_bound=FACTOR_MAX))
        .with_columns(artist_factor=pl.when(u > 0).then(1 + u * u.clip(upper_bound=1)).otherwise(1.0))
        .with_columns(multiplier=pl.max_horizontal("artist_factor", pl.col("k") * pl.col("base_months")))
        .drop("artist_excess")
    )  # fmt: skip


def _months_per_decay(month: pl.Expr) -> pl.Expr:
    """Sum 1 / base rate over the months before `month`."""
    return summed_before(month, pl.col("influence_range"), values=_MONTHS_PER_DECAY, starts=SEGMENT_STARTS)
