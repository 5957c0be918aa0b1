"""Score forecasts against the streams that came later. Pure: frames in, frames out."""

from forecaster.scoring.baselines import BASELINES
from forecaster.scoring.evaluation import GROUPS, RUN_GROUPS, Evaluation, evaluate, evaluate_batches
from forecaster.scoring.metrics import METRICS, MODELS, SYMBOLS, Metric
from forecaster.scoring.windows import FORECASTER, LEFT_OUT
from forecaster.scoring.words import in_words

__all__ = [
    "BASELINES",
    "FORECASTER",
    "GROUPS",
    "LEFT_OUT",
    "METRICS",
    "MODELS",
    "RUN_GROUPS",
    "SYMBOLS",
    "Evaluation",
    "Metric",
    "evaluate",
    "evaluate_batches",
    "in_words",
]
