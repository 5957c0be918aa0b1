"""All buckets of a catalogue, in this process or spread by an engine, and the sum of their manifests."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from forecaster.errors import (
    BadFileError,
    BucketsFailedError,
    ForecasterError,
    InvalidOptionError,
    LockedError,
    NoForecastError,
)
from forecaster.files.paths import check_name, refusing
from forecaster.model.features import looks_ahead
from forecaster.model.parameters import Parameters
from forecaster.parquet.catalogue import Catalogue, find_catalogue
from forecaster.parquet.layout import STREAMS, Bucket
from forecaster.parquet.sink import Sink
from forecaster.run.bucket import Job, Worked, chosen, work
from forecaster.run.report import BucketsReport

Outcome = Worked | Exception
Engine = Callable[[Job, list[Bucket]], Iterator[tuple[Bucket, Outcome]]]
"""Works all buckets, in any order and place, and yields what became of each as soon as it is known."""

_NAMED = 5  # failed buckets that the error names


@dataclass(frozen=True)
class BucketsConfig:
    """What a run without a database does. Raises `InvalidOptionError` if a value cannot be used."""

    source: str
    """Directory, pattern of files with streams, or the URL of one."""
    sink: Path | None
    """Directory for the forecasts; may be missing in a dry run."""
    mldr: str | None = None
    """File, directory, pattern or URL of the decay rates, if they do not lie beside the streams."""
    parameters: Parameters = field(default_factory=Parameters)
    buckets: int | None = None
    """How many to work it in. None: as it is laid out, else as the sink is, else by the number of rows."""
    track_ids: tuple[int, ...] = ()
    """Only these tracks. Empty: all."""
    limit: int | None = None
    """At most so many tracks, in the order of their ids; skipped ones count. None: all."""
    replace: bool = False
    """Also the buckets whose forecasts are there and whole."""
    dry_run: bool = False
    """Everything but the write."""
    wait: float = 0.0
    """Seconds to wait for another process that works the same bucket."""

    def __post_init__(self) -> None:
        if self.limit is not None and not 1 <= self.limit < 2**63:
            raise InvalidOptionError(f"limit is {self.limit}: expected at least 1")
        if self.sink is None and not self.dry_run:
            raise InvalidOptionError(
                "there is nowhere to write the forecasts to",
                hint="--sink DIRECTORY says where; or --dry-run writes nothing",
            )
        if self.sink is not None and "://" in str(self.sink).replace(":/", "://"):
            raise InvalidOptionError(
                f"the sink {self.sink} is a URL: expected a directory",
                hint="files are renamed once they are whole, which an object store cannot do",
            )


def run_buckets(
    config: BucketsConfig,
    engine: Engine | None = None,
    report: BucketsReport | None = None,
    *,
    only: Bucket | None = None,
) -> BucketsReport:
    """Forecast all tracks of a catalogue in Parquet, bucket by bucket.

    With `only`, just that bucket. A bucket whose forecasts are there, whole and of the same data and
    parameters is left alone. One that fails does not keep the others from being worked. The `report` is
    filled in on the way.

    Raises `SchemaMismatchError` and `BadFileError` if no bucket can be worked, `BucketsFailedError` if some
    cannot, `LockedError` if another process works one, `NoForecastError` for track ids without streams.
    """
    report = report or BucketsReport()
    start = time.perf_counter()
    try:
        _run(config, engine or in_this_process, report, only)
    finally:
        report.seconds = time.perf_counter() - start
    return report


def in_this_process(job: Job, buckets: list[Bucket]) -> Iterator[tuple[Bucket, Outcome]]:
    """One after the other; Polars takes all cores for each."""
    for bucket in buckets:
        yield bucket, attempt(job, bucket)


def attempt(job: Job, bucket: Bucket) -> Outcome:
    """What became of a bucket; what it failed with is returned, to be told along with the others'."""
    try:
        with refusing(f"bucket {bucket}", "worked"):  # for what nobody has thought of
            return work(job, bucket)
    except ForecasterError as error:
        return error


def plan(config: BucketsConfig) -> tuple[Job, list[Bucket]]:
    """What to work, once it is certain that it can be. Writes nothing."""
    catalogue = find_catalogue(config.source, config.mldr)
    catalogue.check()
    sink = Sink(config.sink.absolute()) if config.sink and not config.dry_run else None
    if sink:
        check_name(sink.directory)
        _keep_apart(catalogue, sink.directory)
    if catalogue.laid_out_in and config.buckets not in (None, catalogue.laid_out_in):
        raise InvalidOptionError(
            f"{config.source} is laid out in {catalogue.laid_out_in} buckets, not in {config.buckets}",
            hint=f"its buckets are 0/{catalogue.laid_out_in} and so on; or lay it out anew",
        )
    # Where only the size tells the number of buckets, it must not change as the catalogue grows.
    number = catalogue.laid_out_in or config.buckets or (sink and sink.buckets()) or catalogue.buckets()
    buckets = [Bucket(i, number) for i in range(number)]
    track_ids = None
    if config.track_ids or config.limit:
        track_ids = tuple(_selected(catalogue, config))
        if sink:
            _refuse_to_shrink(sink, buckets, track_ids)
    job = Job(catalogue, sink, config.parameters, track_ids, datetime.now(UTC), config.replace, config.wait)
    return job, buckets


def check(
    config: BucketsConfig, report: BucketsReport | None = None, *, only: Bucket | None = None
) -> BucketsReport:
    """Look at every bucket of a sink, or at `only` that one; add up what is whole, the rest is `failed`."""
    report = report or BucketsReport()
    start = time.perf_counter()
    with report.stage("connect"):
        job, buckets = plan(config)
        buckets = buckets if only is None else [only]
        _survey(job, buckets, report)
        _describe(config, job, buckets, report)
    with report.stage("buckets"):
        whole: list[tuple[Bucket, Worked]] = []
        for bucket in buckets:
            found = _whole(job, bucket)
            if isinstance(found, Worked):
                whole.append((bucket, found))
            else:
                report.failed[bucket.number] = found
    add_up(report, whole, job.sink)
    if job.sink and only is None and (strangers := job.sink.strangers(len(buckets))):
        report.warnings.append(_strange(strangers))
    report.seconds = time.perf_counter() - start
    return report


def _unseen(job: Job, bucket: Bucket, done: Worked) -> Exception | None:
    """An error, if what was done is not in the sink as this process sees it."""
    try:
        if job.sink is None or job.sink.read(bucket) == done.manifest:
            return None
    except BadFileError as error:
        return error
    return BadFileError(
        f"bucket {bucket} was worked, and is not in {job.sink.directory} as it is seen from here",
        hint="the workers need the same directories by the same names",
    )


def _stays(job: Job, bucket: Bucket) -> str:
    """What of a bucket that failed is in the sink all the same."""
    is_there = job.sink is not None and os.path.exists(job.sink.forecasts(bucket))  # noqa: PTH110 - raises nothing
    return "; its forecasts of an earlier run are still in the sink" if is_there else ""


def _strange(files: list[str]) -> str:
    return (
        f"Parquet files in the sink that are no bucket's: {len(files):,}, the first is {files[0]}; whoever "
        "reads all files of the sink reads them too: remove them"
    )


def _whole(job: Job, bucket: Bucket) -> Worked | str:
    """What a bucket's manifest says, or why it has to be worked."""
    try:
        problem = job.sink.problem(bucket, job.asked(bucket)) if job.sink else None
        manifest = job.sink.read(bucket) if job.sink else None
    except BadFileError as error:
        return str(error)
    if problem or manifest is None:
        return problem or "missing"
    return Worked(manifest, left_alone=True, skipped=None)


def add_up(report: BucketsReport, worked: Iterable[tuple[Bucket, Worked]], sink: Sink | None) -> None:
    """Fill in what the buckets' manifests say."""
    in_sink = []
    skipped = [report.skipped]
    for bucket, done in worked:
        manifest = done.manifest
        report.pending += manifest.tracks
        report.forecast += manifest.forecast
        report.rows += manifest.rows if sink else 0
        report.unusable_rows += manifest.unusable_rows
        report.duplicate_rows += manifest.duplicate_rows
        report.looking_ahead += manifest.looking_ahead
        report.refused |= {row["cm_track_id"]: row["reason"] for row in manifest.refused}
        report.left_alone += done.left_alone
        if not done.left_alone:
            for stage, seconds in manifest.stages.items():
                report.stages[stage] = report.stages.get(stage, 0.0) + seconds
        if done.skipped is not None:
            skipped.append(done.skipped)
        else:
            in_sink.append(bucket)
    if sink and in_sink:
        skipped.append(sink.all_skipped(in_sink))
    report.skipped = pl.concat(skipped).sort("cm_track_id")


def _run(config: BucketsConfig, engine: Engine, report: BucketsReport, only: Bucket | None) -> None:
    with report.stage("connect"):
        job, buckets = plan(config)
        if len(buckets) > 1 and not job.catalogue.laid_out_in:
            report.warnings.append(
                f"{config.source} is not laid out in buckets, so that each bucket reads all of it; "
                "`forecaster prepare` lays it out"
            )
        wanted = buckets if only is None else [only]
        _survey(job, wanted, report)
        if job.sink:
            job.sink.prepare(len(buckets))
        buckets = wanted
        _describe(config, job, buckets, report)
    worked: list[tuple[Bucket, Worked]] = []
    errors: dict[int, Exception] = {}
    try:
        with report.stage("buckets"):
            for bucket, outcome in engine(job, buckets):
                error = outcome if isinstance(outcome, Exception) else _unseen(job, bucket, outcome)
                if isinstance(outcome, Worked) and error is None:
                    worked.append((bucket, outcome))
                elif error:
                    errors[bucket.number] = error
                    report.failed[bucket.number] = f"{error}{_stays(job, bucket)}"
                report.done["buckets"] = len(worked) + len(errors)
    finally:
        add_up(report, worked, job.sink)
        if job.sink and only is None and (strangers := job.sink.strangers(len(buckets))):
            report.warnings.append(_strange(strangers))
        report.warnings += looks_ahead(report.looking_ahead, config.parameters.as_of)
    _raise(errors, len(buckets), refused=len(report.refused))


def _describe(config: BucketsConfig, job: Job, buckets: list[Bucket], report: BucketsReport) -> None:
    report.source, report.sink = config.source, str(config.sink or "")
    report.parameters, report.ids, report.limit = config.parameters, config.track_ids, config.limit
    report.replace, report.dry_run = config.replace, config.dry_run
    report.started_at = job.created_at.isoformat()
    report.buckets = len(buckets)


def _raise(errors: dict[int, Exception], buckets: int, *, refused: int) -> None:
    if not errors:
        return
    first = min(errors)
    if len(errors) == buckets or all(isinstance(error, LockedError) for error in errors.values()):
        raise errors[first]
    what = ", ".join(map(str, sorted(errors)[:_NAMED])) + (" and others" if len(errors) > _NAMED else "")
    raise BucketsFailedError(
        f"{len(errors):,} of {buckets:,} buckets failed ({what}); the others are done. Bucket {first}: "
        f"{errors[first]}" + (f"; {refused:,} tracks of the others were refused" if refused else ""),
        hint="once that is mended, the same command works only what failed; --report lists them all",
    )


def _keep_apart(catalogue: Catalogue, sink: Path) -> None:
    """What is written must not be read as streams or decay rates by the next run."""
    for files in (catalogue.all_files, catalogue.all_rates):
        source = Path(files.where).parent if Path(files.where).name == STREAMS else Path(files.where)
        if not files.is_url and sink.resolve().is_relative_to(source.resolve()):
            raise _in_the_source(sink, source)


def _survey(job: Job, buckets: list[Bucket], report: BucketsReport) -> None:
    """Look at what lies in the source: what is not read is a warning, the sink may not be there."""
    for listing in job.catalogue.listings(buckets):
        if job.sink and listing.would_read(job.sink.directory):
            raise _in_the_source(job.sink.directory, listing.where)
        report.warnings += listing.warnings()


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


def _selected(catalogue: Catalogue, config: BucketsConfig) -> list[int]:
    """The ids of the tracks to work."""
    files = catalogue.all_files
    daily = files.conformed()
    tracks = files.collect(daily.select("cm_track_id").drop_nulls().unique())["cm_track_id"].sort()
    if config.track_ids:
        wanted = pl.Series(config.track_ids, dtype=pl.Int64).unique().sort()
        if len(unknown := wanted.filter(~wanted.is_in(tracks.implode()))):
            raise NoForecastError(
                f"no streams of these tracks: {', '.join(map(str, unknown))}",
                hint="check the ids, and --source",
            )
        tracks = wanted
    return (tracks if config.limit is None else tracks.head(config.limit)).to_list()
