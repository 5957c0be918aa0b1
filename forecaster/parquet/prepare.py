"""Laying a catalogue out by track into buckets, in bounded memory: from Parquet files, or from PostgreSQL."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from forecaster.errors import BadFileError
from forecaster.files import refusing, sync_directory, write_table, write_text
from forecaster.parquet.layout import LAYOUT, MLDR, STREAMS, Bucket, bucket_of, layout_text
from forecaster.parquet.source import Catalogue, Files
from forecaster.schema import ARTIST_MLDR, DAILY_STREAMS

if TYPE_CHECKING:
    from forecaster.postgres.source import Source

_TRACKS_AT_ONCE = 2_500  # read out of the database, all their days
_FILE = "{:08x}.parquet"  # as Polars names the parts of a bucket


@dataclass(frozen=True)
class Prepared:
    """What was laid out."""

    rows: int
    without_track: int
    """Rows that name no track; they are in no bucket."""
    artists: int


def prepare_files(catalogue: Catalogue, buckets: int, out: Path, *, replace: bool = False) -> Prepared:
    """Lay out the rows of Parquet files, streaming. `out` is there as a whole at the end, or as it was.

    Raises `BadFileError` and `SchemaMismatchError` for files that cannot be used, `BadFileError` for a
    directory that is not empty, unless it is to be replaced.
    """
    files = Files(catalogue.streams)
    catalogue.check()
    rows = files.checked(DAILY_STREAMS)
    names = rows.collect_schema().names()
    track = pl.col("cm_track_id")
    with _new_directory(out, buckets, replace=replace) as directory:
        by_bucket = (
            rows.select(name for name in DAILY_STREAMS if name in names)
            .filter(track.is_not_null())
            .with_columns(bucket=bucket_of(track, buckets))
        )
        target = pl.PartitionBy(
            directory / STREAMS, key="bucket", include_key=False, approximate_bytes_per_file=None
        )
        written = by_bucket.sink_parquet(
            target, mkdir=True, sync_on_close="data", maintain_order=False, lazy=True
        )
        files.collect(written)
        _complete(directory, buckets, rows.collect_schema())
        artists = _copy_rates(catalogue.rates, directory)
        total = files.count()
        laid_out = Files(str(directory / STREAMS)).count()
    return Prepared(laid_out, total - laid_out, artists)


def prepare_tables(source: "Source", buckets: int, out: Path, *, replace: bool = False) -> Prepared:
    """Lay out the rows of the tables, bucket by bucket. `out` is there as a whole at the end, or as it was.

    Raises `DatabaseError` for what the server refuses, `BadFileError` for a directory that is not empty,
    unless it is to be replaced.
    """
    tracks = pl.DataFrame({"id": source.tracks()}).with_columns(bucket=bucket_of(pl.col("id"), buckets))
    rows = 0
    with _new_directory(out, buckets, replace=replace) as directory:
        for number in range(buckets):
            ids = tracks.filter(bucket=number)["id"]
            place = directory / STREAMS / Bucket(number, buckets).directory
            place.mkdir(parents=True)
            # One part at least: the file of a bucket without tracks has the columns.
            for part, start in enumerate(range(0, max(1, len(ids)), _TRACKS_AT_ONCE)):
                daily = source.rows(ids.slice(start, _TRACKS_AT_ONCE))
                rows += len(daily)
                write_table(daily, place / _FILE.format(part))
        rates = source.mldr().collect()
        (directory / MLDR).mkdir()
        write_table(rates, directory / MLDR / _FILE.format(0))
    return Prepared(rows, source.rows_without_track(), rates["cm_artist_id"].n_unique())


@contextmanager
def _new_directory(out: Path, buckets: int, *, replace: bool) -> Iterator[Path]:
    """A directory to fill, that takes the place of `out` once all in it is on disk, and else is removed."""
    target = Path(os.path.realpath(out))
    with refusing(out, "written"):
        if target.exists() and not target.is_dir():
            raise BadFileError(f"{out} is there already and is no directory", hint="choose another name")
        if target.is_dir() and any(target.iterdir()) and not replace:
            raise BadFileError(
                f"{out} is there already and is not empty",
                hint="choose another directory; or --replace, which removes all that is in it",
            )
        if not target.parent.is_dir():
            raise BadFileError(f"{out}: there is no directory {target.parent}", hint="create it first")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with refusing(out, "written"):
            temporary.mkdir()
        yield temporary
        with refusing(out, "written"):
            write_text(layout_text(buckets), temporary / LAYOUT)
            _take_the_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_the_place(temporary: Path, target: Path) -> None:
    if target.is_dir() and any(target.iterdir()):
        old = temporary.with_suffix(".old")
        target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.rename(target)  # an empty directory gives way
    sync_directory(target.parent)


def _complete(directory: Path, buckets: int, schema: pl.Schema) -> None:
    """Every bucket has a file: one that is missing is then known to be lost."""
    empty = pl.DataFrame(schema={name: schema[name] for name in DAILY_STREAMS if name in schema})
    for number in range(buckets):
        place = directory / STREAMS / Bucket(number, buckets).directory
        if not place.is_dir():
            place.mkdir(parents=True)
            write_table(empty, place / _FILE.format(0))


def _copy_rates(rates: Files, directory: Path) -> int:
    frame = rates.checked(ARTIST_MLDR)
    names = frame.collect_schema().names()
    rows = rates.collect(frame.select(name for name in ARTIST_MLDR if name in names))
    (directory / MLDR).mkdir()
    write_table(rows, directory / MLDR / _FILE.format(0))
    return rows["cm_artist_id"].n_unique()
