"""Types of options, and the options that several commands share."""

import re
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from forecaster.errors import InvalidOptionError
from forecaster.run.plausible import ALL, CHECKS, NONE, Plausibility, Threshold


class _Id(click.ParamType[int]):
    """The 64-bit id of a track or an artist. Unlike for an IntRange, the help shows no range."""

    name = "integer"

    def convert(self, value: int | str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        integer = click.INT.convert(value, param, ctx)  # type: ignore[arg-type]
        in_range: int = _INT64.convert(integer, param, ctx)
        return in_range


class _Day(click.ParamType[date]):
    """A date. The message on an invalid one shows an example."""

    name = "date"

    def convert(self, value: date | str, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return datetime.strptime(value, "%Y-%m-%d").date()  # noqa: DTZ007 - a day, not an instant
        except ValueError:
            self.fail(f"{value!r} is not a date like 2024-01-31.", param, ctx)


class _Days(click.ParamType[tuple[date, date]]):
    """The days from one to another, as SINCE..UNTIL. Both belong to them."""

    name = "SINCE..UNTIL"

    def convert(
        self, value: str | tuple[date, date], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[date, date]:
        if isinstance(value, tuple):
            return value
        since, separator, until = value.partition("..")
        if not separator:
            self.fail(f"{value!r} is not a range of dates like 2024-01-01..2024-01-31.", param, ctx)
        first, last = DAY.convert(since, param, ctx), DAY.convert(until, param, ctx)
        if first > last:
            self.fail(f"{value!r} ends before it begins.", param, ctx)
        return first, last


class _Bucket(click.ParamType[tuple[int, int]]):
    """A bucket as K/N: number K of N."""

    name = "K/N"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", value)
        if match is None:
            self.fail(f"{value!r} is not a bucket: expected K/N, such as 0/64, the first of 64", param, ctx)
        return int(match[1]), int(match[2])


class _Threshold(click.ParamType[Threshold]):
    """The threshold of a check as NAME=VALUE; NAME=off stands for None."""

    name = "NAME=VALUE"

    def convert(
        self, value: str | Threshold, param: click.Parameter | None, ctx: click.Context | None
    ) -> Threshold:
        if isinstance(value, Threshold):
            return value
        name, _, number = value.partition("=")
        try:
            threshold = Threshold(name, None if number == "off" else float(number))
            Plausibility(thresholds=(threshold,))
        except ValueError:
            self.fail(
                f"{value!r} is not a threshold like {name or 'age'}=7 or {name or 'age'}=off.", param, ctx
            )
        except InvalidOptionError as error:
            self.fail(_whole(error), param, ctx)
        return threshold


class _Strict(click.ParamType[str]):
    """The name of a check. A word that a flag takes stands for all, or none."""

    name = "check"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        is_all = click.BOOL.str_to_bool(value)
        if is_all is not None:
            return ALL if is_all else NONE
        try:
            Plausibility(strict=(value,))
        except InvalidOptionError as error:
            self.fail(_whole(error), param, ctx)
        return value


def _whole(error: InvalidOptionError) -> str:
    """Return an error with its hint."""
    return f"{error}; {error.hint}" if error.hint else f"{error}"


class IntRange(click.IntRange):
    """An integer in a range. The error message for another value says integer, not range."""

    name = "integer"


class FloatRange(click.FloatRange):
    """A number in a range. The error message for another value says number, not range."""

    name = "number"


BY = ("month", "segment", "influence", "volume", "cutoff", "run", "age", "total")
"""The groups of which `evaluate` prints a table."""

_INT64 = click.IntRange(-(2**63), 2**63 - 1)
_SECONDS = FloatRange(0, 2**31, max_open=True)
ID = _Id()
DAY = _Day()
DAYS = _Days()
BUCKET = _Bucket()
THRESHOLD = _Threshold()
STRICT = _Strict()
FILE = click.Path(dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
FILE_OR_DIRECTORY = click.Path(path_type=Path)


class Option(click.Option):
    """An option that can also be set by an environment variable, which the help shows.

    If the option means the same in all commands, the variable is FORECASTER_ and the option's name. Otherwise
    the command's name comes between the two: a value for one command must not change another.
    """

    def __init__(self, *arguments: Any, shared: bool = False, **attributes: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **attributes)
        self.is_shared = shared

    @property
    def key(self) -> str:
        """The name of the option without dashes in front, as in a configuration file."""
        return max((name for name in self.opts if name.startswith("--")), key=len).removeprefix("--")

    def belong_to(self, command: str) -> None:
        """Set the name of the variable, now that the command is known."""
        if self.envvar is None:
            of = "" if self.is_shared else f"{command}_"
            self.envvar = f"FORECASTER_{of}{self.key}".replace("-", "_").upper()
        self.show_envvar = True
        if self.multiple:
            self.help = f"{self.help} Repeatable; the variable separates values by blanks."


def option(*names: str, shared: bool = False, **attributes: object) -> Option:
    """Declare an option; `shared` if it means the same in all commands that have it.

    A name without dashes names the field or parameter that receives the value.
    """
    return Option(names, shared=shared, **attributes)


def was_typed(name: str) -> bool:
    """Whether the option was given on the command line, not by a variable or a file."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def out_option(text: str, *, required: bool = False, default: str | None = None) -> Option:
    """--out FILE."""
    return option("--out", type=FILE, metavar="FILE", required=required, show_default=default, help=text)


def track_option(text: str, *, required: bool = False, default: str | None = None) -> Option:
    """--track-id ID, for one track."""
    return option("--track-id", type=ID, metavar="ID", required=required, show_default=default, help=text)


def source_option(text: str, *, default: str | None = None) -> Option:
    """--source DIR, for Parquet files."""
    return option("--source", shared=True, metavar="DIR|GLOB|URL", show_default=default, help=text)


SPEAKING = (
    option(
        "-v",
        "--verbose",
        count=True,
        shared=True,
        help="Print more messages; -vv also prints where an error was raised.",
    ),
    option("-q", "--quiet", is_flag=True, shared=True, help="Print only warnings, errors and the last line."),
    option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        shared=True,
        help="Format of the messages on stderr: text, or one JSON object per line.",
    ),
    option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        shared=True,
        help="Use colours; auto: on a terminal, unless NO_COLOR is set.",
    ),
    option(
        "--config",
        shared=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE.toml",
        expose_value=False,
        show_default="forecaster.toml in the working directory, if it exists",
        help="File with values for options.",
    ),
    option(
        "--profile",
        shared=True,
        metavar="NAME",
        expose_value=False,
        help="Profile in the configuration file, the section [profile.NAME].",
    ),
)
"""Every command has these. The last two say what the others are read from: no body takes them."""


def data_dir_option(used: str) -> Option:
    """--data-dir DIRECTORY; the help says when the embedded server is used."""
    return option(
        "--data-dir",
        shared=True,
        type=DIRECTORY,
        help=f"Directory of the embedded server, which is {used}.",
        show_default="forecaster in your data home",
    )


DATABASE = (
    option(
        "--database-url",
        shared=True,
        metavar="URL",
        envvar="DATABASE_URL",
        help="Database, as postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
        show_default="PGHOST and the like, else the embedded server",
    ),
    data_dir_option("used if no database is configured"),
    option("--schema", shared=True, default="public", show_default=True, help="Schema of the tables."),
    option(
        "--stall-timeout",
        shared=True,
        type=_SECONDS,
        metavar="SECONDS",
        default=120,
        show_default=True,
        help="Fail if the server is silent for SECONDS while it executes no statement; 0: no limit.",
    ),
)
"""The fields of `cli.where.Where`."""

RATES = option(
    "--mldr",
    shared=True,
    metavar="FILE|GLOB|URL",
    help="Decay rates for --source, as Parquet files.",
    show_default="mldr/ in the directory of --source",
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
"""The fields of `cli.where.Files`."""

AGE_FROM = option(
    "--age-from",
    shared=True,
    type=click.Choice(["release", "first-date"]),
    default="release",
    show_default=True,
    help="Where a track's age starts: at its release, or at its first date.",
)

TRACK_PARAMETERS = (
    AGE_FROM,
    option(
        "--as-of",
        shared=True,
        type=DAY,
        metavar="DATE",
        help="Day on which ages are measured.",
        show_default="each track's last date",
    ),
    option(
        "--influence",
        shared=True,
        type=FloatRange(0),
        metavar="VALUE",
        help="One influence for all tracks.",
        show_default="10 x streams of the last 30 records",
    ),
)
"""The fields of `Parameters`, without the horizon."""

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

LEVEL = option(
    "--level",
    "level_days",
    type=click.Choice([7, 30]),
    help="Days whose mean a forecast starts from.",
    show_default="30; of the calibrated model 7",
)

MODEL = (
    option(
        "--model",
        type=click.Choice(["production", "calibrated", "auto"]),
        default="production",
        show_default=True,
        help="Model; calibrated and auto need a calibration; auto: the one that suited the catalogue best.",
    ),
    option(
        "--calibration",
        metavar="ID|FILE",
        help="Calibration of the model, or of the intervals of the production model.",
        show_default="the newest as of the run's day",
    ),
    LEVEL,
    option(
        "--max-stale-days",
        type=IntRange(0),
        metavar="DAYS",
        default=45,
        show_default=True,
        help="Warn of a calibration that is older than the run's day by more than DAYS.",
    ),
    option(
        "--intervals/--no-intervals",
        default=True,
        show_default=True,
        help="Store how sure the forecasts are; in files only with a calibration.",
    ),
)
"""What forecasts are made with: fields of `RunConfig`."""

MODEL_OF_TRACK = MODEL[:3]
"""The model, its calibration, and the level."""

PLAUSIBILITY = (
    option(
        "--threshold",
        "thresholds",
        shared=True,
        type=THRESHOLD,
        metavar="CHECK=VALUE",
        multiple=True,
        help="Threshold of a plausibility check, or CHECK=off.",
        show_default=", ".join(f"{name}={check.threshold:g}" for name, check in CHECKS.items()),
    ),
    option(
        "--strict",
        shared=True,
        type=STRICT,
        metavar="[CHECK]",
        multiple=True,
        is_flag=False,
        flag_value=ALL,
        help="Exit with code 6 if this plausibility check warns; without CHECK, or with all: if any does;"
        " none: never.",
    ),
)
"""The fields of `Plausibility`. `forecaster.run.plausible` imports nothing heavy."""

REPORTING = (
    option(
        "--wait",
        type=_SECONDS,
        metavar="SECONDS",
        default=0,
        show_default=True,
        help="Wait up to SECONDS for another run to finish.",
    ),
    option(
        "--report",
        type=FILE,
        metavar="FILE.json",
        help="Write a report of the run, with everything that was skipped.",
    ),
    option(
        "--skipped", type=FILE, metavar="FILE.csv|parquet", help="Write what was skipped, with the reason."
    ),
    option(
        "--metrics",
        type=FILE,
        metavar="FILE.prom",
        help="Write metrics for Prometheus, also if the run fails.",
    ),
    option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the report as JSON, instead of the summary.",
    ),
)
"""How long to wait, the fields of `cli.report_files.ReportFiles`, and the kind of output."""
