"""TLS means what it says: what one of the two drivers would weaken is refused, or fails in both."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import connectorx
import pytest

from forecaster.errors import DatabaseUnreachableError, InvalidOptionError
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn, resolve
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.conftest import short_directory
from tests.tables import golden_mldr, golden_streams, initialise
from tests.tls import BIN, asked, make_authority, needs_tls, on_the_network

IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@dataclass(frozen=True)
class Server:
    """A server on 127.0.0.1, with TLS and without, and who has signed its certificate or has not."""

    with_tls: Dsn
    without_tls: Dsn
    authority: Path
    wrong_authority: Path


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    assert BIN
    with short_directory() as directory, short_directory() as plain_directory:
        authority, wrong = make_authority(directory, "authority"), make_authority(directory, "wrong")
        with (
            on_the_network(directory, BIN, authority) as with_tls,
            on_the_network(plain_directory, BIN, None) as without_tls,
        ):
            yield Server(with_tls, without_tls, authority, wrong)


def connectorx_says(dsn: Dsn, words: str) -> bool:
    """Whether that is why connectorx cannot connect; it says so at once, and goes on for half a minute."""
    program = (
        f"import connectorx, sys; connectorx.read_sql(sys.argv[1], {IS_ENCRYPTED!r}, return_type='polars')"
    )
    environment = {**os.environ, "RUST_LOG": "error"}
    with subprocess.Popen(
        [sys.executable, "-c", program, dsn.uri], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr
        found = any(words in line for line in process.stderr)
        process.kill()
    return found and process.returncode != 0


@needs_tls
def test_both_drivers_encrypt_and_verify(server: Server) -> None:
    for parameters in ({}, {"sslrootcert": server.authority}):
        dsn = asked(server.with_tls, sslmode="require", **parameters)
        assert sql.adbc_rows(dsn, IS_ENCRYPTED) == [(True,)]
        assert connectorx.read_sql(dsn.uri, IS_ENCRYPTED, return_type="polars").rows() == [(True,)]


@needs_tls
def test_a_whole_run_over_a_verified_connection(server: Server) -> None:
    dsn = asked(server.with_tls, sslmode="require", sslrootcert=server.authority)
    initialise(dsn)
    load(dsn, "public", streams=golden_streams().filter(cm_track_id=1), mldr=golden_mldr())
    assert run(Database(dsn)).results == 1


@needs_tls
def test_a_certificate_of_another_authority_fails_in_both_drivers(server: Server) -> None:
    dsn = asked(server.with_tls, sslmode="require", sslrootcert=server.wrong_authority)
    with pytest.raises(DatabaseUnreachableError, match="certificate verify failed"), connect(dsn):
        pass
    assert connectorx_says(dsn, "certificate verify failed")
    # The one that it has not been signed by is told from the one that it has.
    assert not connectorx_says(
        asked(server.with_tls, sslmode="require", sslrootcert=server.authority), "failed"
    )


@needs_tls
def test_a_server_without_tls_fails_in_both_drivers(server: Server) -> None:
    dsn = asked(server.without_tls, sslmode="require")
    with pytest.raises(DatabaseUnreachableError, match="server does not support SSL"), connect(dsn):
        pass
    assert connectorx_says(dsn, "server does not support TLS")
    assert sql.adbc_rows(asked(server.without_tls, sslmode="prefer"), IS_ENCRYPTED) == [(False,)]


@needs_tls
def test_what_libpq_would_let_pass_is_refused(server: Server) -> None:
    """It connects without any verification if the file is missing, and without TLS if it may."""
    with pytest.raises(InvalidOptionError, match="the file '/nonexistent' does not exist"):
        asked(server.with_tls, sslmode="require", sslrootcert="/nonexistent")
    for mode in ({}, {"sslmode": "prefer"}, {"sslmode": "disable"}):
        with pytest.raises(InvalidOptionError, match="also accepts a server without TLS") as caught:
            asked(server.with_tls, **mode, sslrootcert=server.wrong_authority)
        assert caught.value.hint == (
            "add sslmode=require: both drivers then verify the certificate authority"
        )


@needs_tls
def test_the_usual_authorities_count_for_both_drivers(server: Server, tmp_path: Path) -> None:
    """libpq looks for them in the home directory, connectorx does not."""
    (tmp_path / ".postgresql").mkdir()
    usual = tmp_path / ".postgresql" / "root.crt"
    shutil.copy(server.wrong_authority, usual)
    environ = {"HOME": str(tmp_path)}
    dsn = resolve(f"{server.with_tls.uri}&sslmode=require", environ)
    assert dsn
    assert connectorx_says(dsn, "certificate verify failed")
    # Another one that is named goes before, and what is not required is not verified.
    named = resolve(f"{server.with_tls.uri}&sslmode=require&sslrootcert={server.authority}", environ)
    assert named
    assert sql.adbc_rows(named, IS_ENCRYPTED) == [(True,)]
    preferred = resolve(server.with_tls.uri, environ)
    assert preferred == replace(server.with_tls, parameters=preferred.parameters if preferred else ())
    assert "sslrootcert" not in dict(preferred.parameters)
