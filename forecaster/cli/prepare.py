"""`forecaster prepare`: lay a catalogue out as Parquet files in buckets."""

from pathlib import Path

from forecaster.cli.output import Output
from forecaster.cli.where import Where
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import TABLES_TO_PREPARE, Prepared, prepare_files, prepare_tables
from forecaster.postgres.catalogue import open_source


def prepare(
    buckets: int,
    out: Path,
    replace: bool,
    source: str | None,
    mldr: str | None,
    where: Where,
    output: Output,
) -> None:
    """Read the catalogue from files or from the database, and write the buckets."""
    if source is not None:
        where.check_not_typed()
        with output.doing("lay out"):
            done = prepare_files(find_catalogue(source, mldr), buckets, out, replace=replace)
    else:
        done = _from_tables(buckets, out, replace, where, output)
    output.warn(done.warnings)
    output.finish(
        {
            "daily rows": f"{done.rows:,}",
            "rows without a track": f"{done.without_track:,} (left out)" if done.without_track else "0",
            "artists": f"{done.artists:,}",
            "buckets": f"{buckets:,}",
        },
        rows=done.rows,
        artists=done.artists,
        buckets=buckets,
    )


def _from_tables(buckets: int, out: Path, replace: bool, where: Where, output: Output) -> Prepared:
    with (
        where.database() as dsn,
        output.doing("lay out"),
        open_source(dsn, where.schema, needed=TABLES_TO_PREPARE) as tables,
    ):
        return prepare_tables(tables, buckets, out, replace=replace)
