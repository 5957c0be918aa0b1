"""Lay a catalogue out in buckets of tracks, in bounded memory: from Parquet files or from PostgreSQL."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from forecaster.errors import InvalidOptionError
from forecaster.files.atomic import write_text
from forecaster.files.directory import new_directory
from forecaster.files.listing import Listing, is_url
from forecaster.files.paths import refusing
from forecaster.files.tables import write_table
from forecaster.frames.schemas import conform
from forecaster.parquet.catalogue import Catalogue, Files
from forecaster.parquet.layout import LAYOUT, MLDR, STREAMS, Bucket, Layout, bucket_of
from forecaster.process.signals import interruptible
from forecaster.tables import ARTIST_MLDR, DAILY_STREAMS, MLDR_TABLE, STREAMS_TABLE

TABLES_TO_PREPARE = (STREAMS_TABLE, MLDR_TABLE)
"""Tables that `prepare_tables` reads."""

_TRACKS_AT_ONCE = 2_500  # read from the database with all their days
_AT_ONCE = 64  # directories written at once: each one keeps part of a row group in memory
# Bytes of a file's rows in memory. While the file is written, the data for its footer grow in memory.
_KEPT, _READ_ONCE = 500_000_000, 100_000_000
_FILE = "{:08x}.parquet"  # as Polars names the parts of a bucket


class TablesSource(Protocol):
    """Tables that are laid out, such as those of a database in one snapshot."""

    def tracks(self) -> pl.Series:
        """Find the tracks that have a row of streams."""
        ...

    def rows(self, track_ids: pl.Series, /) -> pl.DataFrame:
        """Read the tracks' rows, `DAILY_STREAMS`, ordered by track and date."""
        ...

    def every_mldr(self) -> pl.LazyFrame:
        """Read all MLDRs of artists, also older ones: `ARTIST_MLDR`."""
        ...

    def rows_without_track(self) -> int:
        """Count the rows of streams that name no track."""
        ...


@dataclass(frozen=True)
class Prepared:
    """The result of laying a catalogue out."""

    rows: int
    """Daily rows in the buckets."""
    without_track: int
    """Daily rows without a track id; they are in no bucket."""
    artists: int
    """Artists with an MLDR."""
    warnings: tuple[str, ...] = ()
    """Warnings about files that were not read."""


def prepare_files(catalogue: Catalogue, buckets: int, out: Path, *, replace: bool = False) -> Prepared:
    """Lay out the rows of Parquet files in `buckets` buckets, streaming.

    `out` is complete at the end, or as it was before. Raises `BadFileError` and `SchemaMismatchError` for
    files that cannot be used; `BadFileError` for an `out` that is not empty, unless it is a catalogue and
    `replace` is true; `InvalidOptionError` if `out` and the source overlap.
    """
    catalogue.check()
    files = catalogue.all_files
    listings = catalogue.listings([])
    for listing in listings:
        _refuse_overlap(listing, out)
    track, rows = pl.col("cm_track_id"), files.scan()
    schema = rows.collect_schema()
    with _laid_out(out, buckets, replace=replace) as directory:
        by_bucket = (
            rows.select(name for name in DAILY_STREAMS if name in schema)
            .filter(track.is_not_null())
            .with_columns(bucket=bucket_of(track, buckets))
        )
        with refusing(files.where, f"laid out in {out}"):  # the error may be in either
            _spread(by_bucket, range(buckets), directory)
        _complete(directory, buckets, schema)
        rates = catalogue.all_rates
        with refusing(out, "written"):
            artists = _spread_rates(_rates(rates.scan(), rates.where), buckets, directory, rates.collect)
        laid_out = Files(str(directory / STREAMS), DAILY_STREAMS).count()
        total = files.count()
    return Prepared(
        laid_out, total - laid_out, artists, tuple(w for listing in listings for w in listing.warnings())
    )


def prepare_tables(source: TablesSource, buckets: int, out: Path, *, replace: bool = False) -> Prepared:
    """Lay out the rows of the tables in `buckets` buckets, one after the other.

    `out` is complete at the end, or as it was before. Raises `DatabaseError` if the server refuses a
    statement, and `BadFileError` for an `out` that is not empty, unless it is a catalogue and `replace` is
    true.
    """
    tracks = pl.DataFrame({"id": source.tracks()}).with_columns(bucket=bucket_of(pl.col("id"), buckets))
    rows = 0
    with _laid_out(out, buckets, replace=replace) as directory:
        for number in range(buckets):
            ids = tracks.filter(bucket=number)["id"]
            place = directory / STREAMS / Bucket(number, buckets).directory
            place.mkdir(parents=True)
            # At least one part: a bucket without tracks needs a file with the columns, too.
            for part, start in enumerate(range(0, max(1, len(ids)), _TRACKS_AT_ONCE)):
                daily = source.rows(ids.slice(start, _TRACKS_AT_ONCE))
                rows += len(daily)
                write_table(daily, place / _FILE.format(part))
        rates = _rates(source.every_mldr(), MLDR)
        with refusing(out, "written"):
            artists = _spread_rates(rates, buckets, directory, pl.LazyFrame.collect)
    return Prepared(rows, source.rows_without_track(), artists)


def _refuse_overlap(source: Listing, out: Path) -> None:
    """Refuse an `out` that contains the source, or that the next reader of the source would read."""
    place, new = Path(source.where).resolve(), out.resolve()
    if not is_url(source.where) and new in (place, *place.parents):
        raise InvalidOptionError(f"{out} contains the source {source.where}", hint="choose another directory")
    if source.would_read(out):
        raise InvalidOptionError(
            f"{out} is inside the source {source.where}, directly or through a link",
            hint="choose a directory outside the source, where it is not read as part of it",
        )


def _spread(rows: pl.LazyFrame, buckets: range, directory: Path) -> None:
    """Write rows into their buckets, in several passes over coarser parts if there are many buckets."""
    width = 1
    while len(buckets) > width * _AT_ONCE:
        width *= _AT_ONCE
    if width == 1:
        _write(rows, directory / STREAMS, "bucket", keep=True)
        return
    parts = directory / f"parts-of-{width}"
    parts.mkdir()
    _write(rows.with_columns(part=(pl.col("bucket") - buckets.start) // width), parts, "part", keep=False)
    for number, start in enumerate(buckets[::width]):
        place = parts / f"part={number}"
        if place.is_dir():  # else it has no rows
            theirs = range(start, min(start + width, buckets.stop))
            _spread(pl.scan_parquet(place, hive_partitioning=False), theirs, directory)
            shutil.rmtree(place)
    parts.rmdir()


def _write(rows: pl.LazyFrame, directory: Path, key: str, *, keep: bool) -> None:
    """Write rows into hive-partitioned files without the key, streaming; `keep`: the files are the result."""
    written = rows.sink_parquet(
        pl.PartitionBy(
            directory, key=key, include_key=False, approximate_bytes_per_file=_KEPT if keep else _READ_ONCE
        ),
        compression="zstd" if keep else "lz4",
        sync_on_close="data" if keep else None,
        maintain_order=False,
        mkdir=True,
        lazy=True,
    )
    interruptible(written.collect, cancel=None)


@contextmanager
def _laid_out(out: Path, buckets: int, *, replace: bool) -> Iterator[Path]:
    with new_directory(out, replaces=(LAYOUT, STREAMS, MLDR) if replace else None) as directory:
        yield directory
        write_text(str(Layout(buckets, rates_by_bucket=True)), directory / LAYOUT)


def _rates(rates: pl.LazyFrame, where: str) -> pl.LazyFrame:
    """Select the columns of `ARTIST_MLDR` that there are, in their final types."""
    given = rates.collect_schema()
    known = (name for name in ARTIST_MLDR if given.get(name, pl.Null()) != pl.Null)
    return conform(rates, ARTIST_MLDR, name=where).select(known)


def _spread_rates(
    rates: pl.LazyFrame, buckets: int, directory: Path, read: Callable[[pl.LazyFrame], pl.DataFrame]
) -> int:
    """Write all MLDRs of its own artists into each bucket; return how many artists have one.

    Also older ones, by which a calibration forecasts from days of the past.

    If each bucket read the MLDR of all artists, they would soon be most of its input. They are joined for
    some buckets at a time, which limits both the artists in memory and the passes over the MLDR.
    """
    for start in range(0, buckets, _AT_ONCE):
        some = [Bucket(number, buckets) for number in range(start, min(start + _AT_ONCE, buckets))]
        artists = _artists(some, directory)
        of_some = read(rates.join(artists.lazy(), on="cm_artist_id", how="semi"))
        theirs = artists.join(of_some, on="cm_artist_id").sort("bucket", "cm_artist_id")
        _write(theirs.lazy(), directory / MLDR, "bucket", keep=True)
        for bucket in some:
            _complete_one(directory / MLDR / bucket.directory, of_some.schema)
    return int(read(rates.select(pl.col("cm_artist_id").drop_nulls().n_unique())).item())


def _artists(buckets: Sequence[Bucket], directory: Path) -> pl.DataFrame:
    """Collect the artists of some laid-out buckets: one row per `bucket` and `cm_artist_id`."""
    artist = {"cm_artist_id": DAILY_STREAMS["cm_artist_id"]}
    of_each = pl.concat(
        Files(str(directory / STREAMS / bucket.directory), artist)
        .conformed()
        .unique()
        .with_columns(bucket=pl.lit(bucket.number, pl.Int64))
        for bucket in buckets
    )
    return interruptible(lambda: of_each.collect(engine="streaming"), cancel=None)


def _complete(directory: Path, buckets: int, schema: pl.Schema) -> None:
    """Give every bucket a file, so that a missing file means a lost one."""
    columns = {name: schema[name] for name in DAILY_STREAMS if name in schema}
    for number in range(buckets):
        _complete_one(directory / STREAMS / Bucket(number, buckets).directory, columns)


def _complete_one(place: Path, schema: Mapping[str, pl.DataType]) -> None:
    if not place.is_dir():
        place.mkdir(parents=True)
        write_table(pl.DataFrame(schema=schema), place / _FILE.format(0))
