"""How sure each stored forecast is: the intervals that are stored with it, else computed ones."""

import polars as pl

from forecaster.model.calibrated.uncertainty import with_quantiles
from forecaster.postgres.catalogue import Source
from forecaster.postgres.intervals import intervals
from forecaster.postgres.stored_with import stored_with
from forecaster.tables import INTERVALS, QUANTILES


def with_bounds(source: Source, forecasts: pl.DataFrame, /) -> tuple[pl.DataFrame, list[str]]:
    """Add `QUANTILES` to stored forecasts (columns of `STORED_FORECASTS`); also return warnings.

    A track without stored intervals gets those of the model that it was forecast with.
    """
    if forecasts.is_empty():
        return forecasts.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in QUANTILES), []
    stored = _stored(source, forecasts["cm_track_id"].unique())
    joined = forecasts.join(stored, on=["cm_track_id", "month"], how="left", maintain_order="left")
    lacks = pl.col(QUANTILES[0]).is_null()
    if not joined.select(lacks.any()).item():
        return joined, []
    made_with = stored_with(source, forecasts)
    computed = with_quantiles(
        forecasts.lazy(),
        made_with.errors,
        horizon=int(forecasts["month"].max()),  # type: ignore[arg-type]
    ).select(QUANTILES)
    filled = joined.with_columns(
        pl.when(lacks).then(computed.collect()[name]).otherwise(pl.col(name)).alias(name)
        for name in QUANTILES
    )
    return filled, list(made_with.warnings)


def _stored(source: Source, tracks: pl.Series) -> pl.DataFrame:
    """Read the stored intervals: cm_track_id, month, `QUANTILES`; nothing if they cannot be read."""
    tables = source.tables
    if INTERVALS.name not in tables.columns or INTERVALS.name in tables.unreadable:
        kinds = {"cm_track_id": pl.Int64, "month": pl.Int64} | dict.fromkeys(QUANTILES, pl.Float64)
        return pl.DataFrame(schema=kinds)
    rows = source.read(intervals(tables, tracks))
    months = pl.int_ranges(1, pl.col(QUANTILES[0]).list.len().cast(pl.Int64) + 1)
    return (
        rows.select("cm_track_id", *QUANTILES, month=months)
        .filter(pl.col("month").list.len() > 0)
        .explode("month", *QUANTILES)
        .with_columns(pl.col(QUANTILES).cast(pl.Float64))
        .unique(["cm_track_id", "month"])
    )
