"""`python -m benchmarks`: build the catalogue, check the answers, measure, and write the results."""

import contextlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from benchmarks import baseline, floor, model, program, results
from benchmarks.catalogue import TRACKS, Catalogue, growing, prepare, rows, with_other_tables
from forecaster.postgres.dsn import Dsn, resolve
from forecaster.postgres.embedded import default_data_dir, running_server
from forecaster.tables import FORECAST_TABLE

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "forecaster",
    "polars",
    "connectorx",
    "adbc-driver-postgresql",
    "numpy",
    "pyarrow",
    "scipy",
    "psycopg",
)

QUICK_TRACKS = 100
GROWTH, QUICK_GROWTH = (1, 2, 4, 8, 16), (1, 2)
HISTORIES, QUICK_HISTORIES = (400, 1_000, 3_000), (400, 1_000)
RUNS, QUICK_RUNS = 3, 1  # of each size


@click.command()
@click.option("--database-url", metavar="URL", help="A real server.  [default: the embedded one]")
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Directory of the embedded server."
)
@click.option("--quick", is_flag=True, help="A smaller catalogue and fewer rounds; the same code.")
@click.option("--rounds", type=click.IntRange(1), help="Interleaved rounds.  [default: 5, quick 2]")
@click.option("--growth/--no-growth", default=True, help="Also more tracks and longer histories (an hour).")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Directory for JSON, Markdown and PNG.  [default: benchmarks/results]",
)
def main(
    database_url: str | None,
    data_dir: Path | None,
    quick: bool,  # noqa: FBT001 - named by click
    rounds: int | None,
    growth: bool,  # noqa: FBT001 - named by click
    out: Path,
) -> None:
    """Measure a run of the program against the floor, a sequential baseline and the published timings.

    \b
    Example:
      python -m benchmarks --quick --no-growth
    """
    tracks = QUICK_TRACKS if quick else TRACKS
    rounds = rounds or (2 if quick else 5)
    with _database(database_url, data_dir) as dsn:
        catalogue = prepare(dsn, f"bench_{tracks}", tracks, say=_say)
        result: dict[str, Any] = {"environment": _environment(dsn), "catalogue": _sizes(catalogue)}
        result["answers"] = _check_answers(catalogue, sample=20 if quick else 60)
        result["rounds"] = _rounds(catalogue, rounds, sample=10 if quick else 40)
        result["other_tables"] = _other_tables(catalogue, rounds)
        if growth:
            runs = QUICK_RUNS if quick else RUNS
            result["tracks"] = _growth_in_tracks(dsn, tracks, QUICK_GROWTH if quick else GROWTH, runs)
            result["history"] = _growth_in_history(dsn, tracks, QUICK_HISTORIES if quick else HISTORIES, runs)
    stem = "quick" if quick else "full"
    out.mkdir(parents=True, exist_ok=True)
    click.echo(results.write(result, out, stem))


@contextlib.contextmanager
def _database(url: str | None, data_dir: Path | None) -> Iterator[Dsn]:
    given = resolve(url)
    if given:
        _say(f"database: {given}")
        yield given
    else:
        directory = data_dir or default_data_dir() / "benchmarks"
        _say(f"database: embedded server in {directory}")
        with running_server(directory) as dsn:
            yield dsn


def _check_answers(catalogue: Catalogue, *, sample: int) -> dict[str, Any]:
    """Check the results of a first run against the baseline: timings of wrong results mean nothing."""
    _say("checking the answers")
    catalogue.empty_forecasts()
    first = program.run(catalogue)
    counts = first.report["counts"]
    step = max(1, catalogue.tracks // sample)
    tracks = list(range(1, catalogue.tracks + 1, step))
    compared = 0
    for track, expected in baseline.measure(catalogue, tracks).forecasts.items():
        stored = rows(
            catalogue.dsn,
            f"SELECT month::bigint, forecasted_value FROM {catalogue.table(FORECAST_TABLE)} "
            f"WHERE cm_track_id = {track} ORDER BY month",
        ).rows()
        if [m for m, _ in stored] != [m for m, _ in expected]:
            raise SystemExit(
                f"track {track}: {len(stored)} months are stored, the baseline has {len(expected)}"
            )
        # curve_fit sometimes stops early, and if it does not converge there is nothing to compare.
        close = all(
            abs(v - e) <= 1 + 1e-2 * e for (_, v), (_, e) in zip(stored, expected, strict=True) if e >= 0
        )
        compared += close
        if not close:
            _say(f"track {track}: differs from the baseline by more than 1 %")
    if compared < 0.9 * len(tracks):
        raise SystemExit(f"only {compared} of {len(tracks)} tracks agree with the baseline")
    return {
        "forecast": counts["forecast"],
        "skipped": counts["skipped"],
        "compared": len(tracks),
        "agree": compared,
    }


def _rounds(catalogue: Catalogue, number: int, *, sample: int) -> list[dict[str, Any]]:
    result = floor.stored_rows(catalogue)
    data = model.read(catalogue)
    tracks = list(range(1, catalogue.tracks + 1, max(1, catalogue.tracks // sample)))[:sample]
    measured = []
    for number_of_round in range(1, number + 1):
        catalogue.empty_forecasts()
        bottom = floor.measure(catalogue, result)
        catalogue.empty_forecasts()
        run = program.run(catalogue)
        nothing_pending = program.run(catalogue)
        one_by_one = baseline.measure(catalogue, tracks)
        measured.append(
            {
                "program": _measured(run),
                "model": model.measure(data),
                "floor": {"seconds": bottom.seconds, "out": bottom.out_seconds, "in": bottom.in_seconds,
                          "out_mb": bottom.out_bytes / 1e6, "in_mb": bottom.in_bytes / 1e6},
                "nothing_pending": _measured(nothing_pending),
                "baseline": {"tracks": len(tracks), "seconds_per_track": one_by_one.seconds / len(tracks)},
                "help": program.process([sys.executable, "-m", "forecaster", "--help"])[0],
                "import_click": program.process([sys.executable, "-c", "import click"])[0],
            }
        )  # fmt: skip
        _say(
            f"round {number_of_round} of {number}: program {run.seconds:.2f} s, floor {bottom.seconds:.2f} s"
        )
    return measured


def _other_tables(catalogue: Catalogue, number: int) -> dict[str, list[dict[str, Any]]]:
    variants = {
        "random uuid ids": {"row_id": "uuid DEFAULT gen_random_uuid()", "key": True},
        "no index on (cm_track_id, date)": {
            "row_id": "bigint GENERATED BY DEFAULT AS IDENTITY",
            "key": False,
        },
    }
    measured: dict[str, list[dict[str, Any]]] = {}
    for index, (name, options) in enumerate(variants.items()):
        other = with_other_tables(catalogue, f"{catalogue.schema}_{index}", say=_say, **options)  # type: ignore[arg-type]
        for _ in range(number):
            other.empty_forecasts()
            measured.setdefault(name, []).append(_measured(program.run(other)))
        _say(f"{name}: {measured[name][-1]['seconds']:.2f} s")
    return measured


def _growth_in_tracks(dsn: Dsn, tracks: int, factors: Sequence[int], runs: int) -> list[dict[str, Any]]:
    measured = []
    sizes = [tracks * factor for factor in factors]
    for catalogue in growing(dsn, f"bench_{tracks}_growing", sizes, say=_say):
        measured.append({**_sizes(catalogue), **_fastest(catalogue, runs)})
        _say(
            f"{catalogue.tracks:,} tracks: {measured[-1]['seconds']:.2f} s, {measured[-1]['peak_mb']:.0f} MB"
        )
    return measured


def _growth_in_history(dsn: Dsn, tracks: int, histories: Sequence[int], runs: int) -> list[dict[str, Any]]:
    measured = []
    for days in histories:
        catalogue = prepare(dsn, f"bench_{tracks}_days_{days}", tracks, days=days, say=_say)
        measured.append({"days": days, **_sizes(catalogue), **_fastest(catalogue, runs)})
        _say(f"{days:,} days per track: {measured[-1]['seconds']:.2f} s")
    return measured


def _fastest(catalogue: Catalogue, number: int) -> dict[str, Any]:
    """Measure the fastest of `number` runs, and of as many with nothing pending.

    The fastest run shows best how the time of the computation itself grows.
    """
    runs, idle = [], []
    for _ in range(number):
        catalogue.empty_forecasts()
        runs.append(program.run(catalogue))
        idle.append(program.run(catalogue))
    best = min(runs, key=lambda run: run.seconds)
    return {
        **_measured(best),
        "runs": number,
        "peak_mb": max(run.peak_mb for run in runs),
        "nothing_pending_seconds": min(run.seconds for run in idle),
    }


def _measured(run: program.Measured) -> dict[str, Any]:
    return {
        "seconds": run.seconds,
        "peak_mb": run.peak_mb,
        "stages": run.stages,
        "rows": run.report["counts"]["rows"],
    }


def _sizes(catalogue: Catalogue) -> dict[str, int]:
    return {"tracks": catalogue.tracks, "daily_rows": catalogue.rows}


def _environment(dsn: Dsn) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "postgresql": rows(dsn, "SELECT current_setting('server_version')").item(),
        **{package: version(package) for package in PACKAGES},
    }


def _say(line: str) -> None:
    width = shutil.get_terminal_size().columns
    click.echo(line[:width] if sys.stderr.isatty() else line, err=True)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
