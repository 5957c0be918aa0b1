"""A run on files: find the buckets of a catalogue, the complete ones among them, and stray files."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from forecaster.errors import (
    BadFileError,
    BucketsFailedError,
    InvalidOptionError,
    LockedError,
)
from forecaster.files.paths import check_name
from forecaster.model.features import looks_ahead
from forecaster.parquet.buckets import BucketCatalogue, BucketSink, chosen, done_before, work_on
from forecaster.parquet.catalogue import Catalogue, find_catalogue
from forecaster.parquet.layout import STREAMS, Bucket
from forecaster.parquet.sink import Manifest, Sink
from forecaster.run.batch import Done
from forecaster.run.config import RunConfig
from forecaster.run.made_with import PRODUCTION, MadeWith
from forecaster.run.report import TRACKS, Report
from forecaster.run.selection import limited, named
from forecaster.run.session import Opened

_NAMED = 5  # maximum number of failed buckets that the error names


@dataclass(frozen=True)
class Files:
    """A catalogue and its forecasts in Parquet files, forecast bucket by bucket."""

    source: str
    """Directory, pattern of files with streams, or the URL of either."""
    sink: Path | None
    """Directory for the forecasts; None only in a dry run."""
    mldr: str | None = None
    """File, directory, pattern or URL of the MLDR, if they are not next to the streams."""
    buckets: int | None = None
    """Number of buckets. None: as the source is laid out, else as the sink is, else by the number of rows."""
    only: Bucket | None = None
    """Compute only this bucket. None: all."""

    def session(self, config: RunConfig, report: Report, /) -> "FilesSession":
        """Begin a run on these files. Raises `InvalidOptionError` like `check`."""
        self.check(config)
        return FilesSession(self, config, report)

    def check(self, config: RunConfig, /) -> None:
        """Raise `InvalidOptionError` if there is no sink, or if it is a URL."""
        if self.sink is None and not config.dry_run:
            raise InvalidOptionError(
                "no sink is given for the forecasts",
                hint="give --sink DIRECTORY, or --dry-run to write nothing",
            )
        if self.sink is not None and "://" in str(self.sink).replace(":/", "://"):
            raise InvalidOptionError(
                f"the sink {self.sink} is a URL: expected a directory",
                hint="give a directory: complete files are renamed, which an object store cannot do",
            )


@dataclass(frozen=True)
class Plan:
    """The checked plan of a run on files."""

    catalogue: BucketCatalogue
    sink: BucketSink
    buckets: list[Bucket]
    """All buckets of the catalogue."""
    wanted: list[Bucket]
    """The buckets to compute."""
    warnings: list[str] = field(default_factory=list)
    """About what the forecasts are made with."""


class FilesSession:
    """A run in progress on files. If a bucket fails, the others are still computed."""

    def __init__(self, files: Files, config: RunConfig, report: Report) -> None:
        self.files, self.config, self.report = files, config, report
        self.errors: dict[int, Exception] = {}
        self.in_sink: list[Bucket] = []
        """Buckets whose skipped tracks are in the sink."""
        self.processed = 0
        self.of = 0
        self.directory: Sink | None = None
        report.begin(TRACKS, in_buckets=True)

    @property
    def was_reached(self) -> bool:
        """False: reading files is not retried."""
        return False

    @contextmanager
    def opened(self, *, repeats: bool) -> Iterator[Opened]:  # noqa: ARG002 - a bucket may be computed twice
        """Find the buckets to compute, and warn about files that are not read; hold no lock.

        Raises what `planned` raises.
        """
        report, stages = self.report, self.report.stages
        with stages.stage("connect"):
            plan = planned(self.files, self.config)
            self._begin(plan)
        work = work_on(plan.catalogue, plan.sink, self.config.plausibility.limits)

        try:
            with stages.stage("buckets"):
                yield Opened(work, lambda _places: plan.wanted)
        finally:
            report.skipped = with_skipped(report, self.directory, self.in_sink)
            report.warnings += stray(self.directory, self.files, len(plan.buckets))

    def count(self, bucket: Bucket, done: Done, /) -> None:
        """Add the outcome of a bucket to the report, if this process sees it in the sink; else fail it."""
        if error := unseen(self.directory, bucket, done):
            self.fail(bucket, error)
            return
        add_up(self.report, done)
        if done.skipped is None:
            self.in_sink.append(bucket)
        self._progress()

    def fail(self, bucket: Bucket, error: Exception, /) -> None:
        """Record the error of a bucket, and whether the sink still has earlier forecasts of it."""
        self.errors[bucket.number] = error
        self.report.failed[bucket.number] = f"{error}{_stays(self.directory, bucket)}"
        self._progress()

    def finish(self) -> None:
        """Raise `BucketsFailedError` if some buckets failed, or the error of the first if all did."""
        if not self.errors:
            return
        errors, first, refused = self.errors, min(self.errors), len(self.report.refused)
        if len(errors) == self.of or all(isinstance(error, LockedError) for error in errors.values()):
            raise errors[first]
        what = ", ".join(map(str, sorted(errors)[:_NAMED])) + (" and others" if len(errors) > _NAMED else "")
        raise BucketsFailedError(
            f"{len(errors):,} of {self.of:,} buckets failed ({what}); the others are done. Bucket {first}: "
            f"{errors[first]}" + (f"; of the tracks of the others, {refused:,} refused" if refused else ""),
            hint="fix this and run the same command: it computes only what failed; --report lists all errors",
        )

    def remarks(self) -> Iterator[str]:
        """Yield a warning about tracks that have streams after the as-of date."""
        yield from looks_ahead(self.report.looking_ahead, self.config.parameters.as_of)

    def _begin(self, plan: Plan) -> None:
        """Add warnings to the report, prepare the sink, and describe the run in the report."""
        number, files = len(plan.buckets), self.files
        if number > 1 and not plan.catalogue.files.laid_out_in:
            self.report.warnings.append(
                f"{files.source} is not laid out in buckets, so each bucket reads all of it; "
                "lay it out with `forecaster prepare`"
            )
        self.report.warnings += [*source_warnings(plan), *plan.warnings]
        self.directory, self.of = plan.sink.directory, len(plan.wanted)
        if self.directory:
            self.directory.prepare(number)
        describe(files, self.config, plan, self.report)

    def _progress(self) -> None:
        self.processed += 1
        self.report.stages.done["buckets"] = self.processed


def planned(files: Files, config: RunConfig) -> Plan:
    """Check a run on files, and plan which buckets to compute. Writes nothing.

    Raises `InvalidOptionError` for options that contradict each other, the source or the sink, `BadFileError`
    and `SchemaMismatchError` for files that cannot be used, and `NoForecastError` for tracks without streams.
    """
    catalogue = find_catalogue(files.source, files.mldr)
    catalogue.check()
    sink = Sink(files.sink.absolute()) if files.sink and not config.dry_run else None
    if sink:
        check_name(sink.directory)
        _refuse_overlap(catalogue, sink.directory)
    if catalogue.laid_out_in and files.buckets not in (None, catalogue.laid_out_in):
        raise InvalidOptionError(
            f"{files.source} is laid out in {catalogue.laid_out_in} buckets, not in {files.buckets}",
            hint=f"use its buckets, 0/{catalogue.laid_out_in} and so on, or lay it out again",
        )
    # If only the size gives the number of buckets, it must not change as the catalogue grows.
    number = catalogue.laid_out_in or files.buckets or (sink and sink.buckets()) or catalogue.buckets()
    buckets = [Bucket(i, number) for i in range(number)]
    track_ids = None
    if config.ids or config.limit:
        track_ids = tuple(_selected(catalogue, config))
        if sink:
            _refuse_to_shrink(sink, buckets, track_ids)
    made_with, warnings = _made_with(catalogue, config)
    of_buckets, now = BucketCatalogue(catalogue, track_ids, made_with), datetime.now(UTC)
    target = BucketSink(of_buckets, sink, now, config.replace, config.wait)
    return Plan(of_buckets, target, buckets, [files.only] if files.only else buckets, warnings)


def _made_with(catalogue: Catalogue, config: RunConfig) -> tuple[MadeWith, list[str]]:
    """Find what the forecasts are made with; also return warnings.

    Without a calibration, the production model has no intervals. Raises `InvalidOptionError` if the model
    needs a calibration and none is given, or only its id.
    """
    if config.model == PRODUCTION and not (config.calibration and config.intervals):
        return MadeWith(config.parameters), []
    from forecaster.run import calibrations  # noqa: PLC0415 - a run of the production model needs none of it

    calibration = config.calibration
    if calibration is None or isinstance(calibration, str):
        raise InvalidOptionError(
            f"with --source, model {config.model} needs a file with a calibration",
            hint="give --calibration FILE.json; `forecaster calibrate --source --export` writes one",
        )
    as_of = config.parameters.as_of
    if config.model != PRODUCTION:
        as_of = as_of or catalogue.last_day()
    warnings = calibrations.stale(calibration, as_of, config)
    return calibrations.made_with(calibration, config, as_of, intervals=config.intervals), warnings


def check(files: Files, config: RunConfig | None = None, report: Report | None = None) -> Report:
    """Check each wanted bucket of the sink; add the complete ones to the report, the others as `failed`.

    Raises what `planned` raises. Computes and writes nothing.
    """
    report, config = report or Report(), config or RunConfig()
    files.check(config)
    start = time.perf_counter()
    report.begin(TRACKS, in_buckets=True)
    with report.stages.stage("connect"):
        plan = planned(files, config)
        report.warnings += source_warnings(plan)
        describe(files, config, plan, report)
    complete: list[Bucket] = []
    with report.stages.stage("buckets"):
        for bucket in plan.wanted:
            found = _complete(plan.sink, bucket)
            if isinstance(found, Manifest):
                add_up(report, done_before(found, left_alone=True))
                complete.append(bucket)
            else:
                report.failed[bucket.number] = found
    report.skipped = with_skipped(report, plan.sink.directory, complete)
    report.warnings += stray(plan.sink.directory, files, len(plan.buckets))
    report.seconds = time.perf_counter() - start
    return report


def _complete(sink: BucketSink, bucket: Bucket) -> Manifest | str:
    """Return the manifest of a complete bucket, or the reason why it has to be computed."""
    try:
        problem = sink.directory.problem(bucket, sink.asked(bucket)) if sink.directory else None
        manifest = sink.directory.read(bucket) if sink.directory else None
    except BadFileError as error:
        return str(error)
    return manifest if manifest and not problem else problem or "missing"


def add_up(report: Report, done: Done) -> None:
    """Add the outcome of a bucket to the report, its tracks to those pending, and its seconds."""
    report.add(done)
    report.pending += done.processed
    report.stages.add(done.stages)


def with_skipped(report: Report, sink: Sink | None, in_sink: list[Bucket]) -> pl.DataFrame:
    """Join the skipped tracks in the report with those in the sink, ordered by track."""
    skipped = [report.skipped, *([sink.all_skipped(in_sink)] if sink and in_sink else [])]
    return pl.concat(skipped).sort("cm_track_id")


def describe(files: Files, config: RunConfig, plan: Plan, report: Report) -> None:
    """Copy selection, parameters, source and sink of the run to the report."""
    report.describe(config)
    report.made_with(plan.sink.made_with)
    report.place = {"source": files.source, "sink": str(files.sink or "")}
    report.started_at = plan.sink.created_at.isoformat()
    report.buckets = len(plan.wanted)
    report.is_whole = files.only is None and plan.catalogue.track_ids is None


def unseen(sink: Sink | None, bucket: Bucket, done: Done) -> Exception | None:
    """Return an error if this process does not see in the sink what was stored."""
    try:
        if sink is None or sink.read(bucket) == done.proof:
            return None
    except BadFileError as error:
        return error
    return BadFileError(
        f"bucket {bucket} was computed, but this process does not see it in {sink.directory}",
        hint="give the workers the same directories under the same names",
    )


def _stays(sink: Sink | None, bucket: Bucket) -> str:
    """Whether the sink still has earlier forecasts of a bucket that failed."""
    is_there = sink is not None and os.path.exists(sink.forecasts(bucket))  # noqa: PTH110 - raises nothing
    return "; its forecasts of an earlier run are still in the sink" if is_there else ""


def stray(sink: Sink | None, files: Files, buckets: int) -> Iterator[str]:
    """Yield a warning about Parquet files in the sink that belong to no bucket."""
    if sink and files.only is None and (found := sink.stray(buckets)):
        yield (
            f"stray Parquet files in the sink: {len(found):,} (first: {found[0]}); "
            "remove them, readers would include them"
        )


def source_warnings(plan: Plan) -> Iterator[str]:
    """Yield warnings about files of the source that are not read.

    Raises `InvalidOptionError` if the sink is where the source would read it.
    """
    sink = plan.sink.directory
    for listing in plan.catalogue.files.listings(plan.wanted):
        if sink and listing.would_read(sink.directory):
            raise _in_the_source(sink.directory, listing.where)
        yield from listing.warnings()


def _refuse_overlap(catalogue: Catalogue, sink: Path) -> None:
    """Refuse a sink inside the source: the next run would read forecasts as streams or MLDR."""
    for files in (catalogue.all_files, catalogue.all_rates):
        source = Path(files.where).parent if Path(files.where).name == STREAMS else Path(files.where)
        if not files.is_url and sink.resolve().is_relative_to(source.resolve()):
            raise _in_the_source(sink, source)


def _in_the_source(sink: Path, source: Path | str) -> InvalidOptionError:
    return InvalidOptionError(
        f"the sink {sink} is inside the source {source}, directly or through a link",
        hint="choose a directory outside the source: forecasts must not be read as streams",
    )


def _refuse_to_shrink(sink: Sink, buckets: list[Bucket], track_ids: tuple[int, ...]) -> None:
    """Refuse to replace forecasts of other tracks: all forecasts of a bucket are written together."""
    for bucket in buckets:
        try:
            manifest = sink.read(bucket)
        except BadFileError:
            continue
        if manifest and manifest.asked.get("tracks") != chosen(track_ids):
            raise InvalidOptionError(
                f"{sink.directory} has the forecasts of other tracks than those selected now",
                hint="choose another --sink for some tracks, or omit --track-id and --limit for all tracks",
            )


def _selected(catalogue: Catalogue, config: RunConfig) -> list[int]:
    """Select the ids of the tracks to forecast, in order."""
    files = catalogue.all_files
    daily = files.conformed()
    tracks = files.collect(daily.select("cm_track_id").drop_nulls().unique())["cm_track_id"].sort()
    found = named(config, tracks, rows="streams of these tracks", hint="check the ids, and --source")
    return limited(config, found).to_list()
