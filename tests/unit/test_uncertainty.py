"""How sure a forecast is: the contract's formulas, worked by hand."""

import math
from itertools import pairwise

import polars as pl
import pytest
from scipy import stats

from forecaster.model.calibrated.uncertainty import (
    PRODUCTION_WIDENED,
    Errors,
    OwnErrors,
    prior_errors,
    student_t,
    totals,
    track_totals,
    with_quantiles,
)
from forecaster.tables import QUANTILES

PRIOR = Errors()


def forecasts(tracks: int = 1, *, months: int = 3, age: int = 20, streams: float = 100.0) -> pl.LazyFrame:
    """`tracks` equal tracks of this age, one artist for each two of them."""
    return pl.LazyFrame({"cm_track_id": range(tracks)}).join(
        pl.LazyFrame({"month": range(1, months + 1)}), how="cross"
    ).select(
        "cm_track_id",
        "month",
        cm_artist_id=pl.col("cm_track_id") // 2,
        time_used=age + pl.col("month") - 1,
        forecasted_value=pl.lit(streams),
    )  # fmt: skip


def first(frame: pl.LazyFrame, month: int = 1) -> dict[str, float]:
    return frame.filter(pl.col("month") == month).collect().row(0, named=True)


@pytest.mark.parametrize(("age", "factor"), [(5, 1.5), (6, 0.95), (200, 0.95)])
def test_a_track_has_the_width_of_the_formula(age: int, factor: float) -> None:
    row = first(with_quantiles(forecasts(age=age), PRIOR, horizon=3), month=3)
    half_80 = math.sqrt((factor * 0.265) ** 2 + (1.2816 * 0.146) ** 2)
    half_95 = math.sqrt((factor * 0.494) ** 2 + (1.96 * 0.146) ** 2)
    exponents = (-half_95, -half_80, 0, half_80, half_95)
    assert [row[name] for name in QUANTILES] == pytest.approx([100 * math.exp(x) for x in exponents])


def test_quantiles_ascend_and_nothing_else_changes() -> None:
    made = with_quantiles(forecasts(3, months=400), PRIOR, horizon=400).collect()
    assert made.drop(QUANTILES).equals(forecasts(3, months=400).collect())
    for lower, higher in pairwise(QUANTILES):
        assert (made[lower] < made[higher]).all()
    assert made["q975"].is_finite().all()


def test_a_forecast_of_zero_has_no_width() -> None:
    row = first(with_quantiles(forecasts(streams=0.0), PRIOR, horizon=3))
    assert [row[name] for name in QUANTILES] == [0.0] * 5
    row = first(totals(forecasts(2, streams=0.0), PRIOR, horizon=3, is_group=True))
    assert [row[name] for name in QUANTILES] == [0.0] * 5


def test_later_months_grow_by_the_root_of_time() -> None:
    assert PRIOR.sigma(48) == pytest.approx(2 * PRIOR.sigma(12))
    assert PRIOR.q(95, 48) == pytest.approx(2 * PRIOR.q(95, 12))
    assert PRIOR.sigma_cumulated(48) == pytest.approx(0.4)


def test_cumulated_errors_are_linear_in_the_logarithm_of_the_month() -> None:
    expected = {1: 0.05, 3: 0.10, 6: 0.14, 9: 0.14 + 0.06 * math.log(1.5) / math.log(2), 12: 0.20}
    assert [PRIOR.sigma_cumulated(month) for month in expected] == pytest.approx([*expected.values()])


@pytest.mark.parametrize(("level", "p"), [(80, 0.90), (95, 0.975)])
def test_student_t_agrees_with_scipy(level: int, p: float) -> None:
    for df in (6.0, 7.3, 8.0, 12.5, 30.0, 1e6):
        assert student_t(level, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-4)


def test_the_total_of_a_catalogue_has_the_shared_error_alone() -> None:
    for tracks in (1, 1000):
        row = first(totals(forecasts(tracks), PRIOR, horizon=3, is_group=False), month=3)
        assert (row["total"], row["cumulated"]) == (100 * tracks, 300 * tracks)
        t = stats.t.ppf(0.9, 8)
        assert row["q90"] == pytest.approx(100 * tracks * math.exp(t * 0.146), rel=1e-4)
        assert row["cumulated_q10"] == pytest.approx(300 * tracks * math.exp(-t * 0.10), rel=1e-4)


def test_a_group_adds_its_own_part_which_fades_with_its_size() -> None:
    one, many = (
        first(totals(forecasts(tracks), PRIOR, horizon=3, is_group=True), month=3) for tracks in (1, 10_000)
    )
    spread = 0.95 * 0.265 / 1.2816
    half = math.hypot(stats.t.ppf(0.975, 8) * 0.146, 1.96 * spread)
    assert one["q975"] == pytest.approx(100 * math.exp(half), rel=1e-4)
    shared = stats.t.ppf(0.975, 8) * 0.146
    assert math.log(many["q975"] / many["total"]) == pytest.approx(shared, rel=1e-3)
    # The errors of a track's months go together.
    alone = 0.95 * (0.093 + 0.194 + 0.265) / 1.2816 / 3
    half = math.hypot(stats.t.ppf(0.975, 8) * 0.10, 1.96 * alone)
    assert one["cumulated_q975"] == pytest.approx(300 * math.exp(half), rel=1e-4)


def test_groups_are_totalled_apart() -> None:
    made = totals(forecasts(4), PRIOR, horizon=3, by=["cm_artist_id"], is_group=True).collect()
    assert made.select("cm_artist_id", "month").rows() == [(a, m) for a in (0, 1) for m in (1, 2, 3)]
    assert made["tracks"].unique().to_list() == [2]
    pair = first(totals(forecasts(2), PRIOR, horizon=3, is_group=True))
    assert made.row(0, named=True) == {"cm_artist_id": 0} | pair


def test_own_figures_count_by_independent_origins() -> None:
    own = OwnErrors(6, 13, 3.0, 0.4, 0.3, 500, 0.8, 1.6)
    errors = Errors((own,))
    assert errors.sigma(6) == pytest.approx(math.sqrt((3 * 0.238**2 + 3 * 0.4**2) / 6))
    assert errors.sigma_cumulated(6) == pytest.approx(math.sqrt((3 * 0.14**2 + 3 * 0.3**2) / 6))
    assert errors.q(80, 6) == pytest.approx(math.sqrt(0.420 * 0.8))
    assert errors.q(95, 6) == pytest.approx(math.sqrt(0.738 * 1.6))
    assert (errors.df(6), errors.df(5), PRIOR.df(6)) == (9, 8, 8)
    assert errors.sigma(5) == PRIOR.sigma(5)


def test_few_residuals_do_not_count() -> None:
    for residuals, is_prior in ((20, True), (21, False)):
        own = OwnErrors(1, 2, 2.0, 0.1, 0.1, residuals, 0.5, 0.9)
        assert (Errors((own,)).q(80, 1) == PRIOR.q(80, 1)) is is_prior
        assert Errors((own,)).sigma(1) != PRIOR.sigma(1)


def test_without_origins_the_production_model_is_less_sure() -> None:
    for weight, factor in ((1.0, 1.0), (0.5, PRODUCTION_WIDENED**0.5), (0.0, PRODUCTION_WIDENED)):
        errors = prior_errors(weight)
        for month in (1, 12, 24):
            assert errors.sigma(month) == pytest.approx(factor * PRIOR.sigma(month))
            assert errors.q(80, month) == pytest.approx(factor * PRIOR.q(80, month))
            assert errors.sigma_cumulated(month) == pytest.approx(factor * PRIOR.sigma_cumulated(month))


def test_the_total_of_each_track_is_that_of_its_last_month() -> None:
    own = Errors(tuple(OwnErrors(m, 4, 4.0 / m, 0.1 * m, 0.2 * m, 50, 0.3, 0.6) for m in (1, 2, 3)))
    mixed = pl.concat(
        [forecasts(3, months=14, age=3), forecasts(4, streams=7.0).filter(pl.col("cm_track_id") == 3)]
    ).with_columns(pl.col("forecasted_value") * pl.col("month"))
    by = totals(mixed.with_columns(track="cm_track_id"), own, horizon=14, by=["track"], is_group=True)
    last = by.group_by(cm_track_id="track", maintain_order=True).last().collect()
    made = track_totals(mixed, own, horizon=14).collect()
    assert made["cm_track_id"].to_list() == [0, 1, 2, 3]
    for name in made.columns:
        assert made[name].to_list() == pytest.approx(last[name].to_list(), rel=1e-12)
