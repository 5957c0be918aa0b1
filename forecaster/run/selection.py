"""Select the tracks or artists of a run: those that it names, at most as many as it is limited to."""

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.run.config import RunConfig


def named(config: RunConfig, known: pl.Series, /, *, rows: str, hint: str) -> pl.Series:
    """Keep the known ids that the run names, or all if it names none.

    Raises `NoForecastError` for an id that is not known; `rows` says what it has none of, in words.
    """
    wanted = pl.Series(config.ids, dtype=pl.Int64)
    if len(unknown := wanted.filter(~wanted.is_in(known.implode())).unique().sort()):
        raise NoForecastError(f"no {rows}: {', '.join(map(str, unknown))}", hint=hint)
    return known.filter(known.is_in(wanted.implode())) if len(wanted) else known


def limited(config: RunConfig, ids: pl.Series, /) -> pl.Series:
    """Keep at most as many ids as the run is limited to, in their order."""
    return ids if config.limit is None else ids.head(config.limit)
