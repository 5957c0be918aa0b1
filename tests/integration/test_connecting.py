"""Connections that are opened at the same time, while a block goes on."""

from concurrent.futures import Future
from dataclasses import replace

import adbc_driver_manager as adbc
import pytest

from forecaster.postgres import connection as module
from forecaster.postgres.connection import Connection, connect, connecting, query
from forecaster.postgres.dsn import Dsn
from tests.faults import sessions, until
from tests.proxy import Proxy


def test_they_are_ours_until_the_end_of_the_block(embedded_database: Dsn) -> None:
    with connect(embedded_database, begun=False) as first:
        with connecting(embedded_database, 2, like=first) as (one, other):
            pids = {query(each, "SELECT pg_backend_pid() AS pid").item() for each in (first, one(), other())}
        until(lambda: len(sessions(embedded_database)) == 1)
    assert len(pids) == 3


def test_none_waits_for_another_and_the_end_waits_once(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = list[int]()
    monkeypatch.setattr(module, "wait", lambda openings, **_: waited.append(len(openings)))
    with Proxy(embedded_database) as proxy:
        patient = replace(proxy.dsn, parameters=(("connect_timeout", "600"),))
        with connect(patient, begun=False) as first:
            there = len(proxy.here)
            proxy.stall()
            with connecting(patient, 2, like=first):
                until(lambda: len(proxy.here) == there + 2)
            assert waited == [2]


def test_one_that_cannot_be_closed_is_not_told(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> None:
        raise adbc.OperationalError("the server has gone", status_code=adbc.AdbcStatusCode.IO)

    opening = Future[Connection]()
    with connect(embedded_database) as connection, monkeypatch.context() as patch:
        patch.setattr(connection, "close", refused)
        opening.set_result(connection)
        opening.add_done_callback(module._close)
        patch.undo()
    assert not caplog.records
