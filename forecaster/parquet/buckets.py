"""One bucket of a catalogue in files: kept from others, read, forecast, stored; the manifest last."""

import dataclasses
import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.paths import refusing
from forecaster.files.tables import write_table
from forecaster.frames.casting import Fitted, fit, fit_or_refuse
from forecaster.frames.collecting import collect_all
from forecaster.model import records_and_facts
from forecaster.model.features import clean
from forecaster.model.parameters import Parameters
from forecaster.parquet.catalogue import Catalogue
from forecaster.parquet.layout import Bucket, bucket_of
from forecaster.parquet.lock import locked
from forecaster.parquet.sink import Manifest, Sink
from forecaster.process.secrets import masked
from forecaster.run.batch import Computed, Done, History, done_of
from forecaster.run.report import as_json, by_reason, versions
from forecaster.tables import FORECASTS, STREAMS

if TYPE_CHECKING:
    from forecaster.process.signals import Cancel
    from forecaster.run.stages import Stages


def chosen(track_ids: tuple[int, ...] | None) -> str | None:
    """What a manifest says of the tracks that were asked for; None for all."""
    return None if track_ids is None else hashlib.sha256(repr(sorted(track_ids)).encode()).hexdigest()


@dataclass(frozen=True)
class BucketCatalogue:
    """The tracks of a catalogue in files. Only names and ids, so that it can be sent to workers."""

    files: Catalogue
    track_ids: tuple[int, ...] | None
    """Only these tracks. None: all."""

    def read(self, bucket: Bucket, /) -> History:
        """The cleaned records of the bucket's tracks, and the rates of their artists."""
        daily = self._daily(bucket)
        mldr = self.files.newest_mldr(bucket, daily["cm_artist_id"])
        usable, cleaned = _cleaned(daily)
        records, facts = records_and_facts(daily.lazy(), cleaned.lazy())
        return History(records, facts, mldr.lazy(), usable - len(cleaned), len(daily) - usable)

    @property
    def cancel(self) -> "Cancel | None":
        """A read comes back by itself."""
        return None

    def travelling(self, *, encrypted: bool) -> "BucketCatalogue":
        """The same. Raises `InvalidOptionError` for a secret in a name that others could read on the way."""
        for option, where in (("--source", self.files.streams), ("--mldr", self.files.mldr)):
            if not encrypted and masked(where) != where:
                raise InvalidOptionError(
                    f"{option} has a signature or a password in it, which would go to the workers "
                    "unencrypted",
                    hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what the store needs, where "
                    "the workers run; or use a scheduler at tls://",
                )
        return self

    def fingerprints(self, bucket: Bucket, /) -> dict[str, Any]:
        """What is read for the bucket: which tracks, and what changes when the files do."""
        return {
            "tracks": chosen(self.track_ids),
            "streams": self.files.files(bucket).fingerprint(),
            "mldr": self.files.rates(bucket).fingerprint(),
        }

    def _daily(self, bucket: Bucket) -> pl.DataFrame:
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
                f"{self.files.files(bucket).where} has rows of {len(strays):,} tracks that belong in "
                f"other buckets, the first is {strays['cm_track_id'][0]}, of bucket {belongs}",
                hint="lay the catalogue out anew with `forecaster prepare`",
            )


def _cleaned(daily: pl.DataFrame) -> tuple[int, pl.DataFrame]:
    """How many rows are records, and those that are left of them."""
    usable, cleaned = collect_all([daily.lazy().select(STREAMS.is_record().sum()), clean(daily.lazy())])
    return int(usable.item()), cleaned


def _fit_made(forecasts: pl.DataFrame) -> Fitted:
    """Fit forecasts to the table that `init` makes; `training_data_id` stays as the rows have it."""
    fitted = fit(forecasts.drop("training_data_id"), FORECASTS.made)
    return dataclasses.replace(fitted, rows=fitted.rows.with_columns(forecasts["training_data_id"]))


@dataclass(frozen=True)
class BucketSink:
    """Where forecasts are stored in files, one bucket at a time."""

    catalogue: BucketCatalogue
    directory: Sink | None
    """None: in a dry run."""
    parameters: Parameters
    created_at: datetime
    replace: bool = False
    """Also buckets whose forecasts are there and whole."""
    wait: float = 0.0
    """Seconds to wait for another process that works the same bucket."""

    def asked(self, bucket: Bucket, /) -> dict[str, Any]:
        """What the bucket's result follows from."""
        return {
            "parameters": as_json(self.parameters),
            **self.catalogue.fingerprints(bucket),
            "forecaster": version("forecaster"),
        }

    def fit(self, rows: pl.DataFrame, /) -> tuple[Fitted, dict[int, str]]:
        """The rows in the types of the tables, and the tracks that these types cannot hold."""
        fitted, refused = fit_or_refuse(rows, _fit_made, by="cm_track_id")
        at = pl.lit(self.created_at.astimezone(UTC), dtype=pl.Datetime("us", "UTC"))
        return dataclasses.replace(fitted, rows=fitted.rows.with_columns(created_at=at)), refused

    @contextmanager
    def held(self, bucket: Bucket, /) -> "Iterator[OneBucket | Done]":
        """Keep others from the bucket; yields what stores it, or what is there, if that is whole.

        Raises `LockedError` if another process works the bucket.
        """
        with refusing(f"bucket {bucket}", "worked"):  # for what nobody has thought of
            asked, start = self.asked(bucket), time.perf_counter()
            if self.directory is None:
                yield OneBucket(self, asked, start)
            elif whole := self.whole(bucket, asked):
                yield whole
            else:
                self.directory.prepare(bucket.of)
                with locked(self.directory.lock(bucket), self.wait):
                    self.directory.prepare_bucket(bucket)
                    # Once more: it may have been worked while we waited.
                    yield self.whole(bucket, asked) or OneBucket(self, asked, start)

    def store(self, bucket: Bucket, computed: Computed, stages: "Stages", /) -> Done:
        """Store a bucket that nobody else is at."""
        with self.held(bucket) as sink:
            return sink if isinstance(sink, Done) else sink.store(bucket, computed, stages)

    @property
    def cancel(self) -> "Cancel | None":
        """A write comes back by itself."""
        return None

    def travelling(self) -> "BucketSink":
        """The same: it is only names."""
        return self

    def whole(self, bucket: Bucket, asked: Mapping[str, Any], /) -> Done | None:
        """The bucket, if its forecasts are there and whole, and it is not to be worked all the same."""
        if self.directory is None or self.directory.problem(bucket, asked):
            return None
        manifest = self.directory.read(bucket)
        # One of this run's instant is this run's: its worker was lost before it could say so.
        is_ours = manifest is not None and manifest.created_at == self.created_at.isoformat()
        if manifest is None or (self.replace and not is_ours):
            return None
        return done_before(manifest, left_alone=not is_ours)


@dataclass(frozen=True)
class OneBucket:
    """What stores a bucket that is held."""

    sink: BucketSink
    asked: dict[str, Any]
    start: float
    """When it was begun, by the clock of performance."""

    def store(self, bucket: Bucket, computed: Computed, stages: "Stages", /) -> Done:
        """Write the forecasts and the skipped tracks, and the manifest last, each by a temporary name.

        Whenever the process dies, the bucket is as it was or is done again.
        """
        directory, files = self.sink.directory, list[dict[str, Any]]()
        if directory:
            with stages.stage("write"):
                paths = directory.forecasts(bucket), directory.skipped(bucket)
                for frame, path in zip((computed.fitted.rows, computed.skipped), paths, strict=True):
                    write_table(frame, path)
                files = directory.describe(*paths)
        manifest = self._manifest(bucket, computed, stages, files)
        if directory:
            directory.store(bucket, manifest)
            return done_before(manifest, left_alone=False)
        return done_of(computed, stages=manifest.stages)

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
            unusable_rows=computed.unusable_rows,
            duplicate_rows=computed.duplicate_rows,
            stages={stage: round(seconds, 6) for stage, seconds in stages.seconds.items()},
            seconds=round(time.perf_counter() - self.start, 6),
            versions=versions(),
            files=files,
        )


def done_before(manifest: Manifest, *, left_alone: bool) -> Done:
    """What a manifest says became of its bucket; the skipped tracks lie in the sink."""
    return Done(
        looked_at=manifest.tracks,
        results=manifest.forecast,
        rows=manifest.rows,
        skipped=None,
        refused={row["cm_track_id"]: row["reason"] for row in manifest.refused},
        duplicate_rows=manifest.duplicate_rows,
        unusable_rows=manifest.unusable_rows,
        looking_ahead=manifest.looking_ahead,
        stages={} if left_alone else manifest.stages,
        left_alone=left_alone,
        proof=manifest,
    )
