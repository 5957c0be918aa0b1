"""`compare`: each track's difference has one cause, and the causes add up to the difference."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from forecaster.errors import NoForecastError
from forecaster.postgres.dsn import Dsn
from forecaster.scoring.changes import Comparison
from forecaster.views.comparison import compared, remarks
from tests import sql
from tests.conftest import Cli
from tests.nights import HISTORY, RUNS, Nights

SIX = range(1, 7)
STREAMS = "backtest_track_daily_training_data"
FORECASTS = "backtest_track_streams_forecast"


def causes(found: Comparison) -> dict[str, list[int]]:
    """The tracks of each cause that applies to one."""
    by_cause: dict[str, list[int]] = {}
    for track, why in found.tracks.select("cm_track_id", "why").iter_rows():
        by_cause.setdefault(why, []).append(track)
    return by_cause


def assert_adds_up(found: Comparison, before: dict[int, float], after: dict[int, float]) -> None:
    """Against totals added up one by one."""
    assert found.total_before == sum(before.values())
    assert found.total_after == sum(after.values())
    assert found.by_cause["moved"].sum() == found.difference == sum(after.values()) - sum(before.values())
    assert found.by_cause["tracks"].sum() == len(found.tracks) == len(before | after)
    each = {track: after.get(track, 0) - before.get(track, 0) for track in before | after}
    assert dict(found.tracks.select("cm_track_id", "moved").iter_rows()) == each


@pytest.fixture
def nights(usual_database: Dsn) -> Nights:
    return Nights(usual_database).begin()


def test_every_cause_is_told_from_the_others(nights: Nights, called: Cli) -> None:
    dsn = nights.dsn
    nights.add_days(5, SIX)
    second = nights.night()
    nights.rate({10: 0.09})
    nights.night()
    nights.add_days(100, [8])
    sql.run(dsn, f"UPDATE {STREAMS} SET daily_streams = 9000 WHERE cm_track_id = 4 AND date = '2024-04-20'")
    sql.run(dsn, f"UPDATE {STREAMS} SET daily_streams = -1 WHERE cm_track_id = 5 AND date = '2024-04-20'")
    nights.night()
    nights.night(6, influence=1e6)

    def of(before: int, after: int) -> Comparison:
        found = compared(dsn, "public", (f"{before}", f"{after}"))
        assert_adds_up(found, nights.totals(before), nights.totals(after))
        assert [*remarks(found)] == []
        return found

    assert causes(of(1, 2)) == {"streams": [1, 2, 3, 4, 5, 6]}
    assert causes(of(2, 3)) == {"mldr": [1, 2, 3], "unchanged": [4, 5, 6]}
    restated = of(3, 4)
    assert causes(restated) == {"unchanged": [1, 2, 3, 5, 6], "restated": [4], "new": [8]}
    assert restated.skipped_since == {"negative_streams": 1}
    printed = called("compare", "3", "4", "--database-url", dsn.uri).stdout
    assert "1 track was skipped since, and keeps its forecast (negative_streams 1)" in printed
    assert causes(of(4, 5)) == {"unchanged": [1, 2, 3, 4, 5, 8], "parameters": [6]}
    whole = of(1, 5)
    assert causes(whole) == {
        "streams_and_mldr": [1, 2, 3],
        "streams": [4, 5],
        "parameters": [6],
        "new": [8],
    }
    assert (
        whole.moved_most(3)["cm_track_id"].to_list()
        == sorted(
            whole.tracks["cm_track_id"],
            key=lambda track: -abs(nights.totals(5)[track] - nights.totals(1).get(track, 0)),
        )[:3]
    )
    assert second.total == sum(nights.totals(2).values())
    assert (second.run_before, second.total_before) == (1, sum(nights.totals(1).values()))


def test_a_track_whose_forecast_was_deleted_is_gone_once(nights: Nights) -> None:
    sql.run(nights.dsn, f"DELETE FROM {STREAMS} WHERE cm_track_id = 6")
    sql.run(nights.dsn, f"DELETE FROM {FORECASTS} WHERE cm_track_id = 6")
    nights.night()
    found = compared(nights.dsn, "public")
    kept = nights.totals(1)
    lost = kept.pop(6)
    assert causes(found) == {"unchanged": [1, 2, 3, 4, 5], "gone": [6]}
    assert found.difference == -lost
    assert found.total_after == sum(kept.values())
    nights.night()
    later = compared(nights.dsn, "public")
    assert causes(later) == {"unchanged": [1, 2, 3, 4, 5]}
    assert [*remarks(found), *remarks(later)] == []


def test_a_track_without_streams_keeps_its_forecast(nights: Nights) -> None:
    sql.run(nights.dsn, f"DELETE FROM {STREAMS} WHERE cm_track_id = 6")
    nights.night()
    assert causes(compared(nights.dsn, "public")) == {"unchanged": [*SIX]}


def test_totals_are_of_the_months_that_both_runs_have(nights: Nights) -> None:
    nights.add_days(1, [1])
    nights.night(horizon=6)
    found = compared(nights.dsn, "public")
    assert found.months == 6
    assert_adds_up(found, nights.totals(1, 6), nights.totals(2, 6))
    assert causes(found) == {"streams": [1], "unchanged": [2, 3, 4, 5, 6]}


def test_a_run_that_recorded_no_level_started_from_30_days(nights: Nights) -> None:
    """As runs did before there was a choice; else each difference would be one of parameters."""
    sql.run(nights.dsn, f"UPDATE {RUNS} SET parameters = parameters #- '{{parameters,level}}'")
    nights.night()
    assert causes(compared(nights.dsn, "public")) == {"unchanged": [*SIX]}
    sql.run(
        nights.dsn,
        f"UPDATE {RUNS} SET parameters = jsonb_set(parameters, '{{parameters,level}}', '7') WHERE id = 1",
    )
    sql.run(
        nights.dsn, f"UPDATE {HISTORY} SET months[1] = months[1] + 1 WHERE run_id = 1 AND months IS NOT NULL"
    )
    assert causes(compared(nights.dsn, "public")) == {"parameters": [*SIX]}
    sql.run(nights.dsn, f"UPDATE {RUNS} SET parameters = parameters #- '{{parameters,level}}' WHERE id = 1")
    assert "parameters" not in causes(compared(nights.dsn, "public"))


def test_a_forecast_that_has_fewer_months_than_both_horizons_differs_in_its_parameters(
    nights: Nights,
) -> None:
    nights.night(2, horizon=6)
    nights.night(1)
    nights.night()
    found = compared(nights.dsn, "public", ("3", "4"))
    assert_adds_up(found, nights.totals(3), nights.totals(4))
    assert causes(found) == {"parameters": [2], "unchanged": [1, 3, 4, 5, 6]}


def test_another_as_of_date_counts_as_a_parameter_only_without_new_streams(nights: Nights) -> None:
    nights.night(as_of=nights.last_day(1).replace(day=30, month=6))
    assert causes(compared(nights.dsn, "public")) == {"parameters": [*SIX]}
    nights.add_days(1, [1])
    nights.night()
    assert causes(compared(nights.dsn, "public")) == {"streams": [1], "parameters": [2, 3, 4, 5, 6]}


def test_another_version_counts_before_new_streams(nights: Nights) -> None:
    nights.add_days(1, [1])
    nights.night()
    sql.run(nights.dsn, f"UPDATE {RUNS} SET program = '0.0.9' WHERE id = 1")
    assert causes(compared(nights.dsn, "public"))["parameters"] == [1]
    sql.run(nights.dsn, f"UPDATE {RUNS} SET program = 'unknown' WHERE id = 1")
    assert causes(compared(nights.dsn, "public"))["streams"] == [1]


def test_runs_are_named_by_id_or_log_id_in_any_order(nights: Nights) -> None:
    nights.add_days(1, [1])
    log_id = nights.night().log_id
    found = compared(nights.dsn, "public", (log_id, "1"))
    assert (found.before["id"], found.after["id"], found.after["log_id"]) == (1, 2, log_id)


def test_only_complete_runs_are_compared_unless_they_are_named(nights: Nights) -> None:
    nights.add_days(1, [1])
    nights.night()
    nights.night()
    sql.run(nights.dsn, f"UPDATE {RUNS} SET outcome = 'failed', error = 'x' WHERE id = 2")
    assert [run["id"] for run in (compared(nights.dsn, "public").before,)] == [1]
    assert compared(nights.dsn, "public", ("2", "3")).before["id"] == 2


def test_what_cannot_be_compared_is_said(nights: Nights) -> None:
    with pytest.raises(NoForecastError, match="two complete runs, and the history has 1"):
        compared(nights.dsn, "public")
    with pytest.raises(NoForecastError, match="run 99 is unknown"):
        compared(nights.dsn, "public", ("1", "99"))
    nights.night()
    sql.run(nights.dsn, f"DELETE FROM {HISTORY} WHERE run_id = 1")
    with pytest.raises(NoForecastError, match="run 1 cannot be compared: 7 of its rows were removed"):
        compared(nights.dsn, "public")
    sql.run(nights.dsn, f"UPDATE {RUNS} SET tracks = 0, skipped = '{{}}' WHERE id = 1")
    with pytest.raises(NoForecastError, match="no forecast of run 1 or before"):
        compared(nights.dsn, "public")


def test_rows_that_are_missing_are_noticed_by_the_recorded_total(nights: Nights) -> None:
    nights.night(2)
    nights.night()
    sql.run(nights.dsn, f"DELETE FROM {HISTORY} WHERE run_id = 1 AND cm_track_id = 1")
    [remark] = remarks(compared(nights.dsn, "public"))
    assert remark.startswith("run 2 recorded a total of")


def test_a_refused_track_is_not_called_skipped(nights: Nights, called: Cli) -> None:
    nights.add_days(1, [1])
    sql.run(nights.dsn, f"ALTER TABLE {FORECASTS} ADD CHECK (cm_track_id <> 6) NOT VALID")
    nights.night()
    found = compared(nights.dsn, "public")
    assert (found.refused_since, found.skipped_since) == (1, {})
    printed = called("compare", "--database-url", nights.dsn.uri).stdout
    assert "1 track was refused since, and keeps its forecast\n" in printed
    assert "skipped since" not in printed


def test_the_command_prints_what_the_json_and_the_file_say(
    nights: Nights, called: Cli, tmp_path: Path
) -> None:
    nights.add_days(30, [1, 2])
    nights.night()
    where, out = ("--database-url", nights.dsn.uri), tmp_path / "moved.csv"
    printed = called("compare", *where, "--out", f"{out}")
    assert printed.returncode == 0, printed.stderr
    document = json.loads(called("compare", *where, "--json").stdout)
    before, after = nights.totals(1), nights.totals(2)
    difference = sum(after.values()) - sum(before.values())
    rows = [line.split("  ") for line in re.sub("   +", "  ", printed.stdout).splitlines()]
    assert ["sum", "6", f"{difference:+,.0f}"] in rows
    assert ["new streams", "2", f"{difference:+,.0f}"] in rows
    assert printed.stdout.splitlines()[-1].startswith("before=1 after=2 months=24 ")
    assert document["difference"] == difference == document["why"]["streams"]["streams"]
    assert document["before"]["compared"] == document["before"]["total"] == sum(before.values())
    assert {track["cm_track_id"] for track in document["moved_most"]} == {1, 2}
    written = pl.read_csv(out)
    assert dict(written.select("cm_track_id", "after").iter_rows()) == after
    assert written.filter(pl.col("why") == "streams")["cm_track_id"].to_list() == [1, 2]


def test_one_run_alone_is_a_wrong_call(called: Cli) -> None:
    ended = called("compare", "7")
    assert (ended.returncode, "two runs, or none" in ended.stderr) == (2, True)
