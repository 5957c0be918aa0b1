"""The command that forecasts, and what it says."""

from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forecaster.cli.base import ID, Command, console, finish, warn
from forecaster.cli.options import Where, database_options, model_options, option
from forecaster.errors import ForecasterError, WriteRefusedError
from forecaster.interrupt import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forecaster.model.parameters import Parameters
    from forecaster.report import RunReport


@click.command(cls=Command)
@model_options
@option(
    "--track-id", type=ID, metavar="ID", multiple=True, help="Only this track, if pending. Can be repeated."
)
@option("--limit", type=click.IntRange(1), metavar="N", help="Look at no more than so many pending tracks.")
@option("--replace", is_flag=True, help="Also tracks that have a forecast: it is replaced.")
@option("--dry-run", is_flag=True, help="Everything but the write.")
@option(
    "--wait",
    type=click.FloatRange(0, 2**31, max_open=True),
    metavar="SECONDS",
    default=0.0,
    help="Wait so long for another run to end.  [default: 0]",
)
@option(
    "--report",
    "report_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Write what the run did, with every skipped track.",
)
@option(
    "--skipped",
    "skipped_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.csv|parquet",
    help="Write the skipped tracks and their reasons.",
)
@option("--json", "as_json", is_flag=True, help="Print what --report writes, and nothing else, on stdout.")
@database_options
def run(
    track_id: tuple[int, ...],
    report_path: Path | None,
    skipped_path: Path | None,
    as_json: bool,
    parameters: "Parameters",
    where: Where,
    **options: Any,  # noqa: ANN401 - the fields of RunConfig, by their names
) -> None:
    """Forecast every pending track, and store the result.

    Pending is each track that has streams and no forecast.

    \b
    Exit code: 0 done (skipped tracks are no failure), 1 failed, 2 wrong call, 3 no connection,
    4 the tables do not fit, 5 another run is at work, 130 or 143 interrupted.

    \b
    Examples:
      forecaster run
      forecaster run --horizon 400 --influence 1000 --limit 100 --dry-run
      forecaster run --replace --track-id 42 --report report.json
    """
    from forecaster.progress import shown
    from forecaster.run import RunConfig
    from forecaster.run import run as run_pending

    with _written(report_path, skipped_path, as_json=as_json) as report:
        report.parameters, report.schema = parameters, where.schema
        with where.database() as dsn, shown(report, console()):
            run_pending(RunConfig(dsn, where.schema, parameters, track_id, **options), report)
        warn(report.warnings)
        if not as_json:
            summarise(report)
        if report.refused:
            track, reason = min(report.refused.items())
            raise WriteRefusedError(
                f"the table cannot hold the forecasts of {len(report.refused)} tracks, the first is {track} "
                f"({reason})" + ("" if report.dry_run else "; those of the other tracks are stored"),
                hint="a wider column type helps; --report lists them all",
            )


def summarise(report: "RunReport") -> None:
    """What a run did: a table, and a line for grep."""
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.stages.items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.skipped_by_reason.items())
    finish(
        {
            ("tracks looked at" if report.replace else "tracks pending"): f"{report.pending:,}",
            "forecast": f"{report.forecast:,}",
            "skipped": f"{len(report.skipped):,}" + (f" ({reasons})" if reasons else ""),
            **({"taken by another": f"{len(report.taken):,}"} if report.taken else {}),
            **({"refused": f"{len(report.refused):,}"} if report.refused else {}),
            "rows written": "0 (dry run)" if report.dry_run else f"{report.rows:,}",
            "daily rows left out": f"{report.unusable_rows:,} unusable, {report.duplicate_rows:,} duplicate",
            "seconds": f"{report.seconds:.2f} ({stages})",
            "tracks per second": f"{report.pending / report.seconds:,.0f}",
        },
        seconds=report.seconds,
        forecast=report.forecast,
        skipped=len(report.skipped),
        rows=report.rows,
    )


@contextmanager
def _written(report_path: Path | None, skipped_path: Path | None, *, as_json: bool) -> "Iterator[RunReport]":
    """A report that is written at the end, also if that is a failure: then it says so."""
    from forecaster.files import check_output_path, write_table, write_text
    from forecaster.report import RunReport

    report = RunReport()

    def write() -> None:
        if as_json:
            click.echo(report.to_json())
        if report_path:
            write_text(report.to_json(), report_path)
        if skipped_path:
            write_table(report.skipped, skipped_path)

    if report_path:
        check_output_path(report_path, any_ending=True)
    if skipped_path:
        check_output_path(skipped_path)
    try:
        yield report
    except BaseException as error:
        is_known = isinstance(error, ForecasterError | Interrupted)
        report.error = f"{error}" if is_known else type(error).__name__
        with suppress(ForecasterError):  # the first error counts
            write()
        raise
    write()
