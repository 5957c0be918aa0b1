"""`python -m benchmarks.buckets`: catalogues in Parquet of growing size, in one process and over workers."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import click
import polars as pl
import psutil

from benchmarks.results import table
from forecaster.files import write_text
from forecaster.sample import sample_chunks, sample_mldr

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("forecaster", "polars", "distributed")
TRACKS, QUICK_TRACKS = 8_459, 300
GROWTH, QUICK_GROWTH = (1, 4, 16, 64), (1, 2)
BUCKETS = 4  # per 8,459 tracks, so that a bucket has the same size at every size
ENGINES = ("local", "dask")
_LOOKS = 0.02  # seconds between two looks at the memory


@click.command()
@click.option("--quick", is_flag=True, help="Smaller catalogues and one round; the same code.")
@click.option("--rounds", type=click.IntRange(1), help="Interleaved rounds.  [default: 3, quick 1]")
@click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the catalogues, which are kept.  [default: a temporary one]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Directory for JSON and Markdown.  [default: benchmarks/results]",
)
def main(quick: bool, rounds: int | None, work: Path | None, out: Path) -> None:  # noqa: FBT001 - by click
    """Measure `run` on Parquet in one process and over Dask, and `prepare`, at growing sizes.

    \b
    Example:
      python -m benchmarks.buckets --quick
    """
    tracks, growth = (QUICK_TRACKS, QUICK_GROWTH) if quick else (TRACKS, GROWTH)
    rounds = rounds or (1 if quick else 3)
    with tempfile.TemporaryDirectory() as temporary:
        directory = work or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        sizes = [_measure(directory, tracks * factor, BUCKETS * factor, rounds) for factor in growth]
    result = {
        "environment": {
            "date": datetime.now(UTC).date().isoformat(),
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "rounds": rounds,
        "sizes": sizes,
    }
    out.mkdir(parents=True, exist_ok=True)
    stem = "buckets-quick" if quick else "buckets"
    write_text(json.dumps(result, indent=1), out / f"{stem}.json")
    write_text(markdown(result), out / f"{stem}.md")
    click.echo(markdown(result))


def _measure(directory: Path, tracks: int, buckets: int, rounds: int) -> dict[str, Any]:
    catalogue, sink = directory / f"catalogue-{tracks}", directory / "sink"
    prepared = _prepare(directory, catalogue, tracks, buckets)
    files = pl.scan_parquet(catalogue / "streams" / "**" / "*.parquet", hive_partitioning=False)
    runs: list[dict[str, Any]] = []
    for number in range(rounds):
        measured = {}
        for engine in ENGINES:
            shutil.rmtree(sink, ignore_errors=True)
            measured[engine] = _run("run", "--source", catalogue, "--sink", sink, "--engine", engine)
            out_bytes = _size(sink / "forecasts")
        runs.append(measured)
        seconds = ", ".join(f"{engine} {run['seconds']:.2f} s" for engine, run in measured.items())
        click.echo(f"{tracks:,} tracks, round {number + 1} of {rounds}: {seconds}", err=True)
    return {
        "tracks": tracks,
        "buckets": buckets,
        "daily_rows": files.select(pl.len()).collect().item(),
        "in_bytes": _size(catalogue / "streams"),
        "forecast_rows": runs[0]["local"]["report"]["counts"]["rows"],
        "out_bytes": out_bytes,
        "prepare": prepared,
        "runs": [
            {engine: {name: run[name] for name in ("seconds", "peak_mb")} for engine, run in measured.items()}
            for measured in runs
        ],
    }


def _prepare(directory: Path, catalogue: Path, tracks: int, buckets: int) -> dict[str, float] | None:
    """Lay a sample catalogue out; None if it is there already."""
    if catalogue.exists():
        return None
    raw = directory / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    (raw / "streams").mkdir(parents=True)
    (raw / "mldr").mkdir()
    first = 1
    for number, chunk in enumerate(sample_chunks(tracks, chunk=5_000_000)):
        rows = chunk.with_row_index("id", offset=first).with_columns(
            pl.col("id").cast(pl.Int64), created_at=pl.lit(datetime(2025, 1, 1, tzinfo=UTC))
        )
        rows.write_parquet(raw / "streams" / f"{number:05}.parquet")
        first += len(chunk)
    sample_mldr(tracks).write_parquet(raw / "mldr" / "0.parquet")
    done = _run("prepare", "--source", raw, "--buckets", buckets, "--out", catalogue)
    shutil.rmtree(raw)
    click.echo(f"{tracks:,} tracks laid out: {done['seconds']:.2f} s", err=True)
    return {"seconds": done["seconds"], "peak_mb": done["peak_mb"]}


def _run(command: str, *arguments: object) -> dict[str, Any]:
    """Wall seconds of a command as a user starts it, and the most memory that one of its processes had."""
    report = ("--json",) if command == "run" else ()
    line = [sys.executable, "-m", "forecaster", command, *map(str, arguments), *report, "-q"]
    start = time.perf_counter()
    peak = 0.0
    with tempfile.TemporaryFile() as output, subprocess.Popen(line, stdout=output) as process:
        while process.poll() is None:
            peak = max(peak, *_peaks(process.pid), 0.0)
            time.sleep(_LOOKS)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
        output.seek(0)
        text = output.read()
    return {"seconds": seconds, "peak_mb": peak, "report": json.loads(text) if report else None}


def _peaks(pid: int) -> Sequence[float]:
    """The most memory (MB) that each process of a tree has had."""
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
    found = []
    for process in tree:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        found += [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    return found


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*.parquet"))


def markdown(result: dict[str, Any]) -> str:
    """All that was measured, as tables."""
    environment = result["environment"]
    cores = environment["cores"]
    versions = ", ".join(f"{package} {environment[package]}" for package in ("python", *PACKAGES))
    lines = []
    for size in result["sizes"]:
        seconds = {engine: median(run[engine]["seconds"] for run in size["runs"]) for engine in ENGINES}
        peaks = {engine: max(run[engine]["peak_mb"] for run in size["runs"]) for engine in ENGINES}
        ratio = median(run["dask"]["seconds"] / run["local"]["seconds"] for run in size["runs"])
        prepared = size["prepare"]
        lines.append(
            (
                f"{size['tracks']:,}",
                f"{size['daily_rows'] / 1e6:,.1f}",
                size["buckets"],
                *(f"{seconds[engine]:.2f}" for engine in ENGINES),
                f"{ratio:.2f}",
                *(f"{size['daily_rows'] / seconds[engine] / cores / 1e6:.2f}" for engine in ENGINES),
                *(f"{peaks[engine]:.0f}" for engine in ENGINES),
                f"{prepared['seconds']:.1f}" if prepared else "",
                f"{prepared['peak_mb']:.0f}" if prepared else "",
            )
        )
    last = result["sizes"][-1]
    header = (
        "tracks", "million daily rows", "buckets", "seconds, one process", "seconds, Dask", "ratio",
        "million rows per second and core, one process", "the same, Dask", "MB, one process",
        "MB, largest worker", "prepare: seconds", "prepare: MB",
    )  # fmt: skip
    return (
        f"# Parquet, {environment['date']}\n\n"
        f"{cores} cores ({environment['machine']}), {result['rounds']} interleaved rounds, medians; the "
        f"ratio is the median of each round's; memory is the largest of all rounds. {versions}. Whole "
        "processes, from their start to their end.\n\n"
        + table(header, lines)
        + f"\n\nA daily row takes {last['in_bytes'] / last['daily_rows']:.2f} bytes in Parquet, a forecast "
        f"row {last['out_bytes'] / last['forecast_rows']:.2f}.\n"
    )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.buckets")
