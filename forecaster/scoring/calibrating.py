"""Calibrate from frames: sum up a catalogue, or parts of it, as of D and as of origins before it."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import polars as pl

from forecaster.errors import CalibrationError, NoForecastError
from forecaster.frames.arrays import np, npt
from forecaster.frames.schemas import conform
from forecaster.model import forecastable, rated, until
from forecaster.model.calibrated.calibrate import RowsAsked, calibration_from
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.forecast import age_group
from forecaster.model.calibrated.past import MONTHS, OriginSums, PastSums
from forecaster.model.calibrated.rates import RateSums
from forecaster.model.calibrated.weeks import DAYS, WEEKS, weekly_means
from forecaster.model.features import WEEK, WINDOW, clean, with_age
from forecaster.model.mldr import newest_mldr
from forecaster.model.parameters import DAYS_PER_MONTH, AgeFrom, Parameters
from forecaster.model.projection import project
from forecaster.scoring.past import KnownDays
from forecaster.tables import ARTIST_MLDR, DAILY_STREAMS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ORIGINS = 24
"""Most origins that a calibration looks back at: every 30th day of two years."""


def calibrate(
    daily_streams: pl.LazyFrame,
    artist_mldr: pl.LazyFrame | None = None,
    /,
    *,
    as_of: date | None = None,
    rows: RowsAsked = "auto",
    age_from: AgeFrom = "release",
    origins: int = ORIGINS,
) -> Calibration:
    """Calibrate on a catalogue, as of its newest day or `as_of`: later days have no influence.

    The frames are those of `build_forecasts`. `artist_mldr` is what the production model is scored with; an
    artist without one has 0, and a row that was created after an origin is not known there. `rows`: the
    "shipped" ones, with one "fitted" to the catalogue, or "auto": with it where it is better on origins that
    are held out in time. `origins`: how many origins to look back at, 30 days apart; 0 for prior errors only.

    Raises `SchemaMismatchError` for missing columns or wrong types, `CalibrationError` without any record.
    """
    daily = conform(daily_streams, DAILY_STREAMS, name="daily_streams")
    records = clean(until(daily, as_of)).sort("cm_track_id", "date").collect()
    if records.is_empty():
        raise CalibrationError(
            f"there is no record up to {as_of}" if as_of else "there is no record",
            hint="`forecaster load` loads daily streams",
        )
    day = as_of or date(1970, 1, 1) + timedelta(int(records["date"].to_physical().to_numpy().max()))
    sums = past_sums(records, artist_mldr, as_of=day, age_from=age_from, origins=origins)
    return calibration_from(sums, as_of=day, rows=rows)


def past_sums(
    records: pl.DataFrame,
    artist_mldr: pl.LazyFrame | None,
    /,
    *,
    as_of: date,
    age_from: AgeFrom = "release",
    origins: int = ORIGINS,
) -> PastSums:
    """Sum up some tracks of a catalogue; the sums of all of them make a calibration.

    `records`: `DAILY_STREAMS` of whole tracks up to `as_of`, cleaned, ordered by track and date.
    """
    try:
        known = KnownDays.of(records.drop("created_at", strict=False))
    except NoForecastError:
        return PastSums.none()
    past = _Past(known, _rates_of(artist_mldr), as_of, age_from)
    first_day = int(known.days.first_day(np.arange(len(known.days.tracks))).min())
    # Origins before the first record of the catalogue, and those of parts of it, add up to nothing.
    back = min(origins, (past.last - first_day) // DAYS_PER_MONTH)
    blocks = past.blocks(back)
    return PastSums(
        len(known.days.tracks),
        first_day,
        past.now(),
        tuple(past.origin(months, blocks[:, :months][:, ::-1][:, :MONTHS]) for months in range(1, back + 1)),
    )


@dataclass(frozen=True, eq=False)
class _Past:
    """Some tracks, as they were on days of the past."""

    known: KnownDays
    mldr: pl.LazyFrame
    """`ARTIST_MLDR`."""
    as_of: date
    age_from: AgeFrom

    @property
    def last(self) -> int:
        """D in days since 1970."""
        return _day(self.as_of)

    def blocks(self, number: int) -> Floats:
        """Sum the months up to D, newest first: (tracks, number); NaN unless all 30 days have a record."""
        track, day, streams = self._rows(self.last, number * DAYS_PER_MONTH)
        tracks = len(self.known.days.tracks)
        cell = track * number + (self.last - day) // DAYS_PER_MONTH
        records = np.bincount(cell, minlength=tracks * number)
        sums = np.bincount(cell, weights=streams, minlength=tracks * number)
        return np.where(records == DAYS_PER_MONTH, sums, np.nan).reshape(tracks, number)

    def now(self) -> RateSums:
        """Sum up what the rates as of D need."""
        position, features = self._features(self.as_of)
        groups = features.select(age_group=age_group()).collect()
        return RateSums.of(self._weeks(self.last)[position], _groups(groups))

    def origin(self, months: int, actual: Floats) -> OriginSums:
        """Forecast from the day this many months before D; `actual` months of all tracks, oldest first."""
        as_of = self.as_of - timedelta(DAYS_PER_MONTH * months)
        parameters = Parameters(actual.shape[1], self.age_from, as_of)
        position, features = self._features(as_of)
        tracks = rated(features, self._mldr_at(as_of), parameters, 0.0).with_columns(age_group=age_group())
        # The streams of a forecast that starts from one per month are what is left of them.
        survival = project(
            forecastable(tracks).with_columns(level=1 / DAYS_PER_MONTH), horizon=actual.shape[1], level=WEEK
        )
        columns = ("age_group", "streams_30", "reason")
        found, left = pl.collect_all([tracks.select(columns), survival.select("forecasted_value")])
        weeks, groups = self._weeks(_day(as_of))[position], _groups(found)
        these = found["reason"].is_null().to_numpy()
        of_30, of_7 = found["streams_30"].to_numpy()[these] / DAYS_PER_MONTH, weeks[these, 0]
        return OriginSums.of(
            RateSums.of(weeks, groups),
            groups[these],
            np.stack([np.where(np.isnan(of_7), of_30, of_7), of_30], axis=1),
            left.to_numpy().reshape(-1, actual.shape[1]),
            actual[position[these]],
        )

    def _features(self, as_of: date) -> tuple[Integers, pl.LazyFrame]:
        """Select the tracks with a record until then: their positions, and what the model knows of them.

        The features are those of `track_features`, without frames of records, which take longer.
        """
        days, frame = self.known.days, self.known.frame
        every = np.arange(len(days.tracks))
        start, end = days.starts[:-1], days.rows_until(every, np.full(len(every), _day(as_of)))
        position = np.flatnonzero(end > start)
        start, end = start[position], end[position]
        first = np.maximum(start, end - WINDOW)
        negative, changes = self._negative, self._changes
        features = frame[end - 1].select(
            "cm_track_id",
            "cm_artist_id",
            "days_from_release",
            frame["date"][start].alias("first_date"),
            pl.col("id").alias("training_data_id"),
            last_date="date",
            has_several_artists=pl.Series(changes[end - 1] > changes[first]),
            has_negative_streams=pl.Series(negative[end] > negative[first]),
            **{
                f"streams_{number}": pl.Series(days.totals(np.maximum(start, end - number), end))
                for number in (30, 90, WINDOW)
            },
        )
        return position, features.lazy().pipe(with_age, age_from=self.age_from, as_of=as_of)

    @cached_property
    def _negative(self) -> Integers:
        """Number of records with negative streams before each row."""
        return np.concatenate([[0], np.cumsum(self.known.days.streams[:-1] < 0)])

    @cached_property
    def _changes(self) -> Integers:
        """Number of times that the artist has changed up to each row; NULLs are no artist."""
        artists = self.known.frame.select("cm_track_id", "cm_artist_id")
        if artists["cm_artist_id"].has_nulls():
            artists = artists.with_columns(pl.col("cm_artist_id").forward_fill().over("cm_track_id"))
        artist = artists["cm_artist_id"]
        changed = (artist != artist.shift()).fill_null(value=False)
        return np.cumsum(changed.to_numpy())

    def _weeks(self, day: int) -> Floats:
        track, days, streams = self._rows(day, WEEKS * DAYS)
        return weekly_means(track, days, streams, as_of=day, tracks=len(self.known.days.tracks))

    def _rows(self, last: int, number: int) -> tuple[Integers, Integers, Floats]:
        """Select the records of this number of days up to the last one: track, day and streams of each."""
        days = self.known.days
        every = np.arange(len(days.tracks))
        first, end = (days.rows_until(every, np.full(len(every), day)) for day in (last - number, last))
        length = end - first
        row = np.arange(length.sum()) + np.repeat(end - np.cumsum(length), length)
        day = self.known.frame["date"].to_physical().to_numpy()[row].astype(np.int64)
        return np.repeat(every, length), day, days.streams[row]

    def _mldr_at(self, day: date) -> pl.LazyFrame:
        """Select the newest MLDR of each artist that was known on this day."""
        created = pl.col("created_at").cast(pl.Date)
        is_known = created.is_null() | (created <= day)
        return newest_mldr(self.mldr.filter(is_known))


def _groups(tracks: pl.DataFrame) -> Integers:
    return tracks["age_group"].fill_null(-1).to_numpy()


def _rates_of(artist_mldr: pl.LazyFrame | None) -> pl.LazyFrame:
    none = pl.LazyFrame(schema={"cm_artist_id": pl.Int64, "mldr": pl.Float64})
    return conform(none if artist_mldr is None else artist_mldr, ARTIST_MLDR, name="artist_mldr")


def _day(day: date) -> int:
    return (day - date(1970, 1, 1)).days
