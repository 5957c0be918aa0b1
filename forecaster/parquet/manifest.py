"""The row that says what a bucket's forecasts were made from, and that they are whole."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files import refusing, write_text
from forecaster.parquet.layout import LAYOUT, Bucket, Layout, read_layout

FORECASTS, SKIPPED, MANIFESTS = "forecasts", "skipped", "manifests"
"""What a sink's directory holds, beside its layout."""


@dataclass(frozen=True)
class Manifest:
    """What was done with a bucket."""

    bucket: int
    of: int
    """How many buckets there are."""
    asked: dict[str, Any]
    """What the result follows from: parameters, tracks, versions, and fingerprints of what was read."""
    created_at: str
    tracks: int
    forecast: int
    rows: int
    skipped_by_reason: dict[str, int]
    refused: list[dict[str, Any]]
    """Tracks with a value that the columns cannot hold, each with a reason."""
    looking_ahead: int
    """Tracks that have streams after the as-of date."""
    unusable_rows: int
    duplicate_rows: int
    stages: dict[str, float]
    seconds: float
    versions: dict[str, str]
    files: list[dict[str, Any]]
    """Of each file, relative to the sink: path, bytes, sha256."""


@dataclass(frozen=True)
class Sink:
    """A directory of forecasts in buckets. What counts in it is what a manifest names."""

    directory: Path

    def forecasts(self, bucket: Bucket) -> Path:
        """The file of a bucket's forecasts."""
        return self.directory / FORECASTS / bucket.directory / "forecasts.parquet"

    def skipped(self, bucket: Bucket) -> Path:
        """The file of a bucket's skipped tracks."""
        return self.directory / SKIPPED / bucket.directory / "skipped.parquet"

    def manifest(self, bucket: Bucket) -> Path:
        """The file of a bucket's manifest."""
        return self.directory / MANIFESTS / bucket.directory / "manifest.json"

    def lock(self, bucket: Bucket) -> Path:
        """The file that whoever works the bucket holds locked."""
        return self.directory / MANIFESTS / bucket.directory / ".lock"

    def buckets(self) -> int | None:
        """How many it is for; None if nothing was ever stored in it."""
        layout = read_layout(str(self.directory))
        return layout.buckets if layout else None

    def prepare(self, buckets: int) -> None:
        """Make it ready to take so many buckets. Raises `InvalidOptionError` if it is for another number."""
        there = self.buckets()
        if there not in (None, buckets):
            raise InvalidOptionError(
                f"{self.directory} holds forecasts in {there} buckets, and now there are {buckets}",
                hint="choose another directory, or remove this one: a track must not be in two buckets",
            )
        with refusing(self.directory, "written"):
            self.directory.mkdir(parents=True, exist_ok=True)
        if there is None:
            write_text(str(Layout(buckets)), self.directory / LAYOUT)

    def prepare_bucket(self, bucket: Bucket) -> None:
        """Make the directories of a bucket, and clear away what a killed process left in them.

        Only for whoever holds the bucket locked: what is there may be another one's, at work.
        """
        with refusing(self.directory, "written"):
            for path in (self.forecasts(bucket), self.skipped(bucket), self.manifest(bucket)):
                path.parent.mkdir(parents=True, exist_ok=True)
                for left_over in path.parent.glob(".*.tmp"):
                    left_over.unlink(missing_ok=True)

    def read(self, bucket: Bucket) -> Manifest | None:
        """The manifest of a bucket; None if there is none. Raises `BadFileError` for what is none."""
        path = self.manifest(bucket)
        try:
            with refusing(path, "read"):
                text = path.read_bytes()
        except BadFileError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        try:
            fields = json.loads(text)
            if fields.pop("checksum") != _checksum_of(fields):
                raise BadFileError(f"{path} was changed, or cut off")
            return Manifest(**fields)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadFileError(f"{path} is no manifest of this version of forecaster") from error

    def store(self, bucket: Bucket, manifest: Manifest) -> None:
        """Write the manifest of a bucket whose files are there."""
        fields = asdict(manifest)
        fields["checksum"] = _checksum_of(fields)
        write_text(json.dumps(fields, indent=2) + "\n", self.manifest(bucket))

    def describe(self, *paths: Path) -> list[dict[str, Any]]:
        """What a manifest says of files."""
        with refusing(self.directory, "read"):
            return [
                {
                    "path": path.relative_to(self.directory).as_posix(),
                    "bytes": path.stat().st_size,
                    "sha256": _checksum(path),
                }
                for path in paths
            ]

    def problem(self, bucket: Bucket, asked: Mapping[str, Any]) -> str | None:
        """Why a bucket has to be worked; None if its forecasts are whole and what was asked for."""
        try:
            manifest = self.read(bucket)
        except BadFileError as error:
            return str(error)
        if manifest is None:
            return "missing"
        if manifest.bucket != bucket.number or manifest.of != bucket.of:
            return f"its manifest is of bucket {manifest.bucket}/{manifest.of}"
        if changed := sorted(key for key in asked if manifest.asked.get(key) != asked[key]):
            return f"made from other {', '.join(changed)}"
        return next(filter(None, map(self._problem_of_file, manifest.files)), None)

    def strangers(self, buckets: int) -> list[str]:
        """Parquet files that are no bucket's; who reads the directory reads them too."""
        known = {
            path
            for number in range(buckets)
            for path in (self.forecasts(Bucket(number, buckets)), self.skipped(Bucket(number, buckets)))
        }
        with refusing(self.directory, "read"):
            found = {p for kind in (FORECASTS, SKIPPED) for p in (self.directory / kind).rglob("*.parquet")}
        return sorted(map(str, found - known))

    def all_skipped(self, buckets: list[Bucket]) -> pl.DataFrame:
        """The skipped tracks of all these buckets."""
        paths = [self.skipped(bucket) for bucket in buckets]
        with refusing(self.directory / SKIPPED, "read"):
            return pl.read_parquet(paths, glob=False, hive_partitioning=False)

    def _problem_of_file(self, described: Mapping[str, Any]) -> str | None:
        path = self.directory / described["path"]
        try:
            if path.stat().st_size == described["bytes"] and _checksum(path) == described["sha256"]:
                return None
        except FileNotFoundError:
            return f"{described['path']} does not exist"
        except OSError as error:
            return f"{described['path']} cannot be read: {error.strerror}"
        return f"{described['path']} is not what its manifest says"


def _checksum_of(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
