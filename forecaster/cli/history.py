"""`forecaster history`: list runs, show one track's forecasts over time, remove old ones."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from forecaster.cli.output import Output
from forecaster.cli.over_time import OverTime
from forecaster.cli.runs import as_json_types, listed
from forecaster.cli.where import Where
from forecaster.errors import InvalidOptionError, NoForecastError
from forecaster.files.tables import check_output_path, write_table
from forecaster.postgres.ledger import open_ledger
from forecaster.postgres.pruning import Pruned, prune
from forecaster.scoring.since import with_streams_since


@dataclass(frozen=True)
class Asked:
    """What to show, or to remove."""

    track_id: int | None
    last: int
    prune: bool
    keep: int | None
    dry_run: bool
    out: Path | None

    def __post_init__(self) -> None:
        if self.prune:
            self._check_pruning()
        elif self.keep is not None or self.dry_run:
            raise InvalidOptionError(f"--{'dry-run' if self.dry_run else 'keep'} needs --prune")
        if self.out:
            check_output_path(self.out)

    def _check_pruning(self) -> None:
        if self.keep is None:
            raise InvalidOptionError(
                "--prune needs --keep N", hint="the rows of the last N runs stay, such as 400"
            )
        for name, value in (("track-id", self.track_id), ("out", self.out)):
            if value is not None:
                raise InvalidOptionError(f"--prune and --{name} contradict each other")


def history(asked: Asked, where: Where, output: Output) -> None:
    """Print the runs, or the forecasts of a track; or remove old rows."""
    if asked.prune:
        _prune(asked, where, output)
    elif asked.track_id is not None:
        _show_track(asked.track_id, asked, where, output)
    else:
        _list_runs(asked, where, output)


def _list_runs(asked: Asked, where: Where, output: Output) -> None:
    with where.database() as dsn, output.doing("read"), open_ledger(dsn, where.schema) as ledger:
        runs, number = ledger.runs(asked.last), ledger.number_of_runs()
    more = number - len(runs)
    if asked.out:
        write_table(runs, asked.out)
    if len(runs):
        output.say("\n".join([*listed(runs), *_earlier(more)]))
    output.finish({}, runs=len(runs), more=more)
    output.document(lambda: json.dumps({"runs": as_json_types(runs), "more": more}, indent=2))


def _show_track(track_id: int, asked: Asked, where: Where, output: Output) -> None:
    with where.database() as dsn, output.doing("read"), open_ledger(dsn, where.schema) as ledger:
        every, days = ledger.track(track_id), ledger.days(track_id)
    if every.is_empty():
        raise NoForecastError(
            f"track {track_id} has no row in the history",
            hint="check the id and --schema; `forecaster run` adds a row for each track that it looks at",
        )
    rows = every.head(asked.last)
    months = with_streams_since(rows, days)
    if asked.out:
        write_table(_long(rows, months), asked.out)
    more = len(every) - len(rows)
    output.say("\n".join([f"{OverTime(rows, months)}", *_earlier(more)]))
    counts = {"forecasts": rows["months"].count(), "months_over": months["actual"].count()}
    output.finish({}, track=track_id, runs=len(rows), more=more, **counts)
    output.document(lambda: json.dumps(_document(track_id, rows, months, more), indent=2))


def _earlier(more: int) -> Iterator[str]:
    if more:
        yield f"and {more:,} earlier; --last N shows more"


def _long(rows: pl.DataFrame, months: pl.DataFrame) -> pl.DataFrame:
    """Join both: one row per run and month; a run that skipped the track has one row."""
    return rows.drop("months").join(months, on="run", how="left", maintain_order="left_right")


def _document(track_id: int, rows: pl.DataFrame, months: pl.DataFrame, more: int) -> dict[str, object]:
    of_run = months.group_by("run").agg(months=pl.struct(pl.all().exclude("run")).sort_by("month"))
    joined = rows.drop("months").join(of_run, on="run", how="left", maintain_order="left")
    return {"cm_track_id": track_id, "runs": as_json_types(joined), "more": more}


def _prune(asked: Asked, where: Where, output: Output) -> None:
    keep = asked.keep or 0
    with where.database() as dsn, output.doing("examine" if asked.dry_run else "remove"):
        pruned = prune(dsn, where.schema, keep=keep, dry_run=asked.dry_run)
    would = " (dry run)" if asked.dry_run else ""
    output.finish(
        {
            f"runs with rows, before the last {keep:,}": f"{len(pruned.runs):,}{_span(pruned)}",
            "rows removed": f"{pruned.rows:,}{would}",
            "older rows that stay": f"{pruned.kept:,}"
            + (" (the newest of their track)" if pruned.kept else ""),
        },
        rows=pruned.rows,
        runs=len(pruned.runs),
        kept=pruned.kept,
    )
    output.document(lambda: json.dumps(_pruned(pruned, asked), indent=2))


def _span(pruned: Pruned) -> str:
    if pruned.runs.is_empty():
        return ""
    first, *_, last = pruned.runs.head(1).rows(named=True) + pruned.runs.tail(1).rows(named=True)
    return (
        f" ({first['run']} to {last['run']}, {first['started_at']:%Y-%m-%d} to {last['started_at']:%Y-%m-%d})"
    )


def _pruned(pruned: Pruned, asked: Asked) -> dict[str, object]:
    return {
        "keep": asked.keep,
        "dry_run": asked.dry_run,
        "rows_removed": pruned.rows,
        "rows_kept": pruned.kept,
        "runs": as_json_types(pruned.runs),
    }
