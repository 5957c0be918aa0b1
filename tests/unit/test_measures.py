"""Measures of months, of what a buyer pays for, of intervals and of totals: sums by hand, and loops."""

import random
from datetime import date, timedelta

import polars as pl
import pytest

from forecaster.errors import SchemaMismatchError
from forecaster.scoring import Evaluation, evaluate, evaluate_batches, in_words
from forecaster.tables import QUANTILES
from tests.evaluations import ORIGIN, blocks, forecast, monthly, overall, random_catalogue, row

ALPHA = {80: 0.2, 95: 0.05}
BOUNDS = {80: ("q10", "q90"), 95: ("q025", "q975")}


def test_the_cumulative_error_lets_the_months_of_a_track_make_up_for_each_other() -> None:
    """Track 1 is off by +20, -20 and +30, track 2 by -10 in each month."""
    daily = pl.concat([monthly([100, 110], [100, 100, 100]), monthly([50, 60], [50, 50, 50], track=2)])
    found = evaluate(pl.concat([forecast([120, 80, 130]), forecast([40, 40, 40], track=2)]), daily)
    assert overall(found)["wape"] == pytest.approx((20 + 20 + 30 + 3 * 10) / 450)
    assert overall(found)["cumulative_wape"] == pytest.approx((30 + 30) / 450)
    by_month = found.by_month.select("month", "wape", "cumulative_wape").rows()
    assert by_month[0] == pytest.approx((1, (20 + 10) / 150, (20 + 10) / 150))
    assert by_month[1] == pytest.approx((2, (20 + 10) / 150, (0 + 20) / 300))
    assert by_month[2] == pytest.approx((3, (30 + 10) / 150, (30 + 30) / 450))


def test_a_track_without_one_of_the_months_is_not_in_what_they_add_up_to() -> None:
    daily = pl.concat([monthly([100, 110], [100, 100, 100]), monthly([50, 60], [50, 50, 50], track=2)])
    gap = (pl.col("cm_track_id") == 2) & (pl.col("date") == ORIGIN + timedelta(days=40))
    months = pl.concat([forecast([120, 80, 130]), forecast([40, 40, 40], track=2)])
    found = evaluate(months, daily.filter(~gap))
    assert found.by_month["cumulative_wape"].to_list() == pytest.approx([30 / 150, 0, 30 / 300], abs=1e-12)
    cumulated = found.totals.filter(of="cumulated").select("month", "tracks", "forecast", "actual").rows()
    expected = [(1, 2, 160, 150), (2, 1, 200, 200), (3, 1, 330, 300)]
    for computed, by_hand in zip(cumulated, expected, strict=True):
        assert computed == pytest.approx(by_hand)
    of_months = found.totals.filter(of="month")["tracks"].to_list()
    assert of_months == [2, 1, 2]


def loop(months: pl.DataFrame) -> dict[str, float]:
    """sMAPE as M4 has it, coverage and interval scores, month by month."""
    by_series: dict[tuple[int, date | None], list[float]] = {}
    inside, score, bounded = {80: 0, 95: 0}, {80: 0.0, 95: 0.0}, {80: 0.0, 95: 0.0}
    counted = {80: 0, 95: 0}
    for one in months.iter_rows(named=True):
        f, a = one["forecast"], one["actual"]
        size = abs(f) + abs(a)
        key = (one["cm_track_id"], one["cutoff"])
        by_series.setdefault(key, []).append(200 * abs(a - f) / size if size else 0.0)
        for level, (low, high) in BOUNDS.items():
            lower, upper = one[low], one[high]
            if lower is None or upper is None:
                continue
            counted[level] += 1
            bounded[level] += abs(a)
            inside[level] += lower <= a <= upper
            score[level] += upper - lower
            if a < lower:
                score[level] += 2 / ALPHA[level] * (lower - a)
            if a > upper:
                score[level] += 2 / ALPHA[level] * (a - upper)
    smape = [sum(values) / len(values) for values in by_series.values()]
    return {
        "smape": sum(smape) / len(smape) / 100,
        **{f"inside_{level}": inside[level] / counted[level] for level in BOUNDS},
        **{f"interval_{level}": score[level] / bounded[level] for level in BOUNDS},
    }


def with_bounds(months: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Quantiles around each forecast; every ninth row has none."""
    chance = random.Random(seed)
    widths = [sorted(chance.uniform(0.2, 2.0) for _ in QUANTILES) for _ in range(len(months))]
    factors = pl.DataFrame(widths, schema=[*QUANTILES], orient="row")
    is_there = pl.int_range(pl.len()) % 9 > 0
    return pl.concat([months, factors], how="horizontal").with_columns(
        pl.when(is_there).then(pl.col(name) * pl.col("forecasted_value")).alias(name) for name in QUANTILES
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_intervals_and_smape_are_those_of_a_loop(seed: int) -> None:
    months, daily = random_catalogue(seed)
    found = evaluate(with_bounds(months, seed), daily)
    scored = found.months.collect()
    assert len(scored) == found.windows_scored
    assert 0 < scored["q10"].null_count() < len(scored)
    groups = [(overall(found), scored)]
    groups += [(row(found.by_month, month=month), scored.filter(month=month)) for month in (1, 6)]
    groups += [(row(found.by_segment, segment_used=2), scored.filter(segment_used=2))]
    groups += [(row(found.by_cutoff, cutoff=ORIGIN), scored.filter(cutoff=ORIGIN))]
    for scores, rows in groups:
        for name, value in loop(rows).items():
            assert scores[name] == pytest.approx(value, rel=1e-9), name
    assert overall(found, "last_30_days")["inside_80"] is None


def test_forecasts_without_quantiles_have_no_scores_of_intervals() -> None:
    months, daily = random_catalogue(1)
    found = evaluate(months, daily)
    assert {overall(found)[name] for name in ("inside_80", "inside_95", "interval_80", "interval_95")} == {
        None
    }
    assert "q10" not in found.months.collect_schema()
    assert "inside_80" not in found.by_total.columns


def test_batches_with_and_without_quantiles() -> None:
    months, daily = random_catalogue(1)
    bounded = with_bounds(months, 1)
    at_origin = pl.col("cutoff").eq_missing(pl.lit(ORIGIN))
    found = evaluate_batches([bounded.filter(at_origin), months.filter(~at_origin)], daily)
    expected = evaluate(bounded.filter(at_origin), daily)
    assert overall(found)["inside_80"] == pytest.approx(overall(expected)["inside_80"])
    assert found.windows_scored > expected.windows_scored


def scored_totals() -> Evaluation:
    """Two origins, 30 days apart; the second one is 20 % too high, the first one 5 % too low."""
    later = ORIGIN + timedelta(days=30)
    daily = pl.concat([monthly([90, 110], [100, 100, 100]), monthly([40, 60], [50, 50, 50], track=2)])
    months = pl.concat(
        [
            forecast([95, 95]),
            forecast([47.5, 47.5], track=2),
            forecast([120, 120], cutoff=later, as_of=later),
            forecast([60, 60], track=2, cutoff=later, as_of=later),
        ]
    )
    bounds = [(0.8, 0.9, 1.0, 1.1, 1.2)] * 8
    months_of = [("month", 1), ("month", 2), ("cumulated", 1), ("cumulated", 2)]
    at = [(cutoff, of, month) for cutoff in (ORIGIN, later) for of, month in months_of]
    factors = pl.DataFrame(at, schema=["cutoff", "of", "month"], orient="row").hstack(
        pl.DataFrame(bounds, schema=[*QUANTILES], orient="row")
    )
    return evaluate(months, daily, totals=factors)


def test_totals_have_coverage_of_their_own() -> None:
    found = scored_totals()
    first = found.totals.row(0, named=True)
    assert (first["of"], first["month"], first["tracks"]) == ("month", 1, 2)
    assert (first["forecast"], first["actual"], first["q10"]) == pytest.approx((142.5, 150, 0.9 * 142.5))
    for of, month, actual in (("month", 1, 150), ("month", 2, 150), ("cumulated", 2, 300)):
        scores = row(found.by_total.filter(of=of), month=month)
        assert scores["origins"] == 2
        assert scores["wape"] == pytest.approx((0.05 + 0.2) / 2)
        assert scores["bias"] == pytest.approx((-0.05 + 0.2) / 2)
        # 142.5 x 1.1 is above 150; 180 x 0.9 = 162 is above it, too, and so the interval misses it.
        assert scores["inside_80"] == 0.5
        assert scores["inside_95"] == 1.0
        widths = 0.2 * (0.95 + 1.2) * actual
        missed = (1.2 * 0.9 - 1) * actual * 2 / 0.2
        assert scores["interval_80"] == pytest.approx((widths + missed) / (2 * actual))


def test_factors_that_occur_twice_are_refused() -> None:
    row_ = {"cutoff": ORIGIN, "of": "month", "month": 1, **dict.fromkeys(QUANTILES, 1.0)}
    with pytest.raises(SchemaMismatchError, match="occurs more than once"):
        evaluate(forecast([95]), monthly([90, 110], [100]), totals=pl.DataFrame([row_, row_]))


def test_the_range_of_the_skill_over_origins() -> None:
    found = scored_totals()
    skills = found.by_cutoff["skill"].to_list()
    assert (found.origins.lowest, found.origins.highest) == (min(skills), max(skills))
    assert found.origins.number == 2
    # 30 days lie between them, and a forecast of two months takes 60.
    assert found.origins.independent == pytest.approx(1.5)
    assert found.origins.is_overlapping
    assert found.to_dict()["origins"] == {
        "number": 2, "independent": 1.5, "lowest": min(skills), "highest": max(skills),
    }  # fmt: skip
    apart = ORIGIN + timedelta(days=30)
    one_month = pl.concat([forecast([95]), forecast([120], cutoff=apart, as_of=apart)])
    assert not evaluate(one_month, monthly([90, 110], [100, 100])).origins.is_overlapping


def test_every_month_of_every_track_is_listed() -> None:
    daily = pl.concat([monthly([90, 110], [100, 90]), blocks([(30, 60.0), (30, 30.0)], before=1, track=2)])
    found = evaluate(pl.concat([forecast([95, 80]), forecast([40, 40], track=2)]), daily)
    listed = found.months.select("cm_track_id", "month", "as_of", "forecast", "actual").collect()
    expected = [(1, 1, 95, 100), (1, 2, 80, 90), (2, 1, 40, 30)]
    assert listed["as_of"].to_list() == [ORIGIN] * 3
    for computed, by_hand in zip(listed.drop("as_of").rows(), expected, strict=True):
        assert computed == pytest.approx(by_hand)


def test_another_model_is_scored_in_the_same_months() -> None:
    """It is off by 10 of 100 in month 1, and has no forecast of month 2."""
    months = forecast([80.0, 80.0]).with_columns(production=pl.Series([90.0, None]))
    found = evaluate(months, monthly([90, 95], [100, 100]))
    assert found.overall["model"].to_list()[:3] == ["forecaster", "production", "last_30_days"]
    other = overall(found, "production")
    assert (other["windows"], other["wape"], overall(found)["wape"]) == pytest.approx((1, 0.1, 0.2))
    assert other["skill"] == pytest.approx(1 - 10 / 5)
    assert found.best_baseline == "last_30_days"
    assert found.others.keys() == {"production"}
    assert found.months.collect()["production"].to_list() == [90.0, None]
    assert found.own_wape["production"] == pytest.approx(0.2)
    assert in_words(found)[1] == (
        "The production model was 10 % off: better than this one, which was 20 % off in the months that both "
        "have."
    )
