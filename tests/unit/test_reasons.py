"""Every reason has a condition and a meaning, and the documents list both it and what it means."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from forecaster.model.eligibility import REASONS, Reason, first_reason
from forecaster.model.mldr import RATE_REASONS
from forecaster.scoring import LEFT_OUT
from forecaster.scoring.past import PAST_REASONS

ROOT = Path(__file__).parents[2]
PAGES = "".join(page.read_text("utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MEANINGS = {name: reason.meaning for name, reason in {**REASONS, **RATE_REASONS}.items()} | {**PAST_REASONS}


def test_the_first_reason_that_applies_is_given() -> None:
    reasons = {
        "negative": Reason("it is negative", pl.col("n") < 0),
        "small": Reason("it is small", pl.col("n") < 10),
    }
    frame = pl.DataFrame({"n": [-1, 5, 50, None]})
    assert frame.select(first_reason(reasons)).to_series().to_list() == ["negative", "small", None, None]


@pytest.mark.parametrize("reasons", [REASONS, RATE_REASONS])
def test_every_condition_is_a_boolean(reasons: Mapping[str, Reason]) -> None:
    columns = {name for reason in reasons.values() for name in reason.applies.meta.root_names()}
    booleans = {name for name in columns if name.startswith("has_")}
    schema = {name: pl.Boolean if name in booleans else pl.Float64 for name in columns}
    types = pl.DataFrame(schema=schema).select(reason.applies.alias(name) for name, reason in reasons.items())
    assert {*types.dtypes} == {pl.Boolean}


@pytest.mark.parametrize("name", MEANINGS)
def test_the_documents_say_what_a_reason_means(name: str) -> None:
    assert f"`{name}` | {MEANINGS[name]} |" in PAGES


@pytest.mark.parametrize("name", LEFT_OUT)
def test_the_documents_list_why_a_month_is_left_out(name: str) -> None:
    assert f"`{name}` |" in PAGES
