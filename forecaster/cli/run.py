"""`forecaster run`: forecast every pending track and store the result."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from forecaster.cli.calibration_file import with_file_read
from forecaster.cli.output import Output
from forecaster.cli.report_files import ReportFiles
from forecaster.cli.summary import fail_if_implausible, fail_if_refused, summarise, summarise_buckets
from forecaster.cli.where import Files, Where
from forecaster.errors import InvalidOptionError
from forecaster.postgres.tracks import Database
from forecaster.run.batch import Engine
from forecaster.run.config import RunConfig
from forecaster.run.engines.dask import Dask
from forecaster.run.engines.local import Local
from forecaster.run.report import TRACKS, Report, asked
from forecaster.run.session import run as run_pending


@dataclass(frozen=True)
class Spread:
    """The execution engine that the options name."""

    engine: Literal["local", "dask"]
    scheduler: str | None

    def __post_init__(self) -> None:
        if self.engine == "local" and self.scheduler:
            raise InvalidOptionError("--scheduler needs --engine dask")

    def chosen(self) -> AbstractContextManager[Engine]:
        """Yield the engine, connected for the duration of the block."""
        return Dask(self.scheduler) if self.engine == "dask" else nullcontext(Local())

    def workers(self) -> "AbstractContextManager[Dask | None]":
        """Yield the workers for the duration of the block; None for this process."""
        return Dask(self.scheduler) if self.engine == "dask" else nullcontext()


def run(
    config: RunConfig, files: Files, spread: Spread, to: ReportFiles, where: Where, output: Output
) -> None:
    """Run on the tables of a database, or on Parquet files."""
    if files.source is None:
        _run_tables(config, where, spread, to, output)
    else:
        where.check_not_typed()
        _run_files(config, files.source, files, spread, to, output)


def _run_tables(config: RunConfig, where: Where, spread: Spread, to: ReportFiles, output: Output) -> None:
    place = {"database": "", "schema": where.schema}
    report = Report(TRACKS, asked=asked(config.parameters), place=place)
    with to.written("run", report, output):
        try:
            with where.database() as dsn, output.following(report), spread.chosen() as engine:
                found = Database(dsn, where.schema, where.early)
                run_pending(found, with_file_read(config), engine, report)
        finally:
            output.warn(report.all_warnings)
        summarise(report, output)
        fail_if_refused(report, "forecasts")
        fail_if_implausible(report, config.plausibility)


def _run_files(
    config: RunConfig, source: str, files: Files, spread: Spread, to: ReportFiles, output: Output
) -> None:
    from forecaster.parquet import session as parquet  # noqa: PLC0415 - a run in a database needs none of it

    report = Report(buckets=0)
    with to.written("run", report, output):
        catalogue = parquet.Files(source, files.sink, files.mldr)
        try:
            with output.following(report), spread.chosen() as engine:
                run_pending(catalogue, with_file_read(config), engine, report)
        finally:
            output.warn(report.all_warnings)
            if report.buckets:
                summarise_buckets(report, output)
        fail_if_refused(report, "forecasts", holder="a column of the files")
        fail_if_implausible(report, config.plausibility)
