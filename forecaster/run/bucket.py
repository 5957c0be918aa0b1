"""One bucket: scan, forecast, write, and the manifest last. Whoever runs it, as often as they like."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import polars as pl

from forecaster.errors import BadFileError
from forecaster.files.tables import write_table
from forecaster.frames.casting import Fitted, fit, fit_or_refuse
from forecaster.model import build_tracks, forecastable, records_and_facts, skipped
from forecaster.model.features import clean
from forecaster.model.parameters import Parameters
from forecaster.model.projection import project
from forecaster.parquet.catalogue import Catalogue
from forecaster.parquet.layout import Bucket, bucket_of
from forecaster.parquet.lock import locked
from forecaster.parquet.sink import Manifest, Sink
from forecaster.process.signals import interruptible
from forecaster.run.report import RunReport, versions
from forecaster.tables import FORECASTS, STREAMS


@dataclass(frozen=True)
class Job:
    """What is the same for all buckets. Only names and ids, so that it can be told to whoever works one."""

    catalogue: Catalogue
    sink: Sink | None
    """None: everything but the write."""
    parameters: Parameters
    track_ids: tuple[int, ...] | None
    """Only these tracks. None: all."""
    created_at: datetime
    replace: bool = False
    """Also buckets whose forecasts are there and whole."""
    wait: float = 0.0
    """Seconds to wait for another process that works the same bucket."""

    def asked(self, bucket: Bucket) -> dict[str, Any]:
        """What the bucket's result follows from."""
        as_of = self.parameters.as_of
        return {
            "parameters": asdict(self.parameters) | {"as_of": as_of.isoformat() if as_of else None},
            "tracks": chosen(self.track_ids),
            "streams": self.catalogue.files(bucket).fingerprint(),
            "mldr": self.catalogue.rates(bucket).fingerprint(),
            "forecaster": version("forecaster"),
        }


def chosen(track_ids: tuple[int, ...] | None) -> str | None:
    """What a manifest says of the tracks that were asked for; None for all."""
    return None if track_ids is None else hashlib.sha256(repr(sorted(track_ids)).encode()).hexdigest()


@dataclass(frozen=True)
class Worked:
    """What became of a bucket."""

    manifest: Manifest
    left_alone: bool
    """Whether its forecasts were there and whole."""
    skipped: pl.DataFrame | None
    """The skipped tracks; None if they lie in the sink."""


def work(job: Job, bucket: Bucket) -> Worked:
    """Forecast the tracks of a bucket and store the result, unless it is there and whole.

    The forecasts and the skipped tracks are written first and the manifest last, each by a temporary name:
    whenever the process dies, the bucket is as it was or is done anew.

    Raises `BadFileError` and `SchemaMismatchError` for files that cannot be used, and `LockedError` if
    another process works the bucket.
    """
    asked = job.asked(bucket)
    if job.sink is None:
        return _forecast(job, bucket, asked)
    if whole := _whole(job, job.sink, bucket, asked):
        return whole
    job.sink.prepare(bucket.of)
    with locked(job.sink.lock(bucket), job.wait):
        job.sink.prepare_bucket(bucket)
        # Once more: it may have been worked while we waited.
        return _whole(job, job.sink, bucket, asked) or _forecast(job, bucket, asked)


def _whole(job: Job, sink: Sink, bucket: Bucket, asked: Mapping[str, Any]) -> Worked | None:
    """The bucket, if its forecasts are there and whole, and it is not to be worked all the same."""
    if sink.problem(bucket, asked):
        return None
    manifest = sink.read(bucket)
    # One of this run's instant is this run's: its worker was lost before it could say so.
    is_ours = manifest is not None and manifest.created_at == job.created_at.isoformat()
    if manifest is None or (job.replace and not is_ours):
        return None
    return Worked(manifest, left_alone=not is_ours, skipped=None)


def _forecast(job: Job, bucket: Bucket, asked: dict[str, Any]) -> Worked:
    start = time.perf_counter()
    report = RunReport(announced=False, parameters=job.parameters)
    with report.stage("read"):
        daily = _read(job, bucket)
        mldr = job.catalogue.newest_mldr(bucket, daily["cm_artist_id"])
        usable, cleaned = _cleaned(daily)
    report.unusable_rows = len(daily) - usable
    report.duplicate_rows = usable - len(cleaned)
    records, facts = records_and_facts(daily.lazy(), cleaned.lazy())
    tracks = build_tracks(records, facts, mldr.lazy(), job.parameters, checkpoint=report.checkpoint)
    with report.stage("projection"):
        rows = project(forecastable(tracks), horizon=job.parameters.horizon)
        as_of = pl.lit(job.parameters.as_of, dtype=pl.Date)
        ahead = tracks.select((pl.col("last_date") > as_of).sum())
        collect = [rows.with_columns(pl.col("forecasted_value").round()), skipped(tracks), ahead]
        forecasts, left_out, looking_ahead = interruptible(lambda: pl.collect_all(collect), cancel=None)
        stored, refused = _stored(forecasts, job.created_at)
    files: list[dict[str, Any]] = []
    if job.sink:
        with report.stage("write"):
            paths = job.sink.forecasts(bucket), job.sink.skipped(bucket)
            for frame, path in zip((stored, left_out), paths, strict=True):
                write_table(frame, path)
            files = job.sink.describe(*paths)
    forecast = len(stored) // job.parameters.horizon
    report.skipped = left_out
    manifest = Manifest(
        bucket=bucket.number,
        of=bucket.of,
        asked=asked,
        created_at=job.created_at.isoformat(),
        tracks=forecast + len(left_out) + len(refused),
        forecast=forecast,
        rows=len(stored),
        skipped_by_reason=report.skipped_by_reason,
        refused=[{"cm_track_id": track, "reason": reason} for track, reason in refused.items()],
        looking_ahead=looking_ahead.item() or 0,
        unusable_rows=report.unusable_rows,
        duplicate_rows=report.duplicate_rows,
        stages={stage: round(seconds, 6) for stage, seconds in report.stages.items()},
        seconds=round(time.perf_counter() - start, 6),
        versions=versions(),
        files=files,
    )
    if job.sink:
        job.sink.store(bucket, manifest)
    return Worked(manifest, left_alone=False, skipped=None if job.sink else left_out)


def _read(job: Job, bucket: Bucket) -> pl.DataFrame:
    daily = job.catalogue.daily(bucket)
    track = pl.col("cm_track_id")
    if job.track_ids is not None:
        daily = daily.filter(track.is_in(pl.Series(job.track_ids, dtype=pl.Int64).implode()))
    rows = job.catalogue.files(bucket).collect(daily)
    if job.catalogue.laid_out_in:
        strays = rows.select(track.unique()).drop_nulls().filter(~bucket.holds(track)).sort(track)
        if len(strays):
            belongs = strays.select(bucket_of(track, bucket.of))["cm_track_id"][0]
            raise BadFileError(
                f"{job.catalogue.files(bucket).where} has rows of {len(strays):,} tracks that belong in "
                f"other buckets, the first is {strays['cm_track_id'][0]}, of bucket {belongs}",
                hint="lay the catalogue out anew with `forecaster prepare`",
            )
    return rows


def _cleaned(daily: pl.DataFrame) -> tuple[int, pl.DataFrame]:
    """How many rows are records, and those that are left of them."""
    frames = [daily.lazy().select(STREAMS.is_record().sum()), clean(daily.lazy())]
    usable, cleaned = interruptible(lambda: pl.collect_all(frames), cancel=None)
    return int(usable.item()), cleaned


def _stored(forecasts: pl.DataFrame, created_at: datetime) -> tuple[pl.DataFrame, dict[int, str]]:
    """The rows in the types of the tables, and the tracks that these types cannot hold."""
    fitted, refused = fit_or_refuse(forecasts, _fit_made, by="cm_track_id")
    at = pl.lit(created_at.astimezone(UTC), dtype=pl.Datetime("us", "UTC"))
    return fitted.rows.with_columns(created_at=at), refused


def _fit_made(forecasts: pl.DataFrame) -> Fitted:
    """Fit forecasts to the table that `init` makes; `training_data_id` stays as the rows have it."""
    fitted = fit(forecasts.drop("training_data_id"), FORECASTS.made)
    return replace(fitted, rows=fitted.rows.with_columns(forecasts["training_data_id"]))
