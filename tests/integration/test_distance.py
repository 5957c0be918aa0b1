"""The proxy that makes a server distant counts what passes, and sends it no earlier than its way allows."""

import psycopg
import pytest

from benchmarks.distance import Distant, Link, Traffic, distant
from forecaster.postgres.dsn import Dsn
from tests.conftest import ServerNamed


@pytest.fixture(scope="module")
def server(server_named: ServerNamed) -> Dsn:
    return server_named("embedded")


def asked(far: Distant, statement: str, times: int) -> Traffic:
    """What passes in a session that asks this many times, each time waiting for the answer."""
    with psycopg.connect(far.dsn.uri, autocommit=True) as connection:
        for _ in range(times):
            connection.execute(statement, prepare=False).fetchall()
    return far.counted()


def test_each_question_is_a_turn(server: Dsn) -> None:
    with distant(server, milliseconds=1) as far:
        few, many = asked(far, "SELECT 1", 10), asked(far, "SELECT 1", 60)
        assert (few.connections, many.connections) == (1, 1)
        assert many.turns - few.turns == 50
        assert (many.bytes_in - few.bytes_in) % 50 == 0


def test_the_bytes_are_those_of_the_answer(server: Dsn) -> None:
    with distant(server, megabits=1_000) as far:
        short, long = (asked(far, f"SELECT repeat('x', {size})", 1) for size in (1_000_000, 6_000_000))
        assert long.bytes_out - short.bytes_out == 5_000_000
        assert long.turns == short.turns


def test_each_connection_is_counted_once(server: Dsn) -> None:
    with distant(server) as far:
        with psycopg.connect(far.dsn.uri), psycopg.connect(far.dsn.uri):
            pass
        assert far.counted().connections == 2
        assert far.counted() == Traffic()


def test_what_is_sent_arrives_half_a_round_trip_later() -> None:
    assert Link(0.025).send(1_000, 3.0) == (3.0, 3.025)


def test_what_is_sent_waits_for_what_was_sent_before() -> None:
    link = Link(0.5, bytes_per_second=1_000)
    assert link.send(2_000, 10.0) == (12.0, 12.5)
    assert link.send(1_000, 10.5) == (13.0, 13.5)
    assert link.send(1_000, 20.0) == (21.0, 21.5)
