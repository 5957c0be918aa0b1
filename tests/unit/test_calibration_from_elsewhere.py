"""A calibration from elsewhere: what cannot be computed with is refused, also with a checksum that agrees."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from forecaster.errors import CalibrationError
from forecaster.model.calibrated.calibration import LARGEST, Calibration, ModelErrors
from forecaster.model.calibrated.rows import SHIPPED, Rows
from forecaster.model.calibrated.uncertainty import Errors, OwnErrors, with_quantiles
from tests.calibrations import RATES, calibration

DAY = date(2024, 1, 1)
OWN = OwnErrors(3, 5, 2.5, 0.1, 0.2, 100, 0.3, 0.6)


def with_own(**figures: Any) -> Calibration:
    one = ModelErrors(1.0, 7, Errors((replace(OWN, **figures),)))
    return replace(calibration(DAY), errors=(one,))


WHOLE = replace(with_own(), rows=Rows(SHIPPED[0], 0.25))

IMPOSSIBLE: dict[str, Any] = {
    "a count that is text": replace(WHOLE, tracks="3"),  # type: ignore[arg-type]
    "a count below 0": replace(WHOLE, tracks=-1),
    "a count that is a truth value": replace(WHOLE, tracks=True),
    "a count beyond 64 bits": replace(WHOLE, tracks=2**70),
    "a count with a fraction": replace(WHOLE, tracks=3.5),  # type: ignore[arg-type]
    "origins that are not over": replace(WHOLE, origins=(DAY + timedelta(1),)),
    "a first day after the last": replace(WHOLE, first_day=DAY + timedelta(1)),
    "rates that are text": replace(WHOLE, rates=RATES._replace(rates=(("0.1",) * 3,) * 3)),  # type: ignore[arg-type]
    "rates that are huge": replace(WHOLE, rates=RATES._replace(rates=((1e300,) * 3,) * 3)),
    "rates that are missing": replace(WHOLE, rates=RATES._replace(rates=RATES.rates[:2])),
    "rates in another shape": replace(WHOLE, rates=RATES._replace(whole=(0.1, 0.2))),
    "slopes that are huge": replace(WHOLE, rates=RATES._replace(slopes=((-1e9, None, 0.0),) * 3)),
    "a row that divides by 0": replace(WHOLE, rows=Rows(SHIPPED[0]._replace(theta=0.0), 0.25)),
    "a row of text": replace(WHOLE, rows=Rows(SHIPPED[0]._replace(cap="1"), 0.25)),  # type: ignore[arg-type]
    "a weight above 1": replace(WHOLE, rows=Rows(SHIPPED[0], 1.5)),
    "a model that does not exist": replace(WHOLE, choice=replace(WHOLE.choice, level=8)),
    "a blend beyond both": replace(WHOLE, choice=replace(WHOLE.choice, weight=-0.25)),
    "a truth that is a number": replace(WHOLE, choice=replace(WHOLE.choice, is_measured=1)),  # type: ignore[arg-type]
    "a month that is not measured": with_own(month=13),
    "month 0": with_own(month=0),
    "a spread below 0": with_own(sigma=-0.1),
    "a quantile without bounds": with_own(q95=1e200),
    "origins below 0": with_own(independent=-3.0),
    "priors of width 0": replace(WHOLE, errors=(ModelErrors(1.0, 7, Errors((), 0.0)),)),
}


def test_one_that_is_whole_comes_back() -> None:
    assert Calibration.from_json(WHOLE.to_json()) == WHOLE


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_values(case: str) -> None:
    text = IMPOSSIBLE[case].to_json()
    assert json.loads(text)["checksum"] == IMPOSSIBLE[case].checksum
    with pytest.raises(CalibrationError, match=r"^x has values that no calibration has$") as caught:
        Calibration.from_json(text, name="x")
    assert "forecaster calibrate" in f"{caught.value.hint}"


def written(change: Callable[[dict[str, Any]], object]) -> str:
    found = json.loads(WHOLE.to_json())
    change(found)
    return json.dumps(found, separators=(",", ":"))


TEXTS: dict[str, str] = {
    "NaN": WHOLE.to_json().replace("0.25", "NaN", 1),
    "infinity": WHOLE.to_json().replace("0.25", "-Infinity", 1),
    "a float that is infinite": WHOLE.to_json().replace("0.25", "1e999", 1),
    "a number with many digits": WHOLE.to_json().replace('"tracks":3', f'"tracks":{"9" * 5000}'),
    "a key twice": WHOLE.to_json().replace('"tracks":3', '"tracks":3,"tracks":3'),
    "an additional key": written(lambda found: found.update(more=1)),
    "a missing key": written(lambda found: found.pop("rates")),
    "a list in place of a table": written(lambda found: found.update(rows=[1, 2])),
    "no table": written(lambda found: found.update(choice=None)),
    "a day that is a number": written(lambda found: found.update(as_of=20240101)),
    "a day of no calendar": written(lambda found: found.update(as_of="2024-02-31")),
    "deep lists": WHOLE.to_json().replace('"whole":', f'"whole":{"[" * 900}{"]" * 900},"w":'),
    "deeper lists": "[" * 200_000,
    "a form of text": written(lambda found: found.update(form="1" * 1_000_000)),
    "a form that is huge": written(lambda found: found.update(form=10**4000)),
    "a mark at the beginning": f"\ufeff{WHOLE.to_json()}",
    "a byte of 0": f"{WHOLE.to_json()}\0",
    "too long": f'{{"form":1,"x":"{"x" * LARGEST}"}}',
}


@pytest.mark.parametrize("case", TEXTS)
def test_other_texts(case: str) -> None:
    with pytest.raises(CalibrationError, match=r"^x (was changed|is not a calibration)") as caught:
        Calibration.from_json(TEXTS[case], name="x")
    assert len(f"{caught.value}") < 100


def test_one_that_is_cut_off() -> None:
    text = WHOLE.to_json()
    for end in range(0, len(text), 41):
        with pytest.raises(CalibrationError, match="is not a calibration"):
            Calibration.from_json(text[:end])


def test_the_widest_intervals_are_numbers() -> None:
    forecasts = pl.LazyFrame({"month": [1, 400], "time_used": [1, 400], "forecasted_value": [10.0, 10.0]})
    errors = Errors((replace(OWN, month=1, sigma=1e3, q80=1e3, q95=1e3, residuals=1000),))
    found = with_quantiles(forecasts, errors, horizon=400).collect()
    assert found.select(pl.all().is_finite().all()).row(0) == (True,) * found.width
