"""`python -m benchmarks.nights`: a year of nights, each with a new day of streams and a run --refresh."""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.tables import table
from forecaster.files.atomic import write_text
from forecaster.postgres.connection import commit, connect, execute, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.embedded import running_server
from forecaster.setup.demo import SCHEMA, fill
from forecaster.tables import FORECAST_TABLE, HISTORY, RUNS, STREAMS_TABLE

RESULTS = Path(__file__).parent / "results"
_MEANING = (
    "Every night, each track gets one new day of streams, in one statement, and `run --refresh` runs as a "
    "complete process. Seconds are medians over the nights of a row; CPU is that of the process alone. Sizes "
    "include indexes, and are those after the last night of the row, with autovacuum on."
)
_STREAMS = f'"{SCHEMA}"."{STREAMS_TABLE}"'
# The value of a week before, so that the catalogue neither grows nor dies.
_NEXT_DAY = f"""
    INSERT INTO {_STREAMS} (cm_track_id, cm_artist_id, date, daily_streams, days_from_release)
    SELECT s.cm_track_id, s.cm_artist_id, '{{day}}', s.daily_streams, s.days_from_release + 7
    FROM {_STREAMS} s WHERE s.date = '{{day}}'::date - 7 ORDER BY random()"""
_SIZES = {
    "streams_mb": STREAMS_TABLE,
    "forecasts_mb": FORECAST_TABLE,
    "history_mb": HISTORY.name,
    "runs_mb": RUNS.name,
}


@click.command()
@click.option("--nights", type=click.IntRange(1), default=365, show_default=True, help="Number of nights.")
@click.option("--tracks", type=click.IntRange(1), default=8_459, show_default=True, help="Number of tracks.")
@click.option("--every", type=click.IntRange(1), default=30, show_default=True, help="Nights in a row.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Directory for JSON and Markdown.  [default: benchmarks/results]",
)
def main(nights: int, tracks: int, every: int, out: Path) -> None:
    """Simulate nights on the embedded server, and measure each.

    \b
    Example:
      python -m benchmarks.nights --nights 3 --tracks 300
    """
    with tempfile.TemporaryDirectory(prefix="fn") as directory, _server(Path(directory)) as dsn:
        fill(dsn, tracks)
        measured = []
        for night in _nights(dsn, nights):
            measured.append(night)
            if night["night"] % every == 0 or night["night"] == nights:
                click.echo(json.dumps(night))
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "forecaster": version("forecaster"),
        "tracks": tracks,
        "nights": measured,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=1), out / "nights.json")
    write_text(_markdown(result, every), out / "nights.md")


@contextmanager
def _server(directory: Path) -> Iterator[Dsn]:
    directory.chmod(0o755)  # started by root, the server runs as another user
    with running_server(directory / "server") as dsn:
        yield dsn


def _nights(dsn: Dsn, nights: int) -> Iterator[dict[str, Any]]:
    with connect(dsn) as connection:
        newest: date = query(connection, f"SELECT max(date) FROM {_STREAMS}").item()
    _run(dsn)
    for number in range(1, nights + 1):
        with connect(dsn) as connection:
            start = time.perf_counter()
            execute(connection, _NEXT_DAY.format(day=newest + timedelta(days=number)))
            commit(connection)
            loaded = time.perf_counter() - start
        before = _cpu_of_children()
        seconds, report = _run(dsn)
        cpu = _cpu_of_children() - before
        with connect(dsn) as connection:
            sizes = {
                name: query(connection, f"SELECT pg_total_relation_size('{SCHEMA}.{of}')").item() / 1e6
                for name, of in _SIZES.items()
            }
        yield {
            "night": number,
            "load_seconds": loaded,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "forecast": report["counts"]["forecast"],
            **sizes,
        }


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(dsn: Dsn) -> tuple[float, dict[str, Any]]:
    command = [sys.executable, "-m", "forecaster", "run", "--refresh", "--schema", SCHEMA, "--json", "-q"]
    start = time.perf_counter()
    done = subprocess.run(
        command, env={**os.environ, "DATABASE_URL": dsn.uri}, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, json.loads(done.stdout)


def _markdown(result: dict[str, Any], every: int) -> str:
    nights = result["nights"]
    rows = []
    for start in range(0, len(nights), every):
        some = nights[start : start + every]
        last = some[-1]
        rows.append(
            [
                f"{some[0]['night']}-{last['night']}",
                f"{median(night['load_seconds'] for night in some):.2f}",
                f"{median(night['seconds'] for night in some):.2f}",
                f"{max(night['seconds'] for night in some):.2f}",
                f"{median(night['cpu_seconds'] for night in some):.2f}",
                f"{last['forecast']:,}",
                *(f"{last[name]:,.1f}" for name in _SIZES),
            ]
        )
    titles = ["nights", "load, s", "run, s", "longest run, s", "its CPU, s", "forecast", "streams, MB"]
    return "\n".join(
        [
            f"# {len(nights)} nights, {result['tracks']:,} tracks",
            "",
            _MEANING,
            "",
            f"{result['measured_at']}, {result['cores']} cores, forecaster {result['forecaster']}.",
            "",
            table([*titles, "forecasts, MB", "history, MB", "runs, MB"], rows),
            "",
        ]
    )


if __name__ == "__main__":
    main()
