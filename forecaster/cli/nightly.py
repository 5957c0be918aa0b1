"""The commands that compute and store: forecasts, and artists' decay rates."""

from typing import TYPE_CHECKING, Any

import click

from forecaster.cli.base import ID, Command, IntRange, console, finish, warn
from forecaster.cli.options import Where, database_options, files_options, model_options, option
from forecaster.cli.outputs import Outputs, writing_options
from forecaster.errors import InvalidOptionError, WriteRefusedError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from forecaster.cli.options import FromFiles
    from forecaster.model.parameters import Parameters
    from forecaster.run.batch import Engine
    from forecaster.run.report import Report


@click.command(cls=Command)
@model_options
@option(
    "--track-id",
    type=ID,
    metavar="ID",
    multiple=True,
    help="Only this track, if pending.",
)
@option("--limit", type=IntRange(1), metavar="N", help="Look at no more than so many pending tracks.")
@option("--replace", is_flag=True, help="Also tracks that have a forecast: it is replaced.")
@option("--dry-run", is_flag=True, help="Everything but the write.")
@files_options
@option(
    "--engine",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="What spreads the work: this process, or Dask over worker processes.",
)
@option(
    "--scheduler",
    metavar="ADDRESS",
    help="Dask's scheduler, as tcp://HOST:PORT.  [default: workers of its own, one per core]",
)
@writing_options
@database_options
def run(
    track_id: tuple[int, ...],
    outputs: Outputs,
    parameters: "Parameters",
    where: Where,
    files: "FromFiles | None",
    engine: str,
    scheduler: str | None,
    **options: Any,  # noqa: ANN401 - the fields of RunConfig, by their names
) -> None:
    """Forecast every pending track, and store the result.

    Pending is each track that has streams and no forecast. With --source and --sink the catalogue is
    in Parquet files and no database is used: then all tracks are forecast, and buckets of them that
    are there already are left alone.

    \b
    Exit code: 0 done (skipped tracks are no failure), 1 failed, 2 wrong call, 3 no connection,
    4 the tables do not fit, 5 another run is at work, 130 or 143 interrupted.

    \b
    Examples:
      forecaster run
      forecaster run --horizon 400 --influence 1000 --limit 100 --dry-run
      forecaster run --replace --track-id 42 --report report.json
      forecaster run --source catalogue --sink forecasts --engine dask
    """
    if engine == "local" and scheduler:
        raise InvalidOptionError("--scheduler is of no use without --engine dask")
    if files:
        where.check_not_typed()
        _run_buckets(files, outputs, engine, scheduler, parameters=parameters, ids=track_id, **options)
        return
    from forecaster.cli.progress import shown
    from forecaster.postgres.tracks import Database
    from forecaster.run.config import RunConfig
    from forecaster.run.report import TRACKS, Report, asked
    from forecaster.run.session import run as run_pending

    report = Report(TRACKS, asked=asked(parameters), place={"database": "", "schema": where.schema})
    with outputs.written(report):
        with where.database() as dsn, shown(report, console()), _engine(engine, scheduler) as chosen:
            config = RunConfig(Database(dsn, where.schema), parameters, track_id, **options)
            run_pending(config, chosen, report)
        warn(report.warnings)
        if not outputs.as_json:
            summarise(report)
        fail_if_refused(report, "forecasts")


def _engine(engine: str, scheduler: str | None) -> "AbstractContextManager[Engine]":
    from contextlib import nullcontext

    from forecaster.run.engines.dask import Dask
    from forecaster.run.engines.local import Local

    return Dask(scheduler) if engine == "dask" else nullcontext(Local())


def _run_buckets(
    files: "FromFiles",
    outputs: Outputs,
    engine: str,
    scheduler: str | None,
    **options: Any,  # noqa: ANN401 - the fields of BucketsConfig, by their names
) -> None:
    from forecaster.cli.progress import shown
    from forecaster.parquet.session import Files
    from forecaster.run.config import RunConfig
    from forecaster.run.report import Report
    from forecaster.run.session import run as run_pending

    report = Report(buckets=0)
    with outputs.written(report):
        config = RunConfig(Files(files.source, files.sink, files.mldr), **options)
        try:
            with shown(report, console()), _engine(engine, scheduler) as chosen:
                run_pending(config, chosen, report)
        finally:
            warn(report.warnings)
            if not outputs.as_json and report.buckets:
                summarise_buckets(report)
        fail_if_refused(report, "forecasts", holder="a column of the files")


@click.command(cls=Command)
@option(
    "--artist-id",
    type=ID,
    metavar="ID",
    multiple=True,
    help="Only this artist, if it has no rate.",
)
@option("--replace", is_flag=True, help="Also artists that have a rate: it is replaced.")
@option("--dry-run", is_flag=True, help="Everything but the write.")
@writing_options
@database_options
def mldr(
    artist_id: tuple[int, ...],
    outputs: Outputs,
    where: Where,
    **options: Any,  # noqa: ANN401 - the fields of RatesConfig, by their names
) -> None:
    """Compute the decay rate (MLDR) of every artist that has listeners and no rate, and store it.

    Exit codes are those of run.

    \b
    Examples:
      forecaster mldr
      forecaster mldr --replace --artist-id 7
    """
    from forecaster.cli.progress import shown
    from forecaster.postgres.rates import ArtistRates
    from forecaster.run.config import RunConfig
    from forecaster.run.report import ARTISTS, Report
    from forecaster.run.session import run as run_pending

    place = {"database": "", "schema": where.schema}
    report = Report(ARTISTS, asked={"artist_ids": []}, place=place)
    with outputs.written(report):
        with where.database() as dsn, shown(report, console()):
            rates = ArtistRates(dsn, where.schema)
            run_pending(RunConfig(rates, ids=artist_id, **options), report=report)
        warn(report.warnings)
        if not outputs.as_json:
            finish(
                {
                    ("artists looked at" if report.replace else "artists pending"): f"{report.pending:,}",
                    "rated": f"{report.results:,}" + (" (dry run)" if report.dry_run else ""),
                    **_outcome(report),
                },
                seconds=report.seconds,
                rated=report.results,
                skipped=len(report.skipped),
            )
        fail_if_refused(report, "rates")


def summarise(report: "Report") -> None:
    """What a run did: a table, and a line for grep."""
    finish(
        {
            ("tracks looked at" if report.replace else "tracks pending"): f"{report.pending:,}",
            "forecast": f"{report.results:,}",
            "rows written": "0 (dry run)" if report.dry_run else f"{report.rows:,}",
            **_outcome(report),
            "tracks per second": f"{report.pending / report.seconds:,.0f}",
        },
        seconds=report.seconds,
        forecast=report.results,
        skipped=len(report.skipped),
        rows=report.rows,
    )


def summarise_buckets(report: "Report") -> None:
    """What became of the buckets: a table, and a line for grep."""
    parts = {"there already": report.left_alone, "failed": len(report.failed)}
    told = ", ".join(f"{number:,} {what}" for what, number in parts.items() if number)
    finish(
        {
            "buckets": f"{report.buckets:,}" + (f" ({told})" if told else ""),
            "tracks": f"{report.pending:,}",
            "forecast": f"{report.results:,}",
            "rows in the sink": "0 (dry run)" if report.dry_run else f"{report.rows:,}",
            **_outcome(report),
            "tracks per second": f"{report.pending / report.seconds:,.0f}",
        },
        seconds=report.seconds,
        buckets=report.buckets,
        failed=len(report.failed),
        forecast=report.results,
        skipped=len(report.skipped),
        rows=report.rows,
    )


def _outcome(report: "Report") -> dict[str, str]:
    """What every run has to say."""
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.stages.seconds.items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.skipped_by_reason.items())
    return {
        "skipped": f"{len(report.skipped):,}" + (f" ({reasons})" if reasons else ""),
        **({"taken by another": f"{len(report.taken):,}"} if report.taken else {}),
        **({"refused": f"{len(report.refused):,}"} if report.refused else {}),
        "daily rows left out": f"{report.unusable_rows:,} unusable, {report.duplicate_rows:,} duplicate",
        "seconds": f"{report.seconds:.2f} ({stages})",
    }


def fail_if_refused(report: "Report", what: str, *, holder: str = "the table") -> None:
    """End in failure if some of what was computed cannot be held by what it is written to."""
    if report.refused:
        first, reason = min(report.refused.items())
        number, unit = len(report.refused), report.subject.unit
        raise WriteRefusedError(
            f"{holder} cannot hold the {what} of {number} {unit}, the first is {first} ({reason})"
            + ("" if report.dry_run else f"; those of the other {unit} are stored"),
            hint="a wider column type helps, if the values are right; --report lists them all",
        )
