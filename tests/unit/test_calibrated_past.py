"""What the bins say about a catalogue's past agrees with forecasts and streams counted one by one."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from forecaster import Calibration, build_forecasts, calibrate
from forecaster.frames.schemas import conform
from forecaster.model.calibrated.calibrate import HANDICAP, calibration_from, independent, usable
from forecaster.model.calibrated.calibration import Choice
from forecaster.model.calibrated.fit import decays_of, fit_row, losses_of, within
from forecaster.model.calibrated.past import (
    CANDIDATES,
    Candidate,
    Origin,
    PastSums,
    decays_at,
    residual_quantiles,
    score,
)
from forecaster.model.calibrated.rows import SHIPPED, SHIPPED_ROWS, Row, Rows
from forecaster.model.calibrated.uncertainty import PRODUCTION_WIDENED
from forecaster.model.features import clean
from forecaster.scoring.calibrating import past_sums
from forecaster.tables import DAILY_STREAMS

GOLDEN = Path(__file__).parents[1] / "golden"
AS_OF = date(2022, 12, 31)
BACK = 6


class Past(NamedTuple):
    daily: pl.LazyFrame
    mldr: pl.LazyFrame
    sums: PastSums
    origins: Sequence[Origin]


@pytest.fixture(scope="module")
def past() -> Past:
    mldr = pl.scan_parquet(GOLDEN / "mldr.parquet")
    daily = clean(conform(pl.scan_parquet(GOLDEN / "tracks.parquet"), DAILY_STREAMS, name="daily"))
    known = daily.filter(pl.col("date") <= AS_OF).sort("cm_track_id", "date").drop("created_at")
    # With an MLDR for every artist, so that the production model skips no track.
    every = known.select("cm_artist_id").unique().join(mldr, on="cm_artist_id", how="left")
    every = every.with_columns(pl.col("mldr").fill_null(0.02))
    sums = past_sums(known.collect(), every, as_of=AS_OF, origins=BACK)
    return Past(known, every, sums, usable(sums))


def one_by_one(past: Past, candidate: Candidate, months: int = BACK) -> pl.DataFrame:
    """Forecast from the origin and add up the days that came after: track, month, forecast, actual.

    Of the tracks that all models forecast: the production model waits for 30 days.
    """
    origin = AS_OF - timedelta(30 * BACK)
    model = calibrate(past.daily, as_of=origin, origins=0).using(candidate.level, weight=candidate.weight)
    known = past.daily.filter(pl.col("date") <= origin)
    of_all = build_forecasts(known, past.mldr, horizon=1).forecasts
    forecasts = build_forecasts(past.daily, past.mldr, model=model, horizon=months).forecasts
    forecasts = forecasts.join(of_all, on="cm_track_id", how="semi")
    month = (pl.col("date") - origin).dt.total_days().sub(1).floordiv(30).add(1).alias("month")
    after = past.daily.filter(pl.col("date") > origin)
    actual = after.group_by("cm_track_id", month).agg(pl.len(), actual=pl.col("daily_streams").sum())
    complete = actual.filter(pl.col("len") == 30)
    return forecasts.join(complete, on=["cm_track_id", "month"]).collect().sort("cm_track_id", "month")


def decays(origin: Origin) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return np.array(Rows().decays(origin.rates, horizon=12))


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_scores_agree_with_forecasts_made_one_by_one(past: Past, candidate: Candidate) -> None:
    origin = past.origins[BACK - 1]
    assert origin.back == BACK
    scores = score(origin, candidate, decays(origin))
    expected = (
        one_by_one(past, candidate)
        .group_by("month", maintain_order=True)
        .agg(
            pl.col("actual").sum(),
            forecast=pl.col("forecasted_value").sum(),
            error=(pl.col("actual") - pl.col("forecasted_value")).abs().sum(),
        )
        .sort("month")
    )
    assert scores.actual.tolist() == pytest.approx(expected["actual"].to_list())
    assert scores.forecast.tolist() == pytest.approx(expected["forecast"].to_list(), rel=1e-5)
    # Within a bin errors are interpolated.
    off = np.abs(scores.error - expected["error"].to_numpy()) / scores.actual
    assert off.max() < 2e-3


@pytest.mark.parametrize("candidate", [Candidate(1.0, 7), Candidate(0.5, 30)])
def test_quantiles_agree_with_residuals_taken_one_by_one(past: Past, candidate: Candidate) -> None:
    origin = past.origins[BACK - 1]
    month = 3
    rows = one_by_one(past, candidate).filter(
        (pl.col("month") == month) & ((pl.col("actual") > 0) | (pl.col("forecasted_value") > 0))
    )
    with np.errstate(divide="ignore"):
        residuals = np.log(rows["actual"].to_numpy()) - np.log(rows["forecasted_value"].to_numpy())
    amounts = np.abs(residuals - np.median(residuals))
    at = CANDIDATES.index(candidate), month - 1
    number, q80, q95 = (of[at] for of in residual_quantiles([origin], [decays(origin)]))
    assert number == len(amounts)
    assert (amounts < q80).mean() == pytest.approx(0.80, abs=0.02)
    assert (amounts < q95).mean() == pytest.approx(0.95, abs=0.02)


def test_origins_are_counted_as_if_they_did_not_overlap(past: Past) -> None:
    model = calibration_from(past.sums, as_of=AS_OF, rows="shipped")
    assert model.origins == tuple(AS_OF - timedelta(30 * back) for back in range(1, BACK + 1))
    [own] = [of_model.errors.own for of_model in model.errors if (of_model.weight, of_model.level) == (1, 7)]
    assert [(one.month, one.origins) for one in own] == [(m, BACK + 1 - m) for m in range(1, BACK + 1)]
    assert [one.independent for one in own] == [(BACK - m) / m + 1 for m in range(1, BACK + 1)]
    assert independent([], months=6) == 0


def test_prior_figures_are_widened_only_without_own_ones(past: Past) -> None:
    none = calibration_from(replace(past.sums, origins=()), as_of=AS_OF).errors_of(0.0, 30)
    assert none.widened == PRODUCTION_WIDENED
    some = calibration_from(past.sums, as_of=AS_OF, rows="shipped").errors_of(0.0, 30)
    later = range(BACK + 1, 13)  # no origin has these months yet: one origin narrows none of them
    assert [some.sigma(month) for month in later] == [none.sigma(month) for month in later]
    assert [some.q(80, month) for month in later] == [none.q(80, month) for month in later]
    assert [some.sigma_cumulated(month) for month in later] == [
        none.sigma_cumulated(month) for month in later
    ]
    assert replace(some, widened=2.0).sigma(BACK) == some.sigma(BACK)


def test_shared_errors_are_those_of_totals(past: Past) -> None:
    model = calibration_from(past.sums, as_of=AS_OF, rows="shipped")
    last = model.errors_of(1.0, 7).own[-1]
    rows = one_by_one(past, Candidate(1.0, 7))
    of_month = rows.filter(pl.col("month") == BACK)

    def error(frame: pl.DataFrame) -> float:
        return abs(math.log(float(frame["actual"].sum()) / float(frame["forecasted_value"].sum())))

    assert last.sigma == pytest.approx(error(of_month), rel=1e-3)
    assert last.sigma_cumulated == pytest.approx(error(rows), rel=1e-3)


def test_a_row_alone_has_the_decay_of_the_mean(past: Past) -> None:
    rates = past.origins[0].rates
    alone = decays_of(np.array(SHIPPED), rates)
    assert alone.mean(axis=0) == pytest.approx(np.array(Rows().decays(rates, horizon=12)))
    mixed = Rows(SHIPPED[2], 0.25).decays(rates, horizon=12)
    assert 0.75 * alone.mean(axis=0) + 0.25 * alone[2] == pytest.approx(np.array(mixed))


def test_a_fitted_row_is_better_within_its_bounds_and_the_same_again(past: Past) -> None:
    row = fit_row(past.origins)
    assert fit_row(past.origins) == row
    assert Row(*within(np.array([row]))[0]) == pytest.approx(row)
    assert row.m8 + row.m26 <= 1 + 1e-12
    fitted, *shipped = losses_of(np.array([row, *SHIPPED]), past.origins)
    assert fitted < min(shipped)


def test_rows_are_used_as_asked(past: Past) -> None:
    shipped, fitted = (
        calibration_from(past.sums, as_of=AS_OF, rows=asked) for asked in ("shipped", "fitted")
    )
    assert shipped.rows == Rows()
    n = (30 * (BACK - 1)) / 360
    assert fitted.rows.fitted
    assert fitted.rows.weight == pytest.approx(n / (n + 3))
    # Half of six months is too little history to fit a row on, so auto keeps the shipped ones.
    assert calibration_from(past.sums, as_of=AS_OF, rows="auto").rows == Rows()


def test_error_figures_are_not_of_a_row_fitted_to_the_same_months(past: Past) -> None:
    shipped, fitted = (
        calibration_from(past.sums, as_of=AS_OF, rows=asked) for asked in ("shipped", "fitted")
    )
    assert fitted.rows != shipped.rows
    assert fitted.errors == shipped.errors


def test_nothing_held_out_is_fitted_on(past: Past) -> None:
    """The row that is judged on the later origins is the one that was fitted without them."""
    known = past.daily.filter(pl.col("cm_track_id") <= 60).collect()
    sums = past_sums(known, past.mldr, as_of=AS_OF, origins=14)
    model = calibration_from(sums, as_of=AS_OF, rows="auto")
    assert (model.rows_loss.asked, model.rows_loss.origins) == ("auto", 7)
    earlier = past_sums(
        known.filter(pl.col("date") <= AS_OF - timedelta(210)),
        past.mldr,
        as_of=AS_OF - timedelta(210),
        origins=7,
    )
    row = fit_row(usable(earlier))
    then = [origin._replace(back=origin.back - 7) for origin in usable(sums) if origin.back > 7]
    assert fit_row(then) == row
    assert model.rows_loss.before is not None
    assert model.rows_loss.after is not None
    if model.rows.fitted is not None:
        assert model.rows_loss.after < model.rows_loss.before


def test_the_choice_has_the_least_loss(past: Past) -> None:
    choice = calibration_from(past.sums, as_of=AS_OF, rows="shipped").choice
    assert choice.is_measured
    assert [(one.weight, one.level) for one in choice.tried] == [*CANDIDATES]
    best = min(choice.tried, key=lambda one: (one.loss or math.inf) * HANDICAP[one.level])
    assert (choice.weight, choice.level) == (best.weight, best.level)
    assert len(choice.flat) == 2


def test_each_origin_counts_the_same_in_the_choice(past: Past) -> None:
    choice = calibration_from(past.sums, as_of=AS_OF, rows="shipped").choice
    decays = decays_at(past.origins, SHIPPED_ROWS)
    for one in choice.tried:
        candidate = Candidate(one.weight, one.level)
        wapes = [score(o, candidate, of_o).wape for o, of_o in zip(past.origins, decays, strict=True)]
        assert one.loss == pytest.approx(math.prod(wapes) ** (1 / len(wapes)), rel=1e-12)
        assert one.mean == pytest.approx(math.fsum(wapes) / len(wapes), rel=1e-12)


def test_too_few_origins_choose_nothing(past: Past) -> None:
    few = replace(past.sums, origins=past.sums.origins[:2])
    assert calibration_from(few, as_of=AS_OF, rows="shipped").choice == Choice(0.5, 7)
    three = replace(past.sums, origins=past.sums.origins[:3])
    assert calibration_from(three, as_of=AS_OF, rows="shipped").choice.is_measured


def test_an_mldr_is_not_known_before_it_was_stored(past: Past) -> None:
    daily = past.daily.filter(pl.col("cm_track_id") <= 80)

    def wape(created: date | None) -> list[float | None]:
        mldr = past.mldr.with_columns(mldr=0.3, created_at=pl.lit(created, dtype=pl.Date))
        model = calibrate(daily, mldr, as_of=AS_OF, origins=BACK, rows="shipped")
        return [one.loss for one in model.choice.tried]

    zero = calibrate(daily, as_of=AS_OF, origins=BACK, rows="shipped").choice.tried
    assert wape(AS_OF) == [one.loss for one in zero]
    early = wape(AS_OF - timedelta(365))
    assert early == wape(None)
    assert early[0] != zero[0].loss
    # The calibrated model alone needs none.
    assert early[-2:] == [one.loss for one in zero[-2:]]


def test_calibrations_can_be_compared(past: Past) -> None:
    one, two = (calibration_from(past.sums, as_of=AS_OF) for _ in range(2))
    assert isinstance(one, Calibration)
    assert one == two
