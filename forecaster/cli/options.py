"""The kinds of options, and those that several commands have."""

import re
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click


class _Id(click.ParamType[int]):
    """A track or an artist. The range of 64 bits, which IntRange shows in the help, is of no use there."""

    name = "integer"

    def convert(self, value: int | str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        integer = click.INT.convert(value, param, ctx)  # type: ignore[arg-type]
        in_range: int = _INT64.convert(integer, param, ctx)
        return in_range


class _Day(click.ParamType[date]):
    """A date, of which an error shows an example."""

    name = "date"

    def convert(self, value: date | str, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return datetime.strptime(value, "%Y-%m-%d").date()  # noqa: DTZ007 - a day, not an instant
        except ValueError:
            self.fail(f"{value!r} is not a date like 2024-01-31.", param, ctx)


class _Bucket(click.ParamType[tuple[int, int]]):
    """Which of how many."""

    name = "K/N"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
        if match is None:
            self.fail(f"{value!r} is no bucket: expected K/N, such as 0/64, the first of 64", param, ctx)
        return int(match[1]), int(match[2])


class IntRange(click.IntRange):
    """An integer of some range; the message on what is none names an integer, and no range."""

    name = "integer"


class FloatRange(click.FloatRange):
    """The same for a number."""

    name = "number"


_INT64 = click.IntRange(-(2**63), 2**63 - 1)
_SECONDS = FloatRange(0, 2**31, max_open=True)
ID = _Id()
DAY = _Day()
BUCKET = _Bucket()
FILE = click.Path(dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
FILE_OR_DIRECTORY = click.Path(path_type=Path)


class Option(click.Option):
    """An option that is also a variable, which the help shows.

    It is FORECASTER_ and the option's name where that means the same for all commands, else with the
    command's name between: what is set for one must not change what another does.
    """

    def __init__(self, *arguments: Any, shared: bool = False, **attributes: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **attributes)
        self.is_shared = shared

    def belong_to(self, command: str) -> None:
        """Take the variable's name, now that the command is known."""
        if self.envvar is None:
            longest = max((name for name in self.opts if name.startswith("--")), key=len)
            of = "" if self.is_shared else f"{command}_"
            self.envvar = f"FORECASTER_{of}{longest.removeprefix('--')}".replace("-", "_").upper()
        self.show_envvar = True
        if self.multiple:
            self.help = f"{self.help} Can be repeated; in the variable, blanks separate."


def option(*names: str, shared: bool = False, **attributes: object) -> Option:
    """An option of our kind; `shared` if it means the same for all commands that have it.

    A name without dashes is that of the field, or parameter, that gets the value.
    """
    return Option(names, shared=shared, **attributes)


def was_typed(name: str) -> bool:
    """Whether the user has given the option now, and not by a variable."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def out_option(text: str, *, required: bool = False) -> Option:
    """--out FILE."""
    return option("--out", type=FILE, metavar="FILE", required=required, help=text)


def track_option(text: str, *, required: bool = False) -> Option:
    """--track-id ID, of one track."""
    return option("--track-id", type=ID, metavar="ID", required=required, help=text)


def source_option(text: str) -> Option:
    """--source DIR, of Parquet files."""
    return option("--source", shared=True, metavar="DIR|GLOB|URL", help=text)


SPEAKING = (
    option(
        "-v", "--verbose", count=True, shared=True, help="Say more; -vv also shows where an error came from."
    ),
    option(
        "-q", "--quiet", is_flag=True, shared=True, help="Say nothing but warnings, errors and the last line."
    ),
    option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        shared=True,
        help="What is said on stderr: text, or one JSON object per line.",
    ),
    option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        shared=True,
        help="Colours; NO_COLOR counts for auto.",
    ),
)
"""Those of every command."""

DATA_DIR = option(
    "--data-dir",
    shared=True,
    type=DIRECTORY,
    help="Directory of the embedded server, which is used if no database is configured.  "
    "[default: forecaster, in the user's data home]",
)

DATABASE = (
    option(
        "--database-url",
        shared=True,
        metavar="URL",
        envvar="DATABASE_URL",
        help="postgresql://USER:PASSWORD@HOST:PORT/DATABASE.  "
        "[default: PGHOST and the others, else the embedded server]",
    ),
    DATA_DIR,
    option("--schema", shared=True, default="public", show_default=True, help="Schema of the tables."),
    option(
        "--stall-timeout",
        shared=True,
        type=_SECONDS,
        metavar="SECONDS",
        default=120.0,
        help="Fail if the database is silent for so long while it works on no statement; 0: no limit.  "
        "[default: 120]",
    ),
)
"""The fields of `Where`."""

RATES = option(
    "--mldr",
    shared=True,
    metavar="FILE|GLOB|URL",
    help="Decay rates of --source, in Parquet.  [default: mldr/ in its directory]",
)

FILES = (
    source_option("Catalogue in Parquet files: directory, pattern or URL. No database is used."),
    option(
        "--sink",
        shared=True,
        type=DIRECTORY,
        metavar="DIR",
        help="Directory for the forecasts, as Parquet files.",
    ),
    RATES,
)
"""The fields of `Files`."""

AGE_FROM = option(
    "--age-from",
    shared=True,
    type=click.Choice(["release", "first-date"]),
    default="release",
    show_default=True,
    help="What a track's age is measured from.",
)

TRACK_PARAMETERS = (
    AGE_FROM,
    option(
        "--as-of",
        shared=True,
        type=DAY,
        metavar="DATE",
        help="Day that ages are measured on.  [default: each track's own last date]",
    ),
    option(
        "--influence",
        shared=True,
        type=FloatRange(0),
        metavar="VALUE",
        help="One influence for all tracks.  [default: 10 x streams of the last 30 records]",
    ),
)
"""The fields of `Parameters` that tell what a track is like."""

PARAMETERS = (
    option(
        "--horizon",
        shared=True,
        type=IntRange(1, 400),
        metavar="N",
        default=24,
        show_default=True,
        help="Months to forecast.",
    ),
    *TRACK_PARAMETERS,
)
"""All fields of `Parameters`."""

REPORTING = (
    option(
        "--wait",
        type=_SECONDS,
        metavar="SECONDS",
        default=0.0,
        help="Wait so long for another run to end.  [default: 0]",
    ),
    option(
        "--report",
        type=FILE,
        metavar="FILE.json",
        help="Write what the run did, with all that was skipped.",
    ),
    option("--skipped", type=FILE, metavar="FILE.csv|parquet", help="Write what was skipped, and why."),
    option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print what --report writes on stdout, and nothing else there.",
    ),
)
"""How long to wait, and what a run leaves behind: the fields of `ReportFiles`, and the kind of output."""
