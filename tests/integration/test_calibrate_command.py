"""`forecaster calibrate`: the same record as from frames, kept, shown, exported and imported."""

import json
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from forecaster import calibrate as calibrate_frames
from forecaster.errors import CalibrationError
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.parameters import Parameters
from forecaster.postgres import calibrate as module
from forecaster.postgres.calibrate import calibrate
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.calibrating import CALIBRATION, Calibrating
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.tables import CALIBRATIONS, FORECAST_TABLE, INTERVALS, STREAMS_TABLE
from tests import sql
from tests.calibrated_golden import CUTOFFS, assert_golden, golden_at
from tests.conftest import Cli
from tests.forecasts import stored
from tests.tables import (
    DROP_DAY_KEY,
    first_tracks,
    golden_mldr,
    golden_streams,
    load_golden,
)

STREAMS = golden_streams().filter(pl.col("cm_track_id") <= 21)
D: date = STREAMS["date"].max()  # type: ignore[assignment]


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    return first_tracks(embedded_database, 21)


def of_tables(dsn: Dsn, **asked: object) -> Calibration:
    found, _ = calibrate(dsn, "public", Calibrating(**asked), Report(CALIBRATION))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(("batch", "key"), [(1_000, True), (7, True), (7, False)])
def test_is_that_of_the_frames(
    catalogue: Dsn, batch: int, *, key: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not key:
        sql.run(catalogue, DROP_DAY_KEY)
    monkeypatch.setattr(module, "BATCH", batch)
    now = golden_mldr().with_columns(created_at=pl.lit(D + timedelta(400)))  # no origin knows them
    assert of_tables(catalogue) == calibrate_frames(STREAMS.lazy(), now.lazy())


def test_tracks_whose_rows_differ(catalogue: Dsn) -> None:
    """What is the same in all rows of a track is read once; other tracks are read row by row."""
    middle = D - timedelta(200)
    for change in (
        f"SET cm_artist_id = 77 WHERE cm_track_id = 1 AND date > '{middle}'",
        f"SET days_from_release = NULL WHERE cm_track_id = 2 AND date > '{middle}'",
        "SET days_from_release = NULL WHERE cm_track_id = 3",
        f"SET days_from_release = days_from_release + 90 WHERE cm_track_id = 4 AND date > '{middle}'",
        f"SET daily_streams = 2 ^ 31 + daily_streams WHERE cm_track_id = 5 AND date > '{middle}'",
        f"SET daily_streams = -1 WHERE cm_track_id = 6 AND date = '{middle}'",
    ):
        sql.run(catalogue, f"UPDATE {STREAMS_TABLE} {change}")
    sql.run(catalogue, f"DELETE FROM {STREAMS_TABLE} WHERE cm_track_id = 7 AND date_part('dow', date) = 3")
    with open_source(catalogue, "public") as source:
        rows = source.rows(source.tracks())
    now = golden_mldr().with_columns(created_at=pl.lit(D + timedelta(400)))
    assert of_tables(catalogue) == calibrate_frames(rows.lazy(), now.lazy())


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_golden_forecasts(embedded_database: Dsn, cutoff: date) -> None:
    load_golden(embedded_database)
    as_of = cutoff - timedelta(1)
    of_tables(embedded_database, as_of=as_of, origins=0)
    parameters = Parameters(as_of=as_of)
    run(Database(embedded_database), RunConfig(model="calibrated", parameters=parameters))
    assert_golden(stored(embedded_database), golden_at(cutoff))


def test_later_days_have_no_influence(catalogue: Dsn) -> None:
    as_of = D - timedelta(40)
    before = of_tables(catalogue, as_of=as_of)
    assert before.as_of == as_of
    sql.run(
        catalogue,
        f"UPDATE {STREAMS_TABLE} SET daily_streams = 9 * daily_streams + 1, days_from_release = 3, "
        f"cm_artist_id = 1 WHERE date > '{as_of}'",
    )
    assert of_tables(catalogue, as_of=as_of) == before
    assert sql.rows(catalogue, f"SELECT id FROM {CALIBRATIONS.name}") == [(before.id,)]


def test_from_calibration_to_forecast(catalogue: Dsn, called: Cli, tmp_path: Path) -> None:
    env = {"DATABASE_URL": catalogue.uri}
    missing = called("run", "--model", "calibrated", env=env)
    assert missing.returncode == 1
    assert "make one with `forecaster calibrate`" in missing.stderr

    file = tmp_path / "one.json"
    made = called("calibrate", "--cutoff", f"{D}", "--rows", "shipped", "--export", f"{file}", env=env)
    assert made.returncode == 0, made.stderr
    one = Calibration.from_json(file.read_text("utf-8"))
    assert one.as_of == D - timedelta(1)
    *lines, last = made.stdout.splitlines()
    assert lines[0] == f"calibration {one.id}"
    assert lines[1].startswith("21 tracks, days from ")
    assert last.startswith(f"calibration={one.id} tracks=21 origins={len(one.origins)} stored=1 seconds=")
    assert max(map(len, lines)) <= 80

    # They were stored just now.
    assert "had one that was known at an origin" in made.stdout
    counts = json.loads(called("calibrate", "--cutoff", f"{D}", "--json", env=env).stdout)["artists"]
    assert (counts["known"], counts["undated"]) == (0, 0) < (counts["every"], 0)

    again = called("calibrate", "--import", f"{file}", env=env)
    assert "stored=0" in again.stdout
    sql.run(catalogue, f"TRUNCATE {CALIBRATIONS.name}")
    assert "stored=1" in called("calibrate", "--import", f"{file}", env=env).stdout
    assert one.id in called("calibrate", "--list", env=env).stdout
    shown = called("calibrate", "--show", one.id, "--json", env=env)
    assert json.loads(shown.stdout) == json.loads(file.read_text("utf-8"))

    forecast = called("run", "--model", "calibrated", env=env)
    assert forecast.returncode == 0, forecast.stderr
    counts = sql.rows(
        catalogue,
        f"SELECT (SELECT count(DISTINCT cm_track_id) FROM {FORECAST_TABLE}), count(*) FROM {INTERVALS.name}",
    )
    assert counts[0][0] == counts[0][1] > 0
    none = called("run", "--model", "calibrated", "--replace", "--no-intervals", "--horizon", "3", env=env)
    assert none.returncode == 0, none.stderr
    assert "calibrated" in called("history", env=env).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--as-of", "2024-01-01", "--cutoff", "2024-01-01"), "--as-of and --cutoff contradict each other"),
        (("--list", "--show", "x"), "--list and --show contradict each other"),
        (("--import", "a.json", "--export", "b.json"), "--import and --export contradict each other"),
    ],
)
def test_options_that_contradict_each_other(called: Cli, options: tuple[str, ...], message: str) -> None:
    ended = called("calibrate", *options)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_a_catalogue_without_a_record(catalogue: Dsn, called: Cli) -> None:
    env = {"DATABASE_URL": catalogue.uri}
    early = called("calibrate", "--as-of", "1999-01-01", env=env)
    assert "there is no record up to 1999-01-01" in early.stderr
    assert "choose a later day" in early.stderr
    sql.run(catalogue, f"TRUNCATE {STREAMS_TABLE}")
    for options in ((), ("--as-of", f"{D}"), ("--cutoff", f"{D}")):
        ended = called("calibrate", *options, env=env)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "there is no record\n" in ended.stderr
        assert "`forecaster load` loads daily streams" in ended.stderr


def test_a_day_of_which_nothing_is_known_yet(catalogue: Dsn) -> None:
    found = of_tables(catalogue, as_of=D + timedelta(1), origins=0)
    assert found.rates.complete[0] != (0, 0, 0)
    with pytest.raises(CalibrationError, match=f"the week up to {D + timedelta(2)}: the newest day is {D}"):
        of_tables(catalogue, as_of=D + timedelta(2))
    assert sql.rows(catalogue, f"SELECT id FROM {CALIBRATIONS.name}") == [(found.id,)]
