"""`total` of frames, in Python: each model with its own error figures."""

import math
from datetime import date

import polars as pl
import pytest
from scipy import stats

from forecaster import total
from forecaster.model.calibrated.calibration import Calibration, ModelErrors
from forecaster.model.calibrated.uncertainty import PRODUCTION_WIDENED, Errors, OwnErrors
from tests.calibrations import calibration

FORECASTS = pl.LazyFrame(
    {
        "cm_track_id": [1, 1, 2, 2, 3, 3],
        "cm_artist_id": [7, 7, 7, 7, 8, 8],
        "month": [1, 2] * 3,
        "time_used": [3, 4, 30, 31, 30, 31],
        "forecasted_value": [100.0, 50.0, 10.0, 5.0, 1000.0, 900.0],
    }
)
T = stats.t.ppf(0.9, 8)


def with_errors() -> Calibration:
    """Own figures of the production model only."""
    plain = calibration(date(2024, 1, 1))
    own = Errors((OwnErrors(1, origins=4, independent=4.0, sigma=0.3, sigma_cumulated=0.3),))
    return Calibration(
        plain.as_of, plain.tracks, plain.first_day, plain.rates, errors=(ModelErrors(0.0, 30, own),)
    )


def test_each_model_has_its_own_figures() -> None:
    one = with_errors()
    expected = {
        None: T * PRODUCTION_WIDENED * 0.05,
        one: T * 0.05,
        one.using(30, weight=0.0): stats.t.ppf(0.9, 10) * math.sqrt((3 * 0.05**2 + 4 * 0.3**2) / 7),
    }
    for model, half in expected.items():
        row = total(FORECASTS, model=model, horizon=2).collect().row(0, named=True)
        assert (row["tracks"], row["total"]) == (3, 1110)
        assert math.log(row["q90"] / row["total"]) == pytest.approx(half, rel=1e-3)


def test_artists_have_the_errors_of_their_tracks() -> None:
    made = total(FORECASTS, by=["cm_artist_id"], horizon=2).collect()
    assert made.select("cm_artist_id", "month", "cumulated").rows() == [
        (7, 1, 110), (7, 2, 165), (8, 1, 1000), (8, 2, 1900),
    ]  # fmt: skip
    own = PRODUCTION_WIDENED * 0.093 / 1.2816 * math.hypot(1.5 * 100, 0.95 * 10) / 110
    half = math.hypot(T * PRODUCTION_WIDENED * 0.05, 1.2816 * own)
    assert math.log(made["q90"][0] / 110) == pytest.approx(half, rel=1e-3)


def test_later_months_are_left_out() -> None:
    assert total(FORECASTS, horizon=1).collect()["month"].to_list() == [1]
