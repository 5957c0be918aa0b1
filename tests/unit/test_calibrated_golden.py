"""The golden files of the calibrated model, computed by a scalar implementation of its page."""

from datetime import date, timedelta
from itertools import product
from pathlib import Path

import polars as pl
import pytest

from forecaster import Calibration, build_forecasts, calibrate
from forecaster.errors import InvalidOptionError
from forecaster.model.calibrated.rates import GROUPS, LENGTHS
from tests.calibrated_golden import CUTOFFS, FEW, NEAR, TRACKS, golden_at

GOLDEN = Path(__file__).parents[1] / "golden"
HORIZON = 24


def golden(name: str) -> pl.LazyFrame:
    return pl.read_parquet(GOLDEN / f"{name}.parquet").sample(fraction=1, shuffle=True, seed=7).lazy()


def calibration(cutoff: date) -> Calibration:
    return calibrate(golden("tracks"), as_of=cutoff - timedelta(1), origins=0)


def assert_near(forecasts: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Every row of the file, also of the tracks that are less than a month old, and no other."""
    key = ("cm_track_id", "month")
    assert forecasts.select(key).equals(expected.select(key))
    values = expected["forecasted_value"].to_list()
    assert forecasts["forecasted_value"].to_list() == pytest.approx(values, rel=NEAR)


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_nine_rates_agree(cutoff: date) -> None:
    expected = pl.read_csv(GOLDEN / "calibrated_rates.csv").filter(pl.col("cutoff") == f"{cutoff}")
    assert [*expected.select("weeks", "age_group").iter_rows()] == [(m, g) for m in LENGTHS for g in GROUPS]
    found = [rate for of_length in calibration(cutoff).rates.rates for rate in of_length]
    assert found == pytest.approx(expected["rate"].to_list(), rel=NEAR)


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_forecasts_agree(cutoff: date) -> None:
    model = calibration(cutoff)
    built = build_forecasts(golden("tracks"), golden("mldr"), model=model, horizon=HORIZON)
    forecasts, skipped = pl.collect_all([built.forecasts, built.skipped])
    assert set(skipped["reason"]) == {"no_days"}
    assert_near(forecasts, golden_at(cutoff))


def test_values_after_the_day_change_nothing() -> None:
    cutoff = CUTOFFS[1]
    is_later = pl.col("date") >= cutoff
    daily = golden("tracks")
    changed = daily.with_columns(
        daily_streams=pl.when(is_later).then(7 * pl.col("daily_streams") + 1).otherwise("daily_streams"),
        days_from_release=pl.when(is_later).then(1).otherwise("days_from_release"),
    )
    found = []
    for frame in (daily, changed, daily.filter(~is_later)):
        model = calibrate(frame, golden("mldr"), as_of=cutoff - timedelta(1), origins=2)
        forecasts = build_forecasts(frame, golden("mldr"), model=model.chosen()).forecasts
        found.append((model.to_json(), forecasts.collect().rows()))
    assert found[0] == found[1] == found[2]


def test_a_track_that_begins_later_is_skipped_not_lost() -> None:
    model = calibration(CUTOFFS[0])
    built = build_forecasts(golden("tracks"), golden("mldr"), model=model)
    both = pl.concat([built.forecasts.select("cm_track_id"), built.skipped.select("cm_track_id")])
    assert both.unique().collect().height == 250


def test_a_day_before_that_of_the_calibration_is_refused() -> None:
    model = calibration(CUTOFFS[1])
    with pytest.raises(InvalidOptionError, match=f"calibration {model.id} knows the days up to 2022-09-30"):
        build_forecasts(golden("tracks"), golden("mldr"), model=model, as_of=CUTOFFS[0])


def test_a_later_day_is_forecast_from_with_the_same_rates() -> None:
    model, later = calibration(CUTOFFS[0]), CUTOFFS[1] - timedelta(1)
    forecasts = build_forecasts(golden("tracks"), golden("mldr"), model=model, as_of=later, horizon=1)
    expected = golden("calibrated_forecasts").filter(pl.col("cutoff") == CUTOFFS[1], pl.col("month") == 1)
    both = forecasts.forecasts.join(expected, on="cm_track_id").collect()
    ratio = both["forecasted_value"] / 30 / both["level"]
    decays = dict(zip(GROUPS, model.decays(horizon=1), strict=True))
    shared = both.with_columns(ratio=-ratio.log()).drop_nulls("level").filter(pl.col("level") > 0)
    expected_decay = [decays[group][0] for group in shared["age_group"]]
    assert shared["ratio"].to_list() == pytest.approx(expected_decay, rel=1e-9)


@pytest.mark.parametrize(("cutoff", "size"), [*product(CUTOFFS, (7, 100)), (CUTOFFS[2], 1)])
def test_the_forecasts_of_parts_agree(cutoff: date, size: int) -> None:
    model, daily = calibration(cutoff), golden("tracks").collect()
    if size == 1:
        daily = daily.filter(pl.col("cm_track_id").is_in(FEW))
    parts = [
        build_forecasts(part.lazy(), golden("mldr"), model=model).forecasts.collect()
        for _, part in daily.group_by((pl.col("cm_track_id").rank("dense") - 1) // size)
    ]
    assert len(parts) == -(-daily["cm_track_id"].n_unique() // size)
    assert_near(pl.concat(parts).sort("cm_track_id", "month"), golden_at(cutoff, FEW if size == 1 else ()))


@pytest.mark.parametrize(("size", "tracks"), [(1, 8), (7, 35), (100, TRACKS)])
def test_however_the_tracks_are_cut_the_forecasts_are_the_same(size: int, tracks: int) -> None:
    model = calibration(CUTOFFS[2])
    daily = pl.read_parquet(GOLDEN / "tracks.parquet").sample(fraction=1, shuffle=True, seed=3)
    ids = daily["cm_track_id"].unique().sort()[:tracks]
    for chosen in (model, model.using(weight=0.25)):
        made = [
            build_forecasts(
                daily.filter(pl.col("cm_track_id").is_in(part.implode())).lazy(), golden("mldr"), model=chosen
            )
            for part in (ids, *(ids[at : at + size] for at in range(0, len(ids), size)))
        ]
        whole, *parts = pl.collect_all([one.forecasts for one in made])
        assert len(whole) > 5 * HORIZON
        assert pl.concat(parts).equals(whole)
