"""Buckets one by one: what is whole is left alone, and what is not is done again."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, LockedError
from forecaster.model.parameters import Parameters
from forecaster.parquet.layout import Bucket
from forecaster.parquet.lock import locked
from forecaster.parquet.session import Files, check
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from tests.conftest import Cli
from tests.parquet import OF, expected, forecast, in_sink, states
from tests.tables import golden_mldr


class TestShard:
    def test_all_of_them_one_by_one(self, laid_out: Path, tmp_path: Path) -> None:
        config = (Files(str(laid_out), tmp_path / "sink", buckets=OF), RunConfig())
        for number in range(OF):
            found = check(*config)
            assert found.failed == dict.fromkeys(range(number, OF), "missing")
            report = run(replace(config[0], only=Bucket(number, OF)))
            assert (report.buckets, report.left_alone) == (1, 0)
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())
        whole = check(*config)
        assert (whole.left_alone, whole.failed, whole.rows) == (OF, {}, len(expected()))
        assert len(whole.skipped) == 250 - whole.results

    def test_the_manifest_says_what_was_done(self, laid_out: Path, tmp_path: Path) -> None:
        forecast(laid_out, tmp_path / "sink", parameters=Parameters(as_of=date(2025, 4, 15)))
        manifests = [
            json.loads(path.read_text()) for path in (tmp_path / "sink" / "manifests").rglob("*.json")
        ]
        assert sorted(m["bucket"] for m in manifests) == [0, 1, 2, 3]
        rows = in_sink(tmp_path / "sink")
        assert sum(m["rows"] for m in manifests) == len(rows)
        assert sum(m["tracks"] for m in manifests) == 250
        for manifest in manifests:
            assert manifest["asked"]["parameters"]["as_of"] == "2025-04-15"
            assert manifest["seconds"] >= sum(manifest["stages"].values()) * 0.5
            assert {"python", "polars", "forecaster"} <= manifest["versions"].keys()
            assert [file["path"].split("/")[0] for file in manifest["files"]] == ["forecasts", "skipped"]

    def test_what_is_whole_is_left_alone(self, laid_out: Path, tmp_path: Path) -> None:
        first = forecast(laid_out, tmp_path / "sink")
        before = states(tmp_path / "sink")
        again = forecast(laid_out, tmp_path / "sink")
        assert (first.left_alone, again.left_alone) == (0, OF)
        assert states(tmp_path / "sink") == before
        assert (again.rows, again.results, again.pending) == (first.rows, first.results, first.pending)
        assert again.skipped.equals(first.skipped)
        assert ("projection" in first.stages.seconds, "projection" in again.stages.seconds) == (True, False)
        replaced = forecast(laid_out, tmp_path / "sink", replace=True)
        assert replaced.left_alone == 0
        assert states(tmp_path / "sink").keys() == before.keys()

    @pytest.mark.parametrize(
        "fault",
        [
            "forecasts gone",
            "skipped gone",
            "cut off",
            "one bit",
            "manifest gone",
            "manifest cut off",
            "manifest edited",
            "another's",
        ],
    )
    def test_what_is_not_is_done_anew(self, laid_out: Path, tmp_path: Path, fault: str) -> None:
        sink = tmp_path / "sink"
        config = (Files(str(laid_out), sink), RunConfig())
        run(*config)
        everything = in_sink(sink)
        rows = sink / "forecasts" / "bucket=2" / "forecasts.parquet"
        manifest = sink / "manifests" / "bucket=2" / "manifest.json"
        match fault:
            case "forecasts gone":
                rows.unlink()
            case "skipped gone":
                shutil.rmtree(sink / "skipped" / "bucket=2")
            case "cut off":
                rows.write_bytes(rows.read_bytes()[:-1])
            case "one bit":
                data = bytearray(rows.read_bytes())
                data[len(data) // 2] ^= 1
                rows.write_bytes(data)
            case "manifest gone":
                manifest.unlink()
            case "manifest cut off":
                manifest.write_text(manifest.read_text()[:100])
            case "manifest edited":
                manifest.write_text(manifest.read_text().replace('"tracks": 6', '"tracks": 9'))
            case _:
                manifest.write_text((sink / "manifests" / "bucket=1" / "manifest.json").read_text())
        assert list(check(*config).failed) == [2]
        report = run(*config)
        assert report.left_alone == OF - 1
        assert_frame_equal(in_sink(sink), everything)
        assert check(*config).failed == {}

    def test_other_data_or_options_are_another_result(self, own: Path, tmp_path: Path) -> None:
        sink = tmp_path / "sink"
        forecast(own, sink)
        changed = check(Files(str(own), sink), RunConfig(parameters=Parameters(horizon=12)))
        assert set(changed.failed.values()) == {"made from other parameters"}
        [file] = (own / "streams" / "bucket=1").iterdir()
        rows = pl.read_parquet(file).with_columns(pl.col("daily_streams") * 2)
        rows.write_parquet(file)
        assert check(Files(str(own), sink)).failed == {1: "made from other streams"}
        assert forecast(own, sink).left_alone == OF - 1
        [file] = (own / "mldr" / "bucket=2").iterdir()
        rates = pl.read_parquet(file).with_columns(pl.col("mldr") * 2)
        rates.write_parquet(file)
        assert check(Files(str(own), sink)).failed == {2: "made from other mldr"}
        assert forecast(own, sink).left_alone == OF - 1
        doubled = golden_mldr().with_columns(pl.col("mldr") * 2)
        doubled.write_parquet(tmp_path / "rates.parquet")
        forecast(own, tmp_path / "other", mldr=str(tmp_path / "rates.parquet"))  # instead of its own
        streams = pl.read_parquet(own / "streams", hive_partitioning=False)
        assert_frame_equal(in_sink(tmp_path / "other"), expected(streams, doubled))
        doubled.write_parquet(own / "mldr" / "new.parquet")
        with pytest.raises(BadFileError, match=r"mldr is laid out in 4 buckets.* also has new\.parquet"):
            forecast(own, sink)

    def test_what_a_killed_one_left_behind_is_removed(self, laid_out: Path, tmp_path: Path) -> None:
        place = tmp_path / "sink" / "forecasts" / "bucket=0"
        place.mkdir(parents=True)
        (place / ".0123456789abcdef.tmp").write_text("half")
        forecast(laid_out, tmp_path / "sink")
        assert [path.name for path in place.iterdir()] == ["forecasts.parquet"]
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())

    def test_two_at_once(self, laid_out: Path, tmp_path: Path) -> None:
        sink = tmp_path / "sink"
        config = (Files(str(laid_out), sink), RunConfig())
        run(*config)
        with locked(sink / "manifests" / "bucket=1" / ".lock", 0):
            half_way = sink / "forecasts" / "bucket=1" / ".0123456789abcdef.tmp"
            half_way.write_text("of whoever holds it")
            assert run(*config).left_alone == OF  # what is whole need not be worked
            with pytest.raises(LockedError, match="computes this bucket"):
                run(replace(config[0], only=Bucket(1, OF)), RunConfig(replace=True))
            with pytest.raises(LockedError):
                run(config[0], RunConfig(replace=True))
            assert half_way.exists()
        assert run(*config).left_alone == OF

    def test_what_another_one_worked_meanwhile_is_left_alone(
        self, laid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = (Files(str(laid_out), tmp_path / "sink"), RunConfig())
        others = []

        def after_another(*arguments: Any) -> Any:
            monkeypatch.undo()
            others.append(run(replace(config[0], only=Bucket(1, OF))))
            return locked(*arguments)

        monkeypatch.setattr("forecaster.parquet.buckets.locked", after_another)
        report = run(replace(config[0], only=Bucket(1, OF)))
        assert ([other.left_alone for other in others], report.left_alone) == ([0], 1)

    def test_of_many_at_once_one_works_it(self, laid_out: Path, tmp_path: Path, cli: Cli) -> None:
        arguments = ("shard", "1/4", "--source", str(laid_out), "--sink", str(tmp_path / "sink"))
        with ThreadPoolExecutor(6) as threads:
            ended = list(threads.map(lambda _: cli(*arguments), range(6)))
        assert {result.returncode for result in ended} <= {0, 5}, [result.stderr for result in ended]
        config = (Files(str(laid_out), tmp_path / "sink"), RunConfig())
        assert check(replace(config[0], only=Bucket(1, OF))).left_alone == 1

    @pytest.mark.parametrize("number", ["3/4", "4/4", "0/5", "x", "1", "-1/4"])
    def test_the_command(self, laid_out: Path, tmp_path: Path, called: Cli, number: str) -> None:
        files = ("--source", str(laid_out), "--sink", str(tmp_path / "sink"))
        result = called("shard", number, *files)
        if number == "3/4":
            assert result.returncode == 0
            assert "buckets=1 failed=0 forecast=" in result.stdout
            missing = called("shard", "--check", *files)
            assert missing.returncode == 1
            assert "3 of 4 buckets are missing or wrong" in missing.stderr
            assert missing.stdout.startswith("0/4  missing\n1/4  missing\n2/4  missing\n")
            assert called("shard", "3/4", "--check", *files).returncode == 0
        else:
            assert result.returncode == 2
            assert "Traceback" not in result.stderr
