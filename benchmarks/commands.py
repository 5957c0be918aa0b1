"""`python -m benchmarks.commands`: every other command against the plain copies of the same bytes."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import click
import polars as pl
import psycopg

from benchmarks import program
from benchmarks.catalogue import TRACKS, Catalogue, execute, prepare, rows
from benchmarks.machine import load, machine
from benchmarks.tables import table
from forecaster.files.atomic import write_text
from forecaster.postgres.dsn import Dsn, resolve
from forecaster.postgres.embedded import default_data_dir, running_server
from forecaster.setup.init import initialise
from forecaster.tables import FORECAST_TABLE, LISTENERS_TABLE, MLDR_TABLE, STREAMS_TABLE

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("forecaster", "polars", "connectorx", "adbc-driver-postgresql", "psycopg")
QUICK_TRACKS = 100
CUTOFFS = [f"{year}-{month:02}-01" for year in (2022, 2023) for month in range(1, 13)]
_PROGRAM = (sys.executable, "-m", "forecaster")
_GIVEN = "cm_track_id, cm_artist_id, date, daily_streams, days_from_release"
_STORED = (
    "month, forecasted_value, segment_used, time_used, cm_track_id, cm_artist_id, training_data_id, "
    "created_at"
)
_RATES = "cm_artist_id, mldr, created_at"
_MEANING = (
    "Each line is a complete process of the command, and one of its floor, in interleaved rounds. Seconds "
    "are medians; the ratio is the median of the ratios of the rounds. A floor is a small Python process: it "
    "imports psycopg (and Polars, if it writes Parquet), connects, and does only what its line says. The "
    "last column has the seconds of its copies alone, without the start of the process and the connection."
)


@dataclass(frozen=True)
class Line:
    """A command and its floor."""

    name: str
    command: Sequence[str]
    contains: str
    """What the floor does."""
    catalogue: Catalogue
    out: Sequence[str] = ()
    """Statements whose rows are copied to nowhere."""
    into: Sequence[tuple[str, Path]] = ()
    """Statements, and the files with the bytes that are copied in."""
    write: tuple[Path, Path] | None = None
    """A file to copy, and its target."""
    before: Callable[[], None] = field(default=lambda: None)
    """Bring the tables into the state before the command, or the floor."""
    most: float = 3.0
    """The ratio that the command must not exceed."""


@click.command()
@click.option("--database-url", metavar="URL", help="A real server.  [default: the embedded one]")
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Directory of the embedded server."
)
@click.option("--quick", is_flag=True, help="A smaller catalogue and one round; the same code.")
@click.option("--rounds", type=click.IntRange(1), help="Interleaved rounds.  [default: 5, quick 1]")
@click.option("--only", multiple=True, metavar="TEXT", help="Only the lines whose name begins with it.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Directory for JSON and Markdown.  [default: benchmarks/results]",
)
def main(
    database_url: str | None,
    data_dir: Path | None,
    quick: bool,  # noqa: FBT001 - named by click
    rounds: int | None,
    only: tuple[str, ...],
    out: Path,
) -> None:
    """Measure load, run --refresh, mldr, evaluate, export and report, each against its floor.

    \b
    Example:
      python -m benchmarks.commands --quick
    """
    tracks, stem = (QUICK_TRACKS, "commands-quick") if quick else (TRACKS, "commands")
    out.mkdir(parents=True, exist_ok=True)
    with _database(database_url, data_dir) as dsn, tempfile.TemporaryDirectory(prefix="fc") as work:
        for result in measure(dsn, tracks, rounds or (1 if quick else 5), Path(work), only=only):
            write_text(json.dumps(result, indent=1), out / f"{stem}.json")
            write_text(markdown(result), out / f"{stem}.md")
    click.echo((out / f"{stem}.md").read_text())


def measure(
    dsn: Dsn, tracks: int, rounds: int, work: Path, *, only: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Measure every command, or those whose name begins with one of `only`; yield the results so far."""
    by_track, by_day, empty = _catalogues(dsn, tracks)
    wanted = [
        line
        for line in _lines(by_track, by_day, empty, work)
        if not only or line.name.startswith(tuple(only))
    ]
    result: dict[str, Any] = {
        "environment": {
            **machine(),
            **load(),
            **{package: version(package) for package in PACKAGES},
        },
        "tracks": by_track.tracks,
        "daily_rows": by_track.rows,
        "lines": [],
    }
    for line in wanted:
        result["lines"].append(_measured(line, rounds, work))
        yield result


def markdown(result: dict[str, Any]) -> str:
    """Format the measurements as a Markdown table, and say what each floor contains."""
    environment = result["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in environment.items() if k not in ("date", "cores", "machine"))
    header = ["command", "seconds", "floor, s", "ratio", "range", "at most", "peak, MB", "copies alone, s"]
    size = f"{result['tracks']:,} tracks, {result['daily_rows']:,} daily rows"
    parts = [
        f"# The other commands, {environment['date']}",
        f"{size}, {environment['cores']} cores ({environment['machine']}). {versions}.",
        _MEANING,
        table(header, map(_row, result["lines"])),
        "## What each floor contains",
        "\n".join(f"- {line['name']}: {line['contains']}" for line in result["lines"]),
    ]
    return "\n\n".join(parts) + "\n"


def _row(line: dict[str, Any]) -> list[str]:
    rounds = line["rounds"]
    ratios = [measured["seconds"] / measured["floor"] for measured in rounds]
    seconds, floor, copies = (median(m[name] for m in rounds) for name in ("seconds", "floor", "copies"))
    return [
        line["name"],
        f"{seconds:.2f}",
        f"{floor:.2f}",
        f"{median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{line['most']:g}",
        f"{max(measured['peak_mb'] for measured in rounds):.0f}",
        f"{copies:.2f}",
    ]


@contextmanager
def _database(url: str | None, data_dir: Path | None) -> Iterator[Dsn]:
    given = resolve(url)
    with (
        nullcontext(given) if given else running_server(data_dir or default_data_dir() / "benchmarks") as dsn
    ):
        yield dsn


def _catalogues(dsn: Dsn, tracks: int) -> tuple[Catalogue, Catalogue, Catalogue]:
    """Prepare the catalogue by track with listeners, the same rows by day, and empty tables."""
    by_track = prepare(dsn, f"commands_{tracks}", tracks, say=_say)
    by_day, empty = (replace(by_track, schema=f"{by_track.schema}_{name}") for name in ("days", "in"))
    for catalogue in (by_day, empty):
        initialise(dsn, catalogue.schema)
    listeners = by_track.table(LISTENERS_TABLE)
    if not rows(dsn, f"SELECT count(*) FROM {listeners}").item():
        _say("listeners: a row per artist and day of five years")
        execute(
            dsn,
            f"INSERT INTO {listeners} (cm_artist_id, date, monthly_listeners) "
            "SELECT a, d::date, (1e6 * exp((a % 7 + 1) * (date '2020-01-01' - d::date) / 3000.0))::bigint "
            f"FROM (SELECT DISTINCT cm_artist_id FROM {by_track.table(MLDR_TABLE)}) s (a), "
            "generate_series(date '2020-01-01', date '2024-12-31', interval '1 day') d",
        )
        execute(dsn, f"VACUUM (ANALYZE) {listeners}")
    streams = by_day.table(STREAMS_TABLE)
    if not rows(dsn, f"SELECT count(*) FROM {streams}").item():
        _say(f"{by_day.schema}: copying {by_track.rows:,} rows, day by day")
        _copied(by_track, by_day, STREAMS_TABLE, _GIVEN, "date, md5(cm_track_id::text || date::text)")
        _copied(by_track, by_day, MLDR_TABLE, _RATES, "cm_artist_id")
    for catalogue in (by_track, by_day):
        refresh = [*_PROGRAM, "run", "--refresh", "--schema", catalogue.schema]
        program.process(refresh, dsn.uri)
    return by_track, by_day, empty


def _copied(source: Catalogue, target: Catalogue, table: str, columns: str, order: str) -> None:
    copied = f"SELECT {columns} FROM {source.table(table)} ORDER BY {order}"
    execute(source.dsn, f"INSERT INTO {target.table(table)} ({columns}) {copied}")
    execute(source.dsn, f"VACUUM (ANALYZE) {target.table(table)}")


def _lines(by_track: Catalogue, by_day: Catalogue, empty: Catalogue, work: Path) -> list[Line]:
    """Describe every command, and write the files that they and the floors read."""
    days, forecasts = by_track.table(STREAMS_TABLE), by_track.table(FORECAST_TABLE)
    every_day = _out(f"SELECT {_GIVEN} FROM {days}")
    listeners = _out(f"SELECT cm_artist_id, date, monthly_listeners FROM {by_track.table(LISTENERS_TABLE)}")
    rates = f"SELECT {_RATES} FROM {by_track.table(MLDR_TABLE)}"
    months = _out(f"SELECT cm_track_id, month, forecasted_value, created_at FROM {forecasts}")
    csv, in_binary, parquet, stored, rates_file = (
        work / name for name in ("days.csv", "days.bin", "days.parquet", "stored.bin", "rates.bin")
    )
    _save(by_track, f"COPY (SELECT {_GIVEN} FROM {days} ORDER BY 1, 3) TO STDOUT (FORMAT csv, HEADER)", csv)
    _save(by_track, _out(f"SELECT {_GIVEN} FROM {days} ORDER BY 1, 3"), in_binary)
    _save(by_track, _out(f"SELECT {_STORED} FROM {forecasts} ORDER BY id"), stored)
    _save(by_track, _out(rates), rates_file)
    pl.read_csv(csv, try_parse_dates=True).write_parquet(parquet)
    scores, exported, page = work / "scores.parquet", work / "exported.parquet", work / "page.html"
    cutoffs = [word for cutoff in CUTOFFS for word in ("--cutoff", cutoff)]
    new_day = _NewDay(by_day, empty, work / "new.parquet", work / "new.bin")
    copied_in = f"COPY {empty.table(STREAMS_TABLE)} ({_GIVEN}) FROM STDIN"
    forecasts_in = f"COPY {empty.table(FORECAST_TABLE)} ({_STORED}) FROM STDIN (FORMAT binary)"
    rates_in = f"COPY {empty.table(MLDR_TABLE)} ({_RATES}) FROM STDIN (FORMAT binary)"
    loads = [
        Line(
            f"load, {name}",
            ["load", str(given)],
            f"COPY of {what} into the same empty table, with the same indexes.",
            empty,
            into=[(f"{copied_in} (FORMAT {form})", copied)],
            before=partial(_emptied, empty),
            most=2,
        )
        for name, given, what, form, copied in (
            ("CSV", csv, "the text of the file", "csv, HEADER", csv),
            ("Parquet", parquet, "the same rows, already in PostgreSQL's binary form,", "binary", in_binary),
        )
    ]
    return [
        *loads,
        Line(
            "load, one new day of each track, by day",
            ["load", str(new_day.parquet)],
            "COPY of the same rows into the same table of all days, with the same indexes.",
            by_day,
            into=[
                (f"COPY {by_day.table(STREAMS_TABLE)} ({_GIVEN}) FROM STDIN (FORMAT binary)", new_day.binary)
            ],
            before=new_day.made,
        ),
        Line(
            "run --refresh after one new day of each track, by day",
            ["run", "--refresh"],
            "One array of the last 365 values of each track out, the rows of all forecasts in.",
            by_day,
            out=[_recent(by_day)],
            into=[(forecasts_in, stored)],
            before=new_day.stored,
        ),
        Line(
            "mldr --replace",
            ["mldr", "--replace"],
            "All rows of the listeners out, one rate for each artist in.",
            by_track,
            out=[listeners],
            into=[(rates_in, rates_file)],
            before=partial(_emptied, empty),
        ),
        Line(
            f"evaluate, {len(CUTOFFS)} cutoffs",
            ["evaluate", *cutoffs, "--out", str(scores)],
            "All rows of streams, listeners and rates out; the scores read from Parquet and written again.",
            by_track,
            out=[every_day, listeners, _out(rates)],
            write=(scores, work / "scores-copy.parquet"),
        ),
        Line(
            "export",
            ["export", "--out", str(exported)],
            "Track, month, value and created_at of all forecasts out; the file read and written again.",
            by_track,
            out=[months],
            write=(exported, work / "exported-copy.parquet"),
        ),
        Line(
            "report",
            ["report", "--out", str(page)],
            "One array of the last 365 values of each track, and all forecasts, out; a copy of the page.",
            by_track,
            out=[_recent(by_track), _out(f"SELECT {_STORED} FROM {forecasts}")],
            write=(page, work / "page-copy.html"),
        ),
    ]


@dataclass(frozen=True)
class _NewDay:
    """The day after the last one in a catalogue, with the values of a week before."""

    catalogue: Catalogue
    empty: Catalogue
    parquet: Path
    binary: Path

    def made(self) -> None:
        """Write the rows of the next day to the files."""
        streams = self.catalogue.table(STREAMS_TABLE)
        newest = f"""
            SELECT s.cm_track_id, s.cm_artist_id, l.day + 1 AS date, s.daily_streams, s.days_from_release
            FROM (SELECT max(date) AS day FROM {streams}) l JOIN LATERAL (
                SELECT DISTINCT ON (cm_track_id) * FROM {streams} WHERE date > l.day - 7
                ORDER BY cm_track_id, date DESC) s ON true
            ORDER BY md5(s.cm_track_id::text)"""
        _save(self.catalogue, _out(newest), self.binary)
        rows(self.catalogue.dsn, newest).write_parquet(self.parquet)

    def stored(self) -> None:
        """Store the next day, and empty the tables into which the floor copies."""
        self.made()
        into = f"COPY {self.catalogue.table(STREAMS_TABLE)} ({_GIVEN}) FROM STDIN (FORMAT binary)"
        with psycopg.connect(self.catalogue.dsn.uri) as connection:
            cursor = connection.cursor()
            with cursor.copy(into) as copy:
                copy.write(self.binary.read_bytes())
        _emptied(self.empty)


def _emptied(catalogue: Catalogue) -> None:
    execute(catalogue.dsn, f"TRUNCATE {catalogue.table(STREAMS_TABLE)}, {catalogue.table(MLDR_TABLE)}")
    catalogue.empty_forecasts()


def _out(query: str) -> str:
    return f"COPY ({query}) TO STDOUT (FORMAT binary)"


def _recent(catalogue: Catalogue) -> str:
    streams = catalogue.table(STREAMS_TABLE)
    return _out(
        f"SELECT t.id, a.* FROM generate_series(1, {catalogue.tracks}) t (id) CROSS JOIN LATERAL ("
        "SELECT array_agg(r.daily_streams), min(r.date), max(r.date), min(r.cm_artist_id) FROM ("
        f"SELECT daily_streams, date, cm_artist_id FROM {streams} s WHERE s.cm_track_id = t.id "
        "ORDER BY date DESC LIMIT 365) r) a"
    )


def _save(catalogue: Catalogue, statement: str, path: Path) -> None:
    with (
        psycopg.connect(catalogue.dsn.uri) as connection,
        connection.cursor().copy(statement) as copy,
        path.open("wb") as file,
    ):
        file.writelines(copy)


def _measured(line: Line, rounds: int, work: Path) -> dict[str, Any]:
    """Measure the command, then its floor, in each round."""
    command = [*_PROGRAM, *line.command, "--schema", line.catalogue.schema]
    copies = work / "seconds"
    spec = {
        "url": line.catalogue.dsn.uri,
        "out": line.out,
        "into": [(statement, str(path)) for statement, path in line.into],
        "write": line.write and [*map(str, line.write)],
        "seconds": str(copies),
    }
    measured = []
    for number in range(1, rounds + 1):
        line.before()
        seconds, peak = program.process(command, line.catalogue.dsn.uri)[:2]
        line.before()
        floor = program.process([sys.executable, "-m", "benchmarks.copies", json.dumps(spec)])[0]
        one = {"seconds": seconds, "peak_mb": peak, "floor": floor, "copies": float(copies.read_text())}
        _say(f"{line.name}, round {number} of {rounds}: {seconds:.2f} s, floor {floor:.2f} s")
        measured.append(one)
    return {"name": line.name, "contains": line.contains, "most": line.most, "rounds": measured}


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.commands")
