"""`run --refresh`: what has changed since its forecast is forecast again, and nothing else is touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import ConnectionLostError, DatabaseError, InvalidOptionError
from forecaster.model.parameters import Parameters
from forecaster.postgres import tracks as module
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.tracks import Database, ForecastSink, TrackCatalogue
from forecaster.run.batch import Computed, Done, History
from forecaster.run.config import RunConfig
from forecaster.run.memory import Memory
from forecaster.run.session import run
from forecaster.run.stages import Stages
from forecaster.setup.init import initialise
from tests import sql, stale
from tests.conftest import Cli
from tests.forecasts import stored
from tests.stale import REFRESH, TRACKS, change, refreshed
from tests.tables import DROP_DAY_KEY

NOTHING = {"tracks": 0, "new_streams": 0, "new_mldr": 0}


@pytest.fixture
def forecast(embedded_database: Dsn) -> Dsn:
    """Every track has a forecast, and the history says what it knew."""
    stale.fill(embedded_database)
    run(Database(embedded_database))
    return embedded_database


@pytest.mark.parametrize(
    ("what", "cause", "tracks"),
    [
        (stale.NEW_DAY, "new_streams", [3]),
        (stale.WITHDRAWN_DAY, "new_streams", [3]),
        (stale.RESTATED_DAY, "restated", [3]),
        (stale.FILLED_GAP, "restated", [3]),
        (stale.NEW_MLDR, "new_mldr", [3, 4]),
        (stale.ALTERED_MLDR, "new_mldr", [3, 4]),
    ],
)
def test_each_cause_alone(forecast: Dsn, what: str, cause: str, tracks: list[int]) -> None:
    change(forecast, what, 3)

    found, report = refreshed(forecast)

    assert found == tracks
    assert (report.pending, report.results, report.warnings) == (len(tracks), len(tracks), [])
    assert report.stale == NOTHING | {"restated": 0, "tracks": len(tracks), cause: len(tracks)}
    assert_frame_equal(stored(forecast), stale.recomputed(forecast))
    assert refreshed(forecast)[1].pending == 0


def test_all_causes_together_and_new_tracks(database: Dsn) -> None:
    stale.fill(database)
    run(Database(database))
    change(database, stale.NEW_DAY, 1, 4)
    change(database, stale.RESTATED_DAY, 4, 7)
    change(database, stale.NEW_MLDR, 1)
    stale.add_tracks(database, TRACKS + 1, TRACKS + 2, rated_from=TRACKS + 1)

    found, report = refreshed(database)

    assert found == [1, 2, 4, 7, TRACKS + 1, TRACKS + 2]
    # The other cause of track 4 needs no looking for: it is stale already.
    assert report.stale == {"tracks": 4, "new_streams": 2, "new_mldr": 2, "restated": 1}
    assert (report.pending, report.results, report.rows) == (6, 6, 6 * 24)
    assert_frame_equal(stored(database), stale.recomputed(database))
    [[parameters]] = sql.rows(
        database, f"SELECT parameters ->> 'refresh' FROM {stale.RUNS} ORDER BY id DESC LIMIT 1"
    )
    assert parameters == "true"


def test_a_plain_run_says_what_is_stale_and_touches_nothing(forecast: Dsn) -> None:
    change(forecast, stale.NEW_DAY, 1, 4)
    change(forecast, stale.RESTATED_DAY, 7)
    change(forecast, stale.NEW_MLDR, 1)

    found, report = refreshed(forecast, RunConfig())

    assert (found, report.pending) == ([], 0)
    assert report.stale == {"tracks": 3, "new_streams": 2, "new_mldr": 2}
    assert report.warnings == [
        "tracks whose forecast is stale: 3 (new streams 2, new MLDR 2); add --refresh to forecast them again"
    ]
    assert report.to_dict()["stale"] == report.stale


def test_the_summary_has_a_line_only_if_some_are_stale(called: Cli, forecast: Dsn) -> None:
    env = {"DATABASE_URL": forecast.uri}
    assert "stale" not in called("run", env=env).stdout
    change(forecast, stale.NEW_DAY, 5)
    assert "1 (new streams 1)" in called("run", env=env).stdout
    assert called("run", "--refresh", env=env).returncode == 0
    assert refreshed(forecast, RunConfig())[1].stale == NOTHING


def test_rows_that_are_no_records_make_nothing_stale(forecast: Dsn) -> None:
    """As a feed leaves them that is late: they do not count, however new."""
    change(forecast, stale.NEW_DAY.replace("5000", "NULL"), 3)
    change(forecast, stale.NEW_DAY.replace("date + 1", "'infinity'"), 4)
    assert refreshed(forecast, RunConfig())[1].stale == NOTHING


def test_rows_from_the_future_are_not_restated_every_night(forecast: Dsn) -> None:
    change(forecast, stale.RESTATED_DAY.replace("now()", "now() + interval '1 day'"), 3)
    assert refreshed(forecast)[0] == []


def test_a_run_as_of_a_day_knows_the_days_after_it(embedded_database: Dsn) -> None:
    stale.fill(embedded_database)
    earlier = Parameters(as_of=date(2026, 2, 1))
    run(Database(embedded_database), RunConfig(parameters=earlier))
    assert refreshed(embedded_database, replace(REFRESH, parameters=earlier))[1].warnings == []
    found, report = refreshed(embedded_database)
    assert found == []
    [warning] = report.warnings
    assert warning.startswith("tracks that keep a forecast with other parameters or more months: 8,")


def test_only_the_tracks_that_are_named(forecast: Dsn) -> None:
    change(forecast, stale.NEW_DAY, 1, 4)
    change(forecast, stale.RESTATED_DAY, 7)
    found, report = refreshed(forecast, replace(REFRESH, ids=(4, 6, 7)))
    assert (found, report.pending) == ([4, 7], 2)
    assert report.stale == {"tracks": 2, "new_streams": 1, "new_mldr": 0, "restated": 1}


@pytest.mark.parametrize("is_old", [True, False])
def test_forecasts_from_another_level_are_said(forecast: Dsn, *, is_old: bool) -> None:
    """Also those of runs that recorded no level, when it was always 30 days."""
    if is_old:
        sql.run(forecast, f"UPDATE {stale.RUNS} SET parameters = parameters #- '{{parameters,level}}'")
    [[recorded]] = sql.rows(forecast, f"SELECT parameters #>> '{{parameters,level}}' FROM {stale.RUNS}")
    assert recorded == (None if is_old else "30")
    assert refreshed(forecast)[1].warnings == []
    [warning] = refreshed(forecast, replace(REFRESH, parameters=Parameters(level=7)))[1].warnings
    assert warning.startswith("tracks that keep a forecast with other parameters or more months: 8,")


def test_a_dry_run_writes_nothing(forecast: Dsn) -> None:
    change(forecast, stale.NEW_DAY, 1, 4)
    found, report = refreshed(forecast, replace(REFRESH, dry_run=True))
    assert (found, report.pending, report.results) == ([], 2, 2)


def test_what_can_no_longer_be_forecast_keeps_what_it_has(forecast: Dsn) -> None:
    sql.run(forecast, f"DELETE FROM {stale.RATES} WHERE cm_artist_id = 1")
    change(forecast, stale.NEW_DAY, 5)

    found, report = refreshed(forecast)

    assert found == [5]
    assert report.skipped["cm_track_id"].to_list() == [1, 2]
    assert report.warnings == ["tracks that get no new forecast and keep the stored one: 2, the first is 1"]


def test_forecasts_with_other_parameters_are_said(forecast: Dsn) -> None:
    """They are not stale: what is asked for now holds for what is forecast now."""
    change(forecast, stale.NEW_DAY, 1)
    found, report = refreshed(forecast, replace(REFRESH, parameters=Parameters(influence=1e4)))
    assert found == [1]
    others = "tracks that keep a forecast with other parameters or more months"
    assert report.warnings == [
        f"{others}: 7, the first is 2; use --replace instead of --refresh to make all alike"
    ]
    [warning] = refreshed(forecast, replace(REFRESH, parameters=Parameters(horizon=12)))[1].warnings
    assert warning.startswith(f"{others}: 8, the first is 1;")
    [warning] = refreshed(forecast, replace(REFRESH, parameters=Parameters(horizon=36)))[1].warnings
    assert "gaps or fewer than 36 months: 8" in warning


def test_what_contradicts_it_is_refused(called: Cli) -> None:
    ended = called("run", "--refresh", "--replace")
    assert (ended.returncode, "contradict each other" in ended.stderr) == (2, True)
    for place in (ArtistRates(Dsn("", "", "", 0)), Memory(None, None)):  # type: ignore[arg-type]
        with pytest.raises(InvalidOptionError, match="refresh is not supported"):
            run(place, REFRESH)


def test_it_needs_the_right_to_delete(forecast: Dsn) -> None:
    with user(forecast) as nightly:
        with pytest.raises(DatabaseError, match="DELETE on backtest_track_streams_forecast"):
            run(Database(nightly), REFRESH)
        sql.run(forecast, f"GRANT DELETE ON {stale.FORECASTS} TO nightly_refresh")
        change(forecast, stale.NEW_DAY, 1)
        assert run(Database(nightly), REFRESH).results == 1


@contextmanager
def user(dsn: Dsn) -> Iterator[Dsn]:
    """One that may store, but not read the history."""
    sql.run(dsn, "CREATE ROLE nightly_refresh LOGIN")
    try:
        sql.run(dsn, f"GRANT SELECT ON {stale.STREAMS}, {stale.RATES} TO nightly_refresh")
        sql.run(dsn, f"GRANT SELECT, INSERT ON {stale.FORECASTS} TO nightly_refresh")
        yield replace(dsn, user="nightly_refresh")
    finally:
        sql.run(dsn, "DROP OWNED BY nightly_refresh")
        sql.run(dsn, "DROP ROLE nightly_refresh")


class TestWithoutHistory:
    """What a forecast knew is told by `created_at`."""

    @pytest.fixture
    def forecast(self, database: Dsn) -> Dsn:
        stale.fill(database)
        stale.forget(database)
        run(Database(database))
        return database

    def test_what_was_created_after_the_forecast_makes_it_stale(self, forecast: Dsn) -> None:
        assert refreshed(forecast)[0] == []
        change(forecast, stale.NEW_DAY, 1)
        change(forecast, stale.RESTATED_DAY, 7)
        change(forecast, stale.NEW_MLDR, 4)
        plain = refreshed(forecast, RunConfig())[1]
        assert plain.stale == {"tracks": 3, "new_streams": 1, "new_mldr": 2}

        found, report = refreshed(forecast)

        assert found == [1, 3, 4, 7]
        assert report.stale == {"tracks": 4, "new_streams": 1, "new_mldr": 2, "restated": 1}
        assert_frame_equal(stored(forecast), stale.recomputed(forecast))
        assert refreshed(forecast)[0] == []

    def test_a_forecast_of_another_program_has_no_row_in_the_history(self, forecast: Dsn) -> None:
        initialise(forecast, "public")
        change(forecast, stale.NEW_DAY, 1)
        sql.run(forecast, f"UPDATE {stale.FORECASTS} SET created_at = now() WHERE cm_track_id = 2")
        change(forecast, stale.NEW_DAY, 2)
        assert refreshed(forecast)[0] == [1, 2]


def test_tables_of_an_earlier_init(forecast: Dsn) -> None:
    """With the plain key, and without the index on created_at."""
    sql.run(forecast, DROP_DAY_KEY)
    sql.run(forecast, f"ALTER TABLE {stale.STREAMS} ADD UNIQUE (cm_track_id, date)")
    sql.run(forecast, f"DROP INDEX {stale.STREAMS}_created_at_idx")
    change(forecast, stale.NEW_DAY, 1)
    change(forecast, stale.RESTATED_DAY, 7)
    assert refreshed(forecast)[0] == [1, 7]
    assert refreshed(forecast)[0] == []


class TestWithoutKey:
    """Streams that can be read in one pass only."""

    @pytest.fixture
    def keyless(self, forecast: Dsn) -> Dsn:
        sql.run(forecast, DROP_DAY_KEY)
        return forecast

    def test_a_plain_run_does_not_look(self, keyless: Dsn) -> None:
        change(keyless, stale.NEW_DAY, 1)
        found, report = refreshed(keyless, RunConfig())
        assert (found, report.stale, report.warnings) == ([], None, [])
        assert "stale" not in report.to_dict()

    @pytest.mark.parametrize("has_history", [True, False])
    def test_refresh_does(self, keyless: Dsn, *, has_history: bool) -> None:
        if not has_history:
            stale.forget(keyless)
        assert refreshed(keyless)[0] == []
        change(keyless, stale.NEW_DAY, 1)
        change(keyless, stale.RESTATED_DAY, 7)
        change(keyless, stale.NEW_MLDR, 4)
        assert refreshed(keyless)[0] == [1, 3, 4, 7]
        assert refreshed(keyless)[0] == []


def test_a_lost_connection_in_the_middle(forecast: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done stays done, and the rest is done once."""
    monkeypatch.setattr(module, "BATCH", 2)
    change(forecast, stale.NEW_DAY, *range(1, TRACKS))
    stale.add_tracks(forecast, TRACKS + 1, TRACKS + 2)
    reads, read = [0], TrackCatalogue.read

    def lose_the_third(catalogue: TrackCatalogue, track_ids: pl.Series) -> History:
        reads[0] += 1
        if reads[0] == 3:
            raise ConnectionLostError("the read was lost")
        return read(catalogue, track_ids)

    monkeypatch.setattr(TrackCatalogue, "read", lose_the_third)
    found, report = refreshed(forecast)

    assert found == [*range(1, TRACKS), TRACKS + 1, TRACKS + 2]
    assert (report.pending, report.results) == (len(found), len(found))
    assert [warning[:23] for warning in report.warnings] == ["connected again after: "]
    assert sql.rows(forecast, f"SELECT count(*) FROM {stale.HISTORY} WHERE run_id = {report.run}") == [
        (len(found),)
    ]
    assert_frame_equal(stored(forecast), stale.recomputed(forecast))


def test_a_forecast_that_another_program_stores_meanwhile_stays(
    forecast: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a new track, while the stale ones are replaced."""
    new = TRACKS + 1
    stale.add_tracks(forecast, new, new)
    change(forecast, stale.NEW_DAY, 1)
    store, columns = ForecastSink.store, "month, forecasted_value, segment_used, time_used, training_data_id"

    def store_before(sink: ForecastSink, track_ids: pl.Series, computed: Computed, stages: Stages) -> Done:
        if new in track_ids:
            sql.run(
                forecast,
                f"INSERT INTO {stale.FORECASTS} (cm_track_id, cm_artist_id, created_at, {columns}) "
                f"SELECT {new}, 5, '2020-01-01', {columns} FROM {stale.FORECASTS} WHERE cm_track_id = 2",
            )
        return store(sink, track_ids, computed, stages)

    monkeypatch.setattr(ForecastSink, "store", store_before)
    report = run(Database(forecast), REFRESH)

    assert (report.taken, report.results) == ([new], 1)
    made = dict(
        sql.rows(forecast, f"SELECT cm_track_id, max(created_at)::date FROM {stale.FORECASTS} GROUP BY 1")
    )
    assert made[new].year == 2020
