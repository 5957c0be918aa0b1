"""Files of listeners that are loaded before rates are computed of them."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from forecaster.errors import (
    BadFileError,
    InvalidOptionError,
    WriteRefusedError,
)
from forecaster.files.intake import read_listeners
from forecaster.postgres.dsn import Dsn
from forecaster.setup.load import load
from forecaster.tables import LISTENERS_TABLE
from tests.tables import GOLDEN, initialise

TRUTH = pl.read_parquet(GOLDEN / "artist_mldr.parquet").cast({"cm_artist_id": pl.Int64})
LISTENERS = pl.read_parquet(GOLDEN / "artist_listeners.parquet").select(
    pl.col("cm_artist_id").cast(pl.Int64), "date", pl.col("monthly_listeners").cast(pl.Int64)
)
THYME = GOLDEN / "listeners_thyme.csv"


@pytest.fixture
def loaded(embedded_database: Dsn) -> Dsn:
    initialise(embedded_database)
    load(embedded_database, "public", listeners=LISTENERS)
    return embedded_database


class TestFiles:
    def test_a_table_and_an_export(self, tmp_path: Path) -> None:
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
    def test_bad_rows(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(BadFileError, match=said):
            read_listeners(tmp_path / "bad.csv")

    def test_ids(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidOptionError, match="does not name its artist"):
            read_listeners(THYME)
        LISTENERS.head(3).write_parquet(tmp_path / "own.parquet")
        with pytest.raises(InvalidOptionError, match="has its own cm_artist_id"):
            read_listeners(tmp_path / "own.parquet", artist_id=1)

    def test_days_that_are_there_already(self, loaded: Dsn) -> None:
        with pytest.raises(
            WriteRefusedError, match=f"rows are already in {LISTENERS_TABLE}, the first for artist 1 "
        ):
            load(loaded, "public", listeners=LISTENERS.head(3))
