"""A run of the calibrated model stores what the Python API forecasts, however it is cut and read."""

import math
import pickle
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from distributed.protocol import pickle as dask_pickle
from polars.testing import assert_frame_equal

import forecaster.postgres.tracks as run_module
from forecaster.errors import CalibrationError, InvalidOptionError
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import ModelName, RunConfig
from forecaster.run.engines.dask import Dask
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import (
    CALIBRATIONS,
    FORECAST_TABLE,
    HISTORY,
    INTERVALS,
    MLDR_TABLE,
    RUNS,
    STREAMS_TABLE,
)
from tests import sql
from tests.calibrations import calibration, keep
from tests.examinations import examined
from tests.forecasts import in_frames, stored
from tests.tables import DROP_DAY_KEY, golden_mldr, golden_streams, initialise, made_once

TRACKS = 40
CALIBRATED = RunConfig(model="calibrated")
_dumps: Callable[[object], bytes] = dask_pickle.dumps


def some_streams() -> pl.DataFrame:
    """The first tracks of the golden catalogue; of every third of them, some days are missing."""
    streams = golden_streams().filter(pl.col("cm_track_id") <= TRACKS)
    is_missing = (pl.col("cm_track_id") % 3 == 0) & (pl.col("date").dt.ordinal_day() % 11 == 0)
    return streams.filter(~is_missing)


D: date = golden_streams().filter(pl.col("cm_track_id") <= TRACKS)["date"].max()  # type: ignore[assignment]


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    def make(new: Dsn) -> None:
        initialise(new)
        load(new, "public", streams=some_streams(), mldr=golden_mldr())

    made_once(embedded_database, "forty_with_gaps", make)
    return embedded_database


def expected(one: Calibration, **parameters: object) -> pl.DataFrame:
    return in_frames(some_streams(), golden_mldr(), model=one, **({"as_of": D} | parameters))


@pytest.mark.parametrize(
    ("batch", "key", "far"), [(1, True, False), (7, False, False), (100, True, True), (100, True, False)]
)
def test_is_what_the_python_api_forecasts(
    catalogue: Dsn, batch: int, *, key: bool, far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = keep(catalogue, calibration(D - timedelta(9)))
    if not key:
        sql.run(catalogue, DROP_DAY_KEY)
    monkeypatch.setattr(run_module, "BATCH", batch)
    monkeypatch.setattr("forecaster.postgres.connection._FAR", -1.0 if far else math.inf)

    report = run(Database(catalogue), CALIBRATED)

    assert_frame_equal(stored(catalogue), expected(one))
    assert report.results + len(report.skipped) == report.pending
    assert "no_mldr" not in report.skipped_by_reason
    assert report.warnings == []


def test_needs_no_mldr(catalogue: Dsn) -> None:
    one = keep(catalogue, calibration(D))
    sql.run(catalogue, f"TRUNCATE {MLDR_TABLE}")
    assert run(Database(catalogue)).results == 0
    assert run(Database(catalogue), CALIBRATED).results > TRACKS / 2
    assert_frame_equal(stored(catalogue), expected(one))


@pytest.mark.parametrize(("weight", "level", "name"), [(0.5, 7, "blend"), (0.0, 7, "production")])
def test_auto_is_the_model_that_the_calibration_has_chosen(
    catalogue: Dsn, weight: float, level: int, name: str
) -> None:
    one = keep(catalogue, calibration(D, weight=weight, level=level))
    report = run(Database(catalogue), RunConfig(model="auto"))
    in_memory = in_frames(some_streams(), golden_mldr(), model=one.chosen(), as_of=D)
    assert_frame_equal(stored(catalogue), in_memory)
    assert report.model == name


def test_later_days_have_no_influence(catalogue: Dsn) -> None:
    as_of = D - timedelta(60)
    one = keep(catalogue, calibration(as_of))
    config = RunConfig(model="calibrated", parameters=Parameters(as_of=as_of), replace=True)
    report = run(Database(catalogue), config)
    before = stored(catalogue)
    assert_frame_equal(before, expected(one, as_of=as_of))
    assert report.looking_ahead == 0
    sql.run(
        catalogue,
        f"UPDATE {STREAMS_TABLE} SET daily_streams = 7 * daily_streams + 1, cm_artist_id = 1 + cm_artist_id, "
        f"days_from_release = 0 WHERE date > '{as_of}'",
    )
    run(Database(catalogue), config)
    assert_frame_equal(stored(catalogue), before)


def test_what_it_was_made_with_is_kept(catalogue: Dsn) -> None:
    one = keep(catalogue, calibration(D))
    report = run(Database(catalogue), CALIBRATED)
    kept = sql.rows(
        catalogue,
        "SELECT model, parameters #>> '{parameters,calibration}', parameters #>> '{parameters,as_of}' "
        f"FROM {RUNS.name} WHERE id = {report.run}",
    )
    assert kept == [("calibrated", one.id, None)]
    days = sql.rows(catalogue, f"SELECT DISTINCT as_of, mldr FROM {HISTORY.name} WHERE months IS NOT NULL")
    assert days == [(D, None)]
    asked = report.to_dict()["parameters"]
    assert (asked["model"], asked["calibration"], asked["level"]) == ("calibrated", one.id, 7)


def test_the_newest_one_as_of_the_day_or_the_one_that_is_given(catalogue: Dsn) -> None:
    older, newer = (keep(catalogue, calibration(D - timedelta(days))) for days in (30, 10))
    not_stored = calibration(D - timedelta(20))
    for config, made_with in (
        (CALIBRATED, newer.id),
        (RunConfig(model="calibrated", calibration=older.id), older.id),
        (RunConfig(model="calibrated", calibration=not_stored), not_stored.id),
        (
            RunConfig(model="calibrated", parameters=Parameters(as_of=D - timedelta(11))),
            older.id,
        ),
    ):
        report = run(Database(catalogue), config)
        assert report.to_dict()["parameters"]["calibration"] == made_with
    early = RunConfig(
        model="calibrated", calibration=newer.id, parameters=Parameters(as_of=D - timedelta(11))
    )
    with pytest.raises(InvalidOptionError, match="knows the days up to"):
        run(Database(catalogue), early)


def test_without_one_and_with_an_old_one(catalogue: Dsn) -> None:
    keep(catalogue, calibration(D + timedelta(1)))  # knows a later day
    with pytest.raises(CalibrationError, match=f"there is none as of {D} or an earlier day") as caught:
        run(Database(catalogue), CALIBRATED)
    assert "forecaster calibrate" in f"{caught.value.hint}"
    assert sql.rows(catalogue, f"SELECT * FROM {FORECAST_TABLE}") == []
    old = keep(catalogue, calibration(D - timedelta(46)))
    [warning] = run(Database(catalogue), CALIBRATED).warnings
    assert f"calibration {old.id} is 46 days older than the as-of day {D}" in warning


def test_refreshes_what_is_stale(catalogue: Dsn) -> None:
    keep(catalogue, calibration(D - timedelta(1)))
    refresh = RunConfig(model="calibrated", refresh=True)
    run(Database(catalogue), refresh)
    sql.run(
        catalogue, f"INSERT INTO {MLDR_TABLE} (cm_artist_id, mldr) SELECT cm_artist_id, 0.3 FROM {MLDR_TABLE}"
    )
    assert run(Database(catalogue), refresh).pending == 0  # an MLDR is none of its inputs
    restated = f"UPDATE {STREAMS_TABLE} SET daily_streams = 5, created_at = now() WHERE cm_track_id = 1"
    sql.run(catalogue, restated)
    assert run(Database(catalogue), refresh).pending == 1
    keep(catalogue, calibration(D))
    report = run(Database(catalogue), refresh)
    assert report.pending == 0
    assert "tracks that keep a forecast with other parameters" in " ".join(report.warnings)
    assert "tracks that keep" in " ".join(run(Database(catalogue), RunConfig(refresh=True)).warnings)


def test_a_blend_of_artists_without_an_mldr_is_not_stale(catalogue: Dsn) -> None:
    """Its forecast is made with 0, and remembers that there was none."""
    keep(catalogue, calibration(D, weight=0.5))
    sql.run(catalogue, f"DELETE FROM {MLDR_TABLE} WHERE cm_artist_id % 2 = 0")
    refresh = RunConfig(model="auto", refresh=True)
    assert run(Database(catalogue), refresh).results > TRACKS / 2
    numbers = "count(*) FILTER (WHERE mldr IS NULL), count(mldr)"
    forecast = f"FROM {HISTORY.name} WHERE months IS NOT NULL"
    [[without, others]] = sql.rows(catalogue, f"SELECT {numbers} {forecast}")
    assert without >= 5
    assert others >= 5
    again = run(Database(catalogue), refresh)
    assert again.pending == 0
    assert again.stale is not None
    assert again.stale["new_mldr"] == 0
    [[artist, tracks]] = sql.rows(
        catalogue,
        "SELECT cm_artist_id, count(DISTINCT cm_track_id) "
        f"FROM {FORECAST_TABLE} WHERE cm_artist_id % 2 = 0 GROUP BY 1 ORDER BY 1 LIMIT 1",
    )
    sql.run(catalogue, f"INSERT INTO {MLDR_TABLE} (cm_artist_id, mldr) VALUES ({artist}, 0.3)")
    assert run(Database(catalogue), refresh).pending == tracks
    assert run(Database(catalogue), refresh).pending == 0


def test_without_the_table_of_calibrations(catalogue: Dsn) -> None:
    sql.run(catalogue, f"DROP TABLE {CALIBRATIONS.name}")
    with pytest.raises(Exception, match="is missing") as caught:
        run(Database(catalogue), CALIBRATED)
    assert "forecaster init" in f"{getattr(caught.value, 'hint', '')}"


def test_the_doctor_looks_at_the_newest_one(catalogue: Dsn) -> None:
    def found() -> list[tuple[str, str]]:
        return [(one.level, one.found) for one in examined(catalogue).findings if one.about == "calibration"]

    assert found() == []
    old = keep(catalogue, calibration(D - timedelta(46)))
    assert found() == [("warning", f"the newest, {old.id}, is 46 days older than the newest day {D}")]
    new = keep(catalogue, calibration(D - timedelta(1), tracks=20))
    assert found() == [("ok", f"the newest is {new.id}")]
    assert run(Database(catalogue), RunConfig(dry_run=True)).warnings == []
    other = keep(catalogue, calibration(D + timedelta(1), tracks=19))
    warned = [text.partition(": ") for level, text in found() if level == "warning"]
    assert [text for text, *_ in warned] == [
        f"calibration {other.id} knows days after the newest day {D}",
        f"calibration {other.id} is of 19 tracks, and there are 40",
    ]
    report = run(Database(catalogue))
    assert [text.partition(": ") for text in report.warnings if "calibration" in text] == warned
    some = run(Database(catalogue), RunConfig(ids=(1,), replace=True))
    assert not any("calibration" in text for text in some.warnings)
    sql.run(catalogue, f"UPDATE {CALIBRATIONS.name} SET record = replace(record, '0.11', '0.12')")
    [(level, message)] = found()
    assert level == "error"
    assert "was changed" in message


def test_the_doctor_looks_at_the_tables(catalogue: Dsn) -> None:
    def found() -> list[tuple[str, str, str | None]]:
        all_ = examined(catalogue).findings
        return [(one.level, one.found, one.fix) for one in all_ if one.about == "intervals"]

    assert found() == []
    sql.run(catalogue, f"ALTER TABLE {INTERVALS.name} ALTER q10 TYPE double precision[]")
    [(level, said, _)] = found()
    assert (level, f"{INTERVALS.name}.q10: is double precision[]" in said) == ("warning", True)
    sql.run(catalogue, f"DROP TABLE {INTERVALS.name}")
    sql.run(catalogue, f"DROP TABLE {CALIBRATIONS.name}")
    [(level, said, fix)] = found()
    assert (level, fix) == ("ok", "forecaster init")
    assert said.startswith(f"{CALIBRATIONS.name} and {INTERVALS.name}: missing")


def test_batches_that_travel_are_the_same(catalogue: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Dask's workers get them, in pickled form and without the connections of this process."""
    one = keep(catalogue, calibration(D))

    def in_this_process(_: object, work: Any, items: Any, **__: object) -> Iterator[tuple[Any, Any]]:
        for item in items:
            again, whole = pickle.loads(_dumps((work, item)))
            yield item, again(whole)

    monkeypatch.setattr("forecaster.run.engines.dask.each", in_this_process)
    monkeypatch.setattr("forecaster.run.engines.dask.threads", lambda _: 1)
    monkeypatch.setattr(Dask, "_connected", lambda *_: None)
    with Dask() as engine:
        report = run(Database(catalogue), CALIBRATED, engine)
    assert_frame_equal(stored(catalogue), expected(one))
    assert sql.rows(catalogue, f"SELECT count(*) FROM {INTERVALS.name}") == [(report.results,)]


@pytest.mark.parametrize(("model", "level"), [("production", 7), ("production", 30), ("calibrated", 30)])
def test_starts_from_the_level_that_is_asked_for(catalogue: Dsn, model: ModelName, level: int) -> None:
    one = keep(catalogue, calibration(D))
    run(Database(catalogue), RunConfig(model=model, level_days=level))
    of_model = {"model": one, "as_of": D} if model == "calibrated" else {}
    assert_frame_equal(stored(catalogue), in_frames(some_streams(), golden_mldr(), level=level, **of_model))
