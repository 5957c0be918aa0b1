"""Forecast the streams of a whole music catalogue as one columnar computation on PostgreSQL."""

from typing import TYPE_CHECKING

from forecaster.errors import ForecasterError

if TYPE_CHECKING:
    from forecaster.model import Forecasts, build_forecasts

__all__ = ["ForecasterError", "Forecasts", "build_forecasts"]


def __getattr__(name: str) -> object:
    """Import the model on first use: importing Polars takes time, and --help does not need it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from forecaster import model  # noqa: PLC0415

    return getattr(model, name)
