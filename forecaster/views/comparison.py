"""Read two states of the stored catalogue, and compare them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forecaster.errors import NoForecastError
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.ledger import Ledger, open_ledger
from forecaster.scoring.changes import Comparison, compare

Run = Mapping[str, Any]


def compared(dsn: Dsn, schema: str, runs: Sequence[str] = ()) -> Comparison:
    """Compare the catalogue after two runs, given by id or log id; by default, the last two complete ones.

    The earlier run comes first, in whatever order they are named. Raises `NoForecastError` for an unknown
    run, for one whose rows were removed, for less than two complete ones, and if no forecast was made up to
    one of them.
    """
    with open_ledger(dsn, schema) as ledger:
        before, after = sorted(_named(ledger, runs) if runs else _last(ledger), key=lambda run: run["id"])
        for run in (before, after):
            _check_rows(ledger, run)
        states = ledger.states(before["id"], after["id"])
    if states["run_before"].count() == 0:
        raise NoForecastError(
            f"there is nothing to compare: the history holds no forecast of run {before['id']} or before",
            hint="`forecaster history` lists the runs",
        )
    return compare(before, after, states)


def _named(ledger: Ledger, runs: Sequence[str]) -> Sequence[Run]:
    return [ledger.run(run).row(0, named=True) for run in runs]


def _check_rows(ledger: Ledger, run: Run) -> None:
    if removed := ledger.removed(run["id"]):
        raise NoForecastError(
            f"run {run['id']} cannot be compared: {removed:,} of its rows were removed from the history, as "
            "`forecaster history --prune` does with old rows that newer ones supersede",
            hint="compare a later run; --keep N of `history --prune` says how many runs keep their rows",
        )


def _last(ledger: Ledger) -> Sequence[Run]:
    found = ledger.last_complete(2).rows(named=True)
    if len(found) < 2:  # noqa: PLR2004 - a pair
        raise NoForecastError(
            f"compare needs two complete runs, and the history has {len(found)}",
            hint="`forecaster run` adds one; `forecaster history` lists the runs",
        )
    return found


def remarks(found: Comparison) -> Iterator[str]:
    """Warn of a total that differs from the one that the run itself recorded."""
    for run, total in ((found.before, found.total_before), (found.after, found.total_after)):
        recorded = run["total"]
        is_same_sum = run["horizon"] == found.months and recorded is not None
        if is_same_sum and abs(recorded - total) >= 1:
            yield (
                f"run {run['id']} recorded a total of {recorded:,.0f} streams at its end, and the history "
                f"adds up to {total:,.0f}: another program stored or deleted forecasts, or rows of the "
                "history were removed"
            )
