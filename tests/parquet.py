"""Catalogues in Parquet files to test with, their forecasts, and what lies in a sink."""

from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from forecaster.model import build_forecasts
from forecaster.parquet.session import Files
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from tests.tables import golden_mldr, golden_streams

COLUMNS = ("cm_track_id", "month", "forecasted_value", "segment_used", "time_used", "cm_artist_id")
OF = 4
"""Buckets of the catalogue that is laid out."""


def with_ids(streams: pl.DataFrame) -> pl.DataFrame:
    """The same rows with the ids that a table gives them in this order."""
    return streams.with_row_index("id", offset=1).with_columns(pl.col("id").cast(pl.Int64))


def write_catalogue(
    directory: Path, streams: pl.DataFrame | None = None, mldr: pl.DataFrame | None = None, *, files: int = 3
) -> Path:
    """The golden catalogue, or another one, as another program would leave it: rows in no order."""
    streams = with_ids(golden_streams()) if streams is None else streams
    mldr = golden_mldr() if mldr is None else mldr
    (directory / "streams").mkdir(parents=True)
    (directory / "mldr").mkdir()
    size = max(1, -(-len(streams) // files))
    for number, start in enumerate(range(0, max(1, len(streams)), size)):
        streams.slice(start, size).write_parquet(directory / "streams" / f"{number}.parquet")
    mldr.write_parquet(directory / "mldr" / "rates.parquet")
    return directory


def in_sink(sink: Path) -> pl.DataFrame:
    """Every row that is there, in order, without the instant at which it was stored."""
    rows = pl.read_parquet(sink / "forecasts" / "**" / "*.parquet", hive_partitioning=False)
    return rows.select(*COLUMNS, "training_data_id").sort("cm_track_id", "month")


def intervals_in_sink(sink: Path) -> pl.DataFrame:
    """The intervals that are there, in order, without the instant at which they were stored."""
    rows = pl.read_parquet(sink / "intervals" / "**" / "*.parquet", hive_partitioning=False)
    return rows.drop("created_at").sort("cm_track_id")


def expected(
    streams: pl.DataFrame | None = None, mldr: pl.DataFrame | None = None, **parameters: object
) -> pl.DataFrame:
    """What the model says of the whole catalogue at once, as it is stored."""
    if streams is None and mldr is None:
        return _of_golden(**parameters)
    streams = with_ids(golden_streams()) if streams is None else streams
    mldr = golden_mldr() if mldr is None else mldr
    rows = build_forecasts(streams.lazy(), mldr.lazy(), **parameters).forecasts.collect()  # type: ignore[arg-type]
    types = {"month": pl.Int16, "segment_used": pl.Int16, "time_used": pl.Int32}
    return (
        rows.with_columns(pl.col("forecasted_value").round().cast(pl.Int64))
        .cast(types)  # type: ignore[arg-type]
        .select(*COLUMNS, "training_data_id")
        .sort("cm_track_id", "month")
    )


@cache
def _of_golden(**parameters: object) -> pl.DataFrame:
    return expected(with_ids(golden_streams()), golden_mldr(), **parameters)


def forecast(
    source: Path | str, sink: Path, *, mldr: str | None = None, buckets: int | None = None, **options: Any
) -> Report:
    """The options are those of `Files` and of `RunConfig`."""
    return run(Files(str(source), sink, mldr, buckets), RunConfig(**options))


def states(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and the time of its last change."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}
