"""Open the first connection of a command in a thread, while its modules are imported."""

import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

import adbc_driver_manager as adbc
import adbc_driver_postgresql as driver

from forecaster.errors import ForecasterError
from forecaster.postgres.dsn import APPLICATION_NAME, Dsn, libpq_variables_hidden, resolve
from forecaster.process.signals import started

# Overrides what server, database and user have set: names are sent in it, and connectorx sets it too.
_ENCODING = "client_encoding=UTF8"
_HOST_LENGTH = 27  # of the 63 bytes of an application name, which also has to hold a pid and an instant


class Handles(NamedTuple):
    """An open connection of the driver, in no transaction."""

    database: adbc.AdbcDatabase
    """What the driver has asked the server about its types, for all connections."""
    connection: adbc.AdbcConnection

    def close(self) -> None:
        """Close the connection, unless the other side has."""
        with suppress(adbc.Error):
            self.connection.close()
            self.database.close()


class Early:
    """A connection that is being opened. At most one caller gets it; `close` closes it if nobody did."""

    def __init__(self, dsn: Dsn) -> None:
        self.dsn = dsn
        self._left = threading.Lock()  # held by the one who takes the connection, or closes it
        self._opened = started(self._open)

    @property
    def was_reached(self) -> bool:
        """Whether the server has accepted the connection."""
        return self._opened.done() and self._opened.exception() is None

    def take(self) -> Handles | None:
        """Wait for the connection, and return it; None if it was taken or closed before.

        Raises the error of the driver, or `DatabaseUnreachableError` for a socket that is not safe.
        """
        return self._opened.result() if self._left.acquire(blocking=False) else None

    def close(self) -> None:
        """Close the connection if nobody has taken it, as soon as it is open; do not wait for that."""
        if self._left.acquire(blocking=False):
            self._opened.add_done_callback(lambda opened: opened.exception() or opened.result().close())

    def _open(self) -> Handles:
        self.dsn.check_socket()
        return opened(self.dsn)


@contextmanager
def begun(url: str | None) -> Iterator[Early | None]:
    """Connect in this block to the database that a command will use; None if that has to wait.

    It has to if no database is configured, or wrongly, which the command will report. The variables of libpq
    are hidden as long, so that no thread changes the environment while another one reads it.
    """
    with libpq_variables_hidden():
        early = None
        with suppress(ForecasterError):
            dsn = resolve(url)
            early = Early(dsn) if dsn else None
        try:
            yield early
        finally:
            if early:
                early.close()


def opened(dsn: Dsn, options: Mapping[str, str] | None = None) -> Handles:
    """Connect, with options of the driver. Raises the error of the driver, which may show secrets."""
    with libpq_variables_hidden():
        database = driver.connect(f"{named(dsn).libpq_uri}&{_ENCODING}")
        try:
            return Handles(database, adbc.AdbcConnection(database, **(options or {})))
        except BaseException:
            database.close()
            raise


def client_name() -> str:
    """Return the application name of this process's connections: `forecaster HOST PID`."""
    host = re.sub(r"[^A-Za-z0-9.-]", "", socket.gethostname().partition(".")[0])
    return f"forecaster {host[:_HOST_LENGTH] or 'unknown'} {os.getpid()}"


def named(dsn: Dsn) -> Dsn:
    """Add our application name, unless the user has given one."""
    name = given_name(dsn) or client_name()
    return replace(dsn, parameters=(*dsn.parameters, ("application_name", name)))


def given_name(dsn: Dsn) -> str:
    """Return the application name that the user has given; empty if none."""
    name = dict(dsn.parameters).get("application_name", APPLICATION_NAME)
    return "" if name == APPLICATION_NAME else name
