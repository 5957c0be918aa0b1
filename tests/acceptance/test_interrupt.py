"""Ctrl-C and SIGTERM at every stage: the process ends in time, cleans up, and says so in one line."""

import json
import logging
import os
import random
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from forecaster.process.signals import GRACE
from tests import sql
from tests.faults import (
    FORECAST,
    LONG,
    SEED,
    STREAMS,
    Session,
    as_observer,
    blocked,
    clear,
    fill,
    locked,
    sessions,
    started,
    until,
    whole_tracks,
)
from tests.interrupts import (
    HEAVY,
    SIGNALS,
    Process,
    assert_interrupted,
    computes,
    interrupt,
    until_it_handles_signals,
)

LOG = logging.getLogger(__name__)  # the figures of the long forms: --log-cli-level=INFO

PROMISED = 2.0
"""Seconds from the signal to the end of the process: asserted in the long forms, on a machine at rest."""

Reached = Callable[[Process], object]


@contextmanager
def importing(dsn: Dsn) -> Iterator[tuple[Dsn, Reached]]:
    yield dsn, lambda process: "polars" in Path(f"/proc/{process.pid}/maps").read_text()


# A command begins to connect while it is imported, and before that is done there is no report.
CONNECTS = """
import forecaster.cli.run, forecaster.postgres.session as session
plain = session.connect
def connect(*arguments, **options):
    open('/proc/self/comm', 'w').write('connects')
    return plain(*arguments, **options)
session.connect = connect
"""


@contextmanager
def connecting(dsn: Dsn, *, after: float = 0) -> Iterator[tuple[Dsn, Reached]]:
    """To a host that lets in, and then says nothing; the run has waited for it for some seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        accepted: list[socket.socket] = []

        def waits(process: Process) -> bool:
            accepted.append(silent.accept()[0])
            until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "connects\n", process)
            time.sleep(after)
            return True

        yield replace(dsn, host="127.0.0.1", port=silent.getsockname()[1]), waits
        accepted.pop().close()


@contextmanager
def waiting_for_another_run(dsn: Dsn) -> Iterator[tuple[Dsn, Reached]]:
    with connect(dsn) as other:
        take_lock(other, read_tables(other, "public"))
        holder = os.getpid()
        yield (
            dsn,
            lambda _: [s for s in sessions(dsn) if s.name.count(" ") == 3 and f" {holder} " not in s.name],
        )


@contextmanager
def waiting_for_a_source(dsn: Dsn) -> Iterator[tuple[Dsn, Reached]]:
    with locked(dsn, STREAMS):
        yield dsn, lambda _: blocked(dsn)


@contextmanager
def reading(dsn: Dsn) -> Iterator[tuple[Dsn, Reached]]:
    sql.run(as_observer(dsn), f"ALTER TABLE {STREAMS} RENAME TO streams")
    sql.run(
        as_observer(dsn),
        f"CREATE VIEW {STREAMS} AS SELECT streams.* FROM streams, "
        "(SELECT pg_sleep(1000) AS slept OFFSET 0) s WHERE s.slept IS NOT NULL",
    )
    yield dsn, lambda _: asleep(dsn)


@contextmanager
def computing(dsn: Dsn) -> Iterator[tuple[Dsn, Reached]]:
    yield dsn, computes


@contextmanager
def waiting_to_write(dsn: Dsn) -> Iterator[tuple[Dsn, Reached]]:
    with locked(dsn, FORECAST, "SHARE"):
        yield dsn, lambda _: blocked(dsn)


@contextmanager
def committing(dsn: Dsn) -> Iterator[tuple[Dsn, Reached]]:
    sql.run(
        as_observer(dsn),
        "CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(1000); RETURN NULL; END'",
    )
    sql.run(
        as_observer(dsn),
        f"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {FORECAST} DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION sleep()",
    )
    yield dsn, lambda _: [session for session in asleep(dsn) if session.query.startswith("COMMIT")]


def asleep(dsn: Dsn) -> list[Session]:
    return [session for session in sessions(dsn) if session.waits_for == "Timeout PgSleep"]


@dataclass(frozen=True)
class Stage:
    """Where a run is when the signal comes."""

    prepare: Callable[[Dsn], AbstractContextManager[tuple[Dsn, Reached]]]
    before: str = ""
    arguments: tuple[str, ...] = ()


STAGES = {
    "importing": Stage(importing),
    "connecting": Stage(connecting, CONNECTS),
    "waiting for another run": Stage(waiting_for_another_run, arguments=("--wait", "600")),
    "waiting for a source": Stage(waiting_for_a_source),
    "reading": Stage(reading),
    "computing": Stage(computing, f"{HEAVY}\nforecaster.run.made_with.project = heavy"),
    "waiting to write": Stage(waiting_to_write),
    "deaf": Stage(
        computing, f"{HEAVY}\nforecaster.postgres.tracks.fit_or_refuse = lambda *_, **__: heavy().collect()"
    ),
    "committing": Stage(committing),
}


def interrupted_at(stage: Stage, signum: signal.Signals, database: Dsn, report: Path) -> float:
    """Seconds from the signal to the end, with the report written."""
    fill(database)
    with stage.prepare(database) as (dsn, reached):
        others = {session.pid for session in sessions(database)}
        arguments = ("--report", str(report), *stage.arguments)
        with started(dsn, *arguments, before=stage.before) as process:
            until(lambda: reached(process), process)
            ended, seconds = interrupt(process, signum)

        assert_interrupted(ended, signum)
        until(lambda: {session.pid for session in sessions(database)} <= others)
        assert whole_tracks(database) == 0
    if stage.prepare is not importing:
        assert json.loads(report.read_text())["error"].startswith("interrupted")
    return seconds


# Each with one of the two, and with both where Polars itself has an eye on SIGINT.
SHORT = [*zip(STAGES, SIGNALS * 5, strict=False), ("deaf", signal.SIGINT)]


@pytest.mark.parametrize(("name", "signum"), SHORT)
def test_at_every_stage(embedded_database: Dsn, tmp_path: Path, name: str, signum: signal.Signals) -> None:
    interrupted_at(STAGES[name], signum, embedded_database, tmp_path / "report.json")


@pytest.mark.parametrize("after", [0.3, 1.5, 2.5])
def test_at_each_moment_of_connecting(embedded_database: Dsn, tmp_path: Path, after: float) -> None:
    stage = Stage(partial(connecting, after=after), CONNECTS)
    interrupted_at(stage, signal.SIGINT, embedded_database, tmp_path / "report.json")


def test_a_report_that_takes_long(embedded_database: Dsn, tmp_path: Path) -> None:
    """While it is written SIGINT comes again, at which Polars breaks off what it computes."""
    # Without an import of Polars, which has to see that signals are handled.
    takes_long = """
import time, importlib.metadata
version = importlib.metadata.version
def slow(package):
    if package == "polars":
        import polars as pl
        many, start = pl.DataFrame({"reason": ["a", "b"] * 300_000}), time.monotonic()
        while time.monotonic() < start + 0.3:
            many.group_by("reason").len()
    return version(package)
importlib.metadata.version = slow"""
    stage = replace(STAGES["waiting to write"], before=takes_long)
    interrupted_at(stage, signal.SIGINT, embedded_database, tmp_path / "report.json")


@pytest.mark.slow
@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("name", STAGES)
def test_within_two_seconds_at_every_stage(
    database: Dsn, tmp_path: Path, name: str, signum: signal.Signals
) -> None:
    seconds = interrupted_at(STAGES[name], signum, database, tmp_path / "report.json")
    LOG.info("%s while %s: %.2f s", signum.name, name, seconds)
    # In order, and not by force: that is for what cannot be helped.
    assert seconds < (PROMISED if name == "deaf" else GRACE)


@pytest.mark.parametrize("signals", [4, pytest.param(60, marks=LONG)])
def test_at_any_moment(embedded_database: Dsn, signals: int) -> None:
    dsn = embedded_database
    fill(dsn)
    chance = random.Random(SEED)
    codes: list[int] = []
    longest = 0.0
    for number in range(signals):
        clear(dsn)
        signum = SIGNALS[number % 2]
        with started(dsn) as process:
            until_it_handles_signals(process)
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, 0.8))
            ended, seconds = interrupt(process, signum)

        codes.append(ended.code)
        longest = max(longest, seconds)
        if ended.code:  # it was not done before
            assert_interrupted(ended, signum)
        until(lambda: not sessions(dsn))
        whole_tracks(dsn)
    LOG.info("%d signals: exit codes %s, at most %.2f s", signals, Counter(codes), longest)
    assert {130, 143} & {*codes}
    if signals == 60:
        assert longest < PROMISED


def test_ctrl_c_in_a_program_that_calls_run(embedded_database: Dsn) -> None:
    """There it is Python's own, and ends the queries all the same."""
    fill(embedded_database)
    program = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from forecaster.postgres.dsn import resolve
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
run(Database(resolve(None)))
"""
    with reading(embedded_database) as (dsn, reached), started(dsn, before=program) as process:
        until(lambda: reached(process), process)
        ended, _ = interrupt(process, signal.SIGINT)
        assert ended.code == -signal.SIGINT
        assert ended.stderr.endswith("KeyboardInterrupt\n")
        until(lambda: not sessions(dsn))
