"""The benchmark's short form runs through and writes down all that it measures. How fast is not tested."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from tests.conftest import short_directory

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("results")
    with short_directory() as data_dir:
        command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--out", str(directory)]
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
        subprocess.run(
            [*command, "--data-dir", str(data_dir / "server")], cwd=ROOT, env=environment, check=True
        )
    return directory


def test_all_that_is_measured_is_there(out: Path) -> None:
    result = json.loads((out / "quick.json").read_text())
    assert result["answers"] == {"forecast": 300, "skipped": 0, "compared": 20, "agree": 20}
    [measured] = result["rounds"]
    assert measured["program"]["rows"] == 300 * 24
    stages = {"start", "connect", "read", "features", "fit", "projection", "write"}
    assert measured["program"]["stages"].keys() == stages
    assert measured["model"].keys() == {"features", "fit", "projection"}
    assert measured["nothing_pending"]["rows"] == 0
    for seconds in (
        *measured["program"]["stages"].values(),
        *measured["model"].values(),
        measured["floor"]["out"],
        measured["floor"]["in"],
        measured["baseline"]["seconds_per_track"],
        measured["help"],
        measured["import_click"],
    ):
        assert seconds > 0
    # 365 values of 8 bytes and their lengths, and a row of 8 columns for each month.
    assert 0.5 < measured["floor"]["out_mb"] < 300 * 365 * 12 / 1e6
    assert 300 * 24 * 40 / 1e6 < measured["floor"]["in_mb"] < 300 * 24 * 100 / 1e6
    assert result["other_tables"].keys() == {"random uuid ids", "no index on (cm_track_id, date)"}
    assert all(run["rows"] == 300 * 24 for runs in result["other_tables"].values() for run in runs)
    assert [size["tracks"] for size in result["tracks"]] == [300, 600]
    assert [size["rows"] for size in result["tracks"]] == [300 * 24, 600 * 24]
    assert [size["days"] for size in result["history"]] == [400, 1_000]
    assert all(size["daily_rows"] == 300 * size["days"] for size in result["history"])


def test_the_page_has_each_table_and_the_picture(out: Path) -> None:
    page = (out / "quick.md").read_text()
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == [
        "Against what it replaces",
        "Against the floor",
        "Where the time goes",
        "Other tables",
        "Small things",
        "Growth",
    ]
    assert "published, original" in page
    assert "(10 tracks, scaled up)" in page
    assert "![Seconds and memory by size](quick.png)" in page
    assert (out / "quick.png").read_bytes().startswith(b"\x89PNG")


def test_the_results_that_are_kept_are_of_the_whole_catalogue() -> None:
    """The figures of the README are taken from them."""
    kept = ROOT / "benchmarks" / "results"
    result = json.loads((kept / "full.json").read_text())
    assert result["catalogue"] == {"tracks": 8_459, "daily_rows": 6_699_409}
    assert len(result["rounds"]) >= 5
    assert [size["tracks"] for size in result["tracks"]] == [8_459 * factor for factor in (1, 2, 4, 8, 16)]
    assert result["answers"]["forecast"] + result["answers"]["skipped"] == 8_459
    ratio = median(r["program"]["seconds"] / r["floor"]["seconds"] for r in result["rounds"])
    assert f"| {ratio:.2f} |" in (kept / "full.md").read_text()


def test_the_sizes_in_parquet_are_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.buckets", "--quick", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    result = json.loads((tmp_path / "buckets-quick.json").read_text())
    assert [size["tracks"] for size in result["sizes"]] == [300, 600]
    for size in result["sizes"]:
        assert size["forecast_rows"] == size["tracks"] * 24
        assert size["daily_rows"] * 2 < size["in_bytes"] < size["daily_rows"] * 20
        assert size["prepare"]["seconds"] > 0
        for engine in ("local", "dask"):
            assert all(run[engine]["seconds"] > 0 for run in size["runs"])
            assert all(50 < run[engine]["peak_mb"] < 2_000 for run in size["runs"])
    page = (tmp_path / "buckets-quick.md").read_text()
    assert "A daily row takes" in page
    assert "| 600 |" in page
