"""Servers on the network with TLS, and the authorities that sign their certificates."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import adbc_driver_manager as adbc
import pytest

from forecaster.postgres import embedded
from forecaster.postgres.dsn import Dsn, resolve
from forecaster.postgres.embedded import running_server
from tests import sql
from tests.conftest import BINARIES, SETTINGS
from tests.faults import until

BIN = BINARIES["postgresql-15"]
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

needs_tls = pytest.mark.usefixtures("_what_tls_needs")


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def make_authority(directory: Path, name: str) -> Path:
    """A certificate authority of its own."""
    certificate = directory / f"{name}.crt"
    openssl(
        *("req", "-x509", *KEY, "-days", "1", "-subj", f"/CN={name}"),
        *("-keyout", directory / f"{name}.key", "-out", certificate),
    )
    return certificate


def certify(pgdata: Path, authority: Path) -> None:
    """Give the server a key and a certificate that the authority has signed."""
    request = authority.with_name("request")
    openssl("req", *KEY, "-subj", "/CN=server", "-keyout", pgdata / "server.key", "-out", request)
    openssl(
        *("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority.with_suffix(".key")),
        *("-CAcreateserial", "-days", "1", "-out", pgdata / "server.crt"),
    )
    for path in (pgdata / "server.key", pgdata / "server.crt"):
        os.chown(path, pgdata.stat().st_uid, pgdata.stat().st_gid)
        path.chmod(0o600)


@contextmanager
def on_the_network(directory: Path, binaries: Path, authority: Path | None) -> Iterator[Dsn]:
    """A server that is on a free port of 127.0.0.1; encrypted if there is an authority."""
    with running_server(directory, binaries=binaries) as local:
        pgdata = Path(local.host)
        (pgdata / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
        if authority:
            certify(pgdata, authority)
    settings = {"listen_addresses": "127.0.0.1", "ssl": "on" if authority else "off"}
    with listening(local, binaries, settings) as port:
        yield replace(local, host="127.0.0.1", port=port)


@contextmanager
def listening(local: Dsn, binaries: Path, settings: Mapping[str, str]) -> Iterator[int]:
    """The stopped server, started on a free port with these settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    server = embedded._Server(local, binaries, embedded._server_account())
    server._start({**SETTINGS, **settings, "port": str(port)})
    try:
        until(lambda: answers(replace(local, port=port)))
        yield port
    finally:
        server.stop()


def answers(dsn: Dsn) -> bool:
    try:
        return sql.adbc_rows(dsn, "SELECT 1") == [(1,)]
    except adbc.Error:
        return False


def asked(dsn: Dsn, **parameters: object) -> Dsn:
    """As a user would ask for it, in a URL."""
    url = dsn.uri + "".join(f"&{name}={value}" for name, value in parameters.items())
    resolved = resolve(url, {})
    assert resolved
    return resolved
