"""The data of an evaluation that the page shows."""

from typing import TYPE_CHECKING

import polars as pl
from polars import selectors

from forecaster.scoring import FORECASTER, GROUPS, LEFT_OUT, METRICS, in_words

if TYPE_CHECKING:
    from forecaster.scoring import Evaluation

_GROUP_SCORES = ("series", "windows", "wape", "bias", "within_20", "skill")


def evaluated(evaluation: "Evaluation") -> dict[str, object]:
    """Convert an evaluation for the script: frames as columns, and the text for each name."""
    worst = evaluation.worst_cutoff
    return {
        "overall": _scores(evaluation.overall),
        **{
            name: _scores(getattr(evaluation, name).select(by, *_GROUP_SCORES)) for name, by in GROUPS.items()
        },
        "words": in_words(evaluation),
        "rivals": _scores(evaluation.by_month.select(f"wape_{name}" for name in evaluation.baselines)),
        "missing": dict(evaluation.missing),
        "by_total": _scores(evaluation.by_total),
        "scored": evaluation.windows_scored,
        "left_out": [
            {"name": name, "meaning": LEFT_OUT.get(name, ""), "months": months}
            for name, months in evaluation.left_out.items()
        ],
        "best": evaluation.best_baseline,
        "worst": worst.isoformat() if worst else None,
        "forecaster": FORECASTER,
        "baselines": dict(evaluation.baselines),
        "metrics": {
            name: {"heading": metric.heading, "formula": metric.formula, "form": metric.form}
            for name, metric in METRICS.items()
            if metric.needs is None or evaluation.overall[name].count()
        },
    }


def _scores(frame: pl.DataFrame) -> dict[str, list[object]]:
    numbers, dates = selectors.float(), selectors.date()
    return frame.with_columns(
        pl.when(numbers.is_finite()).then(numbers.round_sig_figs(8)), dates.dt.to_string("%Y-%m-%d")
    ).to_dict(as_series=False)
