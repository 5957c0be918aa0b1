"""One hostile catalogue: what becomes of each of its tracks, on both servers and by both ways to read."""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.frames.schemas import SKIPPED
from forecaster.model import build_forecasts
from forecaster.postgres.catalogue import Source, export_snapshot
from forecaster.postgres.connection import connect, copy_in, execute
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import read_tables
from forecaster.run.report import RunReport
from forecaster.run.session import RunConfig, run
from tests import sql
from tests.catalogues import DAILY_SCHEMA, MLDR_SCHEMA
from tests.conftest import SERVERS, ServerNamed
from tests.tables import create_tables, golden_mldr, golden_streams

STREAMS = "backtest_track_daily_training_data"
MLDR = "backtest_artist_mldr"
FORECAST = "backtest_track_streams_forecast"

FIRST = date(2021, 3, 1)
# Days since 1970 of what Python has no date for.
FAR_DAYS = {"5874897-12-31": 2_145_042_905, "4714-11-24 BC": -2_440_588}


class Day(NamedTuple):
    """A row of daily streams, as text that the server reads, with what only it can read."""

    date: str | None
    streams: str | None = "100"
    artist: int | None = 1
    days_from_release: str | None = None
    id: int | None = 5
    created_at: str | None = "2024-01-01"
    has_track: bool = True


class Case(NamedTuple):
    """A track and what becomes of it. `forecast`: the rows that it is forecast from, as if they were all."""

    rows: list[Day]
    forecast: Sequence[Day] = ()
    skipped: str = ""
    refused: bool = False
    unusable: int = 0
    duplicates: int = 0


def fine(
    days: int = 400,
    *,
    first: date = FIRST,
    every: int = 1,
    streams: Callable[[int], object] = lambda n: 1000 - n,
    age: Callable[[int], object] | None = None,
) -> list[Day]:
    """A track with nothing wrong with it."""
    return [
        Day(
            str(first + timedelta(every * n)),
            str(streams(n)),
            days_from_release=None if age is None else str(age(n)),
            id=n + 10,
        )
        for n in range(days)
    ]


def ending(rows: list[Day], **changes: Any) -> list[Day]:
    """The same, with something else on its last day."""
    return [*rows[:-1], rows[-1]._replace(**changes)]


def beside(rows: list[Day], *unusable: Day) -> Case:
    """A track with further rows, which are left out."""
    return Case([*rows, *unusable], forecast=rows, unusable=len(unusable))


def doubled(rows: list[Day], other: Day, *, counts: bool) -> Case:
    """A track with a second row for its last day, which counts, or does not."""
    return Case([*rows, other], forecast=[*rows[:-1], other] if counts else rows, duplicates=1)


def unchanged(rows: list[Day]) -> Case:
    return Case(rows, forecast=rows)


GOOD = fine()
LAST = GOOD[-1]

CASES: dict[str, Case] = {
    "NULL streams": beside(GOOD, Day("2030-01-01", None), Day("2020-01-01", None)),
    "NULL date": beside(GOOD, Day(None), Day(None)),
    "NULL track": beside(GOOD, LAST._replace(has_track=False, streams="7"), Day(None, None, has_track=False)),
    "infinite dates": beside(GOOD, Day("infinity"), Day("-infinity")),
    "no usable row": Case(
        [Day("2024-01-01", None), Day(None), Day("infinity")], skipped="no_mldr", unusable=3
    ),
    "negative streams": Case(ending(GOOD, streams="-1"), skipped="negative_streams"),
    "negative streams long ago": unchanged([GOOD[0]._replace(streams="-50"), *GOOD[1:]]),
    "negative streams, the 365th of the last": Case(
        [*GOOD[:35], GOOD[35]._replace(streams="-1"), *GOOD[36:]], skipped="negative_streams"
    ),
    "negative streams, the 366th of the last": unchanged(
        [*GOOD[:34], GOOD[34]._replace(streams="-1"), *GOOD[35:]]
    ),
    "two artists": Case(
        [*GOOD[:300], *(day._replace(artist=2) for day in GOOD[300:])], skipped="several_artists"
    ),
    "two artists on one day": Case(
        [*GOOD, LAST._replace(artist=2, id=1)],  # the row with the larger id stays
        forecast=GOOD,
        duplicates=1,
    ),
    "two artists long ago": unchanged([*(day._replace(artist=2) for day in GOOD[:35]), *GOOD[35:]]),
    "NULL artist on the last day": Case(ending(GOOD, artist=None), skipped="no_mldr"),
    "NULL artist before": unchanged([*(day._replace(artist=None) for day in GOOD[:399]), LAST]),
    "NULL artist": Case([day._replace(artist=None) for day in GOOD], skipped="no_mldr"),
    "two rows for a day, the same": doubled(GOOD, LAST, counts=True),
    "two rows for a day, newer": doubled(
        GOOD, LAST._replace(streams="9", created_at="2024-01-02", id=1), counts=True
    ),
    "two rows for a day, older": doubled(
        GOOD, LAST._replace(streams="9", created_at="2023-01-02", id=9999), counts=False
    ),
    "two rows for a day, larger id": doubled(GOOD, LAST._replace(streams="9", id=9999), counts=True),
    "two rows for a day, NULL id": doubled(GOOD, LAST._replace(streams="9999", id=None), counts=False),
    "two rows for a day, NULL created_at": doubled(
        GOOD, LAST._replace(streams="9", id=9999, created_at=None), counts=False
    ),
    "two rows for a day, created at infinity": doubled(
        GOOD, LAST._replace(streams="9", id=1, created_at="infinity"), counts=True
    ),
    "two rows for a day, alike but in streams": doubled(GOOD, LAST._replace(streams="9999"), counts=True),
    "two rows for a day, the newer without streams": Case(
        [*GOOD, LAST._replace(streams=None, created_at="2025-01-01")], forecast=GOOD, unusable=1
    ),
    "every day twice": Case(
        [*GOOD, *(day._replace(streams="1", id=1) for day in GOOD)], forecast=GOOD, duplicates=400
    ),
    "gaps": unchanged(fine(every=17)),
    "in the future": unchanged(fine(first=date(2099, 1, 1))),
    "one day in the future": unchanged([*GOOD, Day("2999-12-31", "5")]),
    "the last day there is": unchanged([*GOOD, Day("5874897-12-31", "5")]),
    "the first day there is": unchanged([Day("4714-11-24 BC", "5"), *GOOD]),
    "one day": Case(fine(1), skipped="too_young"),
    "one day, old enough": unchanged(fine(1, age=lambda _: 4000)),
    "29 days": Case(fine(29), skipped="too_young"),
    "30 days": Case(fine(30), skipped="too_young"),  # of which the first is day 0
    "31 days": unchanged(fine(31)),
    "40 years": unchanged(fine(14_610, streams=lambda n: 20_000 - n)),
    "all zeros": unchanged(fine(streams=lambda _: 0)),
    "dead for 90 records": unchanged(fine(streams=lambda n: 500 if n < 310 else 0)),
    "2^62 streams in a day": unchanged(ending(GOOD, streams=str(2**62))),
    "2^62 streams every day": Case(fine(streams=lambda _: 2**62), refused=True),
    "2^63 - 1 streams every day": Case(fine(streams=lambda _: 2**63 - 1), refused=True),
    "days_from_release NULL": unchanged(fine()),
    "days_from_release NULL on the last day": unchanged(
        ending(fine(age=lambda n: n + 4000), days_from_release=None)
    ),
    "days_from_release negative": Case(fine(age=lambda n: n - 500), skipped="too_young"),
    "days_from_release negative at first": unchanged(fine(age=lambda n: n - 300)),
    "days_from_release backwards": unchanged(fine(age=lambda n: 1000 - n)),
    "days_from_release backwards to nothing": Case(fine(age=lambda n: 399 - n), skipped="too_young"),
    "days_from_release of millions of years": unchanged(fine(age=lambda _: 2**31 - 1)),
    "id not unique": unchanged([day._replace(id=5) for day in GOOD]),
    "id NULL": unchanged([day._replace(id=None) for day in GOOD]),
    # What only a numeric or a floating-point column can hold.
    "NaN streams": beside(GOOD, Day("2030-01-01", "NaN")),
    "infinite streams": beside(GOOD, Day("2030-01-01", "Infinity"), Day("2030-01-02", "-Infinity")),
    "half a stream": unchanged(fine(streams=lambda n: n + 0.5)),
    "1e300 streams": Case(fine(streams=lambda _: "1e300"), refused=True),
    "1e308 streams every day": Case(fine(streams=lambda _: "1e308"), refused=True),
    "1e400 streams": beside(GOOD, Day("2030-01-01", "1e400"), Day("2030-01-02", "-1e400")),
    "1e-400 streams": Case([*GOOD, Day("2030-01-01", "1e-400")], forecast=[*GOOD, Day("2030-01-01", "0")]),
    "days_from_release NaN": unchanged(ending(fine(age=lambda n: n), days_from_release="NaN")),
    "days_from_release 1e400": unchanged(ending(fine(age=lambda n: n), days_from_release="1e400")),
    "days_from_release a fraction": unchanged(ending(GOOD, days_from_release="59.9")),
    "days_from_release above -1": Case(ending(GOOD, days_from_release="-0.9"), skipped="too_young"),
}  # fmt: skip


class Rate(NamedTuple):
    """A row of decay rates, as text that the server reads."""

    mldr: str | None
    created_at: str | None = "2024-01-01"
    id: int | None = 5


# What the rows of an artist come to; None: no rate, and the artist's track is skipped.
RATES: dict[str, tuple[list[Rate], float | None]] = {
    "no row": ([], None),
    "NULL": ([Rate(None)], None),
    "NaN": ([Rate("NaN")], None),
    "infinite": ([Rate("Infinity")], None),
    "minus infinite": ([Rate("-Infinity")], None),
    "negative": ([Rate("-0.5")], -0.5),
    "zero": ([Rate("0")], 0.0),
    "huge": ([Rate("1e300")], 1e300),
    "1e400": ([Rate("1e400")], None),
    "1e-400": ([Rate("1e-400")], 0.0),
    "the newest": ([Rate("0.1"), Rate("0.2", "2024-02-01", 1), Rate("0.3", "2023-01-01", 9)], 0.2),
    "the newest is NULL": ([Rate("0.1"), Rate(None, "2024-02-01")], None),
    "the newest is NaN": ([Rate("0.1"), Rate("NaN", "2024-02-01")], None),
    "the newest is NaN no more": ([Rate("NaN"), Rate("0.1", "2024-02-01")], 0.1),
    "created at the same time": ([Rate("0.2", id=7), Rate("0.1", id=8)], 0.1),
    "created at the same time, id NULL": ([Rate("0.2", id=7), Rate("0.3", id=None)], 0.2),
    "alike but in the rate": ([Rate("0.1"), Rate("0.3"), Rate("0.2")], 0.3),
    "alike but for NaN": ([Rate("0.1"), Rate("NaN")], None),
    "alike but for NULL": ([Rate("0.1"), Rate(None)], 0.1),
    "created_at NULL": ([Rate("0.1"), Rate("0.2", None, 9)], 0.1),
    "created at infinity": ([Rate("0.1", "infinity"), Rate("0.2", "2999-01-01", 9)], 0.1),
}

USUAL_RATE = 0.03
FIRST_CASE, FIRST_ARTIST = 10_000, 500


def numbered(cases: dict[str, Case]) -> dict[int, Case]:
    return dict(enumerate(cases.values(), start=FIRST_CASE))


class Columns(NamedTuple):
    """Types of the source tables, and what they cannot hold."""

    streams: str
    mldr: str
    days_from_release: str
    key: str = ""

    def hold(self, case: Case) -> bool:
        keys = [day.date for day in case.rows if day.date and day.has_track]
        return all(
            self._holds(self.streams, day.streams)
            and self._holds(self.days_from_release, day.days_from_release)
            for day in case.rows
        ) and (not self.key or len(keys) == len(set(keys)))

    def hold_rates(self, rates: list[Rate]) -> bool:
        return all(self._holds(self.mldr, rate.mldr) for rate in rates)

    @staticmethod
    def _holds(type_: str, text: str | None) -> bool:
        number = float(text or 0)
        if text is None or type_ == "numeric":
            return True
        if type_ == "double precision":
            return "1e400" not in text and "1e-400" not in text
        return number.is_integer() and abs(number) < 2**64 and "e" not in text


KEY = "UNIQUE (cm_track_id, date)"
TABLES = {
    "numeric, one pass": Columns("numeric", "numeric", "numeric"),
    "numeric, by index": Columns("numeric", "numeric", "numeric", KEY),
    "floats, one pass": Columns("double precision", "double precision", "bigint"),
    "bigint, by index": Columns("bigint", "double precision", "integer", KEY),
}


# The narrower types hold fewer of the cases: both ways to read them are on one server.
PLACES = [
    pytest.param(
        (server, name),
        id=f"{server}-{name}",
        marks=[] if server == "embedded" or "numeric" in name else [pytest.mark.slow],
    )
    for server in SERVERS
    for name in TABLES
]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A server, and a kind of tables."""
    server, name = request.param
    return server, name


@pytest.fixture
def server(place: tuple[str, str], server_named: ServerNamed) -> Dsn:
    return server_named(place[0])


@pytest.fixture
def columns(place: tuple[str, str], database: Dsn) -> Columns:
    columns = TABLES[place[1]]
    create_tables(
        database, row_id="bigint", streams=columns.streams, mldr=columns.mldr, streams_key=columns.key
    )
    sql.run(database, f"ALTER TABLE {STREAMS} ALTER days_from_release TYPE {columns.days_from_release}")
    return columns


def insert(dsn: Dsn, table: str, types: dict[str, str], rows: Iterable[tuple[object, ...]]) -> None:
    """By way of text, in no order, because no frame could hold all of it."""
    shuffled = [[None if value is None else str(value) for value in row] for row in rows]
    random.Random(3).shuffle(shuffled)
    frame = pl.DataFrame(shuffled, schema=dict.fromkeys(types, pl.String), orient="row")
    names = ", ".join(types)
    casts = ", ".join(f"{name}::{type_}" for name, type_ in types.items())
    with connect(dsn) as connection:
        execute(connection, f"CREATE TEMPORARY TABLE raw ({', '.join(f'{name} text' for name in types)})")
        copy_in(connection, frame, "raw", schema=None, temporary=True)
        execute(connection, f"INSERT INTO {table} ({names}) SELECT {casts} FROM raw")
        execute(connection, "DROP TABLE raw")
        connection.commit()


def insert_days(dsn: Dsn, columns: Columns, tracks: Mapping[int, Sequence[Day]]) -> None:
    types = {
        "cm_track_id": "bigint",
        "date": "date",
        "daily_streams": columns.streams,
        "cm_artist_id": "bigint",
        "days_from_release": columns.days_from_release,
        "id": "bigint",
        "created_at": "timestamptz",
    }
    rows = (
        (track if day.has_track else None, *day[:-1]) for track, days in tracks.items() for day in days
    )  # fmt: skip
    insert(dsn, STREAMS, types, rows)


def insert_rates(dsn: Dsn, columns: Columns, artists: dict[int | None, list[Rate]]) -> None:
    types = {"cm_artist_id": "bigint", "mldr": columns.mldr, "created_at": "timestamptz", "id": "bigint"}
    insert(dsn, MLDR, types, ((artist, *rate) for artist, rates in artists.items() for rate in rates))


def day_number(text: str | None) -> int | None:
    """Days since 1970; None for what is no day of a frame."""
    if text is None or text.endswith("infinity"):
        return None
    return FAR_DAYS[text] if text in FAR_DAYS else (date.fromisoformat(text) - date(1970, 1, 1)).days


def instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    return (
        datetime.max.replace(tzinfo=UTC) if text == "infinity" else datetime.fromisoformat(f"{text}T00:00Z")
    )


def number(text: str | None) -> float | None:
    return None if text is None else float(text)


def as_frame(tracks: Mapping[int, Sequence[Day]]) -> pl.DataFrame:
    """The same rows for the frame API, with what a frame cannot hold as infinite or NULL."""
    return pl.DataFrame(
        [
            (
                track if day.has_track else None,
                day.artist,
                day_number(day.date),
                number(day.streams),
                number(day.days_from_release),
                day.id,
                instant(day.created_at),
            )
            for track, days in tracks.items()
            for day in days
        ],
        schema={**DAILY_SCHEMA, "date": pl.Int32(), "days_from_release": pl.Float64()},
        orient="row",
    ).with_columns(pl.col("date").cast(pl.Date))


def rates_frame(artists: dict[int, float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        list(artists.items()), schema={"cm_artist_id": pl.Int64, "mldr": pl.Float64}, orient="row"
    )


COLUMNS = (
    "cm_track_id", "month", "forecasted_value", "segment_used", "time_used", "cm_artist_id",
    "training_data_id",
)  # fmt: skip


def stored(dsn: Dsn) -> pl.DataFrame:
    names = ", ".join(f"{name}::bigint" for name in COLUMNS)
    rows = sql.rows(dsn, f"SELECT {names} FROM {FORECAST} ORDER BY 1, 2")
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.Int64), orient="row")


def in_frames(daily: pl.DataFrame, mldr: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Forecasts as they would be stored, in whole streams where these fit, and skipped tracks."""
    result = build_forecasts(daily.lazy(), mldr.lazy())
    forecasts, skipped = pl.collect_all([result.forecasts, result.skipped])
    whole = forecasts.with_columns(pl.col("forecasted_value").round().cast(pl.Int64, strict=False))
    return whole.select(pl.col(COLUMNS).cast(pl.Int64)), skipped


def reasons(skipped: pl.DataFrame) -> dict[int, str]:
    return dict(skipped.select("cm_track_id", "reason").iter_rows())


class Catalogue(NamedTuple):
    """What is in the tables: golden tracks that are good, and the cases that the columns can hold."""

    dsn: Dsn
    columns: Columns
    cases: dict[int, Case]
    good: pl.DataFrame
    """What is stored of the good tracks if there are no others."""


def good_days() -> dict[int, list[Day]]:
    rows = golden_streams().filter(pl.col("cm_track_id") <= 12).sort("cm_track_id", "date")
    tracks: dict[int, list[Day]] = {}
    for number_, (track, artist, day, streams) in enumerate(
        rows.select("cm_track_id", "cm_artist_id", "date", "daily_streams").iter_rows()
    ):
        tracks.setdefault(track, []).append(Day(str(day), str(streams), artist + 1000, id=number_))
    return tracks


def good_rates() -> dict[int | None, list[Rate]]:
    return {artist + 1000: [Rate(repr(mldr))] for artist, mldr in golden_mldr().iter_rows()}


@pytest.fixture
def hostile(database: Dsn, columns: Columns) -> Catalogue:
    insert_days(database, columns, good_days())
    insert_rates(database, columns, good_rates())
    run(RunConfig(database))
    good = stored(database)
    assert good["cm_track_id"].n_unique() > 8
    sql.run(database, f"TRUNCATE {FORECAST}")

    cases = {track: case for track, case in numbered(CASES).items() if columns.hold(case)}
    insert_days(database, columns, {track: case.rows for track, case in cases.items()})
    # An artist without tracks, and rates of nobody.
    usual = [Rate(str(USUAL_RATE))]
    insert_rates(database, columns, {1: usual, 2: usual, 77: usual, None: [*usual, Rate(None)]})
    return Catalogue(database, columns, cases, good)


def outcomes(catalogue: Catalogue, report: RunReport) -> dict[str, str]:
    """What became of each case: its reason, "refused", or "forecast"."""
    ours, skipped = set(stored(catalogue.dsn)["cm_track_id"]), reasons(report.skipped)
    names = dict(enumerate(CASES, start=FIRST_CASE))
    fates = {
        names[track]: [
            *(["forecast"] if track in ours else []),
            *(["refused"] if track in report.refused else []),
            *([skipped[track]] if track in skipped else []),
        ]
        for track in catalogue.cases
    }
    return {name: " and ".join(several) for name, several in fates.items()}


def test_what_becomes_of_each_track(hostile: Catalogue) -> None:
    report = run(RunConfig(hostile.dsn))

    cases, names = hostile.cases, dict(enumerate(CASES, start=FIRST_CASE))
    assert outcomes(hostile, report) == {
        names[track]: case.skipped or ("refused" if case.refused else "forecast")
        for track, case in cases.items()
    }
    # A forecast is the one that follows from the rows that count, as if there were no others.
    ours = stored(hostile.dsn)
    rates: dict[int, float | None] = dict.fromkeys((1, 2, 77), USUAL_RATE)
    clean, _ = in_frames(
        as_frame({track: case.forecast for track, case in cases.items()}), rates_frame(rates)
    )
    assert_frame_equal(ours.filter(pl.col("cm_track_id") >= FIRST_CASE), clean)
    # The good tracks do not notice.
    assert_frame_equal(ours.filter(pl.col("cm_track_id") < FIRST_CASE), hostile.good)
    # Every row that was left out is counted, and every track is somewhere.
    assert report.unusable_rows == sum(case.unusable for case in cases.values())
    assert report.duplicate_rows == sum(case.duplicates for case in cases.values())
    assert report.pending == len(cases) + len(good_days())
    assert report.pending == report.forecast + len(report.skipped) + len(report.refused)
    assert report.rows == len(ours) == 24 * report.forecast
    assert set(report.refused.values()) == {"forecasted_value: a value that does not fit bigint"}
    # The frame API answers the same to the same rows.
    days = good_days() | {track: case.rows for track, case in cases.items()}
    rates |= {artist: float(rate.mldr or 0) for artist, [rate] in good_rates().items() if artist}
    forecasts, skipped = in_frames(as_frame(days), rates_frame(rates))
    refused = pl.col("cm_track_id").is_in(list(report.refused))
    assert_frame_equal(ours, forecasts.filter(~refused))
    assert_frame_equal(report.skipped, skipped)
    assert set(forecasts.filter(refused)["cm_track_id"]) == set(report.refused)


def test_which_decay_rate_counts(database: Dsn, columns: Columns) -> None:
    artists = {
        artist: (rates, expected)
        for artist, (rates, expected) in enumerate(RATES.values(), start=FIRST_ARTIST)
        if columns.hold_rates(rates)
    }
    tracks = {artist: [day._replace(artist=artist) for day in GOOD] for artist in artists}
    insert_days(database, columns, tracks)
    insert_rates(database, columns, {artist: rates for artist, (rates, _) in artists.items()})

    with connect(database, repeatable_read=True) as connection:
        source = Source(database, read_tables(connection, "public"), export_snapshot(connection))
        effective = dict(source.mldr().collect().iter_rows())
    names = dict(enumerate(RATES, start=FIRST_ARTIST))
    assert {names[artist]: effective.get(artist) for artist in artists} == {
        names[artist]: expected for artist, (_, expected) in artists.items()
    }

    report = run(RunConfig(database))
    expected_rows, expected_skipped = in_frames(
        as_frame(tracks), rates_frame({artist: rate for artist, (_, rate) in artists.items()})
    )
    assert_frame_equal(stored(database), expected_rows)
    assert_frame_equal(report.skipped, expected_skipped)
    assert set(reasons(report.skipped).values()) == {"no_mldr"}


def test_frames_choose_the_same_decay_rate() -> None:
    rows = [
        (artist, number(rate.mldr), rate.id, instant(rate.created_at))
        for artist, (rates, _) in enumerate(RATES.values(), start=FIRST_ARTIST)
        for rate in rates
    ]
    random.Random(5).shuffle(rows)
    mldr = pl.DataFrame(rows, schema=MLDR_SCHEMA, orient="row")
    artists = range(FIRST_ARTIST, FIRST_ARTIST + len(RATES))
    daily = as_frame({artist: [day._replace(artist=artist) for day in GOOD] for artist in artists})

    forecasts, skipped = in_frames(daily, mldr)

    clean = {artist: rate for artist, (_, rate) in zip(artists, RATES.values(), strict=True)}
    expected, expected_skipped = in_frames(daily, rates_frame(clean))
    assert_frame_equal(forecasts, expected)
    assert_frame_equal(skipped, expected_skipped)


@pytest.mark.parametrize("type_", ["smallint", "integer", "bigint"])
def test_the_smallest_integer_is_a_decay_rate(embedded_database: Dsn, type_: str) -> None:
    """Its absolute value is none of the type's."""
    create_tables(embedded_database, mldr=type_)
    smallest = -(2 ** (8 * {"smallint": 2, "integer": 4, "bigint": 8}[type_] - 1))
    sql.run(embedded_database, f"INSERT INTO {MLDR} (cm_artist_id, mldr) SELECT 1, ({smallest})::{type_}")
    insert_days(embedded_database, Columns("bigint", type_, "integer"), {1: GOOD})
    assert run(RunConfig(embedded_database)).forecast == 1
    expected, _ = in_frames(as_frame({1: GOOD}), rates_frame({1: float(smallest)}))
    assert_frame_equal(stored(embedded_database), expected)


def test_nothing_at_all(database: Dsn, columns: Columns) -> None:
    empty = run(RunConfig(database))
    assert (empty.pending, empty.forecast, empty.rows, empty.unusable_rows) == (0, 0, 0, 0)
    assert empty.skipped.schema == SKIPPED

    insert_rates(database, columns, {1: [Rate("0.1")]})
    assert run(RunConfig(database)).pending == 0
    insert_days(database, columns, {1: [Day(None, None, has_track=False), Day("infinity", has_track=False)]})
    report = run(RunConfig(database))
    assert (report.pending, report.unusable_rows) == (0, 2)


def test_streams_without_any_decay_rate(database: Dsn, columns: Columns) -> None:
    insert_days(database, columns, {1: GOOD, 2: fine(5)})
    report = run(RunConfig(database))
    assert reasons(report.skipped) == {1: "no_mldr", 2: "no_mldr"}
    assert report.skipped["months_since_release"].to_list() == [math.floor(399 / 30), 0]


def test_a_track_without_an_id_to_refer_to_is_refused_where_one_is_needed(embedded_database: Dsn) -> None:
    columns = Columns("bigint", "double precision", "integer")
    create_tables(embedded_database, row_id="bigint")
    sql.run(embedded_database, f"ALTER TABLE {FORECAST} ALTER training_data_id SET NOT NULL")
    insert_days(embedded_database, columns, {1: GOOD, 2: [day._replace(id=None) for day in GOOD]})
    insert_rates(embedded_database, columns, {1: [Rate("0.1")]})

    report = run(RunConfig(embedded_database))

    assert report.refused == {2: "training_data_id: NULL, where there has to be a value"}
    assert set(stored(embedded_database)["cm_track_id"]) == {1}
