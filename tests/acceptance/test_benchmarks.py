"""The benchmark's short form runs through and writes down all that it measures. How fast is not tested."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from benchmarks.readme import speed
from benchmarks.results import markdown
from benchmarks.sizing import needs
from tests.conftest import bare_environment, short_directory
from tests.documents import README, page_named

ROOT = Path(__file__).parents[2]
TRACKS = 100
LAYOUTS = (
    "by day",
    "by track",
    "by day, plain key",
    "by day, plain key, 1 % of the tracks pending",
    "by track, random uuid ids",
    "24 partitions, plain key",
)

# Dask has a worker for each core: one is enough to see that it is measured.
ON_ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from benchmarks.buckets import main
main()
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("results")
    with short_directory() as data_dir:
        command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--out", str(directory)]
        environment = bare_environment() | {"HOME": "/nonexistent"}
        subprocess.run(
            [*command, "--data-dir", str(data_dir / "server")], cwd=ROOT, env=environment, check=True
        )
    return directory


def test_all_that_is_measured_is_there(out: Path) -> None:
    result = json.loads((out / "quick.json").read_text())
    assert result["answers"] == {"forecast": TRACKS, "skipped": 0, "compared": 20, "agree": 20}
    [measured] = result["rounds"]
    assert measured["layouts"].keys() == result["floors"].keys() == {*LAYOUTS}
    for name, layout in measured["layouts"].items():
        assert layout["program"]["rows"] == (24 if "1 %" in name else TRACKS * 24)
        stages = {"start", "connect", "read", "features", "fit", "projection", "write"}
        assert layout["program"]["stages"].keys() == stages
        assert min(*layout["program"]["stages"].values(), *layout["floor"].values()) > 0
    bottom = measured["layouts"]["by track"]["floor"]
    # 365 values of 4 or 12 bytes, and a row of 8 columns for each month.
    assert 4 <= bottom["out_mb"] * 1e6 / result["catalogue"]["values"] <= 15
    assert TRACKS * 24 * 40 / 1e6 < bottom["in_mb"] < TRACKS * 24 * 100 / 1e6
    assert measured["model"].keys() == {"features", "fit", "projection"}
    assert measured["nothing_pending"]["rows"] == 0
    assert measured["new_day"].keys() == {"by day", "by day, plain key"}
    assert measured["all_rows"].keys() == {"by day", "by track"}
    for taken in (
        *measured["model"].values(),
        *measured["new_day"].values(),
        *measured["all_rows"].values(),
        measured["baseline"]["seconds_per_track"],
        measured["help"],
        measured["import_click"],
    ):
        assert taken > 0
    growth = result["growth"]
    for lie in ("by_day", "by_track"):
        assert [size["tracks"] for size in growth[lie]] == [TRACKS, 2 * TRACKS]
        assert [size["rows"] for size in growth[lie]] == [TRACKS * 24, 2 * TRACKS * 24]
    assert [size["days"] for size in growth["history"]] == [400, 1_000]
    assert all(size["daily_rows"] == TRACKS * size["days"] for size in growth["history"])


def test_what_passes_to_a_distant_server_is_counted(out: Path) -> None:
    result = json.loads((out / "quick.json").read_text())
    [measured] = result["rounds"]
    assert measured["away"].keys() == {"0 ms", "2 ms", "0 ms, 100 Mbit/s"}
    near = measured["away"]["0 ms"]
    for way in measured["away"].values():
        assert way["connections"] == near["connections"] > 0
        assert way["turns"] > way["connections"]
        assert way["bytes_out"] > 4 * result["catalogue"]["values"]
        assert way["bytes_in"] > TRACKS * 24 * 40


def test_each_target_is_compared(out: Path) -> None:
    result = json.loads((out / "quick.json").read_text())
    by_name = {target["what"]: target for target in result["targets"]}
    ratio = by_name["by day / by track"]
    assert ratio["measured"] > 0
    assert ratio["met"] == (ratio["measured"] <= 1.3)
    assert by_name["50 ms away: connections"]["met"] is None
    page = (out / "quick.md").read_text()
    assert (
        f"| by day / by track | at most 1.3 | {ratio['measured']:.2f} | {'yes' if ratio['met'] else 'no'} |"
        in page
    )
    assert "| 50 ms away: connections | at most 8 |  | not measured |" in page


def test_the_page_has_each_table_and_the_picture(out: Path) -> None:
    page = (out / "quick.md").read_text()
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == [
        "Targets",
        "Against what it replaces",
        "By layout, against the floor",
        "From afar",
        "One more day",
        "Where the time goes",
        "Small things",
        "Growth",
    ]
    assert "published, original" in page
    assert "(10 tracks, scaled up)" in page
    assert "![Seconds and memory by size](quick.png)" in page
    assert (out / "quick.png").read_bytes().startswith(b"\x89PNG")


def test_the_results_that_are_kept_are_of_the_whole_catalogue() -> None:
    """The figures of the documents are taken from them."""
    kept = ROOT / "benchmarks" / "results"
    result = json.loads((kept / "full.json").read_text())
    assert (result["catalogue"]["tracks"], result["catalogue"]["daily_rows"]) == (8_459, 6_699_409)
    assert len(result["rounds"]) >= 5
    sizes = [size["tracks"] for size in result["growth"]["by_track"]]
    assert sizes == [8_459 * factor for factor in (1, 2, 4, 8, 16)]
    assert result["answers"]["forecast"] + result["answers"]["skipped"] == 8_459
    assert markdown(result, picture="full.png") == (kept / "full.md").read_text()


def test_the_readme_shows_what_the_results_say() -> None:
    """`UPDATE_README=1` puts into it what they say now."""
    shown = speed(json.loads((ROOT / "benchmarks" / "results" / "full.json").read_text()))
    if os.environ.get("UPDATE_README"):
        section = re.compile(r"(?<=^## Speed\n\n).*?(?=\n\n## )", re.DOTALL | re.MULTILINE)
        README.write_text(section.sub(lambda _: shown, README.read_text()))
    assert f"## Speed\n\n{shown}\n\n" in README.read_text()


def test_the_manual_shows_what_the_results_say_of_larger_catalogues() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "buckets.json").read_text())
    factors = (1, 4, 16, 64, 256)
    assert [size["tracks"] for size in result["sizes"]] == [8_459 * factor for factor in factors]
    at_64, at_256 = (
        [median(measured[engine]["seconds"] for measured in size["rounds"]) for engine in ("local", "dask")]
        for size in result["sizes"][-2:]
    )
    page = page_named("docs/sizing.md")
    assert needs(result) in page
    assert f"541,376 tracks take {at_64[0]:.0f} s in one process and {at_64[1]:.0f} s over Dask" in page
    assert f"2,165,504 tracks take {at_256[0]:.0f} s and {at_256[1]:.0f} s" in page
    memory = [max(measured["local"]["peak_mb"] for measured in size["rounds"]) for size in result["sizes"]]
    assert f"one process takes {min(memory):.0f} to {max(memory):.0f} MB" in page
    first, *_, last = (max(measured["dask"]["peak_mb"] for measured in s["rounds"]) for s in result["sizes"])
    assert f"{first:.0f} MB for 8,459 tracks, and {last:.0f} MB for 2,165,504 tracks" in page


@pytest.fixture(scope="module")
def in_parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("buckets")
    command = [sys.executable, "-c", ON_ONE_CORE, "--quick", "--out", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return directory


def test_the_sizes_in_parquet_are_measured(in_parquet: Path) -> None:
    result = json.loads((in_parquet / "buckets-quick.json").read_text())
    sizes = [(size["tracks"], size["buckets"]) for size in result["sizes"]]
    assert sizes == [(300, 4), (600, 8)]
    [larger], [many] = result["larger_buckets"], result["many_buckets"]
    assert (larger["tracks"], larger["buckets"], many["tracks"], many["buckets"]) == (300, 2, 300, 100)
    for size in (*result["sizes"], larger):
        assert size["forecast_rows"] == size["tracks"] * 24
        assert size["daily_rows"] * 2 < size["in_bytes"] < size["daily_rows"] * 20
        for measured in (
            *(engines[name] for engines in size["rounds"] for name in ("shard", "local", "dask")),
            *(laid_out["prepare"] for laid_out in (size, many)),
        ):
            assert measured["seconds"] > 0
            assert 50 < measured["peak_mb"] < 2_000
    page = (in_parquet / "buckets-quick.md").read_text()
    for heading in ("Growth", "Larger buckets", "Many buckets", "What larger catalogues need"):
        assert f"## {heading}\n" in page
    assert page.count("| 600 | 0.5 | 8 |") == 2


def test_what_larger_catalogues_need_follows_from_what_was_measured() -> None:
    minute = {"seconds": 60.0, "peak_mb": 1070.0}
    measured = {
        "tracks": 1_000,
        "buckets": 10,
        "daily_rows": 720_000,
        "in_bytes": 3_600_000,
        "forecast_rows": 24_000,
        "out_bytes": 48_000,
        "rounds": [{"shard": minute, "local": {"seconds": 30.0, "peak_mb": 512.0}, "dask": minute}],
        "prepare": {"seconds": 6.0, "peak_mb": 100.0},
    }
    many = {"tracks": 1_000, "buckets": 50, "prepare": {"seconds": 12.0, "peak_mb": 100.0}}
    of_another = {"tracks": 500, "buckets": 50, "prepare": {"seconds": 99.0, "peak_mb": 100.0}}
    small = measured | {"tracks": 100, "daily_rows": 72_000, "buckets": 1}
    result = {
        "environment": {"cores": 2},
        "sizes": [small, measured],
        "many_buckets": [of_another, many],
    }
    table = needs(result)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0] == [
        "",
        "arithmetic",
        "1,000 tracks, measured",
        "10 million tracks *",
        "100 million tracks *",
    ]
    prepare, run = (
        "`prepare` on 2 cores, at the speed for 50 buckets",
        "`run`, core time of the slower engine",
    )
    assert cells[2:] == [
        ["daily rows, billion", "tracks x 720", "0.00072", "7.2", "72"],
        ["store for them, GB", "daily rows x 5.00 bytes", "0.0036", "36", "360"],
        ["store for the forecasts, GB", "tracks x 24.0 months x 2.00 bytes", "4.8e-05", "0.48", "4.8"],
        ["buckets", "tracks / 100", "10", "100,000", "1,000,000"],
        [prepare, "daily rows / 0.06 million a second", "0.2 min", "33.3 h", "333.3 h"],
        [run, "daily rows / 0.01 million a second", "2.0 min", "333.3 h", "3,333.3 h"],
        ["on 2 cores", "core time / 2", "1.0 min", "166.7 h", "1,666.7 h"],
        ["memory of 2 workers, GB", "2 x 1.07 GB", "2.14", "2.14", "2.14"],
        ["on 16 cores **", "core time / 16", "", "20.8 h", "208.3 h"],
        ["memory of 16 workers, GB **", "16 x 1.07 GB", "", "17.1", "17.1"],
        ["on 64 cores **", "core time / 64", "", "5.2 h", "52.1 h"],
        ["memory of 64 workers, GB **", "64 x 1.07 GB", "", "68.5", "68.5"],
    ]


def test_nights_are_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.nights", "--nights", "2", "--tracks", "20", "--every", "1"]
    subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    nights = json.loads((tmp_path / "nights.json").read_text())["nights"]
    assert [(night["night"], night["forecast"]) for night in nights] == [(1, 20), (2, 20)]
    for night in nights:
        assert night["seconds"] > 0
        assert night["load_seconds"] > 0
    sizes = [night["history_mb"] for night in nights]
    assert 0 < sizes[0] <= sizes[1]
    rows = [line for line in (tmp_path / "nights.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 2
