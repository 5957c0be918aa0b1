"""Options of a run from Parquet into Parquet, and sources and sinks that are refused."""

import json
import shutil
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import (
    BadFileError,
    BucketsFailedError,
    InvalidOptionError,
    NoForecastError,
    SchemaMismatchError,
)
from forecaster.model.parameters import Parameters
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import prepare_files
from forecaster.parquet.session import Files, check
from forecaster.postgres.dsn import Dsn
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from tests.conftest import Cli
from tests.parquet import OF, expected, forecast, in_sink, write_catalogue
from tests.tables import golden_mldr, golden_streams, load_golden


class TestOptions:
    def test_only_some_tracks(self, laid_out: Path, tmp_path: Path) -> None:
        report = forecast(laid_out, tmp_path / "sink", ids=(3, 5, 8))
        assert report.pending == 3
        some = pl.col("cm_track_id").is_in([3, 5, 8])
        assert_frame_equal(in_sink(tmp_path / "sink"), expected().filter(some))
        first = sorted(golden_streams()["cm_track_id"].unique())[:7]
        assert forecast(laid_out, tmp_path / "first", limit=7).pending == 7
        assert_frame_equal(in_sink(tmp_path / "first"), expected().filter(pl.col("cm_track_id").is_in(first)))
        with pytest.raises(NoForecastError, match="999999"):
            forecast(laid_out, tmp_path / "none", ids=(3, 999_999))

    def test_a_track_that_is_named_twice_is_one(self, laid_out: Path, tmp_path: Path) -> None:
        once = forecast(laid_out, tmp_path / "sink", ids=(3, 3, 7))
        again = forecast(laid_out, tmp_path / "sink", ids=(7, 3))
        assert (once.pending, once.left_alone, again.left_alone) == (2, 0, OF)

    def test_a_bucket_of_a_sink_of_another_number(self, golden: Path, tmp_path: Path) -> None:
        """Of the same data, and with a manifest that names its files as they are."""
        for buckets in (2, 3):
            forecast(golden, tmp_path / f"{buckets}", buckets=buckets, ids=(1, 2, 3, 4, 5))
        for kind in ("forecasts", "skipped", "manifests"):
            place = tmp_path / "2" / kind / "bucket=1"
            shutil.rmtree(place)
            shutil.copytree(tmp_path / "3" / kind / "bucket=1", place)
        config = (Files(str(golden), tmp_path / "2"), RunConfig(ids=(1, 2, 3, 4, 5)))
        assert check(*config).failed == {1: "its manifest is of bucket 1/3"}

    def test_some_tracks_do_not_take_the_place_of_all(self, laid_out: Path, tmp_path: Path) -> None:
        forecast(laid_out, tmp_path / "sink")
        with pytest.raises(InvalidOptionError, match="holds the forecasts of other tracks"):
            forecast(laid_out, tmp_path / "sink", ids=(3,), replace=True)
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())
        forecast(laid_out, tmp_path / "some", ids=(3,))
        with pytest.raises(InvalidOptionError, match="holds the forecasts of other tracks"):
            forecast(laid_out, tmp_path / "some", ids=(4,))
        assert forecast(laid_out, tmp_path / "some", ids=(3,)).left_alone == OF
        forecast(laid_out, tmp_path / "some")  # all of them are no loss
        assert_frame_equal(in_sink(tmp_path / "some"), expected())

    def test_a_dry_run_writes_nothing(self, laid_out: Path, tmp_path: Path) -> None:
        report = run(Files(str(laid_out), None), RunConfig(dry_run=True))
        whole = forecast(laid_out, tmp_path / "sink")
        assert (report.rows, report.results) == (0, whole.results)
        assert report.skipped.equals(whole.skipped)

    def test_a_sink_of_another_number_of_buckets(self, golden: Path, laid_out: Path, tmp_path: Path) -> None:
        forecast(laid_out, tmp_path / "sink")
        assert forecast(golden, tmp_path / "sink").buckets == OF  # what only the size would tell
        prepare_files(find_catalogue(str(golden)), 3, tmp_path / "three")
        with pytest.raises(InvalidOptionError, match="in 4 buckets, and now there are 3"):
            forecast(tmp_path / "three", tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"sink": None}, "nowhere to write"),
            ({"sink": Path("s3://bucket/forecasts")}, "is a URL"),
            ({"sink": Path("out"), "limit": 0}, "limit is 0"),
        ],
    )
    def test_what_cannot_be(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidOptionError, match=words):
            forecast("catalogue", **options)

    def test_a_sink_is_not_in_the_source(self, golden: Path, tmp_path: Path) -> None:
        own = Path(shutil.copytree(golden, tmp_path / "own"))
        rates = str(golden / "mldr")
        for source, sink in (
            (own, own / "streams"),
            (own, own / "sink"),
            (own / "streams", own / "streams"),
            (f"{own}/**/*.parquet", own / "sink"),
        ):
            with pytest.raises(InvalidOptionError, match="lies in the source"):
                forecast(source, sink, mldr=rates)
        with pytest.raises(InvalidOptionError, match="lies in the source"):
            forecast(own, own / "mldr" / "sink")
        # Read as rates, the forecasts would be the newest, with no rate in them.
        with pytest.raises(InvalidOptionError, match="lies in the source"):
            forecast(f"{own}/streams/*.parquet", own / "mldr" / "sink", mldr=str(own / "mldr"))
        forecast(f"{own}/streams/*.parquet", own / "sink", mldr=rates)
        assert_frame_equal(in_sink(own / "sink"), expected())

    def test_a_sink_that_may_only_be_read(self, laid_out: Path, tmp_path: Path) -> None:
        sink = tmp_path / "sink"
        forecast(laid_out, sink)
        place = sink / "manifests" / "bucket=1"
        (place / ".lock").unlink()
        (place / ".lock").mkdir()  # which cannot be opened to write
        assert forecast(laid_out, sink).left_alone == OF
        with pytest.raises(BucketsFailedError, match=r"1 of 4 buckets failed \(1\).*cannot be written"):
            forecast(laid_out, sink, replace=True)

    def test_files_that_are_no_bucket_s_are_told(self, own: Path, tmp_path: Path) -> None:
        sink = tmp_path / "sink"
        forecast(own, sink)
        (sink / "forecasts" / "bucket=77").mkdir()
        shutil.copy(sink / "forecasts" / "bucket=1" / "forecasts.parquet", sink / "forecasts" / "bucket=77")
        for report in (forecast(own, sink), check(Files(str(own), sink))):
            [warning] = report.warnings
            assert "no bucket's: 1, the first is" in warning
            assert "bucket=77/forecasts.parquet" in warning
        shutil.copytree(own / "streams" / "bucket=1", own / "streams" / "bucket=4")
        with pytest.raises(BadFileError, match="in 4 buckets, counted from 0, and holds bucket=4"):
            forecast(own, sink)

    def test_a_bucket_that_fails_keeps_what_it_has_and_that_is_told(self, own: Path, tmp_path: Path) -> None:
        sink, report = tmp_path / "sink", Report(buckets=0)
        forecast(own, sink)
        shutil.rmtree(own / "streams" / "bucket=2")
        with pytest.raises(BucketsFailedError):
            run(Files(str(own), sink), report=report)
        assert "its forecasts of an earlier run are still in the sink" in report.failed[2]
        assert_frame_equal(in_sink(sink), expected())

    def test_a_source_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BadFileError, match="nowhere"):
            forecast(tmp_path / "nowhere", tmp_path / "sink")
        with pytest.raises(InvalidOptionError, match="decay rates"):
            forecast(f"{tmp_path}/*.parquet", tmp_path / "sink")
        (tmp_path / "empty" / "streams").mkdir(parents=True)
        with pytest.raises(BadFileError, match="holds no Parquet files"):
            forecast(tmp_path / "empty", tmp_path / "sink")
        assert not (tmp_path / "sink").exists()

    def test_columns_of_both_that_are_missing_are_named_at_once(self, tmp_path: Path) -> None:
        source = write_catalogue(tmp_path / "bad", pl.DataFrame({"track": [1]}), pl.DataFrame({"x": [1]}))
        with pytest.raises(SchemaMismatchError) as error:
            forecast(source, tmp_path / "sink")
        assert {"cm_track_id", "daily_streams", "mldr"} <= set(str(error.value).replace(";", "").split())

    def test_forecasts_that_look_ahead_are_told(self, laid_out: Path, tmp_path: Path) -> None:
        report = forecast(laid_out, tmp_path / "sink", parameters=Parameters(as_of=date(2020, 1, 1)))
        assert any("streams after --as-of 2020-01-01" in warning for warning in report.warnings)

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("--source", "c"), 2, "nowhere to write"),
            (("--sink", "s"), 2, "--sink needs --source"),
            (("--mldr", "s"), 2, "--mldr needs --source"),
            (("--source", "c", "--sink", "s", "--schema", "x"), 2, "contradict"),
            (("--source", "", "--sink", "s"), 2, "--source is empty"),
            (("--source", "c", "--sink", ""), 2, "--sink is empty"),
            (("--source", "c", "--sink", "s"), 1, "c does not exist"),
            (("--scheduler", "tcp://x:1"), 2, "--engine dask"),
        ],
    )
    def test_the_command_refuses(
        self, called: Cli, arguments: tuple[str, ...], code: int, words: str
    ) -> None:
        result = called("run", *arguments)
        assert (result.returncode, result.stdout) == (code, "")
        assert words in result.stderr
        assert "Traceback" not in result.stderr

    def test_no_database_is_needed(self, laid_out: Path, tmp_path: Path, cli: Cli) -> None:
        nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
        result = cli("run", "--source", str(laid_out), "--sink", str(tmp_path / "s"), "--json", env=nowhere)
        assert result.returncode == 0
        report = json.loads(result.stdout)
        assert (report["source"], report["buckets"], report["counts"]["rows"]) == (
            str(laid_out),
            OF,
            len(expected()),
        )
        assert "database" not in report
        stored = pl.read_parquet(tmp_path / "s" / "forecasts")["created_at"].unique().to_list()
        assert stored == [datetime.fromisoformat(report["started_at"])]

    def test_the_database_is_laid_out_by_the_command(
        self, embedded_database: Dsn, tmp_path: Path, called: Cli
    ) -> None:
        load_golden(embedded_database)
        result = called(
            "prepare",
            "--buckets",
            "3",
            "--out",
            "c",
            env={"DATABASE_URL": embedded_database.uri},
            cwd=tmp_path,
        )
        assert result.returncode == 0, result.stderr
        assert f"rows={len(golden_streams())} artists={len(golden_mldr())} buckets=3" in result.stdout
        assert called("run", "--source", "c", "--sink", "s", "-q", cwd=tmp_path).returncode == 0
        assert_frame_equal(
            in_sink(tmp_path / "s").drop("training_data_id"), expected().drop("training_data_id")
        )
