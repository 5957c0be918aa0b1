"""Three points per track -> the track's own decay rate k, all tracks at once."""

import polars as pl


def with_points(tracks: pl.LazyFrame, /) -> pl.LazyFrame:
    """Add the three points (x0, y0) to (x2, y2), oldest first: ages in months and streams per 30 records."""
    m = pl.col("months_since_release")
    earlier = pl.col("streams_365") - pl.col("streams_90")
    return (
        tracks.with_columns(
            x0=(m - 11).clip(lower_bound=0),
            x1=(m - 2).clip(lower_bound=0),
            x2=m,
            y1=(pl.col("streams_90") - pl.col("streams_30")) / pl.when(m > 2).then(2).otherwise(1),
            y2=pl.col("streams_30"),
        )
        .with_columns(
            y0=pl.when(m > 3).then(earlier / pl.when(m > 11).then(9).otherwise(m - 3)).otherwise("y1")
        )
    )  # fmt: skip


def decay_rate() -> pl.Expr:
    """Fit the own decay k of each track to its three points, per month, 0 <= k <= 100."""
    points = ("x0", "x1", "x2", "y0", "y1", "y2")
    return pl.struct(pl.col(points).cast(pl.Float64)).map_batches(
        _fit_struct, return_dtype=pl.Float64, is_elementwise=True
    )


def _fit_struct(points: pl.Series) -> pl.Series:
    from forecaster.model.decay_fit import fit_struct  # noqa: PLC0415 - NumPy takes long to import

    return fit_struct(points)
