"""A run on files: the buckets of a catalogue, which of them are whole, and what lies where it should not."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import polars as pl

from forecaster.errors import (
    BadFileError,
    BucketsFailedError,
    InvalidOptionError,
    LockedError,
    NoForecastError,
)
from forecaster.files.paths import check_name
from forecaster.model.features import looks_ahead
from forecaster.parquet.buckets import BucketCatalogue, BucketSink, chosen, done_before
from forecaster.parquet.catalogue import Catalogue, find_catalogue
from forecaster.parquet.layout import STREAMS, Bucket
from forecaster.parquet.sink import Manifest, Sink
from forecaster.run.batch import Done, History, Work
from forecaster.run.config import RunConfig
from forecaster.run.forecast import forecast
from forecaster.run.report import TRACKS, Report
from forecaster.run.session import Opened

_NAMED = 5  # failed buckets that the error names


@dataclass(frozen=True)
class Files:
    """Catalogue and forecasts in Parquet files, in which tracks are forecast bucket by bucket."""

    source: str
    """Directory, pattern of files with streams, or the URL of one."""
    sink: Path | None
    """Directory for the forecasts; may be missing in a dry run."""
    mldr: str | None = None
    """File, directory, pattern or URL of the decay rates, if they do not lie beside the streams."""
    buckets: int | None = None
    """How many to work it in. None: as it is laid out, else as the sink is, else by the number of rows."""
    only: Bucket | None = None
    """Just this bucket. None: all."""

    def session(self, config: RunConfig, report: Report, /) -> "FilesSession":
        """A run in these files. Raises `InvalidOptionError` if there is nowhere to write the forecasts to."""
        self.check(config)
        return FilesSession(self, config, report)

    def check(self, config: RunConfig, /) -> None:
        """Raise `InvalidOptionError` if there is nowhere to write the forecasts to."""
        if self.sink is None and not config.dry_run:
            raise InvalidOptionError(
                "there is nowhere to write the forecasts to",
                hint="--sink DIRECTORY says where; or --dry-run writes nothing",
            )
        if self.sink is not None and "://" in str(self.sink).replace(":/", "://"):
            raise InvalidOptionError(
                f"the sink {self.sink} is a URL: expected a directory",
                hint="files are renamed once they are whole, which an object store cannot do",
            )


def _unknown_size(_bucket: Bucket) -> int:
    """How many tracks are in a bucket is not known before it is read."""
    return 0


@dataclass(frozen=True)
class Plan:
    """What is to be worked, once it is certain that it can be."""

    catalogue: BucketCatalogue
    sink: BucketSink
    buckets: list[Bucket]
    """All of the catalogue."""
    wanted: list[Bucket]
    """Those to be worked."""


class FilesSession:
    """A run in progress. A bucket that fails does not keep the others from being worked."""

    def __init__(self, files: Files, config: RunConfig, report: Report) -> None:
        self.files, self.config, self.report = files, config, report
        self.errors: dict[int, Exception] = {}
        self.in_sink: list[Bucket] = []
        """Buckets whose skipped tracks lie in the sink."""
        self.worked = 0
        self.of = 0
        self.directory: Sink | None = None
        report.begin(TRACKS, in_buckets=True)

    @contextmanager
    def opened(self, *, repeats: bool) -> Iterator[Opened]:  # noqa: ARG002 - a bucket may be worked twice
        """Find the buckets, and what lies beside them."""
        report, stages = self.report, self.report.stages
        with stages.stage("connect"):
            plan = planned(self.files, self.config)
            self._look_at(plan)
        compute = partial(forecast, parameters=self.config.parameters)
        work: Work[Bucket, History] = Work(plan.catalogue, compute, plan.sink, None, _unknown_size)

        def batches(_places: Callable[[], int | None]) -> Sequence[Bucket]:
            return plan.wanted

        try:
            with stages.stage("buckets"):
                yield Opened(work, batches)
        finally:
            report.skipped = with_skipped(report, self.directory, self.in_sink)
            report.warnings += stray(self.directory, self.files, len(plan.buckets))

    def count(self, bucket: Bucket, done: Done, /) -> None:
        """Add up what became of a bucket, if it is in the sink as this process sees it."""
        if error := unseen(self.directory, bucket, done):
            self.fail(bucket, error)
            return
        add_up(self.report, done)
        if done.skipped is None:
            self.in_sink.append(bucket)
        self._progress()

    def fail(self, bucket: Bucket, error: Exception, /) -> None:
        """Take note of a bucket that failed, and of what of it is in the sink all the same."""
        self.errors[bucket.number] = error
        self.report.failed[bucket.number] = f"{error}{_stays(self.directory, bucket)}"
        self._progress()

    def finish(self) -> None:
        """Raise for the buckets that failed; the error of one, if all did."""
        if not self.errors:
            return
        errors, first, refused = self.errors, min(self.errors), len(self.report.refused)
        if len(errors) == self.of or all(isinstance(error, LockedError) for error in errors.values()):
            raise errors[first]
        what = ", ".join(map(str, sorted(errors)[:_NAMED])) + (" and others" if len(errors) > _NAMED else "")
        raise BucketsFailedError(
            f"{len(errors):,} of {self.of:,} buckets failed ({what}); the others are done. Bucket {first}: "
            f"{errors[first]}" + (f"; {refused:,} tracks of the others were refused" if refused else ""),
            hint="once that is mended, the same command works only what failed; --report lists them all",
        )

    def remarks(self) -> Iterator[str]:
        """A sentence on forecasts that look ahead."""
        yield from looks_ahead(self.report.looking_ahead, self.config.parameters.as_of)

    def _look_at(self, plan: Plan) -> None:
        """Say what is wrong, make the sink ready, and take note of what is to be done."""
        number, files = len(plan.buckets), self.files
        if number > 1 and not plan.catalogue.files.laid_out_in:
            self.report.warnings.append(
                f"{files.source} is not laid out in buckets, so that each bucket reads all of it; "
                "`forecaster prepare` lays it out"
            )
        self.report.warnings += surveyed(plan)
        self.directory, self.of = plan.sink.directory, len(plan.wanted)
        if self.directory:
            self.directory.prepare(number)
        describe(files, self.config, plan, self.report)

    def _progress(self) -> None:
        self.worked += 1
        self.report.stages.done["buckets"] = self.worked


def planned(files: Files, config: RunConfig) -> Plan:
    """What to work, once it is certain that it can be. Writes nothing."""
    catalogue = find_catalogue(files.source, files.mldr)
    catalogue.check()
    sink = Sink(files.sink.absolute()) if files.sink and not config.dry_run else None
    if sink:
        check_name(sink.directory)
        _keep_apart(catalogue, sink.directory)
    if catalogue.laid_out_in and files.buckets not in (None, catalogue.laid_out_in):
        raise InvalidOptionError(
            f"{files.source} is laid out in {catalogue.laid_out_in} buckets, not in {files.buckets}",
            hint=f"its buckets are 0/{catalogue.laid_out_in} and so on; or lay it out anew",
        )
    # Where only the size tells the number of buckets, it must not change as the catalogue grows.
    number = catalogue.laid_out_in or files.buckets or (sink and sink.buckets()) or catalogue.buckets()
    buckets = [Bucket(i, number) for i in range(number)]
    track_ids = None
    if config.ids or config.limit:
        track_ids = tuple(_selected(catalogue, config))
        if sink:
            _refuse_to_shrink(sink, buckets, track_ids)
    of_buckets, now = BucketCatalogue(catalogue, track_ids), datetime.now(UTC)
    target = BucketSink(of_buckets, sink, config.parameters, now, config.replace, config.wait)
    return Plan(of_buckets, target, buckets, [files.only] if files.only else buckets)


def check(files: Files, config: RunConfig | None = None, report: Report | None = None) -> Report:
    """Look at every bucket of a sink, or at the only one; add up what is whole, the rest is `failed`."""
    report, config = report or Report(), config or RunConfig()
    files.check(config)
    start = time.perf_counter()
    report.begin(TRACKS, in_buckets=True)
    with report.stages.stage("connect"):
        plan = planned(files, config)
        report.warnings += surveyed(plan)
        describe(files, config, plan, report)
    whole: list[Bucket] = []
    with report.stages.stage("buckets"):
        for bucket in plan.wanted:
            found = _whole(plan.sink, bucket)
            if isinstance(found, Manifest):
                add_up(report, done_before(found, left_alone=True))
                whole.append(bucket)
            else:
                report.failed[bucket.number] = found
    report.skipped = with_skipped(report, plan.sink.directory, whole)
    report.warnings += stray(plan.sink.directory, files, len(plan.buckets))
    report.seconds = time.perf_counter() - start
    return report


def _whole(sink: BucketSink, bucket: Bucket) -> Manifest | str:
    """What a bucket's manifest says, or why it has to be worked."""
    try:
        problem = sink.directory.problem(bucket, sink.asked(bucket)) if sink.directory else None
        manifest = sink.directory.read(bucket) if sink.directory else None
    except BadFileError as error:
        return str(error)
    return manifest if manifest and not problem else problem or "missing"


def add_up(report: Report, done: Done) -> None:
    """Add up what a bucket's manifest says; its rows are those in the sink."""
    report.add(done)
    report.pending += done.looked_at
    report.stages.add(done.stages)


def with_skipped(report: Report, sink: Sink | None, in_sink: list[Bucket]) -> pl.DataFrame:
    """The skipped tracks of all buckets, also of those that lie in the sink."""
    skipped = [report.skipped, *([sink.all_skipped(in_sink)] if sink and in_sink else [])]
    return pl.concat(skipped).sort("cm_track_id")


def describe(files: Files, config: RunConfig, plan: Plan, report: Report) -> None:
    """Take over what the run is asked to do."""
    report.describe(config)
    report.place = {"source": files.source, "sink": str(files.sink or "")}
    report.started_at = plan.sink.created_at.isoformat()
    report.buckets = len(plan.wanted)


def unseen(sink: Sink | None, bucket: Bucket, done: Done) -> Exception | None:
    """An error, if what was done is not in the sink as this process sees it."""
    try:
        if sink is None or sink.read(bucket) == done.proof:
            return None
    except BadFileError as error:
        return error
    return BadFileError(
        f"bucket {bucket} was worked, and is not in {sink.directory} as it is seen from here",
        hint="the workers need the same directories by the same names",
    )


def _stays(sink: Sink | None, bucket: Bucket) -> str:
    """What of a bucket that failed is in the sink all the same."""
    is_there = sink is not None and os.path.exists(sink.forecasts(bucket))  # noqa: PTH110 - raises nothing
    return "; its forecasts of an earlier run are still in the sink" if is_there else ""


def stray(sink: Sink | None, files: Files, buckets: int) -> Iterator[str]:
    """A sentence on Parquet files in the sink that belong to no bucket."""
    if sink and files.only is None and (strangers := sink.strangers(buckets)):
        yield (
            f"Parquet files in the sink that are no bucket's: {len(strangers):,}, the first is "
            f"{strangers[0]}; whoever reads all files of the sink reads them too: remove them"
        )


def surveyed(plan: Plan) -> Iterator[str]:
    """Look at what lies in the source: what is not read is a warning, the sink may not be there."""
    sink = plan.sink.directory
    for listing in plan.catalogue.files.listings(plan.wanted):
        if sink and listing.would_read(sink.directory):
            raise _in_the_source(sink.directory, listing.where)
        yield from listing.warnings()


def _keep_apart(catalogue: Catalogue, sink: Path) -> None:
    """What is written must not be read as streams or decay rates by the next run."""
    for files in (catalogue.all_files, catalogue.all_rates):
        source = Path(files.where).parent if Path(files.where).name == STREAMS else Path(files.where)
        if not files.is_url and sink.resolve().is_relative_to(source.resolve()):
            raise _in_the_source(sink, source)


def _in_the_source(sink: Path, source: Path | str) -> InvalidOptionError:
    return InvalidOptionError(
        f"the sink {sink} lies in the source {source}, directly or by way of a link",
        hint="choose a directory outside of it: forecasts must not be read as streams",
    )


def _refuse_to_shrink(sink: Sink, buckets: list[Bucket], track_ids: tuple[int, ...]) -> None:
    """Some tracks must not take the place of others: a bucket's forecasts are written as a whole."""
    for bucket in buckets:
        try:
            manifest = sink.read(bucket)
        except BadFileError:
            continue
        if manifest and manifest.asked.get("tracks") != chosen(track_ids):
            raise InvalidOptionError(
                f"{sink.directory} holds the forecasts of other tracks than those that are asked for now",
                hint="choose another --sink for some tracks; without --track-id and --limit it takes all",
            )


def _selected(catalogue: Catalogue, config: RunConfig) -> list[int]:
    """The ids of the tracks to work."""
    files = catalogue.all_files
    daily = files.conformed()
    tracks = files.collect(daily.select("cm_track_id").drop_nulls().unique())["cm_track_id"].sort()
    if config.ids:
        wanted = pl.Series(config.ids, dtype=pl.Int64).unique().sort()
        if len(unknown := wanted.filter(~wanted.is_in(tracks.implode()))):
            raise NoForecastError(
                f"no streams of these tracks: {', '.join(map(str, unknown))}",
                hint="check the ids, and --source",
            )
        tracks = wanted
    return (tracks if config.limit is None else tracks.head(config.limit)).to_list()
