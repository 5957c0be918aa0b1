"""The commands for catalogues in Parquet files: lay one out in buckets, and work one of them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forecaster.cli.base import Command, IntRange, console, doing, finish, say, warn
from forecaster.cli.nightly import fail_if_refused, summarise_buckets
from forecaster.cli.options import (
    Where,
    database_options,
    files_options,
    model_options,
    option,
    rates_option,
    source_option,
)
from forecaster.cli.outputs import Outputs, writing_options
from forecaster.errors import BucketsFailedError, InvalidOptionError

if TYPE_CHECKING:
    from forecaster.cli.options import FromFiles
    from forecaster.run.report import BucketsReport

_SHOWN = 20  # buckets that --check lists


@click.command(cls=Command)
@option("--buckets", type=IntRange(1, 100_000), metavar="N", required=True, help="How many.")
@option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    required=True,
    help="Directory to make. It is there as a whole at the end, or not at all.",
)
@option("--replace", is_flag=True, help="Remove what is in the directory.")
@source_option("Parquet files: directory, pattern or URL.  [default: the database]")
@rates_option
@database_options
def prepare(
    buckets: int, out: Path, source: str | None, mldr: str | None, where: Where, *, replace: bool
) -> None:
    """Lay a catalogue out in Parquet, by track, in N buckets that can be worked one by one.

    It streams, so that the size of the catalogue does not matter. From the database it takes the
    tables of the streams and of the decay rates.

    \b
    Examples:
      forecaster prepare --buckets 64 --out catalogue
      forecaster prepare --source 'export/*.parquet' --mldr mldr.parquet --buckets 64 --out catalogue
    """
    from forecaster.parquet.catalogue import find_catalogue
    from forecaster.parquet.prepare import prepare_files, prepare_tables

    if source is not None:
        where.check_not_typed()
        with doing("lay out"):
            done = prepare_files(find_catalogue(source, mldr), buckets, out, replace=replace)
    else:
        from forecaster.postgres.catalogue import open_source
        from forecaster.tables import MLDR_TABLE, STREAMS_TABLE

        needed = (STREAMS_TABLE, MLDR_TABLE)
        with (
            where.database() as dsn,
            doing("lay out"),
            open_source(dsn, where.schema, needed=needed) as tables,
        ):
            done = prepare_tables(tables, buckets, out, replace=replace)
    warn(done.warnings)
    finish(
        {
            "daily rows": f"{done.rows:,}",
            "rows without a track": f"{done.without_track:,} (left out)" if done.without_track else "0",
            "artists": f"{done.artists:,}",
            "buckets": f"{buckets:,}",
        },
        rows=done.rows,
        artists=done.artists,
        buckets=buckets,
    )


class _BucketType(click.ParamType[tuple[int, int]]):
    name = "K/N"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
        if match is None:
            self.fail(f"{value!r} is no bucket: expected K/N, such as 0/64, the first of 64", param, ctx)
        return int(match[1]), int(match[2])


@click.command(cls=Command)
@click.argument("bucket", type=_BucketType(), metavar="K/N", required=False)
@model_options
@option("--replace", is_flag=True, help="Work it also if its forecasts are there and whole.")
@option("--check", is_flag=True, help="Work nothing: list the buckets that are missing or wrong.")
@files_options
@writing_options
def shard(
    bucket: tuple[int, int] | None,
    files: "FromFiles | None",
    outputs: Outputs,
    *,
    check: bool,
    **options: Any,  # noqa: ANN401 - the fields of BucketsConfig, by their names
) -> None:
    """Work bucket K of N, counted from 0: for whatever starts many processes.

    The forecasts are written first and a manifest last, each by a temporary name. A bucket that is there
    and whole, of the same data and options, is left alone; one that is half-written is done anew.

    \b
    Exit code: 0 done (or with --check: all are there), 1 failed, 2 wrong call, 4 the files do not
    fit, 5 another process works the bucket, 130 or 143 interrupted.

    \b
    Examples:
      forecaster shard 7/64 --source catalogue --sink forecasts
      forecaster shard --check --source catalogue --sink forecasts
    """
    from forecaster.run.buckets import BucketsConfig
    from forecaster.run.report import BucketsReport

    if files is None:
        raise InvalidOptionError(
            "nothing says where the catalogue is", hint="--source DIR --sink DIR; `prepare` makes the former"
        )
    if bucket is None and not check:
        raise InvalidOptionError("nothing says which bucket", hint="give K/N, such as 0/64; or --check")
    if check and options["replace"]:
        raise InvalidOptionError("--check works nothing, and so replaces nothing")
    report = BucketsReport()
    with outputs.written(report):
        number = bucket[1] if bucket else None
        config = BucketsConfig(files.source, files.sink, files.mldr, buckets=number, **options)
        if check:
            _check(config, bucket, report, outputs)
        elif bucket:
            _work(config, bucket, report, outputs)
            fail_if_refused(report, "forecasts", holder="a column of the files")


def _work(config: Any, bucket: tuple[int, int], report: "BucketsReport", outputs: Outputs) -> None:  # noqa: ANN401
    from forecaster.cli.progress import shown
    from forecaster.parquet.layout import Bucket
    from forecaster.run.buckets import run_buckets

    with shown(report, console()):
        run_buckets(config, report=report, only=Bucket(*bucket))
    warn(report.warnings)
    if not outputs.as_json:
        summarise_buckets(report)


def _check(
    config: Any,  # noqa: ANN401
    bucket: tuple[int, int] | None,
    report: "BucketsReport",
    outputs: Outputs,
) -> None:
    from forecaster.cli.progress import shown
    from forecaster.parquet.layout import Bucket
    from forecaster.run.buckets import check

    with shown(report, console()):
        check(config, report, only=Bucket(*bucket) if bucket else None)
    warn(report.warnings)
    if not outputs.as_json:
        for number, problem in list(report.failed.items())[:_SHOWN]:
            say(f"{number}/{config.buckets or report.buckets}  {problem}")
        if len(report.failed) > _SHOWN:
            say(f"and {len(report.failed) - _SHOWN:,} more; --report lists them all")
        finish(
            {
                "buckets": f"{report.buckets:,}",
                "whole": f"{report.left_alone:,}",
                "missing or wrong": f"{len(report.failed):,}",
                "tracks": f"{report.pending:,}",
                "forecast": f"{report.forecast:,}",
                "rows": f"{report.rows:,}",
            },
            buckets=report.buckets,
            whole=report.left_alone,
            bad=len(report.failed),
            rows=report.rows,
        )
    if report.failed:
        raise BucketsFailedError(
            f"{len(report.failed):,} of {report.buckets:,} buckets are missing or wrong",
            hint="`forecaster shard K/N` works one of them, `forecaster run` all",
        )
