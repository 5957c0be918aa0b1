"""What is shown of forecasts of the past: they start after the as-of day that their run recorded."""

from datetime import date, timedelta
from typing import cast

import polars as pl
import pytest

from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import ModelName, RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import FORECAST_TABLE, HISTORY, RUNS
from forecaster.views.catalogue import read_catalogue
from forecaster.views.export import nixtla
from forecaster.views.page.tracks import cleaned
from forecaster.views.page.tracks import rows as rows_of_page
from tests import sql
from tests.calibrations import calibration, keep
from tests.tables import golden_mldr, golden_streams, initialise, made_once

PAST = cast("date", golden_streams()["date"].max()) - timedelta(90)
_ENDED = PAST + timedelta(80)  # of the first track
_OLD = pl.col("date").min().over("cm_track_id") < PAST - timedelta(400)
STREAMS = golden_streams().filter(
    pl.col("cm_track_id") <= 20, _OLD, (pl.col("cm_track_id") > 1) | (pl.col("date") <= _ENDED)
)
LAST = dict(STREAMS.group_by("cm_track_id").agg(pl.col("date").max()).iter_rows())


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    def make(new: Dsn) -> None:
        initialise(new)
        load(new, "public", streams=STREAMS, mldr=golden_mldr())
        keep(new, calibration(PAST))

    made_once(embedded_database, "old_with_a_calibration", make)
    return embedded_database


def cutoffs(dsn: Dsn) -> dict[int, date]:
    with open_source(dsn, "public") as source:
        rows, warnings = nixtla(source)
    assert warnings == []
    assert rows.filter(pl.col("ds") != pl.col("cutoff") + pl.duration(days=30 * pl.col("h"))).is_empty()
    return dict(rows.select("unique_id", "cutoff").unique().iter_rows())


@pytest.mark.parametrize("model", ["production", "calibrated"])
def test_a_run_of_the_past(catalogue: Dsn, model: ModelName) -> None:
    for as_of in (PAST + timedelta(1), PAST):  # the last run made what is stored, however soon it came
        run(Database(catalogue), RunConfig(Parameters(as_of=as_of), model=model, replace=True))
    found = cutoffs(catalogue)
    assert len(found) > 3
    assert set(found.values()) == {PAST}
    tracks = read_catalogue(catalogue, "public", Parameters()).tracks.filter(pl.col("months") > 0)
    assert tracks["cutoff"].unique().to_list() == [PAST]
    assert not tracks["is_stale"].any()  # no streams came after the run


def test_a_track_that_ended_before_the_as_of_day_is_not_late(catalogue: Dsn) -> None:
    run(Database(catalogue), RunConfig(model="calibrated"))
    assert LAST[1] < max(LAST.values())
    assert {*cutoffs(catalogue).values()} == {max(LAST.values())}
    tracks = read_catalogue(catalogue, "public", Parameters()).tracks
    assert set(rows_of_page(cleaned(tracks), [1])["late"]) == {0}


def test_forecasts_that_the_history_does_not_have(catalogue: Dsn) -> None:
    run(Database(catalogue), RunConfig(Parameters(as_of=PAST)))
    sql.run(catalogue, f"DELETE FROM {HISTORY.name} WHERE cm_track_id = 1")
    found = cutoffs(catalogue)
    assert found.pop(1) == LAST[1]
    assert set(found.values()) == {PAST}
    sql.run(catalogue, f"UPDATE {FORECAST_TABLE} SET created_at = now() + interval '1 hour'")
    assert cutoffs(catalogue).items() <= LAST.items()
    sql.run(catalogue, f"DROP TABLE {HISTORY.name}, {RUNS.name} CASCADE")
    assert cutoffs(catalogue).items() <= LAST.items()
