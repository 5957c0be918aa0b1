"""Daily streams -> one row per track: recent sums, age, and facts that may rule out a forecast."""

import sys
from collections.abc import Iterator
from datetime import date

import polars as pl

from forecaster.model.parameters import DAYS_PER_MONTH, AgeFrom
from forecaster.tables import STREAMS

WEEK = 7
"""Days of the shorter one of the two levels that a forecast may start from."""
WINDOW = 365
"""Features use this many of a track's last records, and its first date and id."""


def clean(daily: pl.LazyFrame, /) -> pl.LazyFrame:
    """Leave out rows that are not records; of several rows for one track and day, keep the newest.

    Not a record: NULL track, NULL date, or streams that are NULL, NaN or infinite.
    Newest: largest `created_at`, then largest `id`; the values themselves decide where both are equal.
    """
    records = daily.filter(STREAMS.is_record())
    # Sorting all rows is slow, and few tracks need it: only those in which a date occurs twice.
    doubled = (
        records.group_by("cm_track_id")
        .agg(doubled=pl.len() > pl.col("date").n_unique())
        .filter("doubled")
        .select("cm_track_id")
    )
    newest = (
        records.join(doubled, on="cm_track_id", how="semi")
        .sort(*STREAMS.newest, nulls_last=False)
        .unique(["cm_track_id", "date"], keep="last", maintain_order=True)
    )
    return pl.concat([records.join(doubled, on="cm_track_id", how="anti"), newest])


def last_streams(daily: pl.LazyFrame, /, *, with_days: bool = False) -> pl.LazyFrame:
    """Collect the last streams of each track, oldest first, from the cleaned daily streams: `RECORDS`.

    `with_days`: `RECORDS_WITH_DAYS`.
    """
    day = pl.col("date").to_physical()
    days = [day.sort().tail(WINDOW).alias("days")] if with_days else []
    streams = pl.col("daily_streams").sort_by(day).tail(WINDOW)
    return daily.group_by("cm_track_id").agg(streams.alias("streams"), *days)


def track_facts(daily: pl.LazyFrame, /) -> pl.LazyFrame:
    """Collect the `TRACK_FACTS` of the cleaned daily streams: one row per track, without sums of streams."""
    # Each aggregation sorts, so that neither the order of the input nor the engine matters.
    artists = pl.col("cm_artist_id").sort_by("date")
    return daily.group_by("cm_track_id").agg(
        cm_artist_id=artists.last(),
        training_data_id=pl.col("id").sort_by("date").first(),
        first_date=pl.col("date").min(),
        last_date=pl.col("date").max(),
        days_from_release=pl.col("days_from_release").sort_by("date").last(),
        has_several_artists=artists.tail(WINDOW).drop_nulls().n_unique() > 1,
    )


def track_features(
    records: pl.LazyFrame, facts: pl.LazyFrame, /, *, age_from: AgeFrom, as_of: date | None
) -> pl.LazyFrame:
    """Add to each track's facts its recent sums, its as-of date and its age."""
    streams = pl.col("streams").list
    sums = records.select(
        "cm_track_id",
        records=streams.len().cast(pl.Int64),
        streams_3=_finite(streams.tail(3).list.sum()),
        streams_30=_finite(streams.tail(30).list.sum()),
        streams_90=_finite(streams.tail(90).list.sum()),
        streams_365=_finite(streams.sum()),
        has_negative_streams=streams.min() < 0,
    )
    return facts.join(sums, on="cm_track_id", how="left").pipe(with_age, age_from=age_from, as_of=as_of)


def with_age(facts: pl.LazyFrame, /, *, age_from: AgeFrom, as_of: date | None) -> pl.LazyFrame:
    """Add to each track's facts its as-of date, and its age on that day."""
    return facts.with_columns(
        as_of=pl.lit(as_of, dtype=pl.Date) if as_of else pl.col("last_date")
    ).with_columns(months_since_release=_age_in_days(age_from) // DAYS_PER_MONTH)


def with_level(
    features: pl.LazyFrame, records: pl.LazyFrame, /, *, level: int, may_look_ahead: bool = False
) -> pl.LazyFrame:
    """Add `level`: the streams per day that a forecast starts from.

    `level` is the number of days: of the last 7 up to the as-of date, the mean of those with a record, if at
    least 6 have one (`records` with days); else, and for 30, that of the last 30 records. `may_look_ahead`:
    there may be records after the as-of date.
    """
    last_30 = pl.col("streams_30") / DAYS_PER_MONTH
    if level != WEEK:
        return features.with_columns(level=last_30)
    lists = pl.col("streams", "days")
    recent = records.select("cm_track_id", lists if may_look_ahead else lists.list.tail(WEEK))
    week = pl.struct("days", "streams", pl.col("as_of").to_physical().alias("as_of"))
    mean = week.map_batches(_last_week, return_dtype=pl.Float64, is_elementwise=True)
    return (
        features.join(recent, on="cm_track_id", how="left")
        .with_columns(level=pl.coalesce(mean.fill_nan(None), last_30))
        .drop("streams", "days")
    )


def _last_week(records: pl.Series) -> pl.Series:
    from forecaster.model.calibrated.weeks import last_week  # noqa: PLC0415 - NumPy takes long to import

    return last_week(records)


def looks_ahead(tracks: int, as_of: date | None) -> Iterator[str]:
    """Warn that this many tracks have streams after the as-of date, and say what it means."""
    if tracks and as_of:
        yield (
            f"tracks with streams after --as-of {as_of}: {tracks:,}; these streams count as well, because "
            "the date only decides how old a track is. `forecaster evaluate --cutoff DATE` forecasts from "
            "the days before a date"
        )


def _age_in_days(age_from: AgeFrom) -> pl.Expr:
    since_first = _days_between("as_of", "first_date")
    if age_from == "first-date":
        return since_first
    since_last = _days_between("as_of", "last_date")
    return pl.coalesce(pl.col("days_from_release") + since_last, since_first)


def _days_between(later: str, earlier: str) -> pl.Expr:
    # A Duration would overflow between the first and the last days that a Date can hold.
    return _day_number(later) - _day_number(earlier)


def _day_number(column: str) -> pl.Expr:
    return pl.col(column).to_physical().cast(pl.Int64)


def _finite(total: pl.Expr) -> pl.Expr:
    """Keep a sum of streams finite, even if it is too large for a float."""
    return total.clip(upper_bound=sys.float_info.max)
