"""The forecasts of past nights, scored; the same by loops over their months."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import InvalidOptionError, NoForecastError, SchemaMismatchError
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.past_runs import Chosen
from forecaster.run.config import RunConfig
from forecaster.setup.init import initialise
from forecaster.views.backtest import BacktestConfig, backtest
from tests import sql
from tests.scored_nights import FIRST, NEWEST, NIGHTS, STREAMS, arrive, said, spend, tonight


def windows(dsn: Dsn) -> Iterator[tuple[int, int, date, int, float, float, float]]:
    """Run, track, as-of date, month, forecast, streams, and the 30 records before: months that count."""
    streams = {
        (track, day): value
        for track, day, value in STREAMS.filter(pl.col("date") <= NEWEST)
        .select("cm_track_id", "date", "daily_streams")
        .iter_rows()
    }
    for run, track, as_of, last_date, months in said(dsn):
        before = sorted((day, value) for (of, day), value in streams.items() if of == track and day <= as_of)
        for month, value in enumerate(months, start=1):
            days = [as_of + timedelta(days=30 * (month - 1) + i) for i in range(1, 31)]
            if days[0] > last_date and all((track, day) in streams for day in days):
                actual = sum(streams[track, day] for day in days)
                yield run, track, as_of, month, value, actual, sum(v for _, v in before[-30:])


def scored(rows: list[tuple[float, float, float]]) -> tuple[int, float, float, float]:
    """The number of months, WAPE, bias, and WAPE of the last 30 days again."""
    streams = sum(actual for _, actual, _ in rows)
    return (
        len(rows),
        sum(abs(value - actual) for value, actual, _ in rows) / streams,
        sum(value - actual for value, actual, _ in rows) / streams,
        sum(abs(last - actual) for _, actual, last in rows) / streams,
    )


SCORES = ("windows", "wape", "bias", "wape_last_30_days")


def test_every_night_is_scored_by_run_by_age_and_by_month(nights: Dsn) -> None:
    result = backtest(BacktestConfig(nights))
    found = result.evaluation
    groups: dict[str, defaultdict[int, list[tuple[float, float, float]]]]
    groups = {name: defaultdict(list) for name in ("run", "age", "month")}
    all_windows = list(windows(nights))
    newest = max(as_of + timedelta(days=30 * month) for _, _, as_of, month, *_ in all_windows)
    for run, _, as_of, month, *values in all_windows:
        for name, key in (("run", run), ("age", (newest - as_of).days // 30), ("month", month)):
            groups[name][key].append((values[0], values[1], values[2]))
    for name, expected in groups.items():
        frame = getattr(found, f"by_{name}").filter(pl.col("windows") > 0)
        assert frame[name].to_list() == sorted(expected)
        for row in frame.iter_rows(named=True):
            assert [row[score] for score in SCORES] == pytest.approx(scored(expected[row[name]]), rel=1e-9)
    assert found.windows_scored == len(all_windows)
    assert found.by_run is not None
    assert found.by_run.select("run", "started").rows() == list(enumerate(NIGHTS, start=1))
    assert found.by_run["series"].to_list() == [
        len({track for run, track, *_ in all_windows if run == number}) for number in (1, 2, 3, 4)
    ]
    assert found.series["run"].unique().to_list() == [1, 2, 3, 4][: found.series["run"].n_unique()]
    assert (result.known_by, result.skipped, result.warnings) == ("history", {}, [])
    # What is neither scored nor incomplete is not over yet.
    total = sum(len(months) for *_, months in said(nights))
    assert found.windows_scored + sum(found.left_out.values()) == total


def test_the_newest_forecast_is_scored_as_from_its_table(nights: Dsn) -> None:
    """The history has neither age nor segment: they follow from the streams."""
    [[last]] = sql.rows(nights, "SELECT max(id) FROM backtest_forecast_run")
    of_run = backtest(BacktestConfig(nights, runs=Chosen((last,)))).evaluation
    for table in ("forecast_run", "track_streams_forecast_history"):
        sql.run(nights, f"DROP TABLE backtest_{table}")
    of_table = backtest(BacktestConfig(nights)).evaluation
    assert (of_table.by_run, of_table.by_age) == (None, None)
    assert "by_run" not in of_table.to_dict()
    for name in ("overall", "by_month", "by_segment", "by_influence", "by_volume", "by_cutoff"):
        assert_frame_equal(getattr(of_run, name), getattr(of_table, name))
    assert_frame_equal(of_run.series.drop("run"), of_table.series)


def test_chosen_runs_tracks_and_months(nights: Dsn) -> None:
    counts = Counter(run for run, *_ in windows(nights))
    runs = {
        (1,): Chosen((1,)),
        (1, 3): Chosen((3, 1, 3)),
        (2, 3): Chosen(days=(NIGHTS[1], NIGHTS[2])),
        (1, 2): Chosen((1,), (NIGHTS[1], NIGHTS[1])),
    }
    for ids, chosen in runs.items():
        found = backtest(BacktestConfig(nights, runs=chosen)).evaluation
        assert found.by_run is not None
        assert found.by_run["run"].to_list() == list(ids)
        assert found.windows_scored == sum(counts[run] for run in ids)
    [track, *_] = sorted({track for _, track, *_ in windows(nights)})
    one = backtest(BacktestConfig(nights, track_ids=(track,), months=1)).evaluation
    expected = [row for row in windows(nights) if (row[1], row[3]) == (track, 1)]
    assert one.series.select("cm_track_id", "run").rows() == [(track, run) for run, *_ in expected]
    assert one.by_month["month"].to_list() == [1]


def test_runs_that_are_not_there(nights: Dsn) -> None:
    for chosen, said_ in (
        (Chosen((1, 99, 7)), "no such run: 7, 99 (recorded are runs 1 to 4, from 2024-01-01 to 2024-03-01)"),
        (Chosen(days=(date(2020, 1, 1), date(2020, 1, 31))), "no run began from 2020-01-01 to 2020-01-31"),
    ):
        with pytest.raises(NoForecastError, match=re.escape(said_)) as raised:
            backtest(BacktestConfig(nights, runs=chosen))
        assert raised.value.hint == "`forecaster history` lists the runs"
    with pytest.raises(InvalidOptionError, match="--run and --runs contradict --cutoff"):
        BacktestConfig(nights, runs=Chosen((1,)), cutoffs=(FIRST,))
    sql.run(nights, "UPDATE backtest_track_streams_forecast_history SET months = NULL WHERE run_id = 2")
    with pytest.raises(NoForecastError, match="no forecast to score in the history of run 2"):
        backtest(BacktestConfig(nights, runs=Chosen((2,))))
    sql.run(nights, "DROP TABLE backtest_forecast_run")
    with pytest.raises(SchemaMismatchError, match="backtest_forecast_run: the table is missing"):
        backtest(BacktestConfig(nights, runs=Chosen((1,))))


def test_nothing_is_over(usual_database: Dsn) -> None:
    spend(usual_database, NIGHTS[:2])
    over = FIRST + timedelta(days=29)
    with pytest.raises(NoForecastError, match=r"no forecast month can be scored: \d+ not_over") as raised:
        backtest(BacktestConfig(usual_database))
    message = f"{raised.value}"
    assert f"; the first month is over once there are streams up to {over}; as of " in message
    assert "(history); the days with streams are" in message
    arrive(usual_database, NIGHTS[1], over)
    with pytest.raises(NoForecastError):
        backtest(BacktestConfig(usual_database))
    arrive(usual_database, over, over + timedelta(days=1))
    found = backtest(BacktestConfig(usual_database)).evaluation
    assert found.by_run is not None
    assert [windows > 0 for windows in found.by_run["windows"]] == [True, False]


def test_days_that_a_forecast_had_seen_are_not_scored(usual_database: Dsn) -> None:
    """Its as-of date is 40 days before the last day that it knew: months 1 and 2 hold such days."""
    spend(usual_database, ())
    arrive(usual_database, date.min, FIRST)
    parameters = Parameters(horizon=6, as_of=FIRST - timedelta(days=41))
    tonight(usual_database, RunConfig(parameters=parameters))
    arrive(usual_database, FIRST, NEWEST + timedelta(days=1))
    found = backtest(BacktestConfig(usual_database)).evaluation
    assert found.by_month["month"].to_list() == [3, 4, 5]
    ahead = [last_date - as_of for _, _, as_of, last_date, _ in said(usual_database)]
    assert found.left_out["seen"] == sum(-(-days.days // 30) for days in ahead if days.days > 0)
    assert found.windows_scored == len(list(windows(usual_database)))


def test_forecasts_of_no_run_beside_those_of_runs(nights: Dsn) -> None:
    """Forecasts that another program stored are scored by created_at, and each forecast once."""
    recorded = backtest(BacktestConfig(nights)).evaluation
    tracks = recorded.series["cm_track_id"].unique().sort().to_list()
    at = f"'{NIGHTS[2] - timedelta(days=9)} 12:00+00'"
    sql.run(
        nights,
        f"UPDATE backtest_track_streams_forecast SET created_at = {at} WHERE cm_track_id = {tracks[0]}",
    )
    result = backtest(BacktestConfig(nights))
    found = result.evaluation
    assert result.known_by == "history, else by created_at"
    others = found.series.filter(pl.col("run").is_null())
    assert others.select("cm_track_id", "as_of").rows() == [(tracks[0], NIGHTS[2] - timedelta(days=10))]
    assert_frame_equal(found.series.drop_nulls("run"), recorded.series)
    assert found.by_run is not None
    assert found.by_run["run"].to_list() == [None, 1, 2, 3, 4]
    stated = backtest(BacktestConfig(nights, parameters=Parameters(as_of=FIRST)))
    assert stated.known_by == "history, else --as-of"
    assert "--as-of 2024-01-01 changes nothing for forecasts in the history" in stated.warnings[0]
    of_others = stated.evaluation.series.filter(pl.col("run").is_null())
    assert of_others["as_of"].to_list() == [FIRST]


def test_forecasts_that_were_stored_before_there_was_a_history(nights: Dsn) -> None:
    of_runs = backtest(BacktestConfig(nights, runs=Chosen((4,)))).evaluation
    for table in ("forecast_run", "track_streams_forecast_history", "schema_version"):
        sql.run(nights, f"DROP TABLE {'backtest_' + table}")
    by_created_at = backtest(BacktestConfig(nights)).evaluation
    assert_frame_equal(by_created_at.overall, of_runs.overall)
    initialise(nights, "public")
    result = backtest(BacktestConfig(nights))
    assert (result.known_by, result.evaluation.windows_scored) == ("history", of_runs.windows_scored)
    assert_frame_equal(result.evaluation.overall, by_created_at.overall)

    track = result.evaluation.series["cm_track_id"][0]
    sql.run(
        nights,
        "UPDATE backtest_track_streams_forecast_history SET as_of = NULL, last_date = NULL "
        f"WHERE cm_track_id = {track}",
    )
    without = backtest(BacktestConfig(nights))
    assert without.skipped == {"no_as_of": 1}
    assert without.warnings[0].startswith("1 forecast left out, because no row of the track is older")
    assert track not in without.evaluation.series["cm_track_id"].to_list()
    stated = backtest(BacktestConfig(nights, parameters=Parameters(as_of=NIGHTS[3] - timedelta(days=1))))
    assert_frame_equal(stated.evaluation.overall, by_created_at.overall)


def test_a_user_who_may_not_read_the_history(nights: Dsn, caplog: pytest.LogCaptureFixture) -> None:
    sql.run(nights, "DROP ROLE IF EXISTS reads_no_history")
    sql.run(nights, "CREATE ROLE reads_no_history LOGIN")
    for table in ("track_daily_training_data", "artist_mldr", "track_streams_forecast"):
        sql.run(nights, f"GRANT SELECT ON backtest_{table} TO reads_no_history")
    found = backtest(BacktestConfig(replace(nights, user="reads_no_history")))
    assert found.evaluation.by_run is None
    assert "only the stored forecasts are scored, not the history" in caplog.text
