"""`python -m benchmarks.buckets`: Parquet catalogues of growing size, in one process and on Dask."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import click
import polars as pl
import psutil

from benchmarks.machine import machine
from benchmarks.sizing import needs
from benchmarks.tables import table
from forecaster.files.atomic import write_text
from forecaster.setup.sample import sample_batches, sample_mldr

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("forecaster", "polars", "distributed")
_MEANING = (
    "Complete processes, from start to end, in interleaved rounds. Seconds are medians. Memory is the peak "
    "of the largest process in any round. The ratio is the median of the ratios of the rounds."
)
_POLL = 0.02  # seconds between two measurements of memory


@dataclass(frozen=True)
class Size:
    """The size of a catalogue, and the measurements to take of it."""

    tracks: int
    buckets: int
    rounds: int
    fewer: tuple[int, ...] = ()
    """Measure it also in these smaller numbers of buckets."""
    many: int = 0
    """Also lay it out in this number of buckets, without forecasts; 0: do not."""


# Buckets have the same size in each, so that only their number grows.
WHOLE = (
    Size(8_459, 4, 3),
    Size(8_459 * 4, 16, 3),
    Size(8_459 * 16, 64, 3, fewer=(16, 4)),
    Size(8_459 * 64, 256, 3),
    Size(8_459 * 256, 1_024, 1, many=5_000),
)
QUICK = (Size(300, 4, 1, fewer=(2,), many=100), Size(600, 8, 1))


@click.command()
@click.option("--quick", is_flag=True, help="Small catalogues and one round; the same code.")
@click.option(
    "--work",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory for the catalogues, which are deleted afterwards.  [default: that of temporary files]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Directory for JSON and Markdown.  [default: benchmarks/results]",
)
def main(quick: bool, work: Path | None, out: Path) -> None:  # noqa: FBT001 - by click
    """Measure `prepare`, `shard`, and `run` in one process and over Dask, at growing sizes.

    \b
    Example:
      python -m benchmarks.buckets --quick
    """
    result: dict[str, Any] = {
        "environment": {
            **machine(),
            **{package: version(package) for package in PACKAGES},
        },
        "sizes": [],
        "larger_buckets": [],
        "many_buckets": [],
    }
    for size in QUICK if quick else WHOLE:
        with tempfile.TemporaryDirectory(dir=work) as directory:
            _measure(Path(directory), size, result)
        _write(result, out, "buckets-quick" if quick else "buckets")  # an interruption loses one size
    click.echo(markdown(result))


def _write(result: dict[str, Any], out: Path, stem: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=1), out / f"{stem}.json")
    write_text(markdown(result), out / f"{stem}.md")


def _measure(directory: Path, size: Size, result: dict[str, Any]) -> None:
    raw, catalogue = directory / "raw", directory / "catalogue"
    _write_sample(raw, size.tracks)
    for buckets in (size.buckets, *size.fewer):
        prepared = _prepare(raw, catalogue, buckets)
        found = _rounds(catalogue, directory / "sink", size, buckets) | {"prepare": prepared}
        result["sizes" if buckets == size.buckets else "larger_buckets"].append(found)
        shutil.rmtree(catalogue)
    if size.many:
        prepared = _prepare(raw, catalogue, size.many)
        result["many_buckets"].append({"tracks": size.tracks, "buckets": size.many, "prepare": prepared})


def _write_sample(raw: Path, tracks: int) -> None:
    """Write the sample catalogue as files without a layout."""
    (raw / "streams").mkdir(parents=True)
    (raw / "mldr").mkdir()
    first = 1
    for number, batch in enumerate(sample_batches(tracks, rows=5_000_000)):
        rows = batch.with_row_index("id", offset=first).with_columns(
            pl.col("id").cast(pl.Int64), created_at=pl.lit(datetime(2025, 1, 1, tzinfo=UTC))
        )
        rows.write_parquet(raw / "streams" / f"{number:05}.parquet")
        first += len(batch)
    sample_mldr(tracks).write_parquet(raw / "mldr" / "0.parquet")


def _prepare(raw: Path, catalogue: Path, buckets: int) -> dict[str, float]:
    measured, _ = _run("prepare", "--source", raw, "--buckets", buckets, "--out", catalogue)
    click.echo(f"laid out in {buckets:,} buckets: {measured['seconds']:.2f} s", err=True)
    return measured


def _rounds(catalogue: Path, sink: Path, size: Size, buckets: int) -> dict[str, Any]:
    """Run in each round one bucket as a `shard`, then all buckets in one process, then all on Dask."""
    files = ("--source", catalogue, "--sink", sink)
    commands: dict[str, tuple[object, ...]] = {
        "shard": ("shard", f"0/{buckets}", *files),
        "local": ("run", *files),
        "dask": ("run", *files, "--engine", "dask"),
    }
    rounds = []
    for number in range(size.rounds):
        measured = {}
        for name, command in commands.items():
            measured[name], report = _run(*command, "--json")
            out_bytes = _bytes(sink / "forecasts")
            shutil.rmtree(sink)
        rounds.append(measured)
        seconds = ", ".join(f"{name} {run['seconds']:.2f} s" for name, run in measured.items())
        click.echo(f"{size.tracks:,} tracks, round {number + 1} of {size.rounds}: {seconds}", err=True)
    daily_rows = pl.scan_parquet(catalogue / "streams" / "**" / "*.parquet", hive_partitioning=False)
    return {
        "tracks": size.tracks,
        "buckets": buckets,
        "daily_rows": daily_rows.select(pl.len()).collect().item(),
        "in_bytes": _bytes(catalogue / "streams"),
        "forecast_rows": json.loads(report)["counts"]["rows"],
        "out_bytes": out_bytes,
        "rounds": rounds,
    }


def _run(*command: object) -> tuple[dict[str, float], bytes]:
    """Run a command as a user does; return its seconds, peak memory of its largest process, and output."""
    line = [sys.executable, "-m", "forecaster", *map(str, command), "-q"]
    os.sync()  # so that it does not wait for earlier writes
    start = time.perf_counter()
    peak = 0.0
    with tempfile.TemporaryFile() as output, subprocess.Popen(line, stdout=output) as process:
        while process.poll() is None:
            peak = max(peak, *_peaks(process.pid), 0.0)
            time.sleep(_POLL)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
        output.seek(0)
        return {"seconds": seconds, "peak_mb": peak}, output.read()


def _peaks(pid: int) -> Iterator[float]:
    """Yield the peak memory (MB of a million bytes) of each process of a tree."""
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return
    for process in tree:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        yield from (int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*.parquet"))


def markdown(result: dict[str, Any]) -> str:
    """Format all measurements as Markdown tables."""
    environment = result["environment"]
    versions = ", ".join(f"{package} {environment[package]}" for package in ("python", *PACKAGES))
    many = [
        (f"{laid_out['tracks']:,}", f"{laid_out['buckets']:,}", *_seconds_and_mb(laid_out["prepare"]))
        for laid_out in result["many_buckets"]
    ]
    return (
        "\n\n".join(
            (
                f"# Parquet, {environment['date']}",
                f"{environment['cores']} cores ({environment['machine']}), {versions}.",
                _MEANING,
                "## Growth",
                _runs(result["sizes"], environment["cores"]),
                "## Larger buckets",
                "The same catalogue with more tracks in each bucket.",
                _runs(result["larger_buckets"], environment["cores"]),
                "## Many buckets",
                table(("tracks", "buckets", "`prepare`, s", "`prepare`, MB"), many),
                "## What larger catalogues need",
                needs(result),
            )
        )
        + "\n"
    )


def _runs(sizes: list[dict[str, Any]], cores: int) -> str:
    speed, memory = [], []
    for size in sizes:
        rounds, rows = size["rounds"], size["daily_rows"]
        one, over, shard = (_summary(rounds, name) for name in ("local", "dask", "shard"))
        ratio = median(measured["dask"]["seconds"] / measured["local"]["seconds"] for measured in rounds)
        seconds, per_core, peaks = (
            [f"{engine['seconds']:.2f}" for engine in (one, over)],
            [f"{rows / engine['seconds'] / cores / 1e6:.2f}" for engine in (one, over)],
            [f"{engine['peak_mb']:.0f}" for engine in (one, over)],
        )
        catalogue = (f"{size['tracks']:,}", f"{rows / 1e6:,.1f}", f"{size['buckets']:,}")
        speed.append((*catalogue, len(rounds), *seconds, f"{ratio:.2f}", *per_core))
        memory.append((*catalogue, *peaks, *_seconds_and_mb(shard), *_seconds_and_mb(size["prepare"])))
    which = ("tracks", "million daily rows", "buckets")
    engines = ("rounds", "one process, s", "Dask, s", "ratio")
    rates = ("one process, million rows per second and core", "Dask, the same")
    processes = ("one process, MB", "largest worker, MB", "one `shard`, s", "one `shard`, MB")
    laid_out = ("`prepare`, s", "`prepare`, MB")
    return "\n\n".join(
        (table((*which, *engines, *rates), speed), table((*which, *processes, *laid_out), memory))
    )


def _summary(rounds: list[dict[str, Any]], name: str) -> dict[str, float]:
    return {
        "seconds": median(measured[name]["seconds"] for measured in rounds),
        "peak_mb": max(measured[name]["peak_mb"] for measured in rounds),
    }


def _seconds_and_mb(measured: dict[str, float]) -> tuple[str, str]:
    return f"{measured['seconds']:.2f}", f"{measured['peak_mb']:.0f}"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.buckets")
