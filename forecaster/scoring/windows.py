"""Forecast months and the days that came after: which months are complete, and their streams."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from forecaster.errors import NoForecastError, SchemaMismatchError
from forecaster.frames.arrays import np, npt
from forecaster.frames.schemas import DAY, ID, NUMBER, Kind, check, conform
from forecaster.model.calibrated.records import totals
from forecaster.model.parameters import DAYS_PER_MONTH, HORIZON_MAX
from forecaster.tables import ACTUALS, QUANTILES, STREAMS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FORECASTER = "forecaster"
"""Name of the model under evaluation, among the baselines."""

INTERVALS: Mapping[int, tuple[str, str]] = {80: ("q10", "q90"), 95: ("q025", "q975")}
"""Levels in percent, and the bounds of each."""

OTHERS: Mapping[str, str] = {
    "production": "the production model, from the same days",
    "calibrated": "the calibrated model, from the same days",
}
"""Further models whose forecasts of the same months may be columns of the forecasts, with their meaning."""

LEFT_OUT: Mapping[str, str] = {
    "unusable": f"it has no track, no as-of date, no month from 1 to {HORIZON_MAX}, or no finite value",
    "no_streams": "the table of streams has no record of the track",
    "seen": "the forecast knew streams of the month, or of later days",
    "not_over": "the last known day of the track is before the end of the month",
    "days_missing": "at least one of the 30 days has no record",
    "no_history": "there is no record on or before the as-of date",
}
"""Why a forecast month is not scored. The first reason that applies, in this order."""

DAILY: Mapping[str, Kind] = {name: STREAMS.frame[name] for name in ACTUALS}

FORECAST_MONTHS: Mapping[str, Kind] = {
    "cm_track_id": ID,
    "cutoff": DAY,
    "as_of": DAY,
    "month": ID,
    "forecasted_value": NUMBER,
    "segment_used": ID,
    "time_used": Kind("an integer of at most 64 bits, signed", ID.accepts, pl.Int64, required=False),
    "run": replace(ID, required=False),
    "last_date": replace(DAY, required=False),
    **dict.fromkeys((*QUANTILES, *OTHERS), replace(NUMBER, required=False)),
}

_KEY_BITS = 34  # of a day in a key, with room for the days up to the longest horizon; the rest is the track
_FIRST_DAY = 2**31  # before 1970, the first that a Date can hold


@dataclass(frozen=True)
class Days:
    """All known days as arrays, ordered by track and date. Rows are counted from 0."""

    tracks: Integers
    """The distinct tracks, ascending. Elsewhere, a track is given by its position in this array."""
    starts: Integers
    """First row of each track, and the number of rows."""
    keys: Integers
    """Track and day of each row as one number, ascending."""
    streams: Floats
    """The streams of each row, and a zero at the end."""

    def numbers(self, tracks: Integers) -> tuple[Integers, Bools]:
        """Return each track's position, and whether it is known (if not, the position is that of another)."""
        position = np.minimum(np.searchsorted(self.tracks, tracks), len(self.tracks) - 1)
        return position, self.tracks[position] == tracks

    def first_day(self, track: Integers) -> Integers:
        """Return the first known day of each track, counted from 1970."""
        day: Integers = (self.keys[self.starts[track]] & (2**_KEY_BITS - 1)) - _FIRST_DAY
        return day

    def rows_until(self, track: Integers, day: Integers) -> Integers:
        """Count the rows up to and including this day of this track, and those of all earlier tracks."""
        return np.searchsorted(self.keys, _keys(track, day), side="right")

    def is_over(self, track: Integers, day: Integers) -> Bools:
        """Whether the last known day of the track is this day or later."""
        over: Bools = self.keys[self.starts[track + 1] - 1] >= _keys(track, day)
        return over

    def totals(self, first: Integers, end: Integers) -> Floats:
        """Sum the streams of the rows from `first` up to, but without, `end`."""
        return totals(self.streams, first, end)


def read_forecasts(forecasts: pl.LazyFrame, *days: pl.LazyFrame) -> tuple[pl.DataFrame, int]:
    """Read the usable forecast months, ordered by track, cutoff and month; count the others.

    Adds `series`: a number, from 0, for each track, cutoff and run (and as-of date).
    Raises `SchemaMismatchError` for columns of any frame, including those of `days`, and for a month that
    occurs twice; `NoForecastError` without rows.
    """
    names = ("daily", "actuals")[: len(days)]
    check(
        ("forecasts", forecasts, FORECAST_MONTHS),
        *((name, frame, DAILY) for name, frame in zip(names, days, strict=True)),
    )
    everything = conform(forecasts, FORECAST_MONTHS, name="forecasts").collect()
    if everything.is_empty():
        raise NoForecastError(
            "there are no forecasts to score", hint="`forecaster run` makes forecasts and stores them"
        )
    identity = ["cm_track_id", "cutoff", "run", "as_of"]
    usable = everything.filter(
        pl.col("cm_track_id").is_not_null()
        & pl.col("as_of").is_not_null()
        & pl.col("month").is_between(1, HORIZON_MAX)
        & pl.col("forecasted_value").is_finite()
    ).sort(*identity, "month")
    key = ["cm_track_id", "cutoff", "run", "month"]
    twice = usable.group_by(key).len().filter(pl.col("len") > 1)
    if len(twice):
        track, cutoff, run, month, _ = twice.sort(key).row(0)
        at = f" at cutoff {cutoff}" if cutoff else f" in run {run}" if run is not None else ""
        raise SchemaMismatchError(
            f"forecasts: month {month} of track {track}{at} occurs more than once",
            hint="one row per track, cutoff, run and month is expected",
        )
    # A track is never NULL here, so the first row always differs.
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in identity)
    usable = usable.with_columns(series=differs.cum_sum().cast(pl.Int64) - 1)
    return usable, len(everything) - len(usable)


def read_days(daily: pl.LazyFrame, /, *, name: str = "daily") -> Days:
    """Read the known days. A row with a NULL, or with streams that are not finite, is not a record.

    Raises `NoForecastError` without any record, `SchemaMismatchError` for two rows for one track and day.
    """
    records = conform(daily, DAILY, name=name).filter(STREAMS.is_record())
    frame = records.with_columns(day=pl.col("date").to_physical().cast(pl.Int64)).collect()
    if frame.is_empty():
        raise NoForecastError(
            "no daily streams to compare the forecasts with",
            hint="`forecaster load` loads daily streams",
        )
    if not _is_ordered(frame):  # sorting is slow, and most sources are in order already
        frame = frame.sort("cm_track_id", "day")
        _check_unique(frame, name)
    track = frame["cm_track_id"].to_numpy()
    begins = np.concatenate([[True], track[1:] != track[:-1]])
    starts = np.flatnonzero(begins)
    return Days(
        tracks=track[starts],
        starts=np.append(starts, len(track)),
        keys=_keys(np.cumsum(begins) - 1, frame["day"].to_numpy()),
        streams=np.append(frame["daily_streams"].to_numpy(), 0.0),
    )


def _keys(track: Integers, day: Integers) -> Integers:
    return (track << _KEY_BITS) + (day + _FIRST_DAY)


def _is_ordered(frame: pl.DataFrame) -> bool:
    """Whether the rows ascend by track and day, without duplicates."""
    track, day = frame["cm_track_id"].to_numpy(), frame["day"].to_numpy()
    ascends = (track[1:] > track[:-1]) | ((track[1:] == track[:-1]) & (day[1:] > day[:-1]))
    return bool(ascends.all())


def _check_unique(frame: pl.DataFrame, name: str) -> None:
    """Raise `SchemaMismatchError` if two sorted rows have the same track and day."""
    same = pl.all_horizontal(pl.col(key) == pl.col(key).shift() for key in ("cm_track_id", "day"))
    twice = frame.filter(same)
    if len(twice):
        track, day = twice.select("cm_track_id", "date").row(0)
        raise SchemaMismatchError(
            f"{name}: track {track} has more than one row for {day}",
            hint="one row per track and date is expected",
        )


def with_actuals(forecasts: pl.DataFrame, known: Days, days: Days, /) -> pl.DataFrame:
    """Add the `actual` streams of each forecast month, and the `reason` why a month does not count.

    Month h is the 30 `days` after as_of + 30 (h - 1); `known` are the days up to the origins. `reason` is one
    of `LEFT_OUT`; NULL where the month counts.
    """
    tracks = forecasts["cm_track_id"].to_numpy()
    track, has_days = days.numbers(tracks)
    before, is_known = known.numbers(tracks)
    as_of = forecasts["as_of"].to_physical().cast(pl.Int64).to_numpy()
    last = as_of + DAYS_PER_MONTH * forecasts["month"].to_numpy()
    begins_after = pl.Series(last - DAYS_PER_MONTH) >= forecasts["last_date"].to_physical()
    first, end = days.rows_until(track, last - DAYS_PER_MONTH), days.rows_until(track, last)
    reason = (
        pl.when(~pl.Series(is_known))
        .then(pl.lit("no_streams"))
        .when(~begins_after.fill_null(value=True))
        .then(pl.lit("seen"))
        .when(~pl.Series(has_days & days.is_over(track, last)))
        .then(pl.lit("not_over"))
        .when(pl.Series(end - first < DAYS_PER_MONTH))
        .then(pl.lit("days_missing"))
        .when(pl.Series(known.rows_until(before, as_of) == known.starts[before]))
        .then(pl.lit("no_history"))
    )
    return forecasts.with_columns(reason=reason, actual=pl.Series(days.totals(first, end)))
