"""`forecaster shard`: one bucket of many, or a look at all of them."""

from forecaster.cli.output import Output
from forecaster.cli.report_files import ReportFiles
from forecaster.cli.summary import fail_if_refused, summarise_buckets, summarise_check
from forecaster.cli.where import Files
from forecaster.errors import BucketsFailedError, InvalidOptionError
from forecaster.model.parameters import Parameters
from forecaster.parquet.layout import Bucket
from forecaster.run.buckets import BucketsConfig, run_buckets
from forecaster.run.buckets import check as check_buckets
from forecaster.run.report import BucketsReport

_SHOWN = 20  # buckets that --check lists


def shard(
    bucket: tuple[int, int] | None,
    parameters: Parameters,
    replace: bool,
    check: bool,
    wait: float,
    files: Files,
    to: ReportFiles,
    output: Output,
) -> None:
    """Work one bucket, or check which are there."""
    if files.source is None:
        raise InvalidOptionError(
            "nothing says where the catalogue is", hint="--source DIR --sink DIR; `prepare` makes the former"
        )
    if bucket is None and not check:
        raise InvalidOptionError("nothing says which bucket", hint="give K/N, such as 0/64; or --check")
    if check and replace:
        raise InvalidOptionError("--check works nothing, and so replaces nothing")
    only = Bucket(*bucket) if bucket else None
    report = BucketsReport()
    with to.written(report, output):
        config = BucketsConfig(
            files.source,
            files.sink,
            files.mldr,
            parameters,
            bucket[1] if bucket else None,
            replace=replace,
            wait=wait,
        )
        (_check if check else _work)(config, only, report, output)


def _work(config: BucketsConfig, only: Bucket | None, report: BucketsReport, output: Output) -> None:
    with output.following(report):
        run_buckets(config, report=report, only=only)
    output.warn(report.warnings)
    summarise_buckets(report, output)
    fail_if_refused(report, "forecasts", holder="a column of the files")


def _check(config: BucketsConfig, only: Bucket | None, report: BucketsReport, output: Output) -> None:
    with output.following(report):
        check_buckets(config, report, only=only)
    output.warn(report.warnings)
    for number, problem in list(report.failed.items())[:_SHOWN]:
        output.say(f"{number}/{config.buckets or report.buckets}  {problem}")
    if len(report.failed) > _SHOWN:
        output.say(f"and {len(report.failed) - _SHOWN:,} more; --report lists them all")
    summarise_check(report, output)
    if report.failed:
        raise BucketsFailedError(
            f"{len(report.failed):,} of {report.buckets:,} buckets are missing or wrong",
            hint="`forecaster shard K/N` works one of them, `forecaster run` all",
        )
