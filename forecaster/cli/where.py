"""Where a command finds the catalogue: in a database, or in Parquet files."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from forecaster.cli.options import was_typed
from forecaster.errors import InvalidOptionError
from forecaster.postgres.dsn import Dsn, resolve
from forecaster.postgres.embedded import default_data_dir, running_server
from forecaster.process.logs import log


@dataclass(frozen=True)
class Where:
    """Which database and schema: the options `DATABASE`."""

    database_url: str | None
    data_dir: Path | None
    schema: str
    stall_timeout: float

    @contextmanager
    def database(self) -> Iterator[Dsn]:
        """The configured database, else the embedded server; which one is said on stderr."""
        dsn = resolve(self.database_url)
        if dsn is None:
            if self.database_url is not None:  # as from "$UNSET" in a script
                raise InvalidOptionError("--database-url is empty", hint="give a URL, or leave it out")
            with embedded(self.data_dir) as own:
                yield replace(own, stall_timeout=self.stall_timeout)
        else:
            unused = "; --data-dir is not used" if was_typed("data_dir") else ""
            log.info("database: %s%s", dsn, unused)
            yield replace(dsn, stall_timeout=self.stall_timeout)

    def check_not_typed(self) -> None:
        """Raise `InvalidOptionError` if a database is named, and the catalogue is in files."""
        for name in ("database_url", "data_dir", "schema", "stall_timeout"):
            if was_typed(name):
                raise InvalidOptionError(
                    f"--source and --{name.replace('_', '-')} contradict each other",
                    hint="with --source the catalogue is in Parquet files, and no database is used",
                )

    def options(self, dsn: Dsn) -> str:
        """What has to be typed for a command to find the same tables; the password is left to a variable."""
        words = []
        if was_typed("database_url"):
            words.append('--database-url "$DATABASE_URL"' if dsn.password else f"--database-url {dsn}")
        elif was_typed("data_dir"):
            words.append(f"--data-dir {shlex.quote(str(self.data_dir))}")
        if self.schema != "public":
            words.append(f"--schema {shlex.quote(self.schema)}")
        return "".join(f" {word}" for word in words)


@dataclass(frozen=True)
class Files:
    """Where the Parquet files are, and where the forecasts go: the options `FILES`."""

    source: str | None
    """None: the catalogue is in a database."""
    sink: Path | None
    mldr: str | None

    def __post_init__(self) -> None:
        if self.source is None:
            for name in ("sink", "mldr"):
                if was_typed(name):
                    raise InvalidOptionError(f"--{name} is of no use without --source")
        if self.sink is not None and not self.sink.parts:
            raise InvalidOptionError("--sink is empty", hint="give a directory")


@contextmanager
def embedded(data_dir: Path | None) -> Iterator[Dsn]:
    """The embedded server, for as long as the block lasts."""
    if data_dir is not None and not data_dir.parts:  # "" is the path "."
        raise InvalidOptionError("--data-dir is empty", hint="give a directory, or leave it out")
    directory = data_dir or default_data_dir()
    log.info("database: embedded server in %s", directory)
    with running_server(directory) as dsn:
        yield dsn
