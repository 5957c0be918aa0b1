"""`python -m benchmarks`: build the catalogue, check the answers, measure, and write the results."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from benchmarks import baseline, layouts, program, results, rounds
from benchmarks.catalogue import TRACKS, Catalogue, execute, growing, prepare, rows
from benchmarks.machine import machine
from benchmarks.rounds import Far
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
GROWTH, GROWTH_BY_DAY, QUICK_GROWTH = (1, 2, 4, 8, 16), (1, 16), (1, 2)
HISTORIES, QUICK_HISTORIES = (400, 1_000, 3_000), (400, 1_000)
RUNS, QUICK_RUNS = 3, 1  # of each size


@click.command()
@click.option("--database-url", metavar="URL", help="A real server.  [default: the embedded one]")
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Directory of the embedded server."
)
@click.option("--quick", is_flag=True, help="A smaller catalogue and fewer rounds; the same code.")
@click.option(
    "--layout",
    "groups",
    type=click.Choice(layouts.GROUPS),
    multiple=True,
    help="How the rows lie in the tables; repeatable.  [default: by-track and by-day, quick few of each]",
)
@click.option(
    "--distance",
    "distances",
    type=click.FloatRange(0),
    multiple=True,
    metavar="MS",
    help="Round-trip time to the server; repeatable.  [default: 50 and 100, quick 2]",
)
@click.option(
    "--bandwidth",
    type=click.FloatRange(0, min_open=True),
    default=100,
    show_default=True,
    metavar="MBIT",
    help="Megabits per second in each direction, for a run of its own.",
)
@click.option(
    "--against",
    metavar="PYTHON",
    help="The interpreter of another version of the program, to measure it in the same rounds.",
)
@click.option(
    "--rounds", type=click.IntRange(0), help="Interleaved rounds; 0 keeps the last.  [default: 5, quick 2]"
)
@click.option(
    "--growth/--no-growth",
    default=True,
    help="Also more tracks and longer histories (an hour), or keep the last figures of them.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Directory for JSON, Markdown and PNG.  [default: benchmarks/results]",
)
@click.option("--note", default="", help="What the results should say of the machine.")
def main(
    out: Path,
    database_url: str | None,
    data_dir: Path | None,
    **given: Any,  # noqa: ANN401 - the fields of `Wanted`
) -> None:
    """Measure a run of the program against the floor, a sequential baseline and the published timings.

    \b
    Example:
      python -m benchmarks --quick --no-growth
    """
    wanted = Wanted(**given)
    out.mkdir(parents=True, exist_ok=True)
    with _database(database_url, data_dir) as dsn:
        result = results.kept(out, wanted.stem)
        if wanted.number_of_rounds:
            result |= _rounds(dsn, wanted)
        if wanted.growth:
            result["growth"] = _growth(dsn, wanted)
    click.echo(results.write(result, out, wanted.stem))


@dataclass(frozen=True)
class Wanted:
    """What to measure: the options, with the defaults of the size."""

    quick: bool
    groups: tuple[str, ...]
    distances: tuple[float, ...]
    bandwidth: float
    against: str | None
    rounds: int | None
    growth: bool
    note: str

    @property
    def stem(self) -> str:
        """Name of the files."""
        return "quick" if self.quick else "full"

    @property
    def tracks(self) -> int:
        """Size of the catalogue."""
        return QUICK_TRACKS if self.quick else TRACKS

    @property
    def layouts(self) -> list[layouts.Layout]:
        """The layouts, the main one first."""
        if self.quick and not self.groups:
            return layouts.one_of_each()
        return layouts.chosen(self.groups or (layouts.BY_TRACK, layouts.BY_DAY))

    @property
    def ways(self) -> list[Far]:
        """The ways to the server: through the proxy without delay, from afar, and with a limit."""
        distances = self.distances or ((2,) if self.quick else (50, 100))
        return [Far(ms) for ms in dict.fromkeys((0, *distances))] + [Far(0, self.bandwidth)]

    @property
    def number_of_rounds(self) -> int:
        """Number of rounds; 0: the last ones are kept."""
        return (2 if self.quick else 5) if self.rounds is None else self.rounds


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


def _rounds(dsn: Dsn, wanted: Wanted) -> dict[str, Any]:
    catalogues = [layouts.laid_out(dsn, one, wanted.tracks, say=_say) for one in wanted.layouts]
    cases = [rounds.first_run(*each) for each in zip(wanted.layouts, catalogues, strict=True)]
    main = cases[0].catalogue
    for case in cases:
        _say(f"{case.layout.name}: the floor reads {case.statement}")
        if case.answer != cases[0].answer:  # timings of wrong results mean nothing
            raise SystemExit(f"{case.layout.name}: other forecasts than {cases[0].layout.name}")
    return {
        "environment": _environment(dsn, wanted),
        "catalogue": {**_sizes(main), "values": rounds.values(main)},
        "floors": {case.layout.name: case.statement for case in cases},
        "answers": _check_answers(cases[0], sample=20 if wanted.quick else 60),
        "rounds": list(
            rounds.measured(
                cases, wanted.ways, wanted.number_of_rounds, sample=10 if wanted.quick else 40,
                against=wanted.against, say=_say,
            )
        ),
    }  # fmt: skip


def _check_answers(case: rounds.Case, *, sample: int) -> dict[str, Any]:
    """Check the results of the first run, which are still there, against the baseline."""
    _say("checking the answers")
    catalogue, counts = case.catalogue, case.counts
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


def _growth(dsn: Dsn, wanted: Wanted) -> dict[str, Any]:
    tracks, number = wanted.tracks, QUICK_RUNS if wanted.quick else RUNS
    measured: dict[str, Any] = {"environment": _environment(dsn, wanted), "runs": number}
    groups = {layout.group for layout in wanted.layouts}
    if layouts.BY_DAY in groups:
        sizes = [tracks * factor for factor in (QUICK_GROWTH if wanted.quick else GROWTH_BY_DAY)]
        measured["by_day"] = [_grown_by_day(dsn, size, number) for size in sizes]
    if layouts.BY_TRACK in groups:
        sizes = [tracks * factor for factor in (QUICK_GROWTH if wanted.quick else GROWTH)]
        schema = f"bench_{tracks}_growing"
        measured["by_track"] = [
            _grown(catalogue, number) for catalogue in growing(dsn, schema, sizes, say=_say)
        ]
        execute(dsn, f"DROP SCHEMA {schema} CASCADE")
        measured["history"] = [
            {
                "days": days,
                **_grown(prepare(dsn, f"bench_{tracks}_of_{days}_days", tracks, days=days, say=_say), number),
            }
            for days in (QUICK_HISTORIES if wanted.quick else HISTORIES)
        ]
    return measured


def _grown_by_day(dsn: Dsn, tracks: int, number: int) -> dict[str, Any]:
    schema = f"bench_{tracks}_growing_by_day"
    grown = _grown(layouts.by_day(dsn, schema, tracks, key_last=True, say=_say), number)
    execute(dsn, f"DROP SCHEMA {schema} CASCADE")  # the largest takes 20 GB
    return grown


def _grown(catalogue: Catalogue, number: int) -> dict[str, Any]:
    """Measure the fastest of `number` runs, and of as many with nothing pending.

    The fastest run shows best how the time of the computation itself grows.
    """
    runs, idle = [], []
    for _ in range(number):
        catalogue.empty_forecasts()
        runs.append(program.run(catalogue))
        idle.append(program.run(catalogue))
    best = min(runs, key=lambda run: run.seconds)
    peak = max(run.peak_mb for run in runs)
    _say(f"{catalogue.schema}: {best.seconds:.2f} s, {peak:.0f} MB")
    return {
        **_sizes(catalogue),
        **rounds.summary(best),
        "peak_mb": peak,
        "nothing_pending_seconds": min(run.seconds for run in idle),
    }


def _sizes(catalogue: Catalogue) -> dict[str, int]:
    return {"tracks": catalogue.tracks, "daily_rows": catalogue.rows}


def _environment(dsn: Dsn, wanted: Wanted) -> dict[str, Any]:
    return {
        "note": wanted.note,
        **machine(),
        "postgresql": rows(dsn, "SELECT current_setting('server_version')").item(),
        **{package: version(package) for package in PACKAGES},
    }


def _say(line: str) -> None:
    width = shutil.get_terminal_size().columns
    click.echo(line[:width] if sys.stderr.isatty() else line, err=True)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
