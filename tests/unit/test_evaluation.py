"""Evaluations: what is scored, what is left out and counted, and in which groups."""

import json
import math
from datetime import timedelta

import polars as pl
import pytest

from forecaster.errors import ForecasterError, NoForecastError, SchemaMismatchError
from forecaster.scoring import BASELINES, GROUPS, LEFT_OUT, METRICS, MODELS, evaluate
from tests.evaluations import MONTHS, ORIGIN, blocks, forecast, frames, known, monthly, overall, row

ERRORS = ("wape", "bias", "smape", "mase", "rmsse")

FALLING = [100.0 * 0.9**month for month in range(14)]
TWO_TRACKS = pl.concat([monthly([1000, 1200, 900], FALLING), monthly([50, 70, 60], [60, 80, 0, 40], track=2)])


def test_a_perfect_forecast() -> None:
    found = evaluate(pl.concat([forecast(FALLING), forecast([60, 80, 0, 40], track=2)]), TWO_TRACKS)
    for name in ("overall", *GROUPS):
        frame = frames(found)[name].head(1) if name == "overall" else frames(found)[name]
        for score in ERRORS:
            assert frame[score].to_list() == pytest.approx([0.0] * len(frame), abs=1e-12), (name, score)
        for share in ("within_10", "within_20", "within_50"):
            assert (frame[share] == 1.0).all()
    assert found.overall["model"].to_list() == list(MODELS)
    assert (overall(found)["skill"], overall(found)["series"], found.windows_scored) == (1.0, 2, 18)
    assert found.left_out == dict.fromkeys(LEFT_OUT, 0)
    assert found.series["months"].to_list() == [14, 4]
    assert found.series["actual_total"].to_list() == pytest.approx([sum(FALLING), 180])


def test_a_forecast_that_is_a_tenth_too_high() -> None:
    actual = [100.0, 80.0, 60.0]
    found = evaluate(forecast([value * 1.1 for value in actual]), monthly([100, 130, 110], actual))
    scored = overall(found)
    assert scored["wape"] == scored["bias"] == pytest.approx(0.1)
    assert scored["smape"] == pytest.approx(2 * 0.1 / 2.1)
    assert scored["mase"] == pytest.approx((10 + 8 + 6) / 3 / ((30 + 20) / 2))
    assert scored["rmsse"] == pytest.approx(math.sqrt((100 + 64 + 36) / 3 / ((900 + 400) / 2)))
    assert [scored[f"within_{percent}"] for percent in (10, 20, 50)] == [1.0, 1.0, 1.0]
    assert (scored["forecast_total"], scored["actual_total"]) == pytest.approx((264, 240))
    assert found.series.select("error_share", "wape").row(0) == pytest.approx((0.1, 0.1))
    # The last month is off by 10, 30 and 50. Three months are too few for any baseline that needs a year.
    assert overall(found, "last_30_days")["wape"] == pytest.approx(90 / 240)
    wapes = {name: overall(found, name)["wape"] for name in BASELINES}
    assert [name for name, wape in wapes.items() if wape is None] == list(BASELINES)[2:]
    best = overall(found, found.best_baseline)["wape"]
    assert best == min(wape for wape in wapes.values() if wape is not None)
    assert scored["skill"] == pytest.approx(1 - 0.1 / best)
    too_low = evaluate(forecast([value * 0.9 for value in actual]), monthly([100, 130, 110], actual))
    assert overall(too_low)["bias"] == pytest.approx(-0.1)


def test_what_does_not_count_is_counted() -> None:
    daily = pl.concat([TWO_TRACKS, monthly([], [5, 5], track=3)])
    gap = (pl.col("cm_track_id") == 1) & (pl.col("date") == ORIGIN + timedelta(days=31))
    months = pl.concat(
        [
            forecast([1.0] * 15),  # month 2 lacks its first day, month 15 is not over
            forecast([1.0, math.nan], track=2),
            forecast([1.0], track=2, as_of=ORIGIN + timedelta(days=91), cutoff=None),  # a day short
            forecast([1.0, 1.0, 1.0], track=3),
            forecast([1.0], track=4),
        ]
    )
    bad = forecast([1.0] * 2, track=9).with_columns(as_of=None, month=pl.lit(None, dtype=pl.Int64))
    found = evaluate(pl.concat([months, bad.cast(MONTHS)]), daily.filter(~gap))
    assert found.left_out == {
        "unusable": 3,
        "no_streams": 1,
        "seen": 0,
        "not_over": 3,
        "days_missing": 1,
        "no_history": 2,
    }
    assert found.windows_scored == 14
    assert found.by_month["month"].to_list() == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    assert found.series["months"].to_list() == [13, 1]


def test_a_cutoff_of_which_no_month_counts_has_its_row() -> None:
    late, none = ORIGIN + timedelta(days=300), ORIGIN - timedelta(days=900)
    months = pl.concat([forecast([30.0, 30.0]), forecast([15.0], cutoff=late, as_of=late)])
    found = evaluate(months, monthly([30, 60], [30, 30]), cutoffs=(none, ORIGIN))
    assert found.by_cutoff["cutoff"].to_list() == [none, ORIGIN, late]
    assert found.by_cutoff.select("windows", "series", "actual_total", "wape").rows() == [
        (0, 0, 0.0, None),
        (2, 1, 60.0, 0.0),
        (0, 0, 0.0, None),
    ]
    assert found.worst_cutoff == ORIGIN
    assert json.loads(json.dumps(found.to_dict()))["by_cutoff"][0]["windows"] == 0


def test_a_series_says_in_which_groups_it_is() -> None:
    daily = pl.concat([monthly([5, 5], [5], track=track) for track in range(1, 11)])
    found = evaluate(pl.concat(forecast([6.0], track=track) for track in range(1, 11)), daily)
    groups = found.series.select("segment_used", "influence_range", "volume_decile")
    assert groups.rows() == [(11, 1, decile) for decile in range(1, 11)]


def test_a_group_has_the_scores_of_its_months() -> None:
    actual = [100.0, 100.0, 50.0, 50.0]
    months = pl.concat(
        [
            forecast([110, 90, 50, 100], segments=[1, 1, 2, 2]),
            forecast([100, 100, 50, 150], segments=[2, 2, 2, 2], cutoff=None, track=2),
        ]
    )
    daily = pl.concat([monthly([100, 120], actual, track=track) for track in (1, 2)])
    found = evaluate(months, daily)
    first, second = row(found.by_segment, segment_used=1), row(found.by_segment, segment_used=2)
    assert (first["series"], first["windows"], second["series"], second["windows"]) == (1, 2, 2, 6)
    assert (first["wape"], first["bias"], first["within_10"]) == pytest.approx((0.1, 0.0, 1.0))
    assert first["mase"] == pytest.approx(10 / 20)
    assert second["wape"] == pytest.approx(150 / 400)
    assert second["mase"] == pytest.approx(((0 + 50) / 2 + 100 / 4) / 2 / 20)
    assert second["smape"] == pytest.approx(2 * ((50 / 150) / 2 + (100 / 200) / 4) / 2)
    assert (second["within_20"], second["within_50"]) == pytest.approx((0.0, 1.0))
    assert second["wape_last_30_days"] == pytest.approx((4 * 70 + 2 * 20) / 400)
    assert second["skill"] == pytest.approx(1 - second["wape"] / second[f"wape_{found.best_baseline}"])
    # The series with the label is off by 70 of 300 streams, the one without by 100.
    assert found.by_cutoff["cutoff"].to_list() == [None, ORIGIN]
    assert found.by_cutoff["wape"].to_list() == pytest.approx([100 / 300, 70 / 300])
    assert found.worst_cutoff is None
    assert evaluate(months.filter(cutoff=ORIGIN), daily).worst_cutoff == ORIGIN


def test_the_worst_of_several_cutoffs() -> None:
    later = ORIGIN + timedelta(days=30)
    months = pl.concat([forecast([10.0, 10.0]), forecast([15.0], cutoff=later, as_of=later)])
    found = evaluate(months, monthly([10, 12], [10, 10]))
    assert (found.worst_cutoff, found.to_dict()["worst_cutoff"]) == (later, "2023-07-30")


def test_deciles_are_of_the_volume_and_of_the_track_where_that_is_equal() -> None:
    tracks = [
        monthly([1.0] * 5 + [500.0 if track == 1 else 10.0], [5.0], track=track) for track in range(1, 21)
    ]
    found = evaluate(pl.concat(forecast([6.0], track=track) for track in range(1, 21)), pl.concat(tracks))
    months = pl.concat(forecast([6.0], track=track) for track in range(1, 21))
    deciles = known(months, pl.concat(tracks))["volume_decile"].to_list()
    assert deciles == [10, *(number // 2 + 1 for number in range(19))]
    assert found.by_volume.select("volume_decile", "series").rows() == [(n, 2) for n in range(1, 11)]
    assert found.by_influence.select("influence_range", "series").rows() == [(1, 20)]


def test_no_streams_at_all() -> None:
    daily = pl.concat([monthly([3, 5], [0, 0], track=track) for track in (1, 2)])
    found = evaluate(pl.concat([forecast([0.2, 0.2]), forecast([0.3, 0.3], track=2)]), daily)
    scored = overall(found)
    assert [scored[score] for score in ("wape", "bias", "skill", "smape")] == [None, None, None, 2.0]
    assert (scored["within_10"], scored["within_50"]) == (0.5, 0.5)
    assert found.series["error_share"].to_list() == [None, None]
    assert found.worst_cutoff is None
    text = json.dumps(found.to_dict(series=True), allow_nan=False)
    assert json.loads(text)["overall"][0]["wape"] is None
    assert "series" not in found.to_dict()


def test_days_may_come_in_any_order() -> None:
    made = forecast([12.0, 11.0])
    daily = pl.DataFrame(monthly([10, 30, 20], [15, 10])).with_columns(
        pl.col("daily_streams") + pl.int_range(pl.len())
    )
    expected = evaluate(made, daily).to_dict(series=True)
    assert evaluate(made, daily.reverse()).to_dict(series=True) == expected


def test_negative_streams_count_as_much_as_positive_ones() -> None:
    scored = overall(evaluate(forecast([10.0, 10.0]), monthly([10, 20], [-10, 30])))
    assert scored["wape"] == pytest.approx((20 + 20) / 40)
    assert scored["bias"] == pytest.approx(0.0)
    assert scored["smape"] == pytest.approx(20 / 20 + 20 / 40)
    below_zero = overall(evaluate(forecast([-10.0, 10.0]), monthly([10, 20], [10, 30])))
    assert below_zero["smape"] == pytest.approx(20 / 20 + 20 / 40)
    just_within = overall(evaluate(forecast([-11.0]), monthly([10, 20], [-10])))
    assert (just_within["within_10"], just_within["wape"]) == pytest.approx((1.0, 0.1))


def test_one_series_with_one_record_before_its_origin() -> None:
    found = evaluate(forecast([30.0], age=None), blocks([(1, 4.0), (30, 30.0)], before=1))
    scored = overall(found)
    assert [scored[score] for score in ("wape", "mase", "without_scale")] == [0.0, None, 1]
    assert overall(found, "last_30_days")["forecast_total"] == pytest.approx(4.0)
    assert found.missing == dict.fromkeys(BASELINES, 1) | {"last_30_days": 0}
    assert found.by_volume["volume_decile"].to_list() == [1]


def test_a_series_without_a_scale_is_left_out_of_what_is_scaled() -> None:
    daily = pl.concat([monthly([10, 10], [10]), monthly([10, 30], [10], track=2)])
    scored = overall(evaluate(pl.concat([forecast([15.0]), forecast([15.0], track=2)]), daily))
    assert (scored["mase"], scored["rmsse"], scored["without_scale"]) == pytest.approx((0.25, 0.25, 1))
    assert scored["smape"] == pytest.approx(2 * 5 / 25)


def test_streams_beyond_the_largest_float_have_no_scores() -> None:
    daily = blocks([(365, 1.7e308 * 365), (30, 30.0)], before=1).with_columns(
        daily_streams=pl.when(pl.col("date") <= ORIGIN).then(1.7e308).otherwise("daily_streams")
    )
    found = evaluate(forecast([30.0]), daily)
    assert overall(found)["wape"] == 0.0
    json.dumps(found.to_dict(series=True), allow_nan=False)


NOTHING = pl.DataFrame(schema=MONTHS)
FLAT = monthly([5, 5], [5])


@pytest.mark.parametrize(
    ("months", "daily", "error", "message"),
    [
        (NOTHING, FLAT, NoForecastError, "no forecasts to score"),
        (forecast([1.0]), FLAT.clear(), NoForecastError, "no daily streams"),
        (
            forecast([1.0, math.inf], as_of=ORIGIN + timedelta(days=1)),
            FLAT,
            NoForecastError,
            "1 unusable, 1 not_over",
        ),
        (forecast([math.nan]), FLAT, NoForecastError, "1 unusable"),
        (
            NOTHING.drop("as_of", "month"),
            FLAT.drop("date"),
            SchemaMismatchError,
            "forecasts: column as_of is missing.*column month is missing.*daily: column date is missing",
        ),
        (
            pl.concat([forecast([1.0, 2.0]), forecast([1.0])]),
            FLAT,
            SchemaMismatchError,
            "month 1 of track 1 at cutoff 2023-06-30 occurs more than once",
        ),
        (
            forecast([1.0]),
            pl.concat([FLAT, FLAT.filter(date=ORIGIN)]),
            SchemaMismatchError,
            "track 1 has more than one row for 2023-06-30",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(
    months: pl.DataFrame, daily: pl.DataFrame, error: type[ForecasterError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        evaluate(months, daily)
    assert raised.value.hint or error is SchemaMismatchError


def test_every_score_has_its_formula() -> None:
    found = evaluate(forecast([5.0]), FLAT)
    shown = {*found.overall.columns, *found.series.columns} - {
        "model", "series", "windows", "cm_track_id", "cutoff", "as_of", "months", "segment_used",
        "influence_range", "volume_decile",
    }  # fmt: skip
    assert shown == {*METRICS}
    formulas = [metric.formula for metric in METRICS.values()]
    assert all("\n" not in text for text in (*formulas, *BASELINES.values()))
