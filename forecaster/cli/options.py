"""The options that several commands have: which database, and the model's parameters."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forecaster.cli.base import ID, FloatRange, IntRange, Option, was_typed
from forecaster.errors import InvalidOptionError
from forecaster.process.logs import log

if TYPE_CHECKING:
    from forecaster.model.parameters import AgeFrom
    from forecaster.postgres.dsn import Dsn

Command = Callable[..., None]


@dataclass(frozen=True)
class Where:
    """Which database and schema: what `database_options` were given."""

    url: str | None
    data_dir: Path | None
    schema: str
    stall_timeout: float

    @contextmanager
    def database(self) -> "Iterator[Dsn]":
        """The configured database, else the embedded server; which one is said on stderr."""
        from forecaster.postgres.dsn import resolve

        dsn = resolve(self.url)
        if dsn is None:
            if self.url is not None:  # as from "$UNSET" in a script
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

    def options(self, dsn: "Dsn") -> str:
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
class FromFiles:
    """Where the Parquet files are, and where the forecasts go: what `files_options` were given."""

    source: str
    sink: Path | None
    mldr: str | None


@contextmanager
def embedded(data_dir: Path | None) -> "Iterator[Dsn]":
    """The embedded server, for as long as the block lasts."""
    from forecaster.postgres.embedded import default_data_dir, running_server

    if data_dir is not None and not data_dir.parts:  # "" is the path "."
        raise InvalidOptionError("--data-dir is empty", hint="give a directory, or leave it out")
    directory = data_dir or default_data_dir()
    log.info("database: embedded server in %s", directory)
    with running_server(directory) as dsn:
        yield dsn


def option(*names: str, **attributes: object) -> Callable[[Command], Command]:
    """An option of our kind; `shared` if it means the same for all commands that have it."""
    return click.option(*names, cls=Option, **attributes)


data_dir_option = option(
    "--data-dir",
    shared=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the embedded server, which is used if no database is configured.  "
    "[default: forecaster, in the user's data home]",
)


age_option = option(
    "--age-from",
    shared=True,
    type=click.Choice(["release", "first-date"]),
    default="release",
    show_default=True,
    help="What a track's age is measured from.",
)


def out_option(text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """--out FILE."""
    return option(
        "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", required=required, help=text
    )


def track_option(text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """--track-id ID, of one track."""
    return option("--track-id", type=ID, metavar="ID", required=required, help=text)


def database_options(command: Command) -> Command:
    """--database-url, --data-dir, --schema and --stall-timeout; the command gets them as one `where`."""

    @option(
        "--database-url",
        shared=True,
        metavar="URL",
        envvar="DATABASE_URL",
        help="postgresql://USER:PASSWORD@HOST:PORT/DATABASE.  "
        "[default: PGHOST and the others, else the embedded server]",
    )
    @data_dir_option
    @option("--schema", shared=True, default="public", show_default=True, help="Schema of the tables.")
    @option(
        "--stall-timeout",
        shared=True,
        type=FloatRange(0, 2**31, max_open=True),
        metavar="SECONDS",
        default=120.0,
        help="Fail if the database is silent for so long while it works on no statement; 0: no limit.  "
        "[default: 120]",
    )
    @wraps(command)
    def with_where(
        *,
        database_url: str | None,
        data_dir: Path | None,
        schema: str,
        stall_timeout: float,
        **others: object,
    ) -> None:
        command(where=Where(database_url, data_dir, schema, stall_timeout), **others)

    return with_where


def files_options(command: Command) -> Command:
    """--source, --sink and --mldr; the command gets them as one `files`, or None without a source."""

    @source_option("Catalogue in Parquet files: directory, pattern or URL. No database is used.")
    @option(
        "--sink",
        shared=True,
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Directory for the forecasts, as Parquet files.",
    )
    @rates_option
    @wraps(command)
    def with_files(*, source: str | None, sink: Path | None, mldr: str | None, **others: object) -> None:
        if source is None:
            for name in ("sink", "mldr"):
                if was_typed(name):
                    raise InvalidOptionError(f"--{name} is of no use without --source")
        if sink is not None and not sink.parts:
            raise InvalidOptionError("--sink is empty", hint="give a directory")
        command(files=None if source is None else FromFiles(source, sink, mldr), **others)

    return with_files


def source_option(text: str) -> Callable[[Command], Command]:
    """--source DIR, of Parquet files."""
    return option("--source", shared=True, metavar="DIR|GLOB|URL", help=text)


rates_option = option(
    "--mldr",
    shared=True,
    metavar="FILE|GLOB|URL",
    help="Decay rates of --source, in Parquet.  [default: mldr/ in its directory]",
)


def model_options(command: Command) -> Command:
    """All parameters of the model; the command gets them as one `parameters`."""
    horizon = option(
        "--horizon",
        shared=True,
        type=IntRange(1, 400),
        metavar="N",
        default=24,
        show_default=True,
        help="Months to forecast.",
    )
    return horizon(track_options(command))


def track_options(command: Command) -> Command:
    """The parameters that tell what a track is like; the command gets them as one `parameters`."""

    @age_option
    @option(
        "--as-of",
        shared=True,
        type=click.DateTime(["%Y-%m-%d"]),
        metavar="DATE",
        help="Day that ages are measured on.  [default: each track's own last date]",
    )
    @option(
        "--influence",
        shared=True,
        type=FloatRange(0),
        metavar="VALUE",
        help="One influence for all tracks.  [default: 10 x streams of the last 30 records]",
    )
    @wraps(command)
    def with_parameters(
        *,
        age_from: "AgeFrom",
        as_of: datetime | None,
        influence: float | None,
        horizon: int = 24,
        **others: object,
    ) -> None:
        from forecaster.model.parameters import Parameters

        day = as_of.date() if as_of else None
        command(parameters=Parameters(horizon, age_from, day, influence), **others)

    return with_parameters
