"""`python -m benchmarks.calibrating`: what a calibration and intervals cost, beside a plain run."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click

from benchmarks import program
from benchmarks.catalogue import TRACKS, Catalogue, execute, prepare
from benchmarks.machine import load, machine
from benchmarks.tables import table
from forecaster.files.atomic import write_text
from forecaster.postgres.dsn import Dsn, resolve
from forecaster.postgres.embedded import default_data_dir, running_server
from forecaster.tables import CALIBRATIONS, INTERVALS

RESULTS = Path(__file__).parent / "results"
QUICK_TRACKS = 100
_MEANING = (
    "Each line is a complete process, in interleaved rounds; before each, the tables are as before a first "
    "run or calibration. Seconds are medians; a ratio is the median of the ratios of the rounds to the run "
    "without intervals of the same round. CPU is the processor time of the process, without the server."
)


class Line(NamedTuple):
    """A command that is measured."""

    name: str
    arguments: tuple[str, ...]
    has_calibration: bool = False
    """Whether there is a calibration when it starts."""


LINES = (
    Line("run --no-intervals", ("run", "--no-intervals")),
    Line("run", ("run",)),
    Line("run, with a calibration", ("run",), has_calibration=True),
    Line("run --model calibrated", ("run", "--model", "calibrated"), has_calibration=True),
    Line("calibrate --rows shipped", ("calibrate", "--rows", "shipped")),
    Line("calibrate --rows fitted", ("calibrate", "--rows", "fitted")),
)


@click.command()
@click.option("--database-url", metavar="URL", help="A real server.  [default: the embedded one]")
@click.option("--quick", is_flag=True, help="A smaller catalogue and one round; the same code.")
@click.option("--rounds", type=click.IntRange(1), help="Interleaved rounds.  [default: 7, quick 1]")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Directory for JSON and Markdown.  [default: benchmarks/results]",
)
def main(database_url: str | None, quick: bool, rounds: int | None, out: Path) -> None:  # noqa: FBT001 - named by click
    """Measure calibrate, and run with and without intervals.

    \b
    Example:
      python -m benchmarks.calibrating --quick
    """
    tracks, stem = (QUICK_TRACKS, "calibrating-quick") if quick else (TRACKS, "calibrating")
    with _database(database_url) as dsn:
        catalogue = prepare(dsn, f"calibrating_{tracks}", tracks, say=click.echo)
        result = measure(catalogue, rounds or (1 if quick else 7), warm_up=not quick)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=1), out / f"{stem}.json")
    write_text(markdown(result), out / f"{stem}.md")
    click.echo(markdown(result))


def measure(catalogue: Catalogue, rounds: int, *, warm_up: bool) -> dict[str, Any]:
    """Measure each line in interleaved rounds; `warm_up`: after one that does not count."""
    every = [{line.name: _once(catalogue, line) for line in LINES} for _ in range(rounds + warm_up)]
    measured = {line.name: [of_round[line.name] for of_round in every[warm_up:]] for line in LINES}
    return {
        "environment": {
            **machine(),
            **load(),
        },
        "tracks": catalogue.tracks,
        "daily_rows": catalogue.rows,
        "lines": measured,
    }


def _once(catalogue: Catalogue, line: Line) -> dict[str, float]:
    execute(
        catalogue.dsn, f"TRUNCATE {catalogue.table(INTERVALS.name)}, {catalogue.table(CALIBRATIONS.name)}"
    )
    catalogue.empty_forecasts()
    if line.has_calibration:
        program.process(_command(catalogue, "calibrate", "--rows", "shipped"), catalogue.dsn.uri)
    seconds, peak, cpu = program.with_cpu(_command(catalogue, *line.arguments), catalogue.dsn.uri)
    return {"seconds": seconds, "peak_mb": peak, "cpu": cpu}


def _command(catalogue: Catalogue, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "forecaster", *arguments, "--schema", catalogue.schema]


def markdown(result: dict[str, Any]) -> str:
    """Format the measurements as a Markdown table."""
    environment = result["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in environment.items() if k not in ("date", "cores", "machine"))
    size = f"{result['tracks']:,} tracks, {result['daily_rows']:,} daily rows"
    plain = result["lines"][LINES[0].name]
    parts = [
        f"# Calibrations and intervals, {environment['date']}",
        f"{size}, {environment['cores']} cores ({environment['machine']}). {versions}.",
        _MEANING,
        table(
            ["command", "seconds", "ratio", "range", "CPU, s", "ratio", "peak, MB"],
            [_row(name, rounds, plain) for name, rounds in result["lines"].items()],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _row(name: str, rounds: list[dict[str, float]], plain: list[dict[str, float]]) -> list[str]:
    def ratios(of: str) -> list[float]:
        return [one[of] / other[of] for one, other in zip(rounds, plain, strict=True)]

    return [
        name,
        f"{median(one['seconds'] for one in rounds):.2f}",
        f"{median(ratios('seconds')):.2f}",
        f"{min(ratios('seconds')):.2f} to {max(ratios('seconds')):.2f}",
        f"{median(one['cpu'] for one in rounds):.2f}",
        f"{median(ratios('cpu')):.2f}",
        f"{max(one['peak_mb'] for one in rounds):.0f}",
    ]


@contextmanager
def _database(url: str | None) -> Iterator[Dsn]:
    given = resolve(url)
    with nullcontext(given) if given else running_server(default_data_dir() / "benchmarks") as dsn:
        yield dsn


if __name__ == "__main__":
    main()
