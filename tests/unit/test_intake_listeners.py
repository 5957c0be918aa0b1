"""What files of monthly listeners may hold: a table of several artists, or the export of one."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.intake import read_listeners
from tests.tables import GOLDEN, golden_listeners

LISTENERS = golden_listeners()
THYME = GOLDEN / "listeners_thyme.csv"


def test_a_table_and_an_export(tmp_path: Path) -> None:
    LISTENERS.with_columns(note=pl.lit("x")).write_csv(tmp_path / "listeners.csv")
    intake = read_listeners(tmp_path / "listeners.csv")
    assert intake.rows.equals(LISTENERS)
    assert intake.ignored == ("note",)
    export = read_listeners(THYME, artist_id=7)
    assert export.rows.row(0) == (7, date(2021, 2, 27), 680)
    assert export.ignored == ("Change",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cm_artist_id,date\n1,2024-01-01\n", "lacks the column monthly_listeners"),
        ("cm_artist_id,date,monthly_listeners\n1,2024-01-01,-5\n", "monthly_listeners is '-5'"),
        ("cm_artist_id,date,monthly_listeners\n1,2024-13-01,5\n", "date is '2024-13-01'"),
        ("cm_artist_id,date,monthly_listeners\n1,2024-01-01,5\n1,2024-01-01,6\n", "one artist and day"),
        ("cm_artist_id,date,monthly_listeners\n", "has no rows"),
    ],
)
def test_bad_rows(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(BadFileError, match=said):
        read_listeners(tmp_path / "bad.csv")


def test_ids(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match="does not name its artist"):
        read_listeners(THYME)
    LISTENERS.head(3).write_parquet(tmp_path / "own.parquet")
    with pytest.raises(InvalidOptionError, match="has its own cm_artist_id"):
        read_listeners(tmp_path / "own.parquet", artist_id=1)
