"""The data of the page on all tracks together."""

from typing import TYPE_CHECKING

import polars as pl

from forecaster.model.eligibility import REASONS
from forecaster.model.segments import FORECAST_SEGMENT_STARTS, INFLUENCE_EDGES
from forecaster.views.page.tracks import LARGEST_INTEGER, LARGEST_TOTAL, digits, integer, is_forecast

if TYPE_CHECKING:
    from forecaster.views.total import Total

_PENDING = "no forecast yet; the next run can make one"


def counts(tracks: pl.DataFrame) -> dict[str, int]:
    """Count the tracks, in total and by state, and sum their forecast streams."""
    forecast = tracks.filter(is_forecast()).height
    pending = tracks.filter(state="pending").height
    total = tracks["total"].sum()
    return {
        "tracks": tracks.height,
        "forecast": forecast,
        "pending": pending,
        "skipped": tracks.height - forecast - pending,
        "streams": int(tracks["whole"].sum()) if total < LARGEST_INTEGER else round(total),
    }


def horizons(months: pl.Series) -> str:
    """Say how many months the forecasts cover; empty without forecasts."""
    known = months.drop_nulls()
    if known.is_empty():
        return ""
    least, most = known.sort().gather([0, -1])
    return (
        f" over {most:,} month{'s' * (most != 1)}" if least == most else f" over {least:,} to {most:,} months"
    )


def how_sure(total: "Total | None") -> tuple[str, str]:
    """Say what the forecasts come to, then their range, model, and what the range rests on; or nothing."""
    if total is None or not total.months["cumulated"].last() <= LARGEST_TOTAL:  # type: ignore[operator]
        return "", ""
    first, second = total.headline()
    return first, "; ".join((second, total.model, *(line.replace("`", "") for line in total.basis)))


def summary(tracks: pl.DataFrame, totals: pl.DataFrame) -> dict[str, object]:
    """Compute the sums over all tracks, as the script reads them."""
    return {
        "tracks": tracks.height,
        "total": tracks["total"].sum(),
        "months": totals.with_columns(digits=digits("streams", "whole"))
        .drop("whole")
        .to_dict(as_series=False),
        "segments": _groups(tracks, "segment", range(1, len(FORECAST_SEGMENT_STARTS) + 1)),
        "segment_starts": FORECAST_SEGMENT_STARTS,
        "ranges": _groups(tracks, "influence_range", range(len(INFLUENCE_EDGES))),
        "range_edges": INFLUENCE_EDGES,
        "states": _states(tracks),
    }


def totals(tracks: pl.DataFrame) -> pl.DataFrame:
    """Sum to one row per forecast month: month, streams, whole (the same as integers), tracks."""
    length = pl.col("forecast").list.len().cast(pl.Int64)
    return (
        tracks.filter(is_forecast())
        .select("forecast", month=pl.int_ranges(1, length + 1))
        .explode("forecast", "month")
        .group_by("month", maintain_order=True)
        .agg(streams=pl.col("forecast").sum(), whole=integer(pl.col("forecast")).sum(), tracks=pl.len())
        .sort("month")
    )


def _groups(tracks: pl.DataFrame, column: str, numbers: range) -> dict[str, list[object]]:
    """Sum tracks, forecast streams and recent streams per group number; the last row is for no number."""
    known = pl.when(pl.col(column).is_in(numbers)).then(column).alias("number")
    sums = tracks.group_by(known, maintain_order=True).agg(
        tracks=pl.len(),
        forecast=pl.col("total").sum(),
        forecast_digits=pl.col("whole").sum(),
        streams_30=pl.col("streams_30").sum(),
        streams_30_digits=integer(pl.col("streams_30")).sum(),
    )
    every = pl.DataFrame({"number": [*numbers, None]}, schema={"number": pl.Int64})
    return (
        every.join(sums, on="number", how="left", nulls_equal=True, maintain_order="left")
        .with_columns(pl.exclude("number").fill_null(0))
        .with_columns(
            digits(name, f"{name}_digits").alias(f"{name}_digits") for name in ("forecast", "streams_30")
        )
        .to_dict(as_series=False)
    )


def _states(tracks: pl.DataFrame) -> list[dict[str, object]]:
    """List the reasons for no forecast: name, meaning, tracks, stored (those with an older forecast)."""
    without = dict(tracks["state"].value_counts().iter_rows())
    stored = dict(tracks.filter(is_forecast())["reason"].drop_nulls().value_counts().iter_rows())
    meanings = {name: reason.meaning for name, reason in REASONS.items()}
    meanings |= dict.fromkeys(sorted({*without, *stored} - {"forecast", "stale", *REASONS}), "")
    return [
        {"name": name, "meaning": meaning, "tracks": without.get(name, 0), "stored": stored.get(name, 0)}
        for name, meaning in {**meanings, "pending": _PENDING}.items()
    ]
