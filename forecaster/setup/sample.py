"""Seeded sample catalogue: daily streams and MLDR with the sizes and lifecycles of a real catalogue."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from forecaster.errors import InvalidOptionError
from forecaster.frames.arrays import np, npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SEED = 7
LAST_DATE = date(2024, 12, 31)
BATCH_ROWS = 1_000_000
"""Default number of rows per batch of streams."""

# The sample resembles a catalogue of 8,459 tracks by 1,565 artists, 16 of them without an MLDR.
_ARTISTS_PER_TRACK = 1_565 / 8_459
_WITHOUT_MLDR_PER_TRACK = 16 / 8_459
# An artist's share of the tracks falls with its rank, so that few artists have many tracks and half have one.
_RANK_OFFSET, _RANK_POWER = 20, -1.5

_DAYS_MIN, _DAYS_MAX = 90, 3_000
_DAYS_POWER = 3.144  # mean 792 days, median 420
_STARTS_AT_RELEASE = 0.6  # share of the tracks
_LONGEST_BEFORE = 14_000  # days between release and the first record of the others
_LEVEL_MIN, _LEVEL_RANGE, _LEVEL_POWER = 0.5, 5.5, 1.5  # powers of ten of streams per day

_EPOCH = date(1970, 1, 1)
_DAY_BITS = 24  # of the number of a row; the other bits are the track
_DAYS_PER_MONTH = 30
_NOVELTY_DAYS = 45  # in which the additional streams of a release fall to 1 / e
_SURGE_DAYS = 40
# Monday to Sunday, relative to the mean. Rolled, because day 0 of the calendar was a Thursday.
_WEEK = np.roll(np.array([-0.6, -0.5, -0.4, -0.1, 0.7, 0.6, 0.3]), -3)


@dataclass(frozen=True)
class _Kind:
    """What distinguishes the streams of one kind of track."""

    share: float
    """Share of the tracks."""
    decay: tuple[float, float]
    """Range of the decay, per month."""
    noise: float = 0.15
    """Standard deviation of the logarithm of a day's streams."""
    left: float = 1.0
    """Share of the streams that is left after an event on a random day of the history."""
    surge: float = 0.0
    """Streams that the event adds on its first day, as a multiple of the track's streams."""


_KINDS: tuple[_Kind, ...] = (
    _Kind(0.34, decay=(0.01, 0.12)),  # falling
    _Kind(0.20, decay=(-0.002, 0.004)),  # steady
    _Kind(0.12, decay=(-0.03, -0.005)),  # growing
    _Kind(0.10, decay=(0.0, 0.03), noise=0.8),  # little but noise
    _Kind(0.10, decay=(0.0, 0.03), surge=20.0),  # viral
    _Kind(0.08, decay=(0.0, 0.02), left=0.03),  # collapsed
    _Kind(0.06, decay=(0.0, 0.06), left=0.0),  # dead
)


@dataclass(frozen=True)
class Truth:
    """One course for all tracks, so that their correct forecast is known."""

    decay: float
    """Per month of 30 days; negative for growth."""
    noise: float = 0.0
    """Standard deviation of the logarithm of a day's streams."""


def sample_catalogue(
    tracks: int, /, *, seed: int = SEED, last_date: date = LAST_DATE, truth: Truth | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Generate a catalogue: its streams (see `sample_batches`) and its MLDR (see `sample_mldr`).

    8,459 tracks have about 6.7 million rows.
    Raises `InvalidOptionError` for less than one track, or days before the year 1.
    """
    batches = sample_batches(tracks, seed=seed, last_date=last_date, truth=truth)
    return pl.concat(batches), sample_mldr(tracks, seed=seed)


def sample_batches(
    tracks: int,
    /,
    *,
    seed: int = SEED,
    last_date: date = LAST_DATE,
    days: int | None = None,
    rows: int = BATCH_ROWS,
    truth: Truth | None = None,
) -> Iterator[pl.DataFrame]:
    """Generate the streams of a catalogue in batches of whole tracks, ordered by track and date.

    Each batch has about `rows` rows: cm_track_id (1 to `tracks`), cm_artist_id, date (every day up to
    `last_date`), daily_streams, days_from_release (1 on the day of release, which may be before the first
    record).
    With a `truth`, every track follows it from its first record on, at its own level.
    A track's history has `days` days, by default 90 to 3,000, 792 on average. The same seed gives the same
    rows, whatever the size of the batches.
    Raises `InvalidOptionError` for fewer than one track, day or row, or days before the year 1.
    """
    _check_counts(tracks=tracks, days=1 if days is None else days, rows=rows)
    longest = _DAYS_MAX if days is None else days
    if longest > last_date.toordinal():
        raise InvalidOptionError(f"{longest} days up to {last_date} begin before the year 1")
    catalogue = _catalogue(tracks, seed, days)
    if truth:
        catalogue = catalogue.following(truth)
    starts = np.cumsum(catalogue.days) - catalogue.days
    cuts = np.flatnonzero(np.diff(starts // rows)) + 1
    return (_streams(catalogue, batch, seed, last_date) for batch in np.split(np.arange(tracks), cuts))


def sample_mldr(tracks: int, /, *, seed: int = SEED) -> pl.DataFrame:
    """Generate the MLDR of the catalogue's artists: cm_artist_id, mldr (per month, some are negative).

    The artists of 99.8 % of the tracks have one.
    Raises `InvalidOptionError` for less than one track.
    """
    _check_counts(tracks=tracks)
    sizes = _tracks_per_artist(tracks)
    artists = np.arange(len(sizes))
    single = artists[sizes == 1]
    without = single[_order(seed, "without mldr", len(single))][: round(tracks * _WITHOUT_MLDR_PER_TRACK)]
    mldr = 0.027 + 0.034 * _normal(seed, "mldr", artists)
    return pl.DataFrame({"cm_artist_id": artists + 1, "mldr": mldr.round(6)}).filter(
        ~pl.Series(np.isin(artists, without))
    )


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InvalidOptionError(f"{name} is {count}: expected at least 1")


@dataclass(frozen=True)
class _Catalogue:
    """Everything that determines the streams, except daily noise. Each array has one value per track."""

    artist: Integers
    days: Integers
    """Recorded days, up to the last date."""
    days_before: Integers
    """Days between the release and the first record."""
    level: Floats
    """Streams on the first day, without those that the release adds."""
    decay: Floats
    """Decay per day."""
    noise: Floats
    """Standard deviation of the logarithm of a day's streams."""
    season: Floats
    """Amplitude of the differences between the days of a week."""
    event: Integers
    """Day of the history from which on `left` and `surge` count."""
    left: Floats
    """As in `_Kind`."""
    surge: Floats
    """As in `_Kind`."""
    novelty: float = 2.0
    """Streams that the release adds on its day, as a multiple of the track's streams."""

    def following(self, truth: Truth) -> "_Catalogue":
        """Return the same tracks, but all of them follow the truth."""
        same = np.ones(len(self.days))
        return replace(
            self,
            decay=same * truth.decay / _DAYS_PER_MONTH,
            noise=same * truth.noise,
            season=same * 0,
            left=same,
            surge=same * 0,
            novelty=0.0,
        )


def _catalogue(tracks: int, seed: int, days: int | None) -> _Catalogue:
    def spread(name: str) -> Floats:
        return _spread(seed, name, tracks)

    kind = np.searchsorted(np.cumsum([kind.share for kind in _KINDS]), spread("kind"), side="right")
    decay_from, decay_to = np.array([kind.decay for kind in _KINDS])[kind].T
    noise, left, surge = np.array([(kind.noise, kind.left, kind.surge) for kind in _KINDS])[kind].T
    history = _whole(_DAYS_MIN + (_DAYS_MAX - _DAYS_MIN + 1) * spread("days") ** _DAYS_POWER)
    recorded = history if days is None else np.full(tracks, days)
    late = (spread("release") - _STARTS_AT_RELEASE) / (1 - _STARTS_AT_RELEASE)  # below 0: from the release on
    sizes = _tracks_per_artist(tracks)
    artist = np.empty(tracks, np.int64)
    artist[_order(seed, "artist", tracks)] = np.repeat(np.arange(len(sizes)), sizes)
    return _Catalogue(
        artist=artist,
        days=recorded,
        days_before=np.where(late < 0, 0, _whole(_LONGEST_BEFORE ** late.clip(0))),
        level=10.0 ** (_LEVEL_MIN + _LEVEL_RANGE * spread("level") ** _LEVEL_POWER),
        decay=(decay_from + (decay_to - decay_from) * spread("decay")) / _DAYS_PER_MONTH,
        noise=noise,
        season=0.5 * spread("season") ** 2,
        event=_whole(recorded * spread("event")),
        left=left,
        surge=surge,
    )


def _tracks_per_artist(tracks: int) -> Integers:
    """Give each artist one track, and distribute the other tracks by the artists' ranks."""
    artists = max(1, round(tracks * _ARTISTS_PER_TRACK))
    weights = np.cumsum((np.arange(artists) + _RANK_OFFSET) ** float(_RANK_POWER))
    return 1 + np.diff(_whole((tracks - artists) * weights / weights[-1] + 0.5), prepend=0)


def _streams(catalogue: _Catalogue, tracks: Integers, seed: int, last_date: date) -> pl.DataFrame:
    days = catalogue.days[tracks]
    track = np.repeat(tracks, days)
    day = np.arange(len(track)) - np.repeat(np.cumsum(days) - days, days)  # 0 on the first of each track
    first_day = (last_date - _EPOCH).days + 1 - catalogue.days
    age = day + catalogue.days_before[track]
    since_event = day - catalogue.event[track]
    calendar_day = day + first_day[track]

    novelty = 1 + catalogue.novelty * np.exp(-age / _NOVELTY_DAYS)
    surge = catalogue.surge[track] * np.exp(-since_event.clip(0) / _SURGE_DAYS)
    after_event = np.where(since_event >= 0, catalogue.left[track] + surge, 1.0)
    week = 1 + catalogue.season[track] * _WEEK[calendar_day % len(_WEEK)]
    noise = catalogue.noise[track] * _normal(seed, "noise", track << _DAY_BITS | day)
    mean = catalogue.level[track] * novelty * after_event * week
    return pl.DataFrame(
        {
            "cm_track_id": track + 1,
            "cm_artist_id": catalogue.artist[track] + 1,
            "date": pl.Series(calendar_day.astype(np.int32)).cast(pl.Date),
            "daily_streams": _whole(mean * np.exp(noise - catalogue.decay[track] * day) + 0.5),
            "days_from_release": (age + 1).astype(np.int32),
        }
    )


def _whole(values: Floats) -> Integers:
    return np.floor(values).astype(np.int64)


# Random numbers are a hash of their purpose and index, so that they depend neither on the order in which they
# are drawn nor on the version of numpy.


def _bits(seed: int, name: str, index: Integers) -> npt.NDArray[np.uint64]:
    """Draw 64 random bits for each index (the mixer of SplitMix64)."""
    key = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    bits: npt.NDArray[np.uint64] = index.astype(np.uint64) + np.frombuffer(key, "<u8")
    bits *= np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


def _normal(seed: int, name: str, index: Integers) -> Floats:
    """Draw nearly normal numbers, mean 0, standard deviation 1: sums of four uniform numbers of 16 bits."""
    bits = _bits(seed, name, index)
    first, second, third, fourth = ((bits >> np.uint64(16 * i)) & np.uint64(0xFFFF) for i in range(4))
    total: Floats = (first + second + third + fourth).astype(np.float64)
    return (total / 2**16 + (4 / 2**17 - 2)) * 3**0.5


def _order(seed: int, name: str, size: int) -> Integers:
    """The numbers from 0 to `size` - 1 in a random order."""
    return np.argsort(_bits(seed, name, np.arange(size)), kind="stable")


def _spread(seed: int, name: str, size: int) -> Floats:
    """`size` numbers from 0 to 1 in a random order, but evenly spaced, so that shares are exact."""
    return (_order(seed, name, size) + 0.5) / size
