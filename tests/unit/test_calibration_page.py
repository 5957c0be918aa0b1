"""The page on calibrations names the error figures that the program uses."""

import math
import re
from pathlib import Path

import pytest

from forecaster.model.calibrated.uncertainty import Errors, prior_errors

PAGE = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text("utf-8")


SIGMA = "\N{GREEK SMALL LETTER SIGMA}"


def row(name: str) -> list[float]:
    [cells] = re.findall(rf"^\| {name} \|(.*)\|$", PAGE, re.MULTILINE)[:1]
    return [float(cell) for cell in cells.split("|")]


def test_the_figures_of_other_catalogues() -> None:
    months = [int(month) for month in row("month")]
    assert months == [*range(1, 13)]
    errors = Errors()
    assert row("q, 80 %") == [errors.q(80, month) for month in months]
    assert row("q, 95 %") == [errors.q(95, month) for month in months]
    assert row(SIGMA) == [errors.sigma(month) for month in months]


@pytest.mark.parametrize(("level", "z"), [(80, 1.2816), (95, 1.96)])
def test_the_formula(level: int, z: float) -> None:
    for widened, errors in ((1.0, prior_errors(1.0)), (1.3, prior_errors(0.0))):
        for young, factor in ((True, 1.5), (False, 0.95)):
            q, sigma = widened * factor * row(f"q, {level} %")[5], widened * row(SIGMA)[5]
            assert errors.half_width(level, 6, young=young) == pytest.approx(math.hypot(q, z * sigma))
