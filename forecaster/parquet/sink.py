"""The directory of forecasts, and the manifest of each bucket: what it was made from, and its checksums."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.atomic import write_text
from forecaster.files.jsonfile import read_json
from forecaster.files.paths import refuse_planted_links, refusing
from forecaster.frames.schemas import SKIPPED as SKIPPED_ROWS
from forecaster.parquet.layout import LAYOUT, Bucket, Layout, read_layout

FORECASTS, SKIPPED, INTERVALS, MANIFESTS = "forecasts", "skipped", "intervals", "manifests"
"""Names in the directory of a sink, in addition to its layout file."""

Is = Callable[[Any], bool]

_MOST = 64_000_000  # maximum bytes of a manifest, which names each refused track
_FOREVER = 1e12  # seconds; more than any stage takes


@dataclass(frozen=True)
class Manifest:
    """The record of a computed bucket. It is written last: a bucket without one is not complete."""

    bucket: int
    of: int
    """Number of buckets."""
    asked: dict[str, Any]
    """What the result depends on: parameters, version, selected tracks, and fingerprints of the input."""
    created_at: str
    tracks: int
    forecast: int
    rows: int
    skipped_by_reason: dict[str, int]
    refused: list[dict[str, Any]]
    """Tracks with a value that the columns cannot hold, each with the reason."""
    looking_ahead: int
    """Number of tracks that have streams after the as-of date."""
    observed: dict[str, Any]
    """What the checks of plausibility know about the tracks: `Observed` as JSON values."""
    unusable_rows: int
    duplicate_rows: int
    stages: dict[str, float]
    seconds: float
    versions: dict[str, str]
    files: list[dict[str, Any]]
    """For each file: path relative to the sink, bytes, sha256."""


@dataclass(frozen=True)
class Sink:
    """A directory of forecasts in buckets. Only files that a manifest names count."""

    directory: Path

    def forecasts(self, bucket: Bucket) -> Path:
        """The file of a bucket's forecasts."""
        return self.directory / FORECASTS / bucket.directory / "forecasts.parquet"

    def skipped(self, bucket: Bucket) -> Path:
        """The file of a bucket's skipped tracks."""
        return self.directory / SKIPPED / bucket.directory / "skipped.parquet"

    def intervals(self, bucket: Bucket) -> Path:
        """The file of a bucket's intervals, if it has any."""
        return self.directory / INTERVALS / bucket.directory / "intervals.parquet"

    def files(self, bucket: Bucket, *, intervals: bool) -> list[Path]:
        """List the files that a bucket has when it is complete."""
        return [
            self.forecasts(bucket),
            self.skipped(bucket),
            *([self.intervals(bucket)] if intervals else []),
        ]

    def manifest(self, bucket: Bucket) -> Path:
        """The file of a bucket's manifest."""
        return self.directory / MANIFESTS / bucket.directory / "manifest.json"

    def lock(self, bucket: Bucket) -> Path:
        """The lock file of a bucket, held by the process that computes it."""
        return self.directory / MANIFESTS / bucket.directory / ".lock"

    def buckets(self) -> int | None:
        """Read the number of buckets; None if nothing was ever stored."""
        layout = read_layout(str(self.directory))
        return layout.buckets if layout else None

    def prepare(self, buckets: int) -> None:
        """Create the directory and its layout file, if they are missing.

        Raises `InvalidOptionError` if it has another number of buckets, `BadFileError` if writing fails.
        """
        there = self.buckets()
        if there not in (None, buckets):
            raise InvalidOptionError(
                f"{self.directory} has forecasts in {there} buckets, and now there are {buckets}",
                hint="choose another directory, or remove this one: a track must not be in two buckets",
            )
        refuse_planted_links(self.directory)
        with refusing(self.directory, "written"):
            self.directory.mkdir(parents=True, exist_ok=True)
        if there is None:
            write_text(str(Layout(buckets)), self.directory / LAYOUT)

    def prepare_bucket(self, bucket: Bucket, *, intervals: bool) -> None:
        """Create the directories of a bucket, and remove temporary files of a killed process.

        Call it only while the bucket is locked, else they may belong to another process.
        """
        with refusing(self.directory, "written"):
            for path in (*self.files(bucket, intervals=intervals), self.manifest(bucket)):
                refuse_planted_links(path.parent)
                path.parent.mkdir(parents=True, exist_ok=True)
                for left_over in path.parent.glob(".*.tmp"):
                    left_over.unlink(missing_ok=True)

    def read(self, bucket: Bucket) -> Manifest | None:
        """Read the manifest of a bucket; None if it is missing. Raises `BadFileError` if it is invalid."""
        path = self.manifest(bucket)
        wrong, hint = "is not a manifest of this version", "remove it, so that the bucket is computed again"
        fields = read_json(path, most=_MOST, wrong=wrong, hint=hint)
        if fields is None:
            return None
        checksum = fields.pop("checksum", None) if isinstance(fields, dict) else None
        if not _has(fields, _SHAPE):
            raise BadFileError(f"{path} {wrong}", hint=hint)
        if checksum != _checksum_of(fields):
            raise BadFileError(f"{path} was changed or is incomplete", hint=hint)
        return Manifest(**fields)

    def remove_intervals(self, bucket: Bucket) -> None:
        """Remove intervals of an earlier run; the bucket is not complete before the next manifest."""
        with refusing(self.directory, "written"):
            refuse_planted_links(self.intervals(bucket).parent)
            self.intervals(bucket).unlink(missing_ok=True)

    def store(self, bucket: Bucket, manifest: Manifest) -> None:
        """Write the manifest of a bucket, after its files."""
        fields = asdict(manifest)
        fields["checksum"] = _checksum_of(fields)
        write_text(json.dumps(fields, indent=2) + "\n", self.manifest(bucket))

    def describe(self, *paths: Path) -> list[dict[str, Any]]:
        """Describe files for the manifest: path, bytes and sha256 of each."""
        with refusing(self.directory, "read"):
            return [
                {
                    "path": self._name(path),
                    "bytes": path.stat().st_size,
                    "sha256": _checksum(path),
                }
                for path in paths
            ]

    def problem(self, bucket: Bucket, asked: Mapping[str, Any]) -> str | None:
        """Say why a bucket has to be computed; None if its forecasts are complete and made from `asked`."""
        try:
            manifest = self.read(bucket)
        except BadFileError as error:
            return str(error)
        if manifest is None:
            return "missing"
        if manifest.bucket != bucket.number or manifest.of != bucket.of:
            return f"its manifest belongs to bucket {manifest.bucket}/{manifest.of}"
        # What one of the two does not have is not the same either, such as the name of a model.
        keys = asked.keys() | manifest.asked.keys()
        if changed := sorted(key for key in keys if manifest.asked.get(key) != asked.get(key)):
            return f"made from other {', '.join(changed)}"
        files = [self._name(path) for path in self.files(bucket, intervals="intervals" in asked)]
        if [described["path"] for described in manifest.files] != files:
            return "its manifest names other files than those of the bucket"
        return next(filter(None, map(self._problem_of_file, manifest.files)), None)

    def stray(self, buckets: int) -> list[str]:
        """List Parquet files that belong to no bucket; readers of the directory would include them."""
        known = {
            path for number in range(buckets) for path in self.files(Bucket(number, buckets), intervals=True)
        }
        with refusing(self.directory, "read"):
            kinds = (FORECASTS, SKIPPED, INTERVALS)
            found = {path for kind in kinds for path in (self.directory / kind).rglob("*.parquet")}
        return sorted(map(str, found - known))

    def all_skipped(self, buckets: list[Bucket]) -> pl.DataFrame:
        """Read the skipped tracks of these buckets: one row per track, the columns of `SKIPPED`."""
        paths = [self.skipped(bucket) for bucket in buckets]
        with refusing(self.directory / SKIPPED, "read"):
            found = pl.scan_parquet(paths, glob=False, hive_partitioning=False).select(SKIPPED_ROWS.names())
            return found.match_to_schema(SKIPPED_ROWS).collect()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()

    def _problem_of_file(self, described: Mapping[str, Any]) -> str | None:
        path = self.directory / described["path"]
        try:
            if path.stat().st_size == described["bytes"] and _checksum(path) == described["sha256"]:
                return None
        except FileNotFoundError:
            return f"{described['path']} does not exist"
        except OSError as error:
            return f"{described['path']} cannot be read: {error.strerror}"
        return f"{described['path']} differs from its manifest"


def _is_text(value: Any) -> bool:  # noqa: ANN401 - any JSON value, here and below
    return isinstance(value, str) and value.isprintable()


def _is_id(value: Any) -> bool:  # noqa: ANN401
    return type(value) is int and -(2**63) <= value < 2**63


def _is_observed(value: Any) -> bool:  # noqa: ANN401
    return _has(value, {"ends": _is_ends, "found": _by_name(_is_some), "among": _by_name(_is_count)})


def _is_ends(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and all(
        isinstance(one, list) and one and (one[0] is None or _is_id(one[0])) and _is_some(one[1:])
        for one in value
    )


def _is_some(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, list) and bool(value) and _is_count(value[0]) and all(map(_is_id, value[1:]))


def _is_count(value: Any) -> bool:  # noqa: ANN401
    return _is_id(value) and value >= 0


def _is_seconds(value: Any) -> bool:  # noqa: ANN401
    return type(value) in (int, float) and 0 <= value < _FOREVER


def _by_name(of: Is) -> Is:
    return lambda value: isinstance(value, dict) and all(map(of, value.values()))


def _list_of(**fields: Is) -> Is:
    return lambda value: isinstance(value, list) and all(_has(one, fields) for one in value)


def _has(value: Any, fields: Mapping[str, Is]) -> bool:  # noqa: ANN401
    return (
        isinstance(value, dict)
        and value.keys() == fields.keys()
        and all(of(value[name]) for name, of in fields.items())
    )


_SHAPE: Mapping[str, Is] = {
    **dict.fromkeys(("bucket", "of", "tracks", "forecast", "rows", "looking_ahead"), _is_count),
    **dict.fromkeys(("unusable_rows", "duplicate_rows"), _is_count),
    "observed": _is_observed,
    "asked": lambda value: isinstance(value, dict),
    "created_at": _is_text,
    "skipped_by_reason": _by_name(_is_count),
    "refused": _list_of(cm_track_id=_is_id, reason=_is_text),
    "stages": _by_name(_is_seconds),
    "seconds": _is_seconds,
    "versions": _by_name(_is_text),
    "files": _list_of(path=_is_text, bytes=_is_count, sha256=_is_text),
}


def _checksum_of(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
