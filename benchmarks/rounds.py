"""Measure each layout and each distance in interleaved rounds, so that a busy moment hits all alike."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import baseline, floor, model, program
from benchmarks.catalogue import Catalogue, Say, execute, rows
from benchmarks.distance import Distant, distant
from benchmarks.layouts import Layout
from forecaster.tables import FORECAST_TABLE, STREAMS_TABLE

_DAY = "cm_track_id, cm_artist_id, date, daily_streams, days_from_release"


@dataclass(frozen=True)
class Case:
    """A layout with its catalogue, the result of a first run, and the cheapest statement for the floor."""

    layout: Layout
    catalogue: Catalogue
    answer: tuple[int, ...]
    """Number of forecast rows, and a sum of their hashes."""
    counts: dict[str, int]
    """What the report counts."""
    statement: str
    result: bytes = field(repr=False)
    """The rows that a run stores."""
    there: bytes = field(repr=False)
    """The rows that are there before it; empty if all tracks are pending."""

    def reset(self) -> None:
        """Leave the forecasts as they are before a run."""
        self.catalogue.empty_forecasts()
        if self.there:
            floor.store(self.catalogue, self.there)


def first_run(layout: Layout, catalogue: Catalogue) -> Case:
    """Run once, and keep what is needed to measure the case."""
    catalogue.empty_forecasts()
    counts = program.run(catalogue).report["counts"]
    is_pending = f"cm_track_id % {layout.pending} = 0"
    return Case(
        layout,
        catalogue,
        _answer(catalogue),
        counts,
        floor.cheapest(catalogue, layout.pending),
        floor.stored_rows(catalogue, is_pending),
        floor.stored_rows(catalogue, f"NOT {is_pending}") if layout.pending > 1 else b"",
    )


def _answer(catalogue: Catalogue) -> tuple[int, ...]:
    values = "cm_track_id, month::bigint, forecasted_value"
    [answer] = rows(
        catalogue.dsn,
        f"SELECT count(*), sum(hashtext(ROW({values})::text))::bigint FROM {catalogue.table(FORECAST_TABLE)}",
    ).rows()
    return tuple(answer)


@dataclass(frozen=True)
class Far:
    """A way to the server: round-trip time, and megabits per second if they are limited."""

    milliseconds: float
    megabits: float | None = None

    @property
    def name(self) -> str:
        """As it is called in the results."""
        limit = f", {self.megabits:g} Mbit/s" if self.megabits else ""
        return f"{self.milliseconds:g} ms{limit}"


def measured(
    cases: list[Case], ways: list[Far], number: int, *, sample: int, against: str | None, say: Say
) -> Iterator[dict[str, Any]]:
    """Yield the rounds. The first case is also measured at each distance, and by the baseline.

    `sample`: number of tracks of the baseline. `against`: the Python of another version of the program.
    """
    main = cases[0].catalogue
    data = model.read(main)
    tracks = list(range(1, main.tracks + 1, max(1, main.tracks // sample)))[:sample]
    with ExitStack() as stack:
        proxies = {
            way.name: stack.enter_context(
                distant(main.dsn, milliseconds=way.milliseconds, megabits=way.megabits)
            )
            for way in ways
        }
        for number_of_round in range(1, number + 1):
            say(f"round {number_of_round} of {number}")
            yield {
                "layouts": {case.layout.name: _case(case, against, say) for case in cases},
                "away": {name: _away(cases[0], name, proxy, say) for name, proxy in proxies.items()},
                "new_day": {
                    case.layout.name: new_day(case.catalogue) for case in cases if case.layout.takes_days
                },
                "all_rows": {
                    case.layout.name: floor.all_rows(case.catalogue) for case in cases if case.layout.made
                },
                "model": model.measure(data),
                "nothing_pending": summary(program.run(main)),
                "baseline": {
                    "tracks": len(tracks),
                    "seconds_per_track": baseline.measure(main, tracks).seconds / len(tracks),
                },
                "help": program.process([sys.executable, "-m", "forecaster", "--help"])[0],
                "import_click": program.process([sys.executable, "-c", "import click"])[0],
            }


def _case(case: Case, against: str | None, say: Say) -> dict[str, Any]:
    case.reset()
    bottom = floor.measure(case.catalogue, case.statement, case.result, pending=case.layout.pending)
    case.reset()
    run = program.run(case.catalogue)
    found: dict[str, Any] = {
        "program": summary(run),
        "floor": {"seconds": bottom.seconds, "out": bottom.out_seconds, "in": bottom.in_seconds,
                  "out_mb": bottom.out_bytes / 1e6, "in_mb": bottom.in_bytes / 1e6},
    }  # fmt: skip
    if against:
        case.reset()
        found["before"] = summary(program.run(case.catalogue, python=against))
    before = f", before {found['before']['seconds']:.2f} s" if against else ""
    say(f"{case.layout.name}: program {run.seconds:.2f} s{before}, floor {bottom.seconds:.2f} s")
    return found


def _away(case: Case, name: str, far: Distant, say: Say) -> dict[str, Any]:
    case.reset()
    seconds = program.run(case.catalogue, dsn=far.dsn).seconds
    traffic = far.counted()
    say(f"{name} away: {seconds:.2f} s, {traffic.connections} connections, {traffic.turns} turns")
    return {"seconds": seconds, **asdict(traffic)}


def new_day(catalogue: Catalogue) -> float:
    """Measure the load of one more day of each track, in no order, by one COPY; remove it again."""
    streams = catalogue.table(STREAMS_TABLE)
    newest = f"(SELECT max(date) FROM {streams})"
    next_day = "cm_track_id, cm_artist_id, date + 1, daily_streams, days_from_release + 1"
    query = f"SELECT {next_day} FROM {streams} WHERE date = {newest} ORDER BY random()"
    with psycopg.connect(catalogue.dsn.uri) as connection:
        with connection.cursor().copy(sql.SQL(f"COPY ({query}) TO STDOUT (FORMAT binary)")) as copy:
            day = b"".join(copy)
        connection.commit()
        start = time.perf_counter()
        statement = f"COPY {streams} ({_DAY}) FROM STDIN (FORMAT binary)"
        with connection.cursor() as cursor, cursor.copy(sql.SQL(statement)) as copy:
            copy.write(day)
        connection.commit()
        seconds = time.perf_counter() - start
    execute(catalogue.dsn, f"DELETE FROM {streams} WHERE date = {newest}", f"VACUUM {streams}")
    return seconds


def values(catalogue: Catalogue) -> int:
    """Count the values that the model needs: the last 365 of each track."""
    per_track = f"SELECT count(*) AS days FROM {catalogue.table(STREAMS_TABLE)} GROUP BY cm_track_id"
    return int(rows(catalogue.dsn, f"SELECT sum(least(days, 365))::bigint FROM ({per_track}) t").item())


def summary(run: program.Measured) -> dict[str, Any]:
    """Return what is kept of a run."""
    return {
        "seconds": run.seconds,
        "peak_mb": run.peak_mb,
        "stages": run.stages,
        "rows": run.report["counts"]["rows"],
    }
