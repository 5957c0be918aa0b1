"""Select the tracks or artists of a run: those that it names, up to its limit."""

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.run.config import RunConfig


def named(config: RunConfig, known: pl.Series, /, *, rows: str, hint: str) -> pl.Series:
    """Keep the known ids that the run names, or all if it names none.

    Raises `NoForecastError` for an id that is not known; `rows` names, for the message, the rows it lacks.
    """
    wanted = pl.Series(config.ids, dtype=pl.Int64)
    if len(unknown := wanted.filter(~wanted.is_in(known.implode())).unique().sort()):
        raise NoForecastError(f"no {rows}: {', '.join(map(str, unknown))}", hint=hint)
    return known.filter(known.is_in(wanted.implode())) if len(wanted) else known


def limited(config: RunConfig, ids: pl.Series, /) -> pl.Series:
    """Keep the first ids, up to the limit of the run."""
    return ids if config.limit is None else ids.head(config.limit)
