"""Addresses of databases with signs in every name, and password files."""

import string
from collections.abc import Mapping
from pathlib import Path

from forecaster.postgres.dsn import Dsn, resolve

NASTY = string.punctuation + "ä密🔑 %41 %2B"
PASSWORD = f" {NASTY} "
ROLE = f"r {NASTY}"
DATABASE = f"d {NASTY}"


def resolved(url: str | None, environ: Mapping[str, str] | None = None) -> Dsn:
    dsn = resolve(url, environ or {})
    assert dsn
    return dsn


def password_file(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "pgpass"
    path.write_text(text, encoding="utf-8", newline="")
    path.chmod(mode)
    return path


def in_password_file(field: str) -> str:
    return field.replace("\\", "\\\\").replace(":", "\\:")
