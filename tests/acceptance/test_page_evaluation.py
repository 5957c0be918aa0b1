"""The page says how good the forecasts were."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from forecaster.scoring import BASELINES, GROUPS, METRICS
from forecaster.scoring.metrics import Metric
from forecaster.views.page import evaluation as page_evaluation
from forecaster.views.page import render
from tests.pages import catalogue, evaluated, track
from tests.seen import (
    CONTRAST,
    NONE,
    Opener,
    column,
    overflow,
    percent,
    texts,
    whole,
)


def test_an_evaluation_says_how_good_the_forecasts_were(show_other: Opener) -> None:
    evaluation = evaluated(cutoffs=2)
    page = show_other(catalogue(track()), evaluation=evaluation, width=690)  # paper
    own = evaluation.overall.head(1)
    assert page.locator("section:has(#totals) + #evaluation").count() == 1
    best = evaluation.best_baseline.replace("_", " ")
    for name, value, more in (
        ("wape", percent(own["wape"])[0], ""),
        ("bias", percent(own["bias"], "+")[0], "too high"),
        ("within_20", percent(own["within_20"])[0], "of 60 series"),
        ("skill", percent(own["skill"], "+")[0], best),
        ("windows", f"{evaluation.windows_scored}", f"{sum(evaluation.left_out.values())} left out"),
    ):
        assert page.inner_text(f"#score-{name} dd").startswith(value)
        assert more in page.inner_text(f"#score-{name} small")
    note = page.inner_text("#scored-note")
    assert f"Worst cutoff: {evaluation.worst_cutoff}" in note
    assert f"{evaluation.left_out['not_over']} not_over" in note

    assert column(page, "#models", "WAPE") == percent(evaluation.overall["wape"])
    assert column(page, "#models", "Model")[1:] == [name.replace("_", " ") for name in BASELINES]
    frames = (evaluation.by_segment, evaluation.by_influence, evaluation.by_volume, evaluation.by_cutoff)
    for number, frame in enumerate(frames, start=1):
        box = f"#score-groups .box:nth-child({number})"
        assert column(page, box, "WAPE") == percent(frame["wape"])
        assert column(page, box, "Bias") == percent(frame["bias"], "+")
        assert column(page, box, "Series") == whole(frame["series"])
    assert column(page, "#score-groups .box:nth-child(1)", "WAPE")[0] == NONE  # nothing came of that track
    titles = page.locator("#models thead [title]").evaluate_all("heads => heads.map((head) => head.title)")
    assert {*titles} - {"tracks at a cutoff"} < {metric.formula for metric in METRICS.values()}
    assert len(titles) == 13
    page.click("#formulas summary")
    assert {*titles, *BASELINES.values()} - {"tracks at a cutoff"} <= {*texts(page, "#formulas dd")}
    page.emulate_media(media="print")
    assert overflow(page) <= 0


def test_the_error_of_each_month_ahead_is_drawn_and_can_be_read(show_other: Opener) -> None:
    evaluation = evaluated()
    by_month = evaluation.by_month
    page = show_other(catalogue(track()), evaluation=evaluation, width=360, dark=True)
    assert by_month["month"].to_list() == [1, 2, 3, 4]
    assert page.locator("#errors .chart path.error-line").count() == 1 + len(BASELINES)
    up, down = page.evaluate("""() => {
      const box = (element) => element.getBoundingClientRect();
      const bars = [...document.querySelectorAll("#errors rect.bar")].map(box);
      const zero = box([...document.querySelectorAll("#errors .base")].at(-1)).top;
      return [bars.map((bar) => bar.top < zero - 1), bars.map((bar) => bar.bottom > zero + 1)];
    }""")
    assert up == (by_month["bias"] > 0).to_list() == [True, True, True, False]
    assert down == [not above for above in up]
    page.hover("#errors .chart svg", position={"x": 70, "y": 100})
    tip = page.inner_text("#errors .tip").splitlines()
    assert tip[:2] == ["Month 1", f"WAPE {percent(by_month['wape'])[0]}"]
    page.focus("#errors .chart svg")
    page.keyboard.press("End")
    tip = page.inner_text("#errors .tip").splitlines()
    assert tip[0] == "Month 4"
    assert tip[2] == f"Bias {percent(by_month['bias'], '+')[3]}, too low"
    names = {name: name.replace("_", " ") for name in BASELINES}
    rivals = {name: percent(by_month[f"wape_{name}"]) for name in BASELINES}
    assert tip[3:8] == [f"{names[name]} {rivals[name][3]}" for name in BASELINES]
    assert f"{names[evaluation.best_baseline]} (best baseline)" in texts(page, "#errors .key .line")
    page.click("#errors summary")
    for name in BASELINES:
        assert column(page, "#errors", names[name]) == rivals[name]
    assert page.locator("#score-groups .box").count() == 3  # one cutoff needs no table
    assert overflow(page) <= 0
    assert page.evaluate(CONTRAST)[1] >= 4.5


def test_an_evaluation_that_hurts_is_drawn(show_other: Opener) -> None:
    number = pl.selectors.float()
    good = evaluated()
    none = {name: getattr(good, name).with_columns(number * np.nan) for name in ("overall", *GROUPS)}
    name = "</script><b>&"
    undefined = replace(good, **none, left_out={name: 1}, worst_cutoff=None)
    huge = {name: getattr(good, name).with_columns(number * 1e200) for name in ("overall", *GROUPS)}
    long = pl.concat([good.by_month.with_columns(month=pl.lit(month)) for month in range(1, 401)])
    long = long.unique("month", keep="first", maintain_order=True).with_columns(
        wape=pl.when(pl.col("month") % 7 > 0).then("wape"), wape_last_30_days=pl.lit(1e6)
    )
    for evaluation in (undefined, replace(good, **huge), replace(good, by_month=long)):
        shown = catalogue(track())
        page = show_other(shown, evaluation=evaluation, width=360)
        if evaluation is undefined:
            assert page.inner_text("#errors .empty") == "There is nothing to draw."
            assert {*column(page, "#models", "WAPE")} == {NONE}
            assert name in page.inner_text("#scored-note")
        else:
            page.focus("#errors .chart svg")
            page.keyboard.press("Home")
            assert page.inner_text("#errors .tip b") == "Month 1"
        assert not re.search("NaN|Infinity|undefined|null", page.inner_html("#evaluation"))
        assert overflow(page) <= 0
        assert render(shown, evaluation) == render(shown, evaluation)
    assert "leave the chart" in page.inner_text("#errors")


def test_without_an_evaluation_nothing_is_said_of_one() -> None:
    page = render(catalogue(track()))
    assert not re.search("evaluation|error-line|WAPE|[{]{2}", page)
    assert "error-line" in render(catalogue(track()), evaluated())


def test_another_metric_has_its_column_and_its_formula(
    show_other: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = Metric("nRMSE", "root of mean (f - a)^2 / mean a", pl.lit(value=None), ".3f")
    monkeypatch.setattr(page_evaluation, "METRICS", {**METRICS, "nrmse": added})
    good = evaluated()
    evaluation = replace(good, overall=good.overall.with_columns(nrmse=pl.lit(0.25)))
    page = show_other(catalogue(track()), evaluation=evaluation)
    assert {*column(page, "#models", "nRMSE")} == {"0.25"}
    page.click("#formulas summary")
    assert added.formula in texts(page, "#formulas dd")
