"""Forecasts as of an earlier day with a calibration of that day."""

import math
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster import build_forecasts, calibrate
from forecaster.model.calibrated.uncertainty import student_t
from forecaster.model.parameters import Parameters
from forecaster.scoring import evaluate, in_words
from forecaster.scoring.past import KnownDays
from forecaster.scoring.past_models import CalibratedPast, calibrated_past
from forecaster.scoring.totals import factors_of
from forecaster.setup.sample import sample_catalogue

CUTOFF = date(2024, 1, 1)
STREAMS, RATES = sample_catalogue(40)
MLDR = RATES.select("cm_artist_id", pl.col("mldr").cast(pl.Float64))
SIX = Parameters(horizon=6)


def made(streams: pl.DataFrame, name: str, level: int | None = None) -> CalibratedPast:
    known = KnownDays.of(streams.sort("cm_track_id", "date"))
    return calibrated_past(known, MLDR, cutoff=CUTOFF, parameters=SIX, name=name, level=level)


@pytest.mark.parametrize("name", ["calibrated", "auto"])
def test_nothing_from_the_cutoff_on_has_any_influence(name: str) -> None:
    is_later = pl.col("date") >= CUTOFF
    other = STREAMS.with_columns(daily_streams=pl.when(is_later).then(7).otherwise("daily_streams"))
    found, changed = made(STREAMS, name), made(other, name)
    forecasts = found.forecasts.forecasts.collect()
    assert_frame_equal(changed.forecasts.forecasts.collect(), forecasts, check_exact=True)
    before = STREAMS.lazy().filter(~is_later)
    calibration = calibrate(before, MLDR.lazy())
    assert found.model.calibration.id == calibration.id
    model = calibration.chosen() if name == "auto" else calibration.using()
    built = build_forecasts(before, MLDR.lazy(), horizon=6, model=model).forecasts.collect()
    assert forecasts["forecasted_value"].to_list() == built["forecasted_value"].round().to_list()
    assert forecasts["as_of"].unique().to_list() == [CUTOFF - timedelta(days=1)]


def test_from_another_level() -> None:
    found = made(STREAMS, "calibrated", 30)
    assert f"{found}" == "2024-01-01 calibrated from 30 days"
    before = STREAMS.lazy().filter(pl.col("date") < CUTOFF)
    model = found.model.calibration.using(30)
    built = build_forecasts(before, MLDR.lazy(), horizon=6, model=model).forecasts.collect()
    values = found.forecasts.forecasts.collect()["forecasted_value"].to_list()
    assert values == built["forecasted_value"].round().to_list()
    assert values != made(STREAMS, "calibrated").forecasts.forecasts.collect()["forecasted_value"].to_list()


def test_the_production_model_stands_beside_it_as_of_the_same_day() -> None:
    found = made(STREAMS, "calibrated")
    before = STREAMS.lazy().filter(pl.col("date") < CUTOFF)
    as_of = CUTOFF - timedelta(days=1)
    production = build_forecasts(before, MLDR.lazy(), horizon=6, as_of=as_of).forecasts.collect()
    both = found.forecasts.forecasts.collect().join(production, on=["cm_track_id", "month"])
    assert len(both) > 100
    assert both["production"].to_list() == both["forecasted_value_right"].round().to_list()


def test_totals_have_the_factors_of_the_errors_that_all_tracks_share() -> None:
    found = made(STREAMS, "calibrated")
    forecasts = found.forecasts.forecasts.collect()
    errors = found.model.errors
    factors = factors_of(errors, horizon=6).with_columns(cutoff=pl.lit(CUTOFF))
    for of, sigma in (("month", errors.sigma(3)), ("cumulated", errors.sigma_cumulated(3))):
        row = factors.filter(of=of, month=3).row(0, named=True)
        assert row["q90"] == pytest.approx(math.exp(student_t(80, errors.df(3)) * sigma))
        assert row["q025"] == pytest.approx(math.exp(-student_t(95, errors.df(3)) * sigma))
        assert row["cutoff"] == CUTOFF
    scored = evaluate(forecasts, STREAMS, totals=factors)
    assert scored.by_total["inside_80"].null_count() == 0
    assert scored.others.keys() == {"production"}
    assert any(words.startswith("The production model was") for words in in_words(scored))
    # So many of the actual months are within the bounds, by a look at each.
    months = scored.months.collect()
    inside = months.filter(pl.col("actual").is_between("q10", "q90"))
    assert scored.overall["inside_80"][0] == pytest.approx(len(inside) / len(months))


def test_what_it_was_made_with() -> None:
    assert f"{made(STREAMS, 'calibrated')}" == "2024-01-01 calibrated from 7 days"


def test_a_gap_before_the_cutoff_stops_no_evaluation() -> None:
    """Only a day after the newest one is refused."""
    in_gap = pl.col("date").is_between(CUTOFF - timedelta(5), CUTOFF - timedelta(1))
    found = made(STREAMS.filter(~in_gap), "calibrated")
    assert found.model.calibration.as_of == CUTOFF - timedelta(1)
    assert found.forecasts.forecasts.collect()["cm_track_id"].n_unique() > 20
