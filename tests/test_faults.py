"""Processes and sessions are killed, hosts do not answer: what is stored is whole, what is said clear."""

import logging
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.dsn import Dsn
from forecaster.postgres.embedded import running_server
from forecaster.run import RunConfig, run
from tests import sql
from tests.conftest import SETTINGS, new_database, short_directory
from tests.faults import (
    FORECAST,
    SEED,
    answers,
    as_observer,
    clear,
    end_of,
    fill,
    in_chunks_of,
    sessions,
    started,
    terminate,
    until,
    whole_tracks,
)
from tests.test_run import stored

CHUNK = 20  # tracks: 13 transactions in a run

LOG = logging.getLogger(__name__)  # the figures of the long forms: --log-cli-level=INFO


@pytest.fixture(scope="module")
def own_server() -> Iterator[Dsn]:
    """A server that may be crashed: nobody else is on it."""
    settings = {**SETTINGS, "synchronous_commit": "on"}
    with short_directory() as directory, running_server(directory, settings=settings) as server:
        yield server


def moments(number: int, seconds: float) -> list[float]:
    """So many random moments, spread evenly."""
    chance = random.Random(SEED)
    return [seconds * (step + chance.random()) / number for step in range(number)]


def length_of_a_run(dsn: Dsn) -> tuple[float, float]:
    """Seconds from its start, and from its first session on the server, to its end."""
    start = time.monotonic()
    with started(dsn, before=in_chunks_of(CHUNK)) as process:
        until(lambda: sessions(dsn), process)
        connected = time.monotonic()
        assert end_of(process).code == 0
    return time.monotonic() - start, time.monotonic() - connected


def assert_the_next_run_completes(dsn: Dsn, expected: pl.DataFrame) -> None:
    run(RunConfig(dsn, wait=60))
    assert_frame_equal(stored(dsn), expected)


class TestKillOfTheProcess:
    @pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
    def test_at_moments_over_its_whole_run(self, embedded_database: Dsn, kills: int) -> None:
        dsn = embedded_database
        expected = fill(dsn)
        seconds, _ = length_of_a_run(dsn)
        found: list[str] = []
        for moment in moments(kills, seconds):
            clear(dsn)
            with started(dsn, before=in_chunks_of(CHUNK)) as process, suppress(subprocess.TimeoutExpired):
                process.wait(moment)

            tracks = whole_tracks(dsn)
            found.append(state(dsn, tracks, of=expected["cm_track_id"].n_unique()))
            assert_the_next_run_completes(dsn, expected)
        LOG.info("%d kills in runs of %.2f s: %s", kills, seconds, Counter(found))
        # Or else they came too early or too late to prove anything.
        if kills == 100:
            assert found.count("some stored") > 10
            assert "some stored, more on the way" in found

    @pytest.mark.parametrize("progress", [0.1, 0.4, 0.7])
    def test_half_way(self, embedded_database: Dsn, progress: float) -> None:
        dsn = embedded_database
        expected = fill(dsn)
        total = expected["cm_track_id"].n_unique()
        with started(dsn, before=in_chunks_of(CHUNK)) as process:
            until(lambda: whole_tracks(dsn) > progress * total, process)

        assert progress * total < whole_tracks(dsn) < total
        assert_the_next_run_completes(dsn, expected)


def state(dsn: Dsn, tracks: int, *, of: int) -> str:
    """What a killed run has left. Row ids that no row has are those of a transaction that was cut off."""
    [(rows, ids)] = sql.rows(
        as_observer(dsn),
        f"SELECT (SELECT count(*) FROM {FORECAST}), (SELECT CASE WHEN is_called THEN last_value ELSE 0 END "
        f"FROM {FORECAST}_id_seq)",
    )
    what = {0: "none stored", of: "all stored"}.get(tracks, "some stored")
    return f"{what}, more on the way" if ids > rows else what


class TestKillOfASession:
    @pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("how", ["terminated", "killed"])
    def test_at_moments_over_the_whole_run(self, own_server: Dsn, how: str, kills: int) -> None:
        """A session that is killed takes the whole server down with it, for a moment."""
        chance = random.Random(SEED)
        found: list[str] = []
        with new_database(own_server) as dsn:
            expected = fill(dsn)
            end: Callable[[int], None] = {
                "terminated": lambda pid: terminate(dsn, pid),
                "killed": lambda pid: os.kill(pid, signal.SIGKILL),
            }[how]
            _, seconds = length_of_a_run(dsn)
            while len(found) < kills:
                clear(dsn)
                with started(dsn, before=in_chunks_of(CHUNK)) as process:
                    until(lambda: sessions(dsn), process)
                    time.sleep(chance.uniform(0, seconds))
                    victims = sessions(dsn)
                    if victims:
                        end(chance.choice(victims).pid)
                    code, _, stderr = end_of(process)
                until(lambda: answers(dsn))

                tracks = whole_tracks(dsn)
                assert code in {0, 1, 3}, stderr
                assert code != 0 or tracks == expected["cm_track_id"].n_unique()
                assert "Traceback" not in stderr
                assert_the_next_run_completes(dsn, expected)
                if victims:
                    found.append(f"exit {code}, {'some' if tracks else 'none'} stored")
        LOG.info("%d sessions %s: %s", kills, how, Counter(found))
