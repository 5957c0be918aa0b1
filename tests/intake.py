"""Files as they come in, good and bad, and how the error over one is read."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from forecaster.errors import BadFileError
from forecaster.files.intake import read_streams
from forecaster.files.tables import write_table

DAY = date(2024, 2, 29)
STREAMS_SCHEMA = {
    "cm_track_id": pl.Int64,
    "cm_artist_id": pl.Int64,
    "date": pl.Date,
    "daily_streams": pl.Int64,
    "days_from_release": pl.Int32,
}
HEADER = "cm_track_id,cm_artist_id,date,daily_streams,days_from_release"
# One row per kind of value that is in order.
GOOD = {
    "1,-2,2024-02-29,3,4": (1, -2, DAY, 3, 4),
    "2,2,2024-02-29 00:00:00,-3,": (2, 2, DAY, -3, None),
    '3,2,2024-02-29T00:00:00.000000Z,,""': (3, 2, DAY, None, None),
    '"4","2","2024-02-29 00:00:00+00:00","3.0","4.0"': (4, 2, DAY, 3, 4),
    "9223372036854775807,-9223372036854775808,0001-01-01,9223372036854775807,2147483647": (
        2**63 - 1,
        -(2**63),
        date(1, 1, 1),
        2**63 - 1,
        2**31 - 1,
    ),
    "007,+5,9999-12-31,-0,-2147483648": (7, 5, date(9999, 12, 31), 0, -(2**31)),
}


def saved(directory: Path, *lines: str) -> Path:
    path = directory / "t.csv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def frame_file(directory: Path, **columns: pl.Series | None) -> Path:
    """A Parquet file of one good row, with the columns given replaced, added or (None) left out."""
    good = {
        "cm_track_id": pl.Series([1]),
        "cm_artist_id": pl.Series([2]),
        "date": pl.Series([DAY]),
        "daily_streams": pl.Series([3]),
    }
    path = directory / "t.parquet"
    write_table(pl.DataFrame({k: v for k, v in (good | columns).items() if v is not None}), path)
    return path


def refusal(path: Path, **ids: int) -> list[str]:
    """The lines of the error."""
    with pytest.raises(BadFileError) as error:
        read_streams(path, **ids)
    first, *others = str(error.value).splitlines()
    assert str(path) in first
    return [first, *(line.removeprefix("  ") for line in others)]
