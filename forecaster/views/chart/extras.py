"""The drawing libraries, each in its own extra."""

import importlib
import sys
from collections.abc import Mapping
from typing import Literal

from forecaster.errors import MissingExtraError

Extra = Literal["plot", "term"]

_MODULES: Mapping[Extra, tuple[str, ...]] = {"plot": ("altair", "vl_convert"), "term": ("plotext",)}


def require(extra: Extra) -> None:
    """Import the libraries of the extra. Raises `MissingExtraError` if it is not installed."""
    if sys.flags.optimize > 1 and extra == "plot":
        raise MissingExtraError(
            "altair needs docstrings, which Python removes at this level of optimization",
            hint="run without -OO, and with PYTHONOPTIMIZE at most 1",
        )
    try:
        for module in _MODULES[extra]:
            importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"drawing this needs the extra {extra!r}, which is not installed ({error})",
            hint=f"pip install 'forecaster[{extra}]'",
        ) from error
