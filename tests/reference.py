"""The model as scalar loops, one track at a time: written from its description, not from the code."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Literal, NamedTuple

BOUNDARIES = (1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 36, 48, 100000)

FITTED = (
    0.06741191851584262,
    0.03291507714354558,
    0.03334620907608441,
    0.021404012549575913,
    0.02461834982301452,
    0.03183160108111365,
    0.029059156192761115,
    0.02577913683190864,
    0.017941231431835854,
    0.009790878919164516,
    0.016324033736761206,
    0.0092302,
)

INFLUENCE_FROM = (0, 10_000, 30_000, 50_000, 75_000, 110_000, 160_000, 250_000, 410_000, 950_000)

# The published table as it is printed: one line per influence range, one column per segment.
REACH = [
    [float(cell) for cell in line.split()]
    for line in """
0.094000 0.064033 0.060000 0.050000 0.035000 0.030000 0.030000 0.030000 0.030000 0.015000 0.015000 0.020000
0.089111 0.061430 0.055739 0.044959 0.031111 0.026667 0.026667 0.026877 0.026667 0.013990 0.013333 0.020000
0.084222 0.058826 0.051478 0.039918 0.027222 0.023333 0.023333 0.023754 0.023333 0.012980 0.011667 0.020000
0.079333 0.056222 0.047218 0.034877 0.023333 0.020000 0.020000 0.020631 0.020000 0.011971 0.010000 0.020000
0.074444 0.053619 0.042957 0.029836 0.019444 0.016667 0.016667 0.017508 0.016667 0.010961 0.008333 0.020000
0.069556 0.051015 0.038696 0.024795 0.015556 0.013333 0.013333 0.014385 0.013333 0.009951 0.006667 0.020000
0.064667 0.048411 0.034435 0.019754 0.011667 0.010000 0.010000 0.011262 0.010000 0.008941 0.005000 0.020000
0.059778 0.045808 0.030174 0.014713 0.007778 0.006667 0.006667 0.008138 0.006667 0.007931 0.003333 0.020000
0.054889 0.043204 0.025913 0.009672 0.003889 0.003333 0.003333 0.005015 0.003333 0.006921 0.001667 0.020000
0.050000 0.040600 0.021653 0.004631 0.010000 0.010000 0.010000 0.001892 0.010000 0.005912 0.010000 0.020000
""".strip().splitlines()
]

RATE_MAX = 100.0

Point3 = tuple[float, float, float]


class Row(NamedTuple):
    """One day of one track, as it comes in."""

    track: int | None
    artist: int | None
    date: date | None
    streams: float | None
    days_from_release: int | None = None
    id: int | None = None
    created_at: datetime | None = None


class Mldr(NamedTuple):
    """One decay rate of one artist, as it comes in."""

    artist: int | None
    mldr: float | None
    id: int | None = None
    created_at: datetime | None = None


class Features(NamedTuple):
    """Section 2, for one track; the two flags are those of section 7."""

    streams_30: float
    streams_90: float
    streams_365: float
    as_of: date
    m: int
    training_data_id: int | None
    artist: int | None
    negative: bool
    several_artists: bool


class Step(NamedTuple):
    """One month of a forecast."""

    month: int
    value: float
    segment: int
    time: int


# Section 1


def nulls_first(*key: float | datetime | None) -> tuple[tuple[bool, float | datetime], ...]:
    return tuple((part is not None, 0 if part is None else part) for part in key)


def clean(rows: Iterable[Row]) -> dict[int, list[Row]]:
    """Every track's records by date: one per day, the newest; rows that are no record are left out."""
    kept: dict[int, dict[date, Row]] = defaultdict(dict)
    for row in rows:
        if row.track is None or row.date is None or row.streams is None or not math.isfinite(row.streams):
            continue
        other = kept[row.track].get(row.date)
        if other is None or newness(row) > newness(other):
            kept[row.track][row.date] = row
    return {track: [days[day] for day in sorted(days)] for track, days in kept.items() if days}


def newness(row: Row) -> tuple[tuple[bool, float | datetime], ...]:
    # The description ends at `id`. After it any fixed rule does, as long as row order has no say.
    return nulls_first(row.created_at, row.id, row.streams, row.days_from_release, row.artist)


def newest_mldr(rows: Iterable[Mldr]) -> dict[int, float | None]:
    newest: dict[int, Mldr] = {}
    for row in rows:
        if row.artist is None:
            continue
        other = newest.get(row.artist)
        if other is None or mldr_newness(row) > mldr_newness(other):
            newest[row.artist] = row
    return {artist: row.mldr for artist, row in newest.items()}


def mldr_newness(row: Mldr) -> tuple[tuple[bool, float | datetime], ...]:
    return nulls_first(row.created_at, row.id, row.mldr)


# Section 2


def features(records: Sequence[Row], *, age_from: str = "release", as_of: date | None = None) -> Features:
    """`records`: one track's, cleaned and by date."""
    streams = [row.streams or 0.0 for row in records]
    first, last = records[0], records[-1]
    assert first.date is not None
    assert last.date is not None
    day = as_of or last.date
    age = (day - first.date).days
    if age_from == "release" and last.days_from_release is not None:
        age = last.days_from_release + (day - last.date).days
    return Features(
        streams_30=math.fsum(streams[-30:]),
        streams_90=math.fsum(streams[-90:]),
        streams_365=math.fsum(streams[-365:]),
        as_of=day,
        m=age // 30,
        training_data_id=first.id,
        artist=last.artist,
        negative=any(value < 0 for value in streams[-365:]),
        several_artists=len({row.artist for row in records[-365:] if row.artist is not None}) > 1,
    )


# Section 3


def points(streams_30: float, streams_90: float, streams_365: float, m: int) -> tuple[Point3, Point3]:
    """x and y, oldest first."""
    y_2to3 = (streams_90 - streams_30) / (2 if m > 2 else 1)
    y_4to12 = (streams_365 - streams_90) / (9 if m > 11 else m - 3) if m > 3 else y_2to3
    return (max(m - 11, 0), max(m - 2, 0), m), (y_4to12, y_2to3, streams_30)


def sse(k: float, x: Sequence[float], y: Sequence[float]) -> float:
    """Squared distance of the points from S0 exp(-k x) with the best S0 >= 0, summed residual by residual."""
    e = [math.exp(-k * (age - x[0])) for age in x]
    s0 = max(sum(a * b for a, b in zip(y, e, strict=True)) / sum(b * b for b in e), 0.0)
    return math.fsum((a - s0 * b) ** 2 for a, b in zip(y, e, strict=True))


def best_rate(x: Sequence[float], y: Sequence[float]) -> float:
    """Minimise `sse` over 0 <= k <= RATE_MAX: scan, then golden section around the best."""
    grid = [0.0] + [10 ** (power / 25) for power in range(-7 * 25, 2 * 25 + 1)]
    best = min(range(len(grid)), key=lambda i: sse(grid[i], x, y))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(80):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if sse(left, x, y) <= sse(right, x, y):
            high = right
        else:
            low = left
    return min((grid[best], low, high), key=lambda k: sse(k, x, y))


def young_rate(y_2to3: float, streams_30: float, m: int) -> float:
    """The exact answer for m <= 2."""
    if y_2to3 <= 0:
        return 0.0
    if streams_30 <= 0:
        return RATE_MAX
    return min(max(0.0, (math.log(y_2to3) - math.log(streams_30)) / m), RATE_MAX)


# Section 4


def segment(t: int) -> int:
    """The j with b[j] <= t < b[j + 1]; the last segment has no end."""
    for j in range(1, 12):
        if BOUNDARIES[j - 1] <= t < BOUNDARIES[j]:
            return j
    return 12


def influence(streams_30: float) -> float:
    return min(10 * streams_30, 5_000_000)


def influence_range(value: float) -> int:
    """1 to 10: the last row whose lower edge is at most the influence."""
    return max(row for row, edge in enumerate(INFLUENCE_FROM, start=1) if edge <= value)


def base_rate(r: int, j: int) -> float:
    return 0.67 * FITTED[j - 1] + 0.33 * REACH[r - 1][j - 1]


# Section 5


def base_months(x0: float, m: int, r: int) -> float:
    """h, the mean of 1 / base(t) over the observed months."""
    observed = range(max(int(x0), 1), m + 1)
    return math.fsum(1 / base_rate(r, segment(t)) for t in observed) / len(observed)


def artist_factor(mldr: float, h: float) -> float:
    u = mldr * h - 1
    return 1 + u * min(u, 1) if u > 0 else 1.0


# Section 6


def forecast_segment(t: int) -> int:
    """As `segment`, but segment j + 1 begins one month early."""
    j = 1
    while j < 12 and t >= BOUNDARIES[j] - 1:
        j += 1
    return j


def forecast(streams_30: float, m: int, r: int, factor: float, *, horizon: int) -> list[Step]:
    """Month after month, each from the one before."""
    steps, value = [], streams_30
    for i in range(1, horizon + 1):
        t = m + i - 1
        j = forecast_segment(t)
        value *= math.exp(-base_rate(r, j) * factor)
        steps.append(Step(i, value, j, t))
    return steps


# Section 7


def reason(track: Features, mldr: float | None) -> str | None:
    if mldr is None or not math.isfinite(mldr):
        return "no_mldr"
    if track.m < 1:
        return "too_young"
    if track.negative:
        return "negative_streams"
    return "several_artists" if track.several_artists else None


# All of it


class Options(NamedTuple):
    horizon: int = 24
    age_from: Literal["release", "first-date"] = "release"
    as_of: date | None = None
    influence: float | None = None


class Outcome(NamedTuple):
    """What becomes of one track. `steps` is empty where there is a `reason`."""

    features: Features
    reason: str | None
    steps: list[Step]


def outcomes(
    rows: Iterable[Row],
    mldr_rows: Iterable[Mldr],
    options: Options,
    *,
    rate: Callable[[Point3, Point3], float] = best_rate,
) -> dict[int, Outcome]:
    """Every track that has a record. `rate` solves section 3."""
    mldr = newest_mldr(mldr_rows)
    result = {}
    for track, records in clean(rows).items():
        f = features(records, age_from=options.age_from, as_of=options.as_of)
        artist_rate = None if f.artist is None else mldr.get(f.artist)
        why_not = reason(f, artist_rate)
        steps = [] if why_not or artist_rate is None else steps_of(f, artist_rate, options, rate)
        result[track] = Outcome(f, why_not, steps)
    return result


def steps_of(
    f: Features, mldr: float, options: Options, rate: Callable[[Point3, Point3], float]
) -> list[Step]:
    """Sections 3 to 6 for one track that gets a forecast."""
    x, y = points(f.streams_30, f.streams_90, f.streams_365, f.m)
    r = influence_range(influence(f.streams_30) if options.influence is None else options.influence)
    h = base_months(x[0], f.m, r)
    factor = max(artist_factor(mldr, h), rate(x, y) * h)
    return forecast(f.streams_30, f.m, r, factor, horizon=options.horizon)
