"""A run is the same in every place: the same rows, the same counts."""

from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from forecaster.model.parameters import Parameters
from forecaster.parquet.session import Files
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.memory import Memory
from forecaster.run.session import run
from tests.forecasts import stored
from tests.parquet import in_sink, with_ids, write_catalogue
from tests.tables import golden_mldr, golden_streams, load_golden

COUNTS = (
    "pending",
    "results",
    "rows",
    "unusable_rows",
    "duplicate_rows",
    "looking_ahead",
    "refused",
    "taken",
    "observed",
    "is_whole",
    "implausible",
)
ROWS = ["cm_track_id", "month", "forecasted_value", "segment_used", "time_used"]


def test_in_a_database_in_files_and_in_memory(embedded_database: Dsn, tmp_path: Path) -> None:
    load_golden(embedded_database)
    config = RunConfig(Parameters(horizon=30, age_from="first-date"))
    memory = Memory(with_ids(golden_streams()), golden_mldr(), batch=90)
    files = Files(str(write_catalogue(tmp_path / "catalogue")), tmp_path / "sink", buckets=3)
    reports = [run(place, config) for place in (Database(embedded_database), files, memory)]

    counts = [{name: getattr(report, name) for name in COUNTS} for report in reports]
    assert counts[0] == counts[1] == counts[2]
    skipped = [report.skipped.sort("cm_track_id") for report in reports]
    assert skipped[0].equals(skipped[1])
    assert skipped[0].equals(skipped[2])
    rows = [
        frame.select(ROWS).cast(pl.Int64).sort("cm_track_id", "month")
        for frame in (stored(embedded_database), in_sink(tmp_path / "sink"), memory.forecasts)
    ]
    assert_frame_equal(rows[0], rows[1])
    assert_frame_equal(rows[0], rows[2])
