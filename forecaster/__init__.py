"""Forecast the streams of a whole music catalogue as one columnar computation on PostgreSQL."""

from forecaster.errors import ForecasterError
from forecaster.model import Forecasts, build_forecasts

__all__ = ["ForecasterError", "Forecasts", "build_forecasts"]
