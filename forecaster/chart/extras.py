"""The libraries that draw, each in an extra of its own."""

import importlib
from collections.abc import Mapping
from typing import Literal

from forecaster.errors import MissingExtraError

Extra = Literal["plot", "term"]

_MODULES: Mapping[Extra, tuple[str, ...]] = {"plot": ("altair", "vl_convert"), "term": ("plotext",)}


def require(extra: Extra) -> None:
    """Import all that the extra holds. Raises `MissingExtraError` if it is not installed."""
    try:
        for module in _MODULES[extra]:
            importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"drawing this needs the extra {extra!r}, which is not installed ({error})",
            hint=f"pip install 'forecaster[{extra}]'",
        ) from error
