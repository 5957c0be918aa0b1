"""Monthly listeners per artist and day -> the artist's decay rate (MLDR), all artists at once."""

from collections.abc import Mapping
from datetime import date

import polars as pl

from forecaster.model.eligibility import Reason, first_reason
from forecaster.tables import RATES

KEEP_EVERY = 7  # of an artist's records by date: the 1st, the 8th, the 15th ...
RECORDS_MIN = 3
MONTHS_MIN = 2
MONTHS_MAX = 1_200
"""Largest number of calendar months: a history of more than a hundred years has a wrong date."""

_REASONS_BEFORE_FIT: Mapping[str, Reason] = {
    "too_few_records": Reason(
        f"it has fewer than {RECORDS_MIN} days of listeners",
        pl.col("records") < RECORDS_MIN,
    ),
    "too_few_months": Reason(
        f"every seventh of its days counts (the 1st, 8th, 15th), and these lie in fewer than {MONTHS_MIN} "
        "calendar months",
        pl.col("months") < MONTHS_MIN,
    ),
    "too_many_months": Reason(
        f"its days span more than {MONTHS_MAX:,} months: one of the dates is wrong",
        pl.col("months") > MONTHS_MAX,
    ),
    "negative_listeners": Reason(
        "at least one of its days has negative listeners",
        pl.col("least") < 0,
    ),
}
_REASONS_AFTER_FIT: Mapping[str, Reason] = {
    "no_listeners": Reason(
        "it has no listeners in any month, anomalies aside",
        pl.col("mldr").is_nan(),
    ),
    "too_steep": Reason(
        "nearly all its listeners are in its first or its last month, so that no curve is steep enough",
        pl.col("mldr").is_infinite(),
    ),
}
RATE_REASONS: Mapping[str, Reason] = {**_REASONS_BEFORE_FIT, **_REASONS_AFTER_FIT}
"""Every reason for an artist to have no rate. Reasons before the fit may use the columns of `_history` and
`months`, those after it the `mldr` that `fit_rates` returned. The first one that applies is given."""


def newest_mldr(artist_mldr: pl.LazyFrame, /, *by: str) -> pl.LazyFrame:
    """Keep the newest MLDR of each artist: by `created_at`, then `id`; the larger where both are equal.

    `by`: further columns, for each combination of which it is kept.
    """
    return (
        artist_mldr.filter(pl.col("cm_artist_id").is_not_null())
        .sort(*RATES.newest, nulls_last=False)
        .unique(["cm_artist_id", *by], keep="last", maintain_order=True)
        .select("cm_artist_id", *by, "mldr")
    )


def mldr_until(artist_mldr: pl.LazyFrame, day: date | pl.Expr | None, /) -> pl.LazyFrame:
    """Keep the MLDRs that were created up to a day (in UTC), and those of no known day; None: keep all."""
    if day is None:
        return artist_mldr
    created = pl.col("created_at").cast(pl.Date)
    return artist_mldr.filter(created.is_null() | (created <= day))


def artist_rates(listeners: pl.LazyFrame, /) -> pl.LazyFrame:
    """Compute the Monthly Listener Decay Rate of every artist, or the reason why it has none.

    `listeners`: one row per artist and day, in any order: cm_artist_id, date, monthly_listeners (finite).
    Returns one row per artist, ordered: cm_artist_id; mldr (per month, negative where listeners grow; NULL
    without one); reason (a key of `RATE_REASONS`; NULL where there is a rate); records; months (calendar
    months from the first to the last kept record); first_date, last_date.
    """
    return (
        listeners.group_by("cm_artist_id")
        .agg(**_history())
        .with_columns(months=pl.col("kept_months").list.last() + 1)
        .with_columns(reason=first_reason(_REASONS_BEFORE_FIT))
        .with_columns(mldr=_rate())
        .with_columns(reason=pl.coalesce("reason", first_reason(_REASONS_AFTER_FIT)))
        .with_columns(mldr=pl.when(pl.col("reason").is_null()).then("mldr"))
        .select("cm_artist_id", "mldr", "reason", "records", "months", "first_date", "last_date")
        .sort("cm_artist_id")
    )


def _history() -> dict[str, pl.Expr]:
    """Aggregate an artist's records to what the rate needs; `kept_months` count from the first month."""
    date, listeners = pl.col("date"), pl.col("monthly_listeners").cast(pl.Float64)
    kept = date.sort().gather_every(KEEP_EVERY)
    month = kept.dt.year().cast(pl.Int64) * 12 + kept.dt.month()
    return {
        "records": pl.len().cast(pl.Int64),
        "first_date": date.min(),
        "last_date": date.max(),
        "least": listeners.min(),
        "kept": listeners.sort_by("date").gather_every(KEEP_EVERY),
        "kept_months": month - month.first(),
    }


def _rate() -> pl.Expr:
    """Compute `fit_rates` for each artist; NaN for those with a reason to have no rate."""
    return pl.struct("kept", "kept_months", "months", "reason").map_batches(
        _rates_of_struct, return_dtype=pl.Float64, is_elementwise=True
    )


def _rates_of_struct(histories: pl.Series) -> pl.Series:
    from forecaster.model.mldr_fit import rates_of_struct  # noqa: PLC0415 - NumPy takes long to import

    return rates_of_struct(histories)


def no_mldr() -> pl.LazyFrame:
    """Return the MLDRs of no artist."""
    return pl.LazyFrame(schema={"cm_artist_id": pl.Int64, "mldr": pl.Float64})
