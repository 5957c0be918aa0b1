"""One hostile catalogue: what becomes of each of its tracks, on both servers and by both ways to read."""

import math
import random
from typing import NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.frames.schemas import SKIPPED
from forecaster.postgres.catalogue import Source, export_snapshot
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.report import Report
from forecaster.run.session import run
from tests import sql
from tests.catalogues import MLDR_SCHEMA
from tests.conftest import SERVERS, ServerNamed
from tests.hostile import (
    CASES,
    FIRST_ARTIST,
    FIRST_CASE,
    FORECAST,
    GOOD,
    MLDR,
    RATES,
    STREAMS,
    USUAL_RATE,
    Case,
    Columns,
    Day,
    Rate,
    as_frame,
    fine,
    in_frames,
    insert_days,
    insert_rates,
    instant,
    number,
    numbered,
    rates_frame,
    reasons,
    stored,
)
from tests.tables import create_tables, golden_mldr, golden_streams

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
    run(Database(database))
    good = stored(database)
    assert good["cm_track_id"].n_unique() > 8
    sql.run(database, f"TRUNCATE {FORECAST}")

    cases = {track: case for track, case in numbered(CASES).items() if columns.hold(case)}
    insert_days(database, columns, {track: case.rows for track, case in cases.items()})
    # An artist without tracks, and rates of nobody.
    usual = [Rate(str(USUAL_RATE))]
    insert_rates(database, columns, {1: usual, 2: usual, 77: usual, None: [*usual, Rate(None)]})
    return Catalogue(database, columns, cases, good)


def outcomes(catalogue: Catalogue, report: Report) -> dict[str, str]:
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
    report = run(Database(hostile.dsn))

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
    assert report.pending == report.results + len(report.skipped) + len(report.refused)
    assert report.rows == len(ours) == 24 * report.results
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

    report = run(Database(database))
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
    assert run(Database(embedded_database)).results == 1
    expected, _ = in_frames(as_frame({1: GOOD}), rates_frame({1: float(smallest)}))
    assert_frame_equal(stored(embedded_database), expected)


def test_nothing_at_all(database: Dsn, columns: Columns) -> None:
    empty = run(Database(database))
    assert (empty.pending, empty.results, empty.rows, empty.unusable_rows) == (0, 0, 0, 0)
    assert empty.skipped.schema == SKIPPED

    insert_rates(database, columns, {1: [Rate("0.1")]})
    assert run(Database(database)).pending == 0
    insert_days(database, columns, {1: [Day(None, None, has_track=False), Day("infinity", has_track=False)]})
    report = run(Database(database))
    assert (report.pending, report.unusable_rows) == (0, 2)


def test_streams_without_any_decay_rate(database: Dsn, columns: Columns) -> None:
    insert_days(database, columns, {1: GOOD, 2: fine(5)})
    report = run(Database(database))
    assert reasons(report.skipped) == {1: "no_mldr", 2: "no_mldr"}
    assert report.skipped["months_since_release"].to_list() == [math.floor(399 / 30), 0]


def test_a_track_without_an_id_to_refer_to_is_refused_where_one_is_needed(embedded_database: Dsn) -> None:
    columns = Columns("bigint", "double precision", "integer")
    create_tables(embedded_database, row_id="bigint")
    sql.run(embedded_database, f"ALTER TABLE {FORECAST} ALTER training_data_id SET NOT NULL")
    insert_days(embedded_database, columns, {1: GOOD, 2: [day._replace(id=None) for day in GOOD]})
    insert_rates(embedded_database, columns, {1: [Rate("0.1")]})

    report = run(Database(embedded_database))

    assert report.refused == {2: "training_data_id: NULL, where there has to be a value"}
    assert set(stored(embedded_database)["cm_track_id"]) == {1}
