"""A catalogue of a few tracks in Parquet."""

from pathlib import Path

import polars as pl
import pytest

from tests.listing import TRACKS
from tests.parquet import with_ids, write_catalogue
from tests.tables import golden_streams


@pytest.fixture(scope="package")
def streams() -> pl.DataFrame:
    return with_ids(golden_streams()).filter(pl.col("cm_track_id") <= TRACKS)


@pytest.fixture
def own(streams: pl.DataFrame, tmp_path: Path) -> Path:
    """A catalogue to spoil: `streams/0.parquet` to `2.parquet`, and `mldr/rates.parquet`."""
    return write_catalogue(tmp_path / "own", streams)
