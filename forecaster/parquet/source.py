"""Where a catalogue's Parquet files are, and reading what they hold of one bucket."""

import glob
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files import refusing
from forecaster.interrupt import interruptible
from forecaster.model.rates import newest_mldr
from forecaster.parquet.layout import MLDR, STREAMS, Bucket, read_layout
from forecaster.schema import ARTIST_MLDR, DAILY_STREAMS, Column, check, conform

ROWS_PER_BUCKET = 10_000_000
"""Where nothing else tells the number of buckets: so many daily rows take about 1 GB of memory."""

_PATTERN = "*?["

T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """Parquet files of one kind: a file, a directory with all below it, or a pattern; or the URL of one."""

    where: str

    @property
    def is_url(self) -> bool:
        """Whether they are in an object store, which Polars reads by itself."""
        return "://" in self.where

    def paths(self) -> list[str]:
        """Each file; for a URL, the one pattern that Polars resolves. Raises `BadFileError` for none."""
        is_one = any(c in self.where for c in _PATTERN) or self.where.lower().endswith(".parquet")
        if self.is_url:
            return [self.where if is_one else f"{self.where}/**/*.parquet"]
        path = Path(self.where)
        if path.is_dir():
            found = [file for file in path.rglob("*.parquet") if not _is_hidden(file.relative_to(path))]
        elif path.exists():
            found = [path]
        else:
            found = [Path(name) for name in glob.glob(self.where, recursive=True)]  # noqa: PTH207 - absolute too
        if not found:
            is_missing = not path.exists() and not is_one
            raise BadFileError(
                f"{self.where} {'does not exist' if is_missing else 'holds no Parquet files'}",
                hint="give a directory, a file, a pattern like 'streams/*.parquet', or the URL of one",
            )
        return sorted(map(str, found))

    def scan(self) -> pl.LazyFrame:
        """All their rows, with the columns of the first file."""
        # A bucket in the path is no column: what is in the file counts.
        return pl.scan_parquet(
            self.paths(), glob=self.is_url, hive_partitioning=False, extra_columns="ignore"
        )

    def checked(self, columns: Mapping[str, Column], *, name: str | None = None) -> pl.LazyFrame:
        """`scan`, of which it is certain that it has columns that can work.

        Raises `BadFileError` for what is no Parquet file, and `SchemaMismatchError` naming every column.
        """
        frame = self.scan()
        self._read(frame.collect_schema)
        check((name or self.where, frame, columns))
        return frame

    def fingerprint(self) -> str:
        """Changes when the files do: names, sizes and times of change; of a URL, the number of rows."""
        if self.is_url:
            state = repr(self.count())
        else:
            stats = [(path, Path(path).stat()) for path in self.paths()]
            state = repr([(Path(path).name, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
        return hashlib.sha256(state.encode()).hexdigest()

    def count(self) -> int:
        """How many rows they have, by their footers."""
        return int(self.collect(self.scan().select(pl.len())).item())

    def collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """The rows of a frame that is made from these files. Raises `BadFileError` naming the bad one."""
        return self._read(lambda: frame.collect(engine="streaming"))

    def _read(self, read: Callable[[], T]) -> T:
        try:
            with refusing(self.where, "read"):
                return interruptible(read, cancel=None)
        except BadFileError as error:
            raise self._naming_the_file(error) from error.__cause__

    def _naming_the_file(self, error: BadFileError) -> BadFileError:
        """Polars names no file, so each is tried until one fails."""
        for path in [] if self.is_url else self.paths():
            try:
                with refusing(path, "read", hint="it is damaged, cut off, or no Parquet file"):
                    pl.scan_parquet(path, glob=False, hive_partitioning=False).collect(engine="streaming")
            except BadFileError as found:
                return found
        return error


@dataclass(frozen=True)
class Catalogue:
    """A catalogue in Parquet files. Only names, so that it can be told to whoever works a bucket."""

    streams: str
    mldr: str
    laid_out_in: int | None
    """How many buckets `prepare` has laid it out in; None if each bucket is picked from all rows."""

    @property
    def rates(self) -> Files:
        """The decay rates, which every bucket needs."""
        return Files(self.mldr)

    def files(self, bucket: Bucket) -> Files:
        """The files that have the bucket's rows."""
        return Files(f"{self.streams}/{bucket.directory}" if self.laid_out_in else self.streams)

    def daily(self, bucket: Bucket) -> pl.LazyFrame:
        """The rows of a bucket: `DAILY_STREAMS`. Those without a track belong in bucket 0."""
        name = f"{self.streams} ({bucket})"
        daily = conform(self.files(bucket).checked(DAILY_STREAMS, name=name), DAILY_STREAMS, name=name)
        track = pl.col("cm_track_id")
        if self.laid_out_in or bucket.of == 1:
            return daily
        return daily.filter(bucket.holds(track).fill_null(value=bucket.number == 0))

    def newest_mldr(self) -> pl.DataFrame:
        """Each artist's newest decay rate: `NEWEST_MLDR`."""
        rates = conform(self.rates.checked(ARTIST_MLDR), ARTIST_MLDR, name=self.mldr)
        return self.rates.collect(newest_mldr(rates))

    def check(self) -> None:
        """Raise `SchemaMismatchError`, naming every column, for what no bucket can work with.

        One of several buckets that cannot be read is its own failure, and none here.
        """
        wanted = [(self.rates, ARTIST_MLDR)]
        if not self.laid_out_in:
            wanted.insert(0, (Files(self.streams), DAILY_STREAMS))
        frames = [(files.where, files.checked({}), columns) for files, columns in wanted]
        check(*frames)  # all at once, so that one error names all

    def buckets(self) -> int:
        """In how many buckets it is best worked."""
        return self.laid_out_in or max(1, -(-Files(self.streams).count() // ROWS_PER_BUCKET))


def find_catalogue(source: str, mldr: str | None = None) -> Catalogue:
    """The catalogue in a directory, a pattern of files with streams, or the URL of either.

    A directory has `streams/` and `mldr/`, as `prepare` makes it; with `mldr` given, it may also be one of
    streams alone. Raises `InvalidOptionError` if there is nothing to take the decay rates from.
    """
    source = source if source == "/" else source.rstrip("/")
    if not source:
        raise InvalidOptionError("--source is empty", hint="give a directory, a pattern or a URL")
    is_files = any(c in source for c in _PATTERN) or source.lower().endswith(".parquet")
    if is_files and not Path(source).is_dir():
        if mldr is None:
            raise InvalidOptionError(
                f"--source {source} names files with streams, and nothing says where the decay rates are",
                hint="--mldr FILE gives them; or name a directory with streams/ and mldr/ in it",
            )
        return Catalogue(source, mldr, None)
    laid_out_in = read_layout(source)
    has_both = laid_out_in is not None or mldr is None or Path(source, STREAMS).is_dir()
    return Catalogue(f"{source}/{STREAMS}" if has_both else source, mldr or f"{source}/{MLDR}", laid_out_in)


def _is_hidden(path: Path) -> bool:
    """Whether it is in the making, or was given up, as other engines name it."""
    return any(part.startswith((".", "_")) for part in path.parts)
