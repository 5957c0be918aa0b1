"""`forecaster run`: in a database or in Parquet files, in this process or over a cluster."""

from dataclasses import dataclass
from typing import Literal

from forecaster.cli.output import Output
from forecaster.cli.report_files import ReportFiles
from forecaster.cli.summary import fail_if_refused, summarise, summarise_buckets
from forecaster.cli.where import Files, Where
from forecaster.errors import InvalidOptionError
from forecaster.model.parameters import Parameters
from forecaster.run.buckets import BucketsConfig, in_this_process, run_buckets
from forecaster.run.distributed import run_distributed
from forecaster.run.report import BucketsReport, RunReport
from forecaster.run.session import RunConfig
from forecaster.run.session import run as run_pending
from forecaster.run.spread import spread_over


@dataclass(frozen=True)
class Selection:
    """Which tracks."""

    track_ids: tuple[int, ...]
    limit: int | None
    replace: bool


@dataclass(frozen=True)
class Asked:
    """What is to be done."""

    selection: Selection
    parameters: Parameters
    dry_run: bool
    wait: float


@dataclass(frozen=True)
class Spread:
    """What does it."""

    engine: Literal["local", "dask"]
    scheduler: str | None

    def __post_init__(self) -> None:
        if self.engine == "local" and self.scheduler:
            raise InvalidOptionError("--scheduler is of no use without --engine dask")


def run(asked: Asked, files: Files, spread: Spread, to: ReportFiles, where: Where, output: Output) -> None:
    """Forecast every pending track, and store the result."""
    if files.source is None:
        _run_tables(asked, where, spread, to, output)
    else:
        where.check_not_typed()
        _run_files(asked, files.source, files, spread, to, output)


def _run_tables(asked: Asked, where: Where, spread: Spread, to: ReportFiles, output: Output) -> None:
    report = RunReport(parameters=asked.parameters, schema=where.schema)
    with to.written(report, output):
        with where.database() as dsn, output.following(report):
            config = RunConfig(
                dsn,
                where.schema,
                asked.parameters,
                **vars(asked.selection),
                dry_run=asked.dry_run,
                wait=asked.wait,
            )
            if spread.engine == "dask":
                run_distributed(config, spread.scheduler, report)
            else:
                run_pending(config, report)
        output.warn(report.warnings)
        summarise(report, output)
        fail_if_refused(report, "forecasts")


def _run_files(
    asked: Asked, source: str, files: Files, spread: Spread, to: ReportFiles, output: Output
) -> None:
    report = BucketsReport()
    with to.written(report, output):
        config = BucketsConfig(
            source,
            files.sink,
            files.mldr,
            asked.parameters,
            **vars(asked.selection),
            dry_run=asked.dry_run,
            wait=asked.wait,
        )
        engine = spread_over(spread.scheduler) if spread.engine == "dask" else in_this_process
        try:
            with output.following(report):
                run_buckets(config, engine, report)
        finally:
            output.warn(report.warnings)
            if report.buckets:
                summarise_buckets(report, output)
        fail_if_refused(report, "forecasts", holder="a column of the files")
