"""One bucket of a catalogue in files: lock, read, forecast and store it, the manifest last."""

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.paths import refusing
from forecaster.files.tables import write_table
from forecaster.frames.casting import Fitted
from forecaster.parquet.catalogue import Catalogue
from forecaster.parquet.layout import Bucket, bucket_of
from forecaster.parquet.lock import locked
from forecaster.parquet.sink import Manifest, Sink
from forecaster.process.numbers import counted
from forecaster.process.secrets import masked
from forecaster.process.version import VERSION
from forecaster.run.batch import Computed, Done, History, Work, done_of
from forecaster.run.forecast import fit_made, forecast, history_of
from forecaster.run.made_with import MadeWith
from forecaster.run.plausible import Limits, observed_of
from forecaster.run.report import as_json, by_reason, versions
from forecaster.tables import INTERVALS

if TYPE_CHECKING:
    from forecaster.run.stages import Stages


def chosen(track_ids: tuple[int, ...] | None) -> str | None:
    """Fingerprint of the selected tracks for the manifest; None for all tracks."""
    return None if track_ids is None else hashlib.sha256(repr(sorted(track_ids)).encode()).hexdigest()


@dataclass(frozen=True)
class BucketCatalogue:
    """The source of the buckets of a catalogue in files. It has only names and ids: it is sent to workers."""

    files: Catalogue
    track_ids: tuple[int, ...] | None
    """Read only these tracks. None: all."""
    made_with: MadeWith = field(default_factory=MadeWith)
    """What the forecasts are made with."""

    def read(self, bucket: Bucket, /) -> History:
        """Read the cleaned records of the bucket's tracks, and the MLDR of their artists.

        Raises `BadFileError` for files that cannot be read or rows of other buckets, and
        `SchemaMismatchError` for columns that do not fit.
        """
        daily = self.daily(bucket)
        made_with = self.made_with
        mldr = self.files.newest_mldr(bucket, daily["cm_artist_id"], until=made_with.until)
        return history_of(daily, mldr.lazy(), with_days=made_with.needs_days, last=made_with.until)

    def refuse_secrets(self) -> None:
        """Raise `InvalidOptionError` if a name contains a secret: it would be sent unencrypted."""
        for option, where in (("--source", self.files.streams), ("--mldr", self.files.mldr)):
            if masked(where) != where:
                raise InvalidOptionError(
                    f"{option} contains a signature or a password, which would be sent to the workers "
                    "unencrypted",
                    hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the store needs, where "
                    "the workers run; or use a scheduler at tls://",
                )

    def fingerprints(self, bucket: Bucket, /) -> dict[str, Any]:
        """Fingerprints of the bucket's input: the selected tracks, and the files."""
        return {
            "tracks": chosen(self.track_ids),
            "streams": self.files.files(bucket).fingerprint(),
            "mldr": self.files.rates(bucket).fingerprint(),
        }

    def daily(self, bucket: Bucket, /) -> pl.DataFrame:
        """Read the rows of the bucket's tracks: `DAILY_STREAMS`. Raises `BadFileError` for other tracks."""
        daily, track = self.files.daily(bucket), pl.col("cm_track_id")
        if self.track_ids is not None:
            daily = daily.filter(track.is_in(pl.Series(self.track_ids, dtype=pl.Int64).implode()))
        rows = self.files.files(bucket).collect(daily)
        if self.files.laid_out_in:
            self._refuse_strays(rows, bucket)
        return rows

    def _refuse_strays(self, rows: pl.DataFrame, bucket: Bucket) -> None:
        track = pl.col("cm_track_id")
        strays = rows.select(track.unique()).drop_nulls().filter(~bucket.holds(track)).sort(track)
        if len(strays):
            belongs = strays.select(bucket_of(track, bucket.of))["cm_track_id"][0]
            raise BadFileError(
                f"{self.files.files(bucket).where} has rows of {counted(len(strays), 'track')} of other "
                f"buckets (first: track {strays['cm_track_id'][0]}, of bucket {belongs})",
                hint="lay the catalogue out again with `forecaster prepare`",
            )


@dataclass(frozen=True)
class BucketSink:
    """The destination of forecasts in files, one bucket at a time."""

    catalogue: BucketCatalogue
    directory: Sink | None
    """None in a dry run."""
    created_at: datetime
    replace: bool = False
    """Also compute buckets whose forecasts are complete."""
    wait: float = 0.0
    """Wait up to this many seconds for another process that computes the same bucket."""

    @property
    def made_with(self) -> MadeWith:
        """What the forecasts are made with."""
        return self.catalogue.made_with

    def asked(self, bucket: Bucket, /) -> dict[str, Any]:
        """Everything that the result of the bucket depends on, for its manifest."""
        return {
            "parameters": as_json(self.made_with.parameters),
            **self.made_with.asked,
            **self.catalogue.fingerprints(bucket),
            "forecaster": VERSION,
        }

    def fit(self, rows: pl.DataFrame, /) -> tuple[Fitted, dict[int, str]]:
        """Cast rows to the types of the tables; also return the tracks that these types cannot hold."""
        return fit_made(rows, self.created_at)

    @contextmanager
    def held(self, bucket: Bucket, /) -> "Iterator[OneBucket | Done]":
        """Hold the bucket exclusively; yield its store, or its outcome if its forecasts are complete.

        Raises `LockedError` if another process computes the bucket.
        """
        with refusing(f"bucket {bucket}", "computed"):  # for errors that no inner block names
            asked, start = self.asked(bucket), time.perf_counter()
            if self.directory is None:
                yield OneBucket(self, asked, start)
            elif done := self.done(bucket, asked):
                yield done
            else:
                self.directory.prepare(bucket.of)
                with locked(self.directory.lock(bucket), self.wait):
                    self.directory.prepare_bucket(bucket, intervals="intervals" in asked)
                    # Check again: another process may have computed it in the meantime.
                    yield self.done(bucket, asked) or OneBucket(self, asked, start)

    def done(self, bucket: Bucket, asked: Mapping[str, Any], /) -> Done | None:
        """Return the outcome of a bucket whose forecasts are complete; None if it has to be computed."""
        if self.directory is None or self.directory.problem(bucket, asked):
            return None
        manifest = self.directory.read(bucket)
        # A manifest with this run's instant is of this run: its worker was lost before it could report.
        is_ours = manifest is not None and manifest.created_at == self.created_at.isoformat()
        if manifest is None or (self.replace and not is_ours):
            return None
        return done_before(manifest, left_alone=not is_ours)


@dataclass(frozen=True)
class OneBucket:
    """The store of a bucket that this process holds."""

    sink: BucketSink
    asked: dict[str, Any]
    start: float
    """Start of the bucket, by `time.perf_counter`."""

    @property
    def has_intervals(self) -> bool:
        """Whether the bucket gets intervals."""
        return self.sink.made_with.errors is not None

    def store(self, bucket: Bucket, computed: Computed, stages: "Stages", /) -> Done:
        """Write forecasts, skipped tracks, intervals; the manifest last. Each under a temporary name first.

        If the process dies at any point, the bucket is as it was before, or is computed again.
        """
        directory, files = self.sink.directory, list[dict[str, Any]]()
        if directory:
            with stages.stage("write"):
                frames = [computed.fitted.rows, computed.skipped]
                if self.has_intervals:
                    frames.append(self._intervals(computed))
                else:
                    directory.remove_intervals(bucket)
                paths = directory.files(bucket, intervals=self.has_intervals)
                for frame, path in zip(frames, paths, strict=True):
                    write_table(frame, path)
                files = directory.describe(*paths)
        manifest = self._manifest(bucket, computed, stages, files)
        if directory:
            directory.store(bucket, manifest)
            return done_before(manifest, left_alone=False)
        return done_of(computed, stages=manifest.stages)

    def _intervals(self, computed: Computed) -> pl.DataFrame:
        """Select the intervals of the tracks that are stored, one row per track, in order."""
        return (
            computed.intervals.join(computed.fitted.rows, on="cm_track_id", how="semi")
            .with_columns(
                created_at=pl.lit(self.sink.created_at.astimezone(UTC), dtype=pl.Datetime("us", "UTC")),
                calibration=pl.lit(self.sink.made_with.calibration, dtype=pl.String),
            )
            .select(column.name for column in INTERVALS.columns)
            .sort("cm_track_id")
        )

    def _manifest(
        self, bucket: Bucket, computed: Computed, stages: "Stages", files: list[dict[str, Any]]
    ) -> Manifest:
        return Manifest(
            bucket=bucket.number,
            of=bucket.of,
            asked=self.asked,
            created_at=self.sink.created_at.isoformat(),
            tracks=computed.results + len(computed.skipped) + len(computed.refused),
            forecast=computed.results,
            rows=len(computed.fitted.rows),
            skipped_by_reason=by_reason(computed.skipped),
            refused=[{"cm_track_id": track, "reason": why} for track, why in computed.refused.items()],
            looking_ahead=computed.looking_ahead,
            observed=computed.observed.to_json(),
            unusable_rows=computed.unusable_rows,
            duplicate_rows=computed.duplicate_rows,
            stages={stage: round(seconds, 6) for stage, seconds in stages.seconds.items()},
            seconds=round(time.perf_counter() - self.start, 6),
            versions=versions(),
            files=files,
        )


def work_on(catalogue: BucketCatalogue, sink: BucketSink, limits: Limits) -> Work[Bucket, History]:
    """Read the rows of a bucket, forecast its tracks, and store them in files."""
    compute = partial(forecast, made_with=sink.made_with, limits=limits)

    def elsewhere(encrypted: bool) -> Work[Bucket, History]:  # noqa: FBT001 - the only argument
        if not encrypted:
            catalogue.refuse_secrets()
        return Work(catalogue, compute, sink, None, _unknown_size)

    return Work(catalogue, compute, sink, None, _unknown_size, elsewhere=elsewhere)


def _unknown_size(_bucket: Bucket) -> int:
    """Return 0: the number of tracks in a bucket is not known before it is read."""
    return 0


def done_before(manifest: Manifest, *, left_alone: bool) -> Done:
    """Return the outcome of a bucket by its manifest; the sink has the skipped tracks."""
    return Done(
        processed=manifest.tracks,
        results=manifest.forecast,
        rows=manifest.rows,
        skipped=None,
        refused={row["cm_track_id"]: row["reason"] for row in manifest.refused},
        duplicate_rows=manifest.duplicate_rows,
        unusable_rows=manifest.unusable_rows,
        looking_ahead=manifest.looking_ahead,
        observed=observed_of(manifest.observed),
        stages={} if left_alone else manifest.stages,
        left_alone=left_alone,
        proof=manifest,
    )
