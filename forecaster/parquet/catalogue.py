"""Find the Parquet files of a catalogue, and read the rows of one bucket from them."""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TypeVar

import polars as pl
from polars.datatypes import DataType

from forecaster.errors import BadFileError, InvalidOptionError, SchemaMismatchError
from forecaster.files.listing import (
    STORE_HINT,
    Listing,
    Place,
    is_pattern,
    is_url,
    list_files,
    names_files,
    refuse_deletions,
    refuse_tables,
)
from forecaster.files.paths import check_name, refusing
from forecaster.frames.schemas import Kind, check, conform
from forecaster.model.mldr import mldr_until, newest_mldr
from forecaster.parquet.layout import MLDR, STREAMS, Bucket, read_layout
from forecaster.parquet.partitions import PATH, values_in_paths, with_path_values
from forecaster.process.numbers import counted
from forecaster.process.signals import interruptible
from forecaster.tables import ARTIST_MLDR, DAILY_STREAMS
from forecaster.tables import STREAMS as STREAMS_TABLE

ROWS_PER_BUCKET = 10_000_000
"""Default number of daily rows per bucket, if the number of buckets is not given: about 1 GB of memory."""

_NAMED = 5  # maximum number of directories that an error names
_LOCAL = re.compile(r"\Afile:(?://(?:localhost)?)?(?=/)", re.IGNORECASE)
_NOT_PARQUET = "it is damaged, incomplete, or not a Parquet file"
# Files of one catalogue may have numbers and times of different widths.
_WIDENING = pl.ScanCastOptions(
    integer_cast=["upcast", "allow-float"],
    float_cast="upcast",
    datetime_cast=["nanosecond-downcast", "millisecond-upcast", "convert-timezone"],
)

T = TypeVar("T")


@dataclass(frozen=True)
class Files:
    """Parquet files with the same columns: a file, all files below a directory, a pattern, or their URL."""

    where: str
    columns: Mapping[str, Kind]
    """The columns to read. Readers raise `SchemaMismatchError` that names every column that does not fit."""

    @property
    def is_url(self) -> bool:
        """Whether the files are in an object store, which Polars reads by itself."""
        return is_url(self.where)

    def listing(self) -> Listing:
        """List the files, and the names that are not read. Raises `BadFileError` if there is no file."""
        found = list_files(self.where)
        if not found.read:
            others = f", but {counted(len(found.passed_over), 'other name')}" if found.passed_over else ""
            first = f" (first: {found.passed_over[0]})" if others else ""
            is_missing = not (self.is_url or is_pattern(self.where) or os.path.lexists(self.where))
            holds = "does not exist" if is_missing else f"has no Parquet files{others}{first}"
            raise BadFileError(
                f"{self.where} {'cannot be read: it ' if self.is_url else ''}{holds}",
                hint="give a directory, a file, a pattern like 'streams/*.parquet', or the URL of one",
            )
        return found

    def paths(self) -> list[str]:
        """List the paths or URLs of the files. Raises `BadFileError` if there is no file."""
        return self.listing().read

    def scan(self) -> pl.LazyFrame:
        """Scan all rows, with those columns that at least one file or path has."""
        paths = self.paths()
        in_paths = values_in_paths(paths, self.columns)
        # A column in the file takes precedence: not every NAME=VALUE in a path is meant as a column.
        scan = partial(pl.scan_parquet, paths, glob=False, hive_partitioning=False, missing_columns="insert")
        if self.is_url:
            # Reading all footers would be slow: a file with more columns than the first one is refused.
            scan = partial(scan, extra_columns="raise")
            schema = self._read(scan().collect_schema)
            in_paths = {name: of_files for name, of_files in in_paths.items() if name not in schema}
        else:
            schemas = {path: self._schema(path) for path in paths}
            scan = partial(scan, schema=self._common(schemas), extra_columns="ignore", cast_options=_WIDENING)
            in_paths = {name: lack for name in in_paths if (lack := _lacking(name, in_paths[name], schemas))}
        return with_path_values(scan(include_file_paths=PATH), in_paths, self.columns) if in_paths else scan()

    def conformed(self) -> pl.LazyFrame:
        """Scan all rows, in the final types of the columns."""
        return conform(self.scan(), self.columns, name=self.where)

    def fingerprint(self) -> str:
        """Hash names, sizes and times of change; for a URL, names and the number of rows."""
        paths = self.paths()
        in_paths = values_in_paths(paths, self.columns)
        if self.is_url:
            state = repr((self.count(), [path.removeprefix(self.where) for path in paths]))
        else:
            stats = [(path, _stat(path)) for path in paths]
            state = repr([(Path(path).name, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
            state += repr([list(of_files.values()) for of_files in in_paths.values()]) if in_paths else ""
        return hashlib.sha256(state.encode()).hexdigest()

    def count(self) -> int:
        """Count the rows, by the footers."""
        return int(self.collect(self.scan().select(pl.len())).item())

    def collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """Collect a frame that scans these files. Raises `BadFileError` that names the file at fault."""
        try:
            return self._read(lambda: frame.collect(engine="streaming"))
        except BadFileError as error:
            raise self._naming_the_file(error) from error.__cause__

    def _schema(self, path: str) -> dict[str, DataType]:
        """Read the types of the columns that a file has. Raises `BadFileError` for a file of deletions."""
        with refusing(path, "read", hint=_NOT_PARQUET):
            one = pl.scan_parquet(path, glob=False, hive_partitioning=False)
            schema = interruptible(one.collect_schema, cancel=None)
            lacks = any(column.required and name not in schema for name, column in self.columns.items())
            refuse_deletions(path, schema, lacks=lacks)
        return {name: schema[name] for name in self.columns if name in schema}

    def _common(self, schemas: Mapping[str, Mapping[str, DataType]]) -> dict[str, DataType]:
        """Find for each column the type that holds the values of all files."""
        found: dict[str, dict[DataType, str]] = {name: {} for name in self.columns}
        for path, schema in schemas.items():
            for name, type_ in schema.items():
                found[name].setdefault(type_, path)
        common = {name: _common(list(types)) for name, types in found.items() if types}
        differing = [
            f"column {name} is " + " and ".join(f"{type_} in {path}" for type_, path in found[name].items())
            for name, type_ in common.items()
            if type_ is None
        ]
        if differing:
            raise SchemaMismatchError(
                f"{self.where}: {'; '.join(differing)}",
                hint="write the files again with one type for each column",
            )
        return {name: type_ for name, type_ in common.items() if type_ is not None}

    def _read(self, read: Callable[[], T]) -> T:
        with (
            refusing(self.where, "read", hint=STORE_HINT if self.is_url else None),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter(
                "ignore", UserWarning
            )  # about the store's region, which is found automatically
            return interruptible(read, cancel=None)

    def _naming_the_file(self, error: BadFileError) -> BadFileError:
        """Find the file at fault by reading each one, because the errors of Polars do not name it."""
        for path in [] if self.is_url else self.paths():
            try:
                with refusing(path, "read", hint=_NOT_PARQUET):
                    pl.scan_parquet(path, glob=False, hive_partitioning=False).collect(engine="streaming")
            except BadFileError as found:
                return found
        return error


@dataclass(frozen=True)
class Catalogue:
    """A catalogue in Parquet files. It has only names, so that it can be sent to workers."""

    streams: str
    mldr: str
    laid_out_in: int | None
    """The number of buckets that `prepare` has made; None if each bucket has to be filtered from all rows."""
    rates_by_bucket: bool = False
    """Whether each bucket has the MLDR of its own artists."""

    @property
    def all_rates(self) -> Files:
        """The files with the MLDR of all artists."""
        return Files(self.mldr, ARTIST_MLDR)

    def rates(self, bucket: Bucket) -> Files:
        """The files that have the MLDR of the bucket's artists."""
        if self.rates_by_bucket:
            return replace(self.all_rates, where=f"{self.mldr}/{bucket.directory}")
        return self.all_rates

    @property
    def all_files(self) -> Files:
        """The files with the streams of all buckets."""
        return Files(self.streams, DAILY_STREAMS)

    def files(self, bucket: Bucket) -> Files:
        """The files that have the bucket's rows."""
        return (
            replace(self.all_files, where=f"{self.streams}/{bucket.directory}")
            if self.laid_out_in
            else self.all_files
        )

    def last_day(self) -> date | None:
        """Find the last day on which any track has a record; None if none has."""
        records = self.all_files.conformed().filter(STREAMS_TABLE.is_record())
        last: date | None = self.all_files.collect(records.select(pl.col("date").max())).item()
        return last

    def daily(self, bucket: Bucket) -> pl.LazyFrame:
        """Scan the rows of a bucket: `DAILY_STREAMS`. Rows without a track id belong to bucket 0."""
        daily = self.files(bucket).conformed()
        if self.laid_out_in or bucket.of == 1:
            return daily
        return daily.filter(bucket.holds(pl.col("cm_track_id")).fill_null(value=bucket.number == 0))

    def newest_mldr(self, bucket: Bucket, artists: pl.Series, *, until: date | None = None) -> pl.DataFrame:
        """Read the newest MLDR of the bucket's artists: `NEWEST_MLDR`, one row per artist that has one.

        `until`: as if none had been created after that day.
        """
        # The files may have many times more artists: filter before the sort.
        return self.rates(bucket).collect(newest_mldr(mldr_until(self._theirs(bucket, artists), until)))

    def mldr_of(self, bucket: Bucket, artists: pl.Series) -> pl.DataFrame:
        """Read all MLDRs of the bucket's artists: `ARTIST_MLDR`, with instants even if all are NULL."""
        theirs = self._theirs(bucket, artists).with_columns(
            pl.col("created_at").cast(pl.Datetime("us", "UTC"))
        )
        return self.rates(bucket).collect(theirs)

    def _theirs(self, bucket: Bucket, artists: pl.Series) -> pl.LazyFrame:
        is_theirs = pl.col("cm_artist_id").is_in(artists.unique().implode())
        return self.rates(bucket).conformed().filter(is_theirs)

    def check(self) -> None:
        """Raise `SchemaMismatchError`, which names every column, or `BadFileError` if no bucket can be read.

        If only some buckets cannot be read, these buckets fail later, and this check passes.
        """
        for where in (self.streams, self.mldr):
            refuse_tables(where)
        wanted = [] if self.laid_out_in else [self.all_files]
        wanted += [] if self.rates_by_bucket else [self.all_rates]
        check(*[(files.where, files.scan(), files.columns) for files in wanted])  # one error names all
        if self.laid_out_in and not is_url(self.streams):
            _holds_just_buckets(self.streams, self.laid_out_in)
            if self.rates_by_bucket:
                _holds_just_buckets(self.mldr, self.laid_out_in)

    def listings(self, buckets: Sequence[Bucket]) -> list[Listing]:
        """List the files of one bucket if only one is given, else of all, with the names that are not read.

        Raises `BadFileError` for files of an object store that are in no bucket.
        """
        is_one = len(buckets) == 1 and self.laid_out_in not in (None, 1)
        files = (
            [self.files(buckets[0]), self.rates(buckets[0])] if is_one else [self.all_files, self.all_rates]
        )
        found = []
        for one in files:
            with suppress(BadFileError):  # raised again where they are read
                found.append(list_files(one.where))
        if self.laid_out_in and is_url(self.streams):
            for listing in found:
                _holds_just_buckets_at_url(listing, self)
        return found

    def buckets(self) -> int:
        """The number of buckets: as laid out, else by the number of rows."""
        return self.laid_out_in or max(1, -(-self.all_files.count() // ROWS_PER_BUCKET))


def find_catalogue(source: str, mldr: str | None = None) -> Catalogue:
    """Find the catalogue in a directory, a pattern of files with streams, or the URL of either.

    A directory has `streams/` and `mldr/`, as `prepare` makes it; with `mldr` given, it may also have only
    streams. All names are made absolute, because workers may run in another directory. Raises
    `InvalidOptionError` if an option is empty or no MLDR are given, and `BadFileError` if `source` does not
    exist.
    """
    if not source or mldr == "":
        option = "--source" if not source else "--mldr"
        raise InvalidOptionError(f"{option} is empty", hint="give a directory, a pattern or a URL")
    source, mldr = _absolute(source), mldr and _absolute(mldr)
    is_file = names_files(source) and not os.path.isdir(source)  # noqa: PTH112 - raises nothing
    if is_file or os.path.isfile(source):  # noqa: PTH113 - raises nothing
        if mldr is None:
            raise InvalidOptionError(
                f"--source {source} names files with streams, and no decay rates (MLDR) are given",
                hint="give --mldr FILE, or a directory with streams/ and mldr/ in it",
            )
        return Catalogue(source, mldr, None)
    with refusing(source, "read"):
        is_missing = not is_url(source) and not Path(source).exists()
    if is_missing:
        raise BadFileError(
            f"{source} does not exist", hint="check --source, or make a catalogue with `forecaster prepare`"
        )
    layout = read_layout(source)
    has_both = layout is not None or mldr is None or _has_streams(source)
    return Catalogue(
        f"{source}/{STREAMS}" if has_both else source,
        mldr or f"{source}/{MLDR}",
        layout.buckets if layout else None,
        rates_by_bucket=layout is not None and layout.rates_by_bucket and mldr is None,
    )


def _has_streams(source: str) -> bool:
    if not is_url(source):
        return os.path.isdir(f"{source}/{STREAMS}")  # noqa: PTH112 - raises nothing
    with suppress(BadFileError):
        return bool(list_files(f"{source}/{STREAMS}").read)
    return True


def _holds_just_buckets(directory: str, buckets: int) -> None:
    """Raise `BadFileError` for files in no bucket, which no bucket would read."""
    place = Place(directory)
    with refusing(directory, "read"):
        names = {
            path.name
            for path in Path(directory).iterdir()
            if not place.is_hidden(path.name) and (place.is_parquet(path.name) or path.is_dir())
        }
    _refuse_others(directory, names, buckets)


def _holds_just_buckets_at_url(listing: Listing, catalogue: Catalogue) -> None:
    by_bucket = listing.where == catalogue.streams or catalogue.rates_by_bucket
    if by_bucket and catalogue.laid_out_in:
        names = {path.removeprefix(listing.where).strip("/").split("/")[0] for path in listing.read}
        _refuse_others(listing.where, names, catalogue.laid_out_in)


def _refuse_others(directory: str, names: set[str], buckets: int) -> None:
    others = sorted(names - {Bucket(number, buckets).directory for number in range(buckets)})
    if others:
        raise BadFileError(
            f"{directory} is laid out in {buckets} buckets, counted from 0, and also has "
            f"{', '.join(others[:_NAMED])}, which no bucket would read",
            hint="remove these, or lay the catalogue out again",
        )


def _lacking(
    name: str, in_paths: Mapping[str, str | None], schemas: Mapping[str, Mapping[str, DataType]]
) -> dict[str, str | None]:
    """Keep the values from paths of those files that lack the column."""
    return {path: text for path, text in in_paths.items() if name not in schemas[path]}


def _absolute(where: str) -> str:
    check_name(where)
    where = _LOCAL.sub("", where)
    if is_url(where):
        return where.rstrip("/")
    return os.path.abspath(where)  # noqa: PTH100 - without resolving links: the user sees the name


def _common(types: Sequence[DataType]) -> DataType | None:
    """Find the type that holds the values of all types; None if no type does."""
    kinds = [type_ for type_ in dict.fromkeys(types) if type_ != pl.Null] or list(types[:1])
    if len(kinds) == 1:
        return kinds[0]
    if all(kind.is_integer() and kind != pl.UInt64 for kind in kinds):
        return pl.Int64()
    if all(kind.is_integer() or kind.is_float() for kind in kinds):
        return pl.Float64()
    if all(isinstance(kind, pl.Datetime) for kind in kinds):
        with_zone = any(kind.time_zone for kind in kinds if isinstance(kind, pl.Datetime))
        return pl.Datetime("us", "UTC" if with_zone else None)
    return None


def _stat(path: str) -> os.stat_result:
    with refusing(path, "read"):
        return Path(path).stat()
