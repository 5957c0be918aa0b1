"""Find the forecasts of past runs, to score them."""

import logging
from collections.abc import Iterator
from datetime import date

import polars as pl

from forecaster.errors import ConnectionLostError, DatabaseError, SchemaMismatchError
from forecaster.postgres.catalogue import Source
from forecaster.postgres.past_runs import Chosen, PastRuns, find_runs, has_history
from forecaster.process.numbers import counted
from forecaster.scoring.past_runs import forecast_months, releases
from forecaster.views.bounds import BoundsOfRuns
from forecaster.views.past import Origins

RECORDED = "history"
"""How the as-of dates of past runs are known."""

NO_AS_OF = "no_as_of"
"""Reason why a forecast in the history is not scored, in addition to `LEFT_OUT` of the evaluation."""

_log = logging.getLogger("forecaster")


def past_runs(
    source: Source, chosen: Chosen, tracks: pl.Series | None, *, months: int | None, as_of: date | None
) -> PastRuns | None:
    """Find the chosen runs, or all; None if no runs are chosen and there is nothing in the history."""
    if not chosen and not has_history(source):
        return None
    try:
        found = find_runs(source, chosen, tracks=tracks, horizon=months, as_of=as_of)
    except ConnectionLostError:
        raise
    except (SchemaMismatchError, DatabaseError) as error:
        if chosen:
            raise
        _log.warning("only the stored forecasts are scored, not the history: %s", error)
        return None
    return None if found.runs.is_empty() else found


def of_runs(past: PastRuns, days: pl.DataFrame) -> Origins:
    """Take the forecasts of past runs; they are read while they are scored.

    `days`: the days of all tracks, ordered by track and date.
    """
    is_whole = pl.col("is_whole") & (past.tracks is None)
    whole = dict(past.runs.filter(is_whole).select("run", "horizon").iter_rows())
    unknown, bounds = int(past.runs["unknown"].sum()), BoundsOfRuns.of(past.source, past.runs["run"])
    return Origins(
        _batches(past, days, bounds),
        past.spans(),
        RECORDED,
        {NO_AS_OF: unknown} if unknown else {},
        [*_remarks(past, unknown), *bounds.warnings],
        past.runs.select("run", "started"),
        factors=bounds.factors(whole),
    )


def _batches(past: PastRuns, days: pl.DataFrame, bounds: BoundsOfRuns) -> Iterator[pl.DataFrame]:
    known = releases(days)
    from_first_date = past.runs.filter(age_from="first-date")["run"].to_list()
    for said in past.batches():
        yield bounds.added(forecast_months(said, known, from_first_date=from_first_date))


def _remarks(past: PastRuns, unknown: int) -> Iterator[str]:
    if unknown:
        yield (
            f"{counted(unknown, 'forecast')} left out, because no row of the track is older, by created_at, "
            "and so its as-of date is not known; give it with --as-of DATE"
        )
    if past.as_of and not past.runs["is_imported"].any():
        yield f"--as-of {past.as_of} changes nothing for forecasts in the history: their runs recorded it"
