"""`forecaster compare`: what moved the total from one run to another, and why."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from forecaster.cli.grid import Grid
from forecaster.cli.output import Output
from forecaster.cli.runs import as_json_types
from forecaster.cli.where import Where
from forecaster.errors import InvalidOptionError
from forecaster.files.tables import check_output_path, write_table
from forecaster.process.numbers import change, counted, short
from forecaster.scoring.changes import MOVED_BY, Comparison
from forecaster.views.comparison import compared, remarks

_MOST = 20


@dataclass(frozen=True)
class Asked:
    """The runs to compare."""

    runs: tuple[str, ...]
    out: Path | None

    def __post_init__(self) -> None:
        if len(self.runs) not in (0, 2):
            raise InvalidOptionError(
                "compare needs two runs, or none", hint="without any, it takes the last two complete runs"
            )
        if self.out:
            check_output_path(self.out)


def compare(asked: Asked, where: Where, output: Output) -> None:
    """Print both totals, their difference by cause, and the tracks that moved most."""
    with where.database() as dsn, output.doing("read"):
        found = compared(dsn, where.schema, asked.runs)
    output.warn(remarks(found))
    if asked.out:
        write_table(found.tracks, asked.out)
    output.say(
        "\n\n".join("\n".join(part) for part in (_totals(found), _causes(found), _most(found)) if part)
    )
    output.finish(
        {},
        before=found.before["id"],
        after=found.after["id"],
        months=found.months,
        difference=f"{found.difference:.0f}",
    )
    output.document(lambda: json.dumps(_document(found), indent=2))


def _totals(found: Comparison) -> list[str]:
    """Give both states: the run, what made it, its tracks and total."""
    rows = [
        _state(name, run, found.tracks[name], total)
        for name, run, total in (
            ("before", found.before, found.total_before),
            ("after", found.after, found.total_after),
        )
    ]
    tracks = found.tracks["after"].count() - found.tracks["before"].count()
    moved = [f"{found.difference:+,.0f}", change(found.total_after, found.total_before) or "-"]
    rows.append(["difference", "", "", "", f"{tracks:+,}", *moved])
    headings = ["", "run", "started", "version", "tracks", f"{found.months}-month total", ""]
    return Grid(headings, left={"", "started", "version"}).lines(rows)


def _state(name: str, run: Mapping[str, Any], streams: pl.Series, total: float) -> list[str]:
    started = f"{run['started_at']:%Y-%m-%d %H:%M}"
    tracks = f"{streams.count():,}"
    return [name, f"{run['id']}", started, run["program"], tracks, f"{total:,.0f}", short(total)]


def _causes(found: Comparison) -> list[str]:
    rows = [
        [MOVED_BY[why].title, f"{tracks:,}", f"{moved:+,.0f}" if moved else "0"]
        for why, tracks, moved in found.by_cause.iter_rows()
        if tracks
    ]
    rows.append(["sum", f"{len(found.tracks):,}", f"{found.difference:+,.0f}"])
    lines = Grid(["why", "tracks", "streams"], left={"why"}).lines(rows)
    if skipped := found.skipped_since:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in skipped.items())
        lines.append(_since(sum(skipped.values()), "skipped", f" ({reasons})"))
    if refused := found.refused_since:
        lines.append(_since(refused, "refused"))
    return lines


def _since(number: int, what: str, why: str = "") -> str:
    were = f"was {what} since, and keeps its" if number == 1 else f"were {what} since, and keep their"
    return f"{counted(number, 'track')} {were} forecast{why}"


def _most(found: Comparison) -> list[str]:
    """Give the tracks that moved most."""
    rows = [
        [
            f"{track['cm_track_id']}",
            *("-" if track[state] is None else f"{track[state]:,.0f}" for state in ("before", "after")),
            f"{track['moved']:+,.0f}",
            change(track["after"], track["before"]) or "-",
            MOVED_BY[track["why"]].title,
        ]
        for track in found.moved_most(_MOST).iter_rows(named=True)
    ]
    headings = ["track", "before", "after", "moved", "change", "why"]
    return Grid(headings, left={"why"}).lines(rows) if rows else []


def _document(found: Comparison) -> dict[str, object]:
    before, after = (as_json_types(pl.DataFrame([run])) for run in (found.before, found.after))
    return {
        "before": {**before[0], "compared": found.total_before},
        "after": {**after[0], "compared": found.total_after},
        "months": found.months,
        "difference": found.difference,
        "why": {
            why: {"tracks": tracks, "streams": moved} for why, tracks, moved in found.by_cause.iter_rows()
        },
        "skipped_since": found.skipped_since,
        "refused_since": found.refused_since,
        "moved_most": as_json_types(found.moved_most(_MOST)),
    }
