"""Base rates, the artist's MLDR and the track's own decay -> the multiplier of each track's base rates."""

from collections.abc import Mapping

import polars as pl

from forecaster.model.segments import (
    BASE_RATES,
    INFLUENCE_MAX,
    INFLUENCE_PER_STREAM,
    SEGMENT_STARTS,
    influence_range,
    summed_before,
)
from forecaster.tables import RATES

FACTOR_MAX = 1e9
"""Largest artist factor. At the lowest base rate it leaves exp(-4e6) of the streams: zero already."""

REASONS: Mapping[str, str] = {
    "no_mldr": "its artist has no MLDR, or one that is no finite number",
    "too_young": "it is less than one month of 30 days old",
    "negative_streams": "there are negative streams among its last 365 records",
    "several_artists": "its last 365 records name more than one artist",
}
"""What the reasons of `skip_reason` mean, said of one track."""


def newest_mldr(artist_mldr: pl.LazyFrame, /) -> pl.LazyFrame:
    """One row per artist: the newest MLDR by `created_at`, then `id`; the larger where both are equal."""
    return (
        artist_mldr.filter(pl.col("cm_artist_id").is_not_null())
        .sort(*RATES.newest, nulls_last=False)
        .unique("cm_artist_id", keep="last", maintain_order=True)
        .select("cm_artist_id", "mldr")
    )


def with_multiplier(tracks: pl.LazyFrame, /, *, influence: float | None) -> pl.LazyFrame:
    """Add what the adjustment of section 5 of the model consists of; `mldr` and `k` are there.

    Adds: influence_range (0 to 9), base_months (h, the mean of 1 / base rate over the observed months),
    artist_factor (>= 1) and multiplier (>= 1).
    """
    own = (pl.col("streams_30") * INFLUENCE_PER_STREAM).clip(0, INFLUENCE_MAX)
    used_range = (
        # `first` makes it a scalar, which fits a frame of any height, none included.
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
    """Sum of 1 / base rate over the months before `month`."""
    return summed_before(month, pl.col("influence_range"), values=1 / BASE_RATES, starts=SEGMENT_STARTS)


def skip_reason() -> pl.Expr:
    """Why a track gets no forecast; NULL where it gets one. The first reason that applies, in this order."""
    return (
        pl.when(pl.col("mldr").is_finite().fill_null(value=False).not_())
        .then(pl.lit("no_mldr"))
        .when((pl.col("months_since_release") >= 1).fill_null(value=False).not_())
        .then(pl.lit("too_young"))
        .when(pl.col("has_negative_streams"))
        .then(pl.lit("negative_streams"))
        .when(pl.col("has_several_artists"))
        .then(pl.lit("several_artists"))
    )
