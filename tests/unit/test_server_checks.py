"""What `doctor` says of a server: its version, encryption, and a pooler before it."""

from dataclasses import replace

import pytest

from forecaster.doctor.context import Server
from forecaster.doctor.server import of_encryption, of_version
from forecaster.errors import PooledError
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.pooling import check_sessions

SERVER = Server(
    version="15.4",
    number=150004,
    user="me",
    database="music",
    encrypted=False,
    protocol=None,
    offers_tls=False,
    standby=False,
    read_only=False,
    read_only_by="default",
)


def test_versions_of_the_server() -> None:
    numbers = (110022, 120001, 130014, 140000, 180006)
    levels = [of_version(replace(SERVER, number=number))[0] for number in numbers]
    assert levels == ["error", "warning", "warning", "ok", "ok"]


def test_who_needs_encryption() -> None:
    for host in ("/run/postgresql", "localhost", "127.0.0.2", "::1"):
        assert of_encryption(SERVER, Dsn(host=host, dbname="music", user="me"))[0] == "ok"
    far = Dsn(host="10.0.0.1", dbname="music", user="me")
    level, found, fix = of_encryption(SERVER, far)
    assert (level, "10.0.0.1" in found) == ("warning", True)
    assert (fix or "").startswith("give the server a certificate and a key, ALTER SYSTEM SET ssl = on;")
    level, found, fix = of_encryption(SERVER, replace(far, parameters=(("sslmode", "require"),)))
    assert (level, fix) == ("warning", "connect to the server itself")


def test_a_pooler_is_known_by_the_processes_that_serve() -> None:
    check_sessions(1, 2, 1)
    check_sessions(1, None, 1)
    for pids in ((1, 1, 1), (1, 2, 2), (1, 1, 2), (1, None, 2)):
        with pytest.raises(PooledError):
            check_sessions(*pids)
