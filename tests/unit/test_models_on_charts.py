"""On real charts the models have the errors that the model's page promises, and their intervals hold."""

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from benchmarks.models import BOTH, PRIOR_ONLY, Origin, candidates, coverage, name_of, wape

CHARTS = Path(__file__).parents[3] / "shared" / "data" / "charts_daily.parquet"
NEAR = 0.003
MOST = 1.05  # x the best single choice in hindsight

# Of flat 30, flat 7, production, production @7, calibrated @7 and the even blend @7.
MODELS = ("flat_30", "flat_7", "0@30", "0@7", "1@7", "0.5@7")
AS_ONE: Mapping[date, tuple[float, ...]] = {
    date(2019, 9, 27): (0.315, 0.294, 0.260, 0.246, 0.271, 0.252),
    date(2019, 12, 27): (0.325, 0.293, 0.216, 0.205, 0.218, 0.205),
    date(2020, 2, 28): (0.287, 0.264, 0.201, 0.190, 0.212, 0.197),
}
WITH_MLDR: Mapping[date, tuple[float, ...]] = {
    date(2019, 9, 27): (0.315, 0.294, 0.261, 0.246, 0.271, 0.253),
    date(2019, 12, 27): (0.325, 0.293, 0.214, 0.208, 0.218, 0.210),
    date(2020, 2, 28): (0.287, 0.264, 0.220, 0.212, 0.212, 0.212),
}
APART = date(2019, 12, 27)

pytestmark = pytest.mark.skipif(not CHARTS.exists(), reason="the charts are not part of the program")


def origin(cutoff: date, by: str | None = None, mldr: float = 0.0, back: int = 24) -> Origin:
    return Origin(pl.scan_parquet(CHARTS), cutoff - timedelta(1), by, mldr, back)


def ratio_of_the_choice(measured: Origin) -> float:
    best = min(wape(measured.months, name_of(*one)) for one in candidates())
    return wape(measured.months, "auto") / best


@pytest.mark.parametrize("cutoff", AS_ONE)
def test_errors_as_one_catalogue(cutoff: date) -> None:
    measured = origin(cutoff)
    found = [wape(measured.months, name) for name in MODELS]
    assert found == pytest.approx(AS_ONE[cutoff], abs=NEAR)
    assert ratio_of_the_choice(measured) <= MOST


@pytest.mark.parametrize("cutoff", WITH_MLDR)
def test_errors_with_an_mldr(cutoff: date) -> None:
    measured = origin(cutoff, mldr=0.05, back=0)
    found = [wape(measured.months, name) for name in MODELS]
    assert found == pytest.approx(WITH_MLDR[cutoff], abs=NEAR)


def test_each_catalogue_apart() -> None:
    measured = origin(APART, "catalogue")
    assert len(measured.parts) == 54
    assert wape(measured.months, "1@7") == pytest.approx(0.243, abs=NEAR)
    assert ratio_of_the_choice(measured) <= MOST
    for kind in (PRIOR_ONLY, BOTH):
        covered = coverage(measured, "calibrated_7", 1.0, kind)
        assert covered["months_80"] == pytest.approx(0.80, abs=0.05)
        assert covered["months_95"] == pytest.approx(0.95, abs=0.03)
        for name in ("totals_80", "cumulated_80"):
            assert covered[name] == pytest.approx(0.80, abs=0.10)
