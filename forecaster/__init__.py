"""Forecast the streams of a whole music catalogue as one columnar computation on PostgreSQL."""

from importlib import import_module
from typing import TYPE_CHECKING

from forecaster.errors import ForecasterError

if TYPE_CHECKING:
    from forecaster.model import Forecasts, build_forecasts
    from forecaster.model.calibrated.calibration import Calibration
    from forecaster.model.calibrated.total import total
    from forecaster.scoring.calibrating import calibrate

__all__ = ["Calibration", "ForecasterError", "Forecasts", "build_forecasts", "calibrate", "total"]


def __getattr__(name: str) -> object:
    """Import the model on first use: importing Polars takes time, and --help does not need it."""
    modules = {
        "Calibration": "model.calibrated.calibration",
        "calibrate": "scoring.calibrating",
        "total": "model.calibrated.total",
    }
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"forecaster.{modules.get(name, 'model')}"), name)
