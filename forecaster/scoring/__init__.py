"""Score forecasts against the streams that came later. Pure: frames in, frames out."""

from forecaster.scoring.baselines import BASELINES
from forecaster.scoring.evaluation import GROUPS, Evaluation, evaluate
from forecaster.scoring.metrics import METRICS, MODELS, SYMBOLS
from forecaster.scoring.windows import FORECASTER, LEFT_OUT

__all__ = [
    "BASELINES",
    "FORECASTER",
    "GROUPS",
    "LEFT_OUT",
    "METRICS",
    "MODELS",
    "SYMBOLS",
    "Evaluation",
    "evaluate",
]
