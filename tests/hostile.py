"""Rows that something is wrong with, what is to become of them, and how they get into tables and frames."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl

from forecaster.model import build_forecasts
from forecaster.postgres.connection import connect, copy_in, execute
from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.catalogues import DAILY_SCHEMA

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
