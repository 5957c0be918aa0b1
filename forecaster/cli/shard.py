"""`forecaster shard`: forecast one bucket, or check all."""

from forecaster.cli.calibration_file import with_file_read
from forecaster.cli.output import Output
from forecaster.cli.report_files import ReportFiles
from forecaster.cli.summary import fail_if_implausible, fail_if_refused, summarise_buckets, summarise_check
from forecaster.cli.where import Files
from forecaster.errors import BucketsFailedError, InvalidOptionError
from forecaster.parquet import session as parquet
from forecaster.parquet.layout import Bucket
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run

_SHOWN = 20  # buckets that --check lists


def shard(
    bucket: tuple[int, int] | None,
    config: RunConfig,
    check: bool,
    files: Files,
    to: ReportFiles,
    output: Output,
) -> None:
    """Forecast a bucket, or list those that are missing or wrong."""
    if files.source is None:
        raise InvalidOptionError(
            "no catalogue is given",
            hint="give --source DIR and --sink DIR; `forecaster prepare` creates a source",
        )
    if bucket is None and not check:
        raise InvalidOptionError("no bucket is given", hint="give K/N, such as 0/64; or --check")
    if check and config.replace:
        raise InvalidOptionError("--check and --replace contradict each other")
    only = Bucket(*bucket) if bucket else None
    report = Report(buckets=0)
    with to.written("shard", report, output):
        where = parquet.Files(files.source, files.sink, files.mldr, only.of if only else None, only)
        (_check if check else _forecast)(where, with_file_read(config), report, output)


def _forecast(where: parquet.Files, config: RunConfig, report: Report, output: Output) -> None:
    with output.following(report):
        run(where, config, report=report)
    output.warn(report.all_warnings)
    summarise_buckets(report, output)
    fail_if_refused(report, "forecasts", holder="a column of the files")
    fail_if_implausible(report, config.plausibility)


def _check(where: parquet.Files, config: RunConfig, report: Report, output: Output) -> None:
    with output.following(report):
        parquet.check(where, config, report)
    output.warn(report.warnings)
    for number, problem in list(report.failed.items())[:_SHOWN]:
        output.say(f"{number}/{where.buckets or report.buckets}  {problem}")
    if len(report.failed) > _SHOWN:
        output.say(f"and {len(report.failed) - _SHOWN:,} more; --report lists them all")
    summarise_check(report, output)
    if report.failed:
        raise BucketsFailedError(
            f"{len(report.failed):,} of {report.buckets:,} buckets are missing or wrong",
            hint="`forecaster shard K/N` forecasts one of them, `forecaster run` all of them",
        )
