"""The forecasts of past runs, as an evaluation takes them. Pure: frames in, frames out."""

from collections.abc import Collection

import polars as pl

from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.model.segments import FORECAST_SEGMENT_STARTS, segment


def releases(days: pl.DataFrame, /) -> pl.DataFrame:
    """Find the day of release of each track, from each day on which another one became known.

    `days`: `TRACK_DAYS`, ordered by track and date. Returns cm_track_id, date, released (counted from 1970;
    NULL if unknown), first_day (of the track, counted from 1970), ordered by date.
    """
    day = pl.col("date").to_physical().cast(pl.Int64)
    track, released = pl.col("cm_track_id"), pl.col("released")
    return (
        days.lazy()
        .select("cm_track_id", "date", released=day - pl.col("days_from_release"), day=day)
        .filter(track.ne_missing(track.shift()) | released.ne_missing(released.shift()))
        .with_columns(first_day=pl.col("day").first().over("cm_track_id"))
        .drop("day")
        .sort("date")
        .collect()
    )


def forecast_months(
    said: pl.DataFrame, releases: pl.DataFrame, /, *, from_first_date: Collection[int] = ()
) -> pl.DataFrame:
    """Return the months of past forecasts, as `evaluate` takes them: one row per track, run and month.

    `said`: run, cm_track_id, as_of, last_date, months (a list of streams). The history has neither age nor
    segment: they follow from the `releases` that were known on the last date, as when the run computed them.
    `from_first_date`: runs that counted ages from the first date.
    """
    as_of = pl.col("as_of").to_physical().cast(pl.Int64)
    since_first = as_of - pl.col("first_day")
    since_release = pl.coalesce(as_of - pl.col("released"), since_first)
    is_from_first = pl.col("run").is_in(list(from_first_date))
    age = pl.when(is_from_first).then(since_first).otherwise(since_release) // DAYS_PER_MONTH
    return (
        said.with_columns(date=pl.coalesce("last_date", "as_of"))
        .sort("date")
        .join_asof(releases, on="date", by="cm_track_id", strategy="backward", check_sortedness=False)
        .lazy()
        .with_columns(
            _age=age.clip(lower_bound=1),
            month=pl.int_ranges(1, pl.col("months").list.len().cast(pl.Int64) + 1),
        )
        .explode("months", "month")
        .with_columns(time_used=pl.col("_age") + pl.col("month") - 1)
        .select(
            "cm_track_id",
            "run",
            "as_of",
            "last_date",
            "month",
            "time_used",
            cutoff=pl.lit(None, pl.Date),
            forecasted_value=pl.col("months"),
            segment_used=segment(pl.col("time_used"), FORECAST_SEGMENT_STARTS),
        )
        .collect()
    )
