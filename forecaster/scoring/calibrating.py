"""Calibrate from frames: sum up a catalogue, or parts of it, as of D and as of origins before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import polars as pl

from forecaster.errors import CalibrationError
from forecaster.frames.arrays import np, npt
from forecaster.frames.schemas import conform
from forecaster.model import forecastable, until, with_rates
from forecaster.model.calibrated.calibrate import RowsAsked, calibration_from
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.past import MONTHS, ArtistsSeen, OriginSums, PastSums
from forecaster.model.calibrated.rates import GROUP_STARTS, RateSums
from forecaster.model.calibrated.records import Ends, KnownRecords
from forecaster.model.calibrated.weeks import DAYS, FEWEST_DAYS, WEEKS, means_of
from forecaster.model.features import WINDOW, clean
from forecaster.model.mldr import mldr_until, newest_mldr, no_mldr
from forecaster.model.parameters import DAYS_PER_MONTH, AgeFrom
from forecaster.model.projection import decay_before
from forecaster.model.segments import BASE_RATES
from forecaster.tables import ARTIST_MLDR, DAILY_STREAMS, STREAMS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ORIGINS = 24
"""Most origins that a calibration looks back at: every 30th day of two years."""
LARGEST_GAP = DAYS - FEWEST_DAYS
"""Days without any record up to the last one that counts; with more, no track has its last week."""
_AT_ONCE = 2_500
"""Tracks that are summed up at once: their arrays are in memory."""


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

    Raises `SchemaMismatchError` for missing columns or wrong types, `CalibrationError` without any record, or
    if nothing is known of the week up to `as_of`.
    """
    daily = conform(daily_streams, DAILY_STREAMS, name="daily_streams")
    newest = daily.filter(STREAMS.is_record()).select(pl.col("date").max()).collect().item()
    day = last_day(as_of, newest)
    records = clean(until(daily, day)).sort("cm_track_id", "date").collect()
    if records.is_empty():
        raise CalibrationError(f"there is no record up to {day}", hint="choose a later day")
    sums = past_sums(records, artist_mldr, as_of=day, age_from=age_from, origins=origins)
    return calibration_from(sums, as_of=day, rows=rows)


def last_day(as_of: date | None, newest: date | None, /) -> date:
    """Return the last day that counts: `as_of`, by default the `newest` day with a record.

    Raises `CalibrationError` for a catalogue without a record, and for a day before which no week is known.
    """
    if newest is None:
        raise CalibrationError("there is no record", hint="`forecaster load` loads daily streams")
    day = as_of or newest
    if (day - newest).days > LARGEST_GAP:
        raise CalibrationError(
            f"nothing is known of the week up to {day}: the newest day is {newest}",
            hint=f"calibrate as of {newest}, which is the default",
        )
    return day


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
    known = KnownRecords.of(records, age_from=age_from)
    return sums_of_known(known, artist_mldr, as_of=as_of, origins=origins)


def sums_of_known(
    known: KnownRecords,
    artist_mldr: pl.LazyFrame | None,
    /,
    *,
    as_of: date,
    origins: int = ORIGINS,
    onto: PastSums | None = None,
) -> PastSums:
    """Sum up the same from arrays; `onto`: sums of other tracks, which the result replaces."""
    mldr, last = _rates_of(artist_mldr), (as_of - date(1970, 1, 1)).days
    sums = onto or PastSums.none()
    for part in known.parts(_AT_ONCE):
        first_day = int(part.day[part.starts[:-1]].min())
        # Origins before the first record of the catalogue, and those of parts of it, add up to nothing.
        past = _Past(part, mldr, last, min(origins, (last - first_day) // DAYS_PER_MONTH))
        sums = sums.take(PastSums(len(part), first_day, past.rates(last), past.artists()), past.origins())
    return sums


class _Tracks(NamedTuple):
    """What the production model knew of tracks at origins: one value for each of both."""

    origin: Integers
    track: Integers
    months_since_release: Integers
    influence_range: Integers
    multiplier: Floats
    streams_30: Floats

    def of(self, some: slice) -> "_Tracks":
        """Return some of the values."""
        columns: Any = (column[some] for column in self)
        return _Tracks(*columns)


@dataclass(frozen=True, eq=False)
class _Past:
    """Some tracks, as they were on days of the past."""

    known: KnownRecords
    mldr: pl.LazyFrame
    """`ARTIST_MLDR`."""
    last: int
    """D in days since 1970."""
    back: int
    """Number of origins before it, one per month."""

    def rates(self, day: int) -> RateSums:
        """Sum what the rates as of a day need."""
        return RateSums.of(self._weeks(day).T, self._group(day))

    def artists(self) -> ArtistsSeen:
        """Collect the artists, and those with a rate that was known at the newest origin."""
        every = self.known.artist.unique().drop_nulls()
        until = date(1970, 1, 1) + timedelta(self.last - DAYS_PER_MONTH)
        rows = self.mldr.filter(pl.col("cm_artist_id").is_in(every.implode()), pl.col("mldr").is_finite())
        known = mldr_until(rows, until).select("cm_artist_id", "created_at").collect()
        undated = known.filter(pl.col("created_at").is_null())
        return ArtistsSeen({*every}, {*known["cm_artist_id"]}, {*undated["cm_artist_id"]})

    def origins(self) -> Iterator[OriginSums]:
        """Forecast from each origin, the newest first, and sort what came into bins."""
        if not self.back:
            return
        days = self.last - DAYS_PER_MONTH * np.arange(1, self.back + 1)
        ends = np.stack([self._until(int(day)) for day in days])
        origin, track = np.nonzero(ends > self.known.starts[:-1])
        tracks = self._tracks(days, origin, track, ends[origin, track])
        before = _decays_before(int(tracks.months_since_release.max(initial=0)) + MONTHS)
        blocks = self._blocks()
        bounds = np.searchsorted(tracks.origin, np.arange(self.back + 1))
        for months, (start, end) in enumerate(pairwise(bounds), start=1):
            these = tracks.of(slice(start, end))
            yield self._origin(int(days[months - 1]), these, before, blocks[:months][::-1][:MONTHS])

    def _origin(self, day: int, tracks: "_Tracks", before: Floats, actual: Floats) -> OriginSums:
        """Sum up one origin: `actual` (months, all tracks) is what came; `before`: see `_decays_before`."""
        weeks, group, at = self._weeks(day), self._group(day), tracks.track
        range_, age = tracks.influence_range[:, None], tracks.months_since_release[:, None]
        until, since = before[range_, age + np.arange(len(actual))], before[range_, age - 1]
        of_30, of_7 = tracks.streams_30 / DAYS_PER_MONTH, weeks[0, at]
        return OriginSums.of(
            RateSums.of(weeks.T, group),
            group[at],
            np.stack([np.where(np.isnan(of_7), of_30, of_7), of_30], axis=1),
            tracks.multiplier[:, None] * (until - since),
            actual[:, at].T,
        )

    def _tracks(self, days: Integers, origin: Integers, track: Integers, end: Integers) -> "_Tracks":
        """Compute what the production model knew of tracks that it forecasts, ordered by `origin`.

        `end`: the row after the last one of the `track`. An artist without an MLDR that was known then has 0.
        """
        known, said = self.known, self.known.said(track, end - 1)
        first = np.maximum(known.starts[track], end - WINDOW)
        sums = {
            f"streams_{number}": known.totals(np.maximum(first, end - number), end)
            for number in (30, 90, WINDOW)
        }
        features = pl.DataFrame(
            {
                "track": track,
                "origin": origin,
                "cm_artist_id": known.artist.gather(said),
                "months_since_release": (days[origin] - known.born[said]) // DAYS_PER_MONTH,
                "has_several_artists": known.changes[end - 1] > known.changes[first],
                "has_negative_streams": known.negative[end] > known.negative[first],
                **sums,
            }
        )
        rated = (
            features.lazy()
            .join(self._mldr_at(days), on=["cm_artist_id", "origin"], how="left", maintain_order="left")
            .with_columns(mldr=pl.when(pl.col("mldr").is_finite()).then("mldr").otherwise(0.0))
            .pipe(with_rates, influence=None)
            .pipe(forecastable)
            .select(_Tracks._fields)
            .collect()
        )
        return _Tracks(*(column.to_numpy() for column in rated.get_columns()))

    def _mldr_at(self, days: Integers) -> pl.LazyFrame:
        """Select the newest MLDR of each artist that was known at each origin."""
        origins = pl.LazyFrame({"origin": np.arange(len(days)), "day": days.astype("datetime64[D]")})
        artists = self.known.artist.unique().to_frame("cm_artist_id").lazy()
        rows = self.mldr.join(artists, on="cm_artist_id", how="semi").join(origins, how="cross")
        return newest_mldr(mldr_until(rows, pl.col("day")), "origin")

    def _group(self, day: int) -> Integers:
        """Return the age group of each track; any for one without a record until then."""
        born = self.known.born[self.known.said(np.arange(len(self.known)), self._until(day) - 1)]
        return np.searchsorted(GROUP_STARTS, (day - born) // DAYS_PER_MONTH, side="right")

    def _weeks(self, day: int) -> Floats:
        """Compute the means of the weeks up to a day, newest first: (weeks, tracks)."""
        bounds = np.stack([self._until(day - DAYS * week) for week in range(WEEKS, -1, -1)])
        return means_of(self.known.between(bounds), np.diff(bounds, axis=0))[::-1]

    def _blocks(self) -> Floats:
        """Sum the months up to D, newest first: (months, tracks); NaN unless all 30 days have a record."""
        bounds = np.stack(
            [self._until(self.last - DAYS_PER_MONTH * month) for month in range(self.back, -1, -1)]
        )
        sums = np.where(np.diff(bounds, axis=0) == DAYS_PER_MONTH, self.known.between(bounds), np.nan)
        return sums[::-1]

    @cached_property
    def _until(self) -> Ends:
        """How many rows there are up to a day; the first one is that before the weeks of the last origin."""
        first = self.last - DAYS_PER_MONTH * self.back - WEEKS * DAYS
        return Ends(self.known, first, self.last)


def _decays_before(months: int) -> Floats:
    """Sum the production model's base rates before each month from 1: (influence ranges, months)."""
    ranges = pl.LazyFrame({"influence_range": range(len(BASE_RATES))})
    each = ranges.join(
        pl.LazyFrame({"month": range(1, months + 1)}), how="cross", maintain_order="left_right"
    )
    found = each.select(decay_before(pl.col("month"))).collect()
    return found.to_numpy().reshape(len(BASE_RATES), months)


def _rates_of(artist_mldr: pl.LazyFrame | None) -> pl.LazyFrame:
    return conform(no_mldr() if artist_mldr is None else artist_mldr, ARTIST_MLDR, name="artist_mldr")
