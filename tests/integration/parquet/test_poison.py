"""A bucket that cannot be forecast fails alone, and is named."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BucketsFailedError
from forecaster.model.parameters import Parameters
from forecaster.parquet.layout import bucket_of
from forecaster.parquet.lock import locked
from forecaster.parquet.session import Files, check
from forecaster.parquet.sink import Sink
from forecaster.run.batch import Done, Work
from forecaster.run.engines.local import Local
from forecaster.run.report import Report
from forecaster.run.session import run
from tests.conftest import Cli
from tests.parquet import OF, expected, forecast, in_sink, with_ids, write_catalogue
from tests.tables import golden_streams


class TestPoison:
    @pytest.mark.parametrize(
        "what",
        [
            "corrupt",
            "cut off",
            "no parquet",
            "schema",
            "stray",
            "gone",
            "empty",
            "rates gone",
            "rates of text",
            "link to nowhere",
            "link of rates to nowhere",
        ],
    )
    def test_of_one_bucket(self, own: Path, tmp_path: Path, what: str) -> None:
        place = own / "streams" / "bucket=2"
        [file] = place.iterdir()
        rows = pl.read_parquet(file)
        match what:
            case "corrupt":
                file.write_bytes(b"PAR1" + b"\xff" * 5_000 + file.read_bytes()[5_004:])
            case "cut off":
                file.write_bytes(file.read_bytes()[:-100])
            case "no parquet":
                file.write_text("no parquet")
            case "schema":
                rows.cast({"daily_streams": pl.String}).write_parquet(file)
            case "stray":
                tracks = rows.with_columns(cm_track_id=pl.lit(1_000_001, dtype=pl.Int64))
                pl.concat([rows, tracks.head(1)]).write_parquet(file)
            case "gone":
                shutil.rmtree(place)
            case "rates gone":
                shutil.rmtree(own / "mldr" / "bucket=2")
            case "rates of text":
                [rates] = (own / "mldr" / "bucket=2").iterdir()
                pl.read_parquet(rates).cast({"mldr": pl.String}).write_parquet(rates)
            case "link to nowhere" | "link of rates to nowhere":
                [link] = (own / ("mldr" if "rates" in what else "streams") / "bucket=2").iterdir()
                link.unlink()
                link.symlink_to(tmp_path / "nowhere.parquet")
            case _:
                file.write_bytes(b"")
        report = Report(buckets=0)
        with pytest.raises(
            BucketsFailedError, match=r"1 of 4 buckets failed \(2\); the others are done"
        ) as error:
            run(Files(str(own), tmp_path / "sink"), report=report)
        assert "bucket=2" in str(error.value) or "2/4" in str(error.value)
        assert list(report.failed) == [2]
        good = expected().filter(bucket_of(pl.col("cm_track_id"), OF) != 2)
        assert_frame_equal(in_sink(tmp_path / "sink"), good)
        assert report.rows == len(good)
        assert list(check(Files(str(own), tmp_path / "sink")).failed) == [2]

    def test_of_two_for_different_reasons(self, own: Path, tmp_path: Path) -> None:
        """One is locked, which alone would be said by itself."""
        sink = tmp_path / "sink"
        forecast(own, sink)
        for bucket in (1, 3):
            [file] = (own / "streams" / f"bucket={bucket}").iterdir()
            file.write_bytes(b"" if bucket == 1 else file.read_bytes()[:-100])
        said = r"3 of 4 buckets failed \(0, 1, 3\); the others are done. Bucket 0: .* works on this bucket"
        with (
            locked(sink / "manifests" / "bucket=0" / ".lock", 0),
            pytest.raises(BucketsFailedError, match=said),
        ):
            forecast(own, sink, parameters=Parameters(horizon=12))

    def test_what_is_not_seen_from_here(self, own: Path, tmp_path: Path) -> None:
        """As if a worker had written into another directory of the same name."""
        sink, report = tmp_path / "sink", Report(buckets=0)

        class Elsewhere(Local):
            def __call__(
                self, work: Work[Any, Any], batches: Sequence[Any], /
            ) -> Iterator[tuple[Any, Done | Exception]]:
                for bucket, outcome in super().__call__(work, batches):
                    manifest = Sink(sink).manifest(bucket)
                    if bucket.number == 1:
                        manifest.write_text("no manifest")
                    elif bucket.number == 2:
                        manifest.unlink()
                    yield bucket, outcome

        with pytest.raises(BucketsFailedError, match=r"2 of 4 buckets failed \(1, 2\); the others are done"):
            run(Files(str(own), sink), engine=Elsewhere(), report=report)
        assert "is not a manifest" in report.failed[1]
        assert "is not in" in report.failed[2]

    def test_the_command_says_so(self, own: Path, tmp_path: Path, called: Cli) -> None:
        [file] = (own / "streams" / "bucket=0").iterdir()  # also if it is the first
        file.write_text("no parquet")
        result = called(
            "run", "--source", str(own), "--sink", str(tmp_path / "sink"), "--report", "r.json", cwd=tmp_path
        )
        assert result.returncode == 1
        assert "1 of 4 buckets failed (0); the others are done" in result.stderr
        assert "buckets=4 failed=1 forecast=" in result.stdout
        report = json.loads((tmp_path / "r.json").read_text())
        assert [entry["bucket"] for entry in report["failed_buckets"]] == [0]
        assert str(file) in report["failed_buckets"][0]["reason"]
        assert report["counts"]["buckets_failed"] == 1
        assert report["error"].startswith("1 of 4 buckets failed")

    def test_a_track_that_the_columns_cannot_hold_is_refused_alone(self, tmp_path: Path) -> None:
        streams = with_ids(golden_streams()).cast({"daily_streams": pl.Float64})
        huge = streams.with_columns(
            daily_streams=pl.when(pl.col("cm_track_id") == 1).then(1e300).otherwise("daily_streams")
        )
        report = forecast(write_catalogue(tmp_path / "huge", huge), tmp_path / "sink")
        assert report.refused == {1: "forecasted_value: a value that does not fit bigint"}
        assert_frame_equal(in_sink(tmp_path / "sink"), expected().filter(pl.col("cm_track_id") != 1))

    def test_days_that_no_calendar_has(self, tmp_path: Path) -> None:
        rows = pl.DataFrame(
            {
                "cm_track_id": [1, 1, 2],
                "cm_artist_id": [1, 1, 1],
                "date": pl.Series([2**62, 0, -(2**62)], dtype=pl.Int64).cast(pl.Datetime("us")),
                "daily_streams": [1.0, 2.0, 3.0],
                "created_at": pl.Series([2**62, -(2**63), None], dtype=pl.Int64).cast(pl.Datetime("us")),
            }
        )
        report = forecast(write_catalogue(tmp_path / "far", rows), tmp_path / "sink")
        assert report.pending == 2
        assert report.results + len(report.skipped) + len(report.refused) == 2
