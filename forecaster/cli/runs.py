"""Present runs: as a table, and as JSON."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

import polars as pl

from forecaster.cli.grid import Grid
from forecaster.process.numbers import change, short
from forecaster.process.secrets import shown

_REASONS = 2  # of a run, in its line
_ERROR = 100  # characters of an error, in a line of its own

# Said once above the table if they are the same for all runs; else each is a column.
_COMMON: Mapping[str, str] = {
    "program": "forecaster {}",
    "model": "model {}",
    "horizon": "{} months",
    "host": "host {}",
}


def as_json_types(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return the rows in JSON types: dates and instants as text, jsonb as objects."""
    return [
        {name: _as_json(name, value) for name, value in row.items()} for row in rows.iter_rows(named=True)
    ]


def _as_json(name: str, value: object) -> object:
    if isinstance(value, date | datetime):
        return value.isoformat()
    if name in ("parameters", "skipped") and isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return value


def listed(runs: pl.DataFrame) -> Iterator[str]:
    """Yield the lines of a table of runs, newest first. An error has a line of its own."""
    same = [name for name in _COMMON if runs[name].n_unique() == 1]
    yield (
        ", ".join(_COMMON[name].format(runs[name][0]) for name in same)
        + ("; " if same else "")
        + "times in UTC"
    )
    differing = [name for name in _COMMON if name not in same]
    refused = ["refused"] if runs["refused"].fill_null(0).sum() else []
    headings = [
        *("run", "started", "seconds", "outcome", "as of", "tracks"),
        *refused,
        *("total", "change"),
        *differing,
        "skipped",
    ]
    cells = [[_cell(name, run) for name in headings] for run in runs.iter_rows(named=True)]
    grid = Grid(headings, left={"started", "outcome", "as of", "skipped", "program", "model", "host"})
    heading, *lines = grid.lines(cells)
    yield heading
    for line, error in zip(lines, runs["error"], strict=True):
        yield line
        if error:
            yield f"      {shown(_cut(' '.join(error.split())))}"


def _cell(name: str, run: Mapping[str, Any]) -> str:
    """Format one value of a run; "-" where it has none."""
    if name in _CELLS:
        return _CELLS[name](run)
    value = run[name]
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value}"


def _dates(first: date | None, last: date | None) -> str:
    """Show two dates in as few characters as tell both."""
    if first is None or last is None:
        return "-"
    if first == last:
        return f"{first}"
    same = f"{last:%m-%d}" if first.year == last.year else f"{last}"
    return f"{first} to {same}"


def _skipped(reasons: Mapping[str, int]) -> str:
    most = sorted(reasons.items(), key=lambda reason: (-reason[1], reason[0]))
    told = [f"{reason} {count:,}" for reason, count in most[:_REASONS]]
    told += [f"{len(most) - _REASONS} more"] if len(most) > _REASONS else []
    return f"{sum(reasons.values()):,}" + (f" ({', '.join(told)})" if told else "")


def _cut(text: str) -> str:
    return text if len(text) <= _ERROR else f"{text[: _ERROR - 3]}..."


_CELLS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "run": lambda run: f"{run['id']}",
    "started": lambda run: f"{run['started_at']:%Y-%m-%d %H:%M}",
    "seconds": lambda run: "-" if run["seconds"] is None else f"{run['seconds']:,.1f}",
    "as of": lambda run: _dates(run["as_of_from"], run["as_of_to"]),
    "total": lambda run: "-" if run["total"] is None else short(run["total"]),
    "change": lambda run: change(run["total"], run["total_before"]) or "-",
    "skipped": lambda run: _skipped(json.loads(run["skipped"])),
}
"""How the columns that are not just a value are formatted."""
