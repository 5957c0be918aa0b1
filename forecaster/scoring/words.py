"""What an evaluation found, in plain words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from forecaster.scoring.baselines import SPOKEN

if TYPE_CHECKING:
    from forecaster.scoring.evaluation import Evaluation

_HALF_PERCENT = 0.005
_WORTH_SAYING = 0.01
_HUGE = 100
_EQUAL = 0.005
"""Of skill: it is shown with two digits."""


def in_words(evaluation: "Evaluation") -> list[str]:
    """Say how good the forecasts were, each sentence or two as one paragraph: the worst news first."""
    parts = (_unscored, _errors, _others, _rival, _intervals, _origins)
    return [text for part in parts for text in [" ".join(part(evaluation))] if text]


def _unscored(evaluation: "Evaluation") -> Iterator[str]:
    scored, asked = int(evaluation.by_month["month"].to_list()[-1]), evaluation.horizon
    if asked and scored < asked:
        yield f"Only {_months(scored)} of the {asked} asked for can be scored: the streams end before."


def _errors(evaluation: "Evaluation") -> Iterator[str]:
    own = evaluation.overall.row(0, named=True)
    last = int(evaluation.by_month["month"].to_list()[-1])
    have_it = evaluation.totals.filter(of="month", month=last)
    months = ("up to " if len(have_it) < evaluation.origins.number else "") + _months(last)
    if own["wape"] is None:
        yield f"Over {months}, no streams came: the error has no size."
        return
    bias = own["bias"]
    way = "too high" if bias > 0 else "too low"
    side = "right in total" if abs(bias) < _HALF_PERCENT else f"{percent(abs(bias))} {way}"
    yield f"Over {months}, forecasts were {percent(own['wape'])} off and {side}."


def _others(evaluation: "Evaluation") -> Iterator[str]:
    own, *models = evaluation.overall.iter_rows(named=True)
    for model in models:
        same = evaluation.own_wape[model["model"]]
        if model["model"] in evaluation.others and same is not None:
            verdict = _verdict(1 - same / model["wape"] if model["wape"] else -1.0)
            is_part = model["windows"] < own["windows"]
            but = f", which was {percent(same)} off in the months that both have" if is_part else ""
            yield f"The {model['model']} model was {percent(model['wape'])} off: {verdict} this one{but}."


def _verdict(skill: float) -> str:
    """Judge a rival by the skill against it."""
    return "as good as" if abs(skill) < _EQUAL else "worse than" if skill > 0 else "better than"


def _rival(evaluation: "Evaluation") -> Iterator[str]:
    best, skill = evaluation.best_baseline, evaluation.overall.row(0, named=True)["skill"]
    error = dict(evaluation.overall.select("model", "wape").iter_rows())[best]
    if skill is None or error is None:
        return
    yield f"{SPOKEN[best]} was {percent(error)} off: {_verdict(skill)} this model."
    lacking = evaluation.missing[best] / evaluation.windows_scored
    if lacking >= _WORTH_SAYING:
        yield f"(It has no forecast for {percent(lacking)} of the months.)"


def _intervals(evaluation: "Evaluation") -> Iterator[str]:
    own = evaluation.overall.row(0, named=True)
    found = [(level, own[f"inside_{level}"]) for level in (80, 95) if own[f"inside_{level}"] is not None]
    if found:
        held = " and ".join(f"the {level} % intervals held {percent(share)}" for level, share in found)
        yield f"Of the months that came, {held}."


def _origins(evaluation: "Evaluation") -> Iterator[str]:
    origins, skill = evaluation.origins, evaluation.overall.row(0, named=True)["skill"]
    if skill is None:
        return
    against = f"Skill against {evaluation.best_baseline}: {_signed(skill)}"
    if origins.number == 1 or origins.lowest is None or origins.highest is None:
        yield f"{against}, from one origin: another day may say something else."
        return
    yield f"{against}; by origin {_signed(origins.lowest)} to {_signed(origins.highest)}."
    if origins.is_overlapping:
        yield (
            f"The {origins.number} origins overlap, so they are not independent: they say as much as about "
            f"{origins.independent:.2g}."
        )


def _signed(skill: float) -> str:
    return f"{skill:+.2f}" if abs(skill) < _HUGE else f"{skill:+.1e}"


def _months(number: int) -> str:
    return "1 month" if number == 1 else f"{number} months"


def percent(share: float) -> str:
    """Write a share such as "27 %": below 1 % with a digit after the point, and no huge numbers."""
    if abs(share) >= _HUGE:
        return f"over {_HUGE * 100:,} %"
    digits = 1 if 0 < abs(share) < 2 * _HALF_PERCENT else 0
    return f"{share * 100:,.{digits}f} %"
