"""The tracks of the page: clean them, and convert them to the columns that the script reads."""

import polars as pl
from polars import selectors

LARGEST_TRACKS = 20_000
"""Tracks listed at most: those with the largest forecasts. All sums cover all tracks."""

POINTS = 40
"""Forecast months in the chart of a track, at most."""

LARGEST_INTEGER = 2.0**63
TIME_FORMAT = "%Y-%m-%d %H:%M UTC"

_FLOAT_EXACT = 2.0**53
LARGEST_TOTAL = 1e30
"""Larger values are left out: they cannot be streams, and their sums could be infinite."""
_YEAR = 12


def cleaned(tracks: pl.DataFrame) -> pl.DataFrame:
    """Set numbers that are too large or not finite to NULL; add `whole`, the total as integer, and `state`.

    The state is forecast, stale, pending, or the reason for having no forecast.
    """
    number = pl.element()
    return (
        tracks.with_columns(
            _usable(selectors.float()),
            pl.col("history", "forecast").list.eval(_usable(number)),
        )
        .with_columns(
            total=pl.when(is_forecast()).then(pl.col("total").fill_null(pl.col("forecast").list.sum())),
            whole=pl.col("forecast").list.eval(integer(pl.element())).list.sum(),
        )
        .with_columns(
            state=pl.when(is_forecast() & pl.col("is_stale"))
            .then(pl.lit("stale"))
            .when(is_forecast())
            .then(pl.lit("forecast"))
            .otherwise(pl.col("reason").fill_null("pending"))
        )
    )


def _usable(numbers: pl.Expr) -> pl.Expr:
    return pl.when(numbers.abs() <= LARGEST_TOTAL).then(numbers)  # NaN is larger than all numbers


def is_forecast() -> pl.Expr:
    """Expression: whether a track has a stored forecast."""
    return (pl.col("forecast").list.len() > 0).fill_null(value=False)


def integer(values: pl.Expr) -> pl.Expr:
    """Convert values to integers; NULL where they are too large."""
    return values.round().cast(pl.Int64, strict=False)


def digits(total: str, whole: str) -> pl.Expr:
    """Write a total as text where an integer holds all of its digits and a float does not; else NULL.

    Takes the column as floats and as integers; an integer is wrong where it cannot hold the total.
    """
    is_between = pl.col(total).is_between(_FLOAT_EXACT, LARGEST_INTEGER, closed="left")
    return pl.when(is_between).then(pl.col(whole).cast(pl.String))


def largest(tracks: pl.DataFrame) -> pl.DataFrame:
    """Choose the tracks to list, sorted by id."""
    order = ("total", "streams_30", "cm_track_id")
    return (
        tracks.sort(order, descending=[True, True, False], nulls_last=True)
        .head(LARGEST_TRACKS)
        .sort("cm_track_id")
    )


def drawn_months(months: int) -> list[int]:
    """Choose all months, or `POINTS` of them with both ends: denser at the start, where the curve bends."""
    if months <= POINTS:
        return [*range(1, months + 1)]
    steps = (step / (POINTS - 1) for step in range(POINTS))
    return sorted({1 + round((months - 1) * step**1.5) for step in steps})


def rows(tracks: pl.DataFrame, months: list[int]) -> dict[str, list[object]]:
    """Build the columns that the script reads. Ids are text: they may be too large for JavaScript."""
    drawn = pl.element().round_sig_figs(4)
    places = pl.lit([month - 1 for month in months], dtype=pl.List(pl.Int64))
    return tracks.select(
        track=pl.col("cm_track_id").cast(pl.String),
        artist=pl.col("cm_artist_id").cast(pl.String),
        state="state",
        reason="reason",
        as_of=pl.col("as_of").dt.to_string("%Y-%m-%d"),
        cutoff=pl.col("cutoff").dt.to_string("%Y-%m-%d"),
        late=_late(),
        age=pl.when(is_forecast()).then("age").otherwise("months_since_release"),
        age_now="months_since_release",
        segment="segment",
        range=pl.col("influence_range") + 1,
        last_30=pl.col("streams_30").round(),
        last_365=pl.col("streams_365").round(),
        total=pl.col("total").round(),
        digits=digits("total", "whole"),
        low=pl.col("low").round_sig_figs(4),
        high=pl.col("high").round_sig_figs(4),
        months="months",
        change=_change().round_sig_figs(6),
        mldr=pl.col("mldr").round_sig_figs(6),
        k=pl.col("k").round_sig_figs(6),
        multiplier=pl.col("multiplier").round_sig_figs(6),
        stored=pl.col("created_at").dt.to_string(TIME_FORMAT),
        history=pl.col("history").list.eval(drawn),
        forecast=pl.col("forecast").list.gather(places, null_on_oob=True).list.eval(drawn),
    ).to_dict(as_series=False)


def _late() -> pl.Expr:
    """Count the days of streams after the as-of day of the forecast; 0 unless both dates are known."""
    # A Duration would overflow between the first and the last days that a Date can hold.
    as_of, cutoff = (pl.col(name).to_physical().cast(pl.Int64) for name in ("as_of", "cutoff"))
    return pl.when(is_forecast()).then((as_of - cutoff).clip(0)).fill_null(0)


def _change() -> pl.Expr:
    """Compute the change from the last twelve sums to the next twelve months, as a share.

    NULL unless both are known, and where newer streams exist.
    """
    past, ahead = (
        pl.when(year.list.len() == _YEAR).then(year.list.sum())
        for year in (
            pl.col("history").list.tail(_YEAR).list.drop_nulls(),
            pl.col("forecast").list.head(_YEAR).list.drop_nulls(),
        )
    )
    return _usable(pl.when((past > 0) & (_late() == 0)).then(ahead / past - 1))
