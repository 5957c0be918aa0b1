"""The libraries that draw, each in an extra of its own."""

import importlib
import sys
from collections.abc import Mapping
from typing import Literal

from forecaster.errors import MissingExtraError

Extra = Literal["plot", "term"]

_MODULES: Mapping[Extra, tuple[str, ...]] = {"plot": ("altair", "vl_convert"), "term": ("plotext",)}


def require(extra: Extra) -> None:
    """Import all that the extra holds. Raises `MissingExtraError` if it is not installed."""
    if sys.flags.optimize > 1 and extra == "plot":
        raise MissingExtraError(
            "drawing this needs the docstrings of altair, which Python leaves out here",
            hint="it is run with PYTHONOPTIMIZE=2 or -OO; at most 1 works",
        )
    try:
        for module in _MODULES[extra]:
            importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"drawing this needs the extra {extra!r}, which is not installed ({error})",
            hint=f"pip install 'forecaster[{extra}]'",
        ) from error
