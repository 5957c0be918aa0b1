"""Where a command finds the catalogue: a database or Parquet files."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from forecaster.cli.options import was_typed
from forecaster.cli.settings import kept
from forecaster.errors import InvalidOptionError
from forecaster.postgres.dsn import Dsn, libpq_variables_hidden, resolve
from forecaster.postgres.early import Early
from forecaster.postgres.embedded import default_data_dir, running_server
from forecaster.process.logs import log


@dataclass(frozen=True)
class Where:
    """The database and schema that the options `DATABASE` name."""

    database_url: str | None
    data_dir: Path | None
    schema: str
    stall_timeout: float
    early: Early | None = None
    """The connection to the database that is already being opened, if the command is given one."""

    @contextmanager
    def database(self) -> Iterator[Dsn]:
        """Yield the configured database, else the embedded server; log which one."""
        dsn = self.early.dsn if self.early else resolve(self.database_url)
        if dsn is None:
            if self.database_url is not None:  # as from "$UNSET" in a script
                raise InvalidOptionError("--database-url is empty", hint="give a URL, or omit the option")
            with embedded(self.data_dir) as own:
                yield replace(own, stall_timeout=self.stall_timeout)
        else:
            unused = "; --data-dir is not used" if was_typed("data_dir") else ""
            log.info("database: %s%s", dsn, unused)
            with libpq_variables_hidden():  # before there are other threads
                yield replace(dsn, stall_timeout=self.stall_timeout)

    def check_not_typed(self) -> None:
        """Raise `InvalidOptionError` if a database is named although the catalogue is in files."""
        for name in ("database_url", "data_dir", "schema", "stall_timeout"):
            if was_typed(name):
                raise InvalidOptionError(
                    f"--source and --{name.replace('_', '-')} contradict each other",
                    hint="with --source the catalogue is in Parquet files, and no database is used",
                )

    def options(self, dsn: Dsn) -> str:
        """Return the options with which a command finds the same tables; a password stays in a variable."""
        words = []
        if was_typed("database_url"):
            words.append('--database-url "$DATABASE_URL"' if dsn.password else f"--database-url {dsn}")
        elif was_typed("data_dir"):
            words.append(f"--data-dir {shlex.quote(str(self.data_dir))}")
        if self.schema != "public":
            words.append(f"--schema {shlex.quote(self.schema)}")
        settings = kept(click.get_current_context())
        if settings and was_typed("config"):
            words.append(f"--config {shlex.quote(str(settings.path))}")
        if settings and settings.profile and was_typed("profile"):
            words.append(f"--profile {shlex.quote(settings.profile)}")
        return "".join(f" {word}" for word in words)


@dataclass(frozen=True)
class Files:
    """The Parquet files to read and write, as the options `FILES` name them."""

    source: str | None
    """None: the catalogue is in a database."""
    sink: Path | None
    mldr: str | None

    def __post_init__(self) -> None:
        if self.source is None:
            for name in ("sink", "mldr"):
                if was_typed(name):
                    raise InvalidOptionError(f"--{name} needs --source")
        if self.sink is not None and not self.sink.parts:
            raise InvalidOptionError("--sink is empty", hint="give a directory")


@contextmanager
def embedded(data_dir: Path | None) -> Iterator[Dsn]:
    """Start the embedded server for the duration of the block."""
    if data_dir is not None and not data_dir.parts:  # "" is the path "."
        raise InvalidOptionError("--data-dir is empty", hint="give a directory, or omit the option")
    directory = data_dir or default_data_dir()
    log.info("database: embedded server in %s", directory)
    with libpq_variables_hidden(), running_server(directory) as dsn:  # before there are other threads
        yield dsn
