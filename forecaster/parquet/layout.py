"""Layout of a catalogue in a directory: tracks are assigned to buckets by a fixed hash of their ids."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.jsonfile import parse, read_json
from forecaster.files.paths import refusing
from forecaster.process.signals import interruptible

STREAMS, MLDR, LAYOUT = "streams", "mldr", "layout.json"
"""Names in the directory of a laid-out catalogue."""

BUCKETS_MAX = 100_000

_VERSION = 1
_MOST = 65_536  # bytes of a layout file
_HINT = "choose another directory; or remove this one, and lay out or forecast the catalogue again"
_BY_BUCKET = "by bucket"
_MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: Knuth's multiplicative hashing


@dataclass(frozen=True)
class Bucket:
    """One of the `of` buckets of a catalogue, counted from 0.

    Raises `InvalidOptionError` if either number is out of range.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.of <= BUCKETS_MAX:
            raise InvalidOptionError(f"the number of buckets is {self.of}: expected 1 to {BUCKETS_MAX:,}")
        if not 0 <= self.number < self.of:
            raise InvalidOptionError(
                f"there is no bucket {self.number} of {self.of}",
                hint=f"give a bucket from 0/{self.of} to {self.of - 1}/{self.of}",
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def directory(self) -> str:
        """The name of its directory in a hive-partitioned layout."""
        return f"bucket={self.number}"

    def holds(self, track_id: pl.Expr, /) -> pl.Expr:
        """Expression: whether a track belongs to the bucket."""
        return bucket_of(track_id, self.of) == self.number


def bucket_of(track_id: pl.Expr, buckets: int, /) -> pl.Expr:
    """Bucket of a track: ((id x 0x9E3779B97F4A7C15 mod 2^64) div 2^32) mod `buckets`, with id mod 2^64.

    The formula is part of the contract with other programs that lay out or read buckets. It never changes.
    """
    product = track_id.cast(pl.Int64).cast(pl.UInt64, wrap_numerical=True) * pl.lit(_MULTIPLIER, pl.UInt64)
    return ((product // 2**32) % buckets).cast(pl.Int64)


@dataclass(frozen=True)
class Layout:
    """The content of the layout file of a directory."""

    buckets: int
    rates_by_bucket: bool = False
    """Whether each bucket has the MLDR of its own artists, in `mldr/bucket=K`; else all are in `mldr`."""

    def __str__(self) -> str:
        by_bucket = {"mldr": _BY_BUCKET} if self.rates_by_bucket else {}
        return json.dumps({"buckets": self.buckets, **by_bucket, "version": _VERSION}) + "\n"


def read_layout(directory: str, /) -> Layout | None:
    """Read the layout of a directory or its URL; None if it has no layout file.

    Raises `BadFileError` for a layout file that cannot be read, or that is not of this version.
    """
    path = f"{directory}/{LAYOUT}"
    content = _read_at_url(path) if "://" in path else read_json(Path(path), most=_MOST, hint=_HINT)
    match content:
        case None:
            return None
        case {"buckets": int(buckets), "version": int(version), **others} if (
            version == _VERSION
            and 0 < buckets <= BUCKETS_MAX
            and type(buckets) is int
            and others.get("mldr") in (None, _BY_BUCKET)
        ):
            return Layout(buckets, rates_by_bucket=others.get("mldr") is not None)
    raise BadFileError(f"{path} is not a layout of this version of forecaster", hint=_HINT)


def _read_at_url(path: str) -> Any:  # noqa: ANN401 - as the file says
    try:
        with (
            refusing(
                path, "read", hint="check the address, and the settings of the store, such as AWS_REGION"
            ),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter(
                "ignore", UserWarning
            )  # about the store's region, which is found automatically
            lines = interruptible(pl.scan_lines(path, glob=False).head(_MOST).collect, cancel=None)
    except BadFileError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    return parse("\n".join(lines["line"]), path, hint=_HINT)
