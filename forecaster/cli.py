"""The command line: every command parses, calls one function, and prints."""

import shlex
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forecaster.errors import ForecasterError, InvalidOptionError, WriteRefusedError
from forecaster.interrupt import Interrupted
from forecaster.secrecy import masked

if TYPE_CHECKING:
    from forecaster.dsn import Dsn
    from forecaster.model.parameters import AgeFrom, Parameters
    from forecaster.report import RunReport

Command = Callable[..., None]


_ID = click.IntRange(-(2**63), 2**63 - 1)


class _Group(click.Group):
    """Prints errors a user can meet without a traceback; any other is a bug and keeps it."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # by Polars, ahead of our own handler; click would call it "Aborted!"
            raise Interrupted(signal.SIGINT) from None
        except click.UsageError as error:
            raise click.UsageError(masked(error.format_message()), error.ctx) from None
        except ForecasterError as error:
            click.echo(masked(f"Error: {error}" + (f"\n  {error.hint}" if error.hint else "")), err=True)
            ctx.exit(error.exit_code)


@dataclass(frozen=True)
class _Where:
    """Which database and schema: what `_database_options` were given."""

    url: str | None
    data_dir: Path | None
    schema: str

    @contextmanager
    def database(self) -> "Iterator[Dsn]":
        """The configured database, else the embedded server; which one is said on stderr."""
        from forecaster.dsn import resolve

        dsn = resolve(self.url)
        if dsn is None:
            if self.url is not None:  # as from "$UNSET" in a script
                raise InvalidOptionError("--database-url is empty", hint="give a URL, or leave it out")
            with _embedded(self.data_dir) as embedded:
                yield embedded
        else:
            unused = "; --data-dir is not used" if _on_command_line("data_dir") else ""
            click.echo(f"database: {dsn}{unused}", err=True)
            yield dsn


def _on_command_line(option: str) -> bool:
    """Whether the user has given it now, and not by a variable."""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


@contextmanager
def _embedded(data_dir: Path | None) -> "Iterator[Dsn]":
    from forecaster.postgres.embedded import default_data_dir, running_server

    if data_dir is not None and not data_dir.parts:  # "" is the path "."
        raise InvalidOptionError("--data-dir is empty", hint="give a directory, or leave it out")
    directory = data_dir or default_data_dir()
    click.echo(f"database: embedded server in {directory}", err=True)
    with running_server(directory) as dsn:
        yield dsn


_data_dir_option = click.option(
    "--data-dir",
    envvar="FORECASTER_DATA_DIR",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the embedded server, which is used if no database is configured.  "
    "[default: forecaster, in the user's data home]",
)


def _database_options(command: Command) -> Command:
    """--database-url, --data-dir and --schema; the command gets them as one `where`."""

    @click.option(
        "--database-url",
        metavar="URL",
        help="postgresql://USER:PASSWORD@HOST:PORT/DATABASE.  "
        "[default: DATABASE_URL, else PGHOST and the others, else the embedded server]",
    )
    @_data_dir_option
    @click.option("--schema", default="public", show_default=True, help="Schema of the three tables.")
    @wraps(command)
    def with_where(*, database_url: str | None, data_dir: Path | None, schema: str, **others: object) -> None:
        command(where=_Where(database_url, data_dir, schema), **others)

    return with_where


def _model_options(command: Command) -> Command:
    """Options of the model; the command gets them as one `parameters`."""

    @click.option(
        "--horizon",
        type=click.IntRange(1, 400),
        metavar="N",
        default=24,
        show_default=True,
        help="Months to forecast.",
    )
    @click.option(
        "--age-from",
        type=click.Choice(["release", "first-date"]),
        default="release",
        show_default=True,
        help="What a track's age is measured from.",
    )
    @click.option(
        "--as-of",
        type=click.DateTime(["%Y-%m-%d"]),
        metavar="DATE",
        help="Day that ages are measured on.  [default: each track's own last date]",
    )
    @click.option(
        "--influence",
        type=click.FloatRange(0),
        metavar="VALUE",
        help="One influence for all tracks.  [default: 10 x streams of the last 30 records]",
    )
    @wraps(command)
    def with_parameters(
        *,
        horizon: int,
        age_from: "AgeFrom",
        as_of: datetime | None,
        influence: float | None,
        **others: object,
    ) -> None:
        from forecaster.model.parameters import Parameters

        day = as_of.date() if as_of else None
        command(parameters=Parameters(horizon, age_from, day, influence), **others)

    return with_parameters


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="forecaster")
def main() -> None:
    """Forecast the streams of every track of a music catalogue in PostgreSQL.

    \b
    Example:
      forecaster demo
    """


@main.command()
@click.option(
    "--tracks",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Tracks in the sample catalogue.  [default: 300]",
)
@_data_dir_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File for the one track.")
def demo(tracks: int | None, data_dir: Path | None, out: Path | None) -> None:
    """Try it: embedded server, sample catalogue, run, dump of one track.

    It works in a schema of its own, "demo". Again is fine: it reuses what is there. Another number of
    --tracks than is there begins anew.

    \b
    Example:
      forecaster demo --tracks 8459
    """
    from forecaster.demo import SCHEMA, fill, first_forecast
    from forecaster.model.parameters import Parameters
    from forecaster.run import RunConfig, run

    with _embedded(data_dir) as dsn:
        filled = fill(dsn, tracks)
        if filled:
            click.echo(f"sample catalogue: {filled.streams:,} daily rows and {filled.mldr:,} artists loaded")
        else:
            click.echo("sample catalogue: there already")
        click.echo(_summary(run(RunConfig(dsn, SCHEMA))))
        click.echo()
        _dump(dsn, SCHEMA, Parameters(), first_forecast(dsn), out)
    where = f" --data-dir {shlex.quote(str(data_dir))}" if _on_command_line("data_dir") else ""
    click.echo(
        f"""
Next:
  forecaster run{where} --schema {SCHEMA}
  forecaster dump{where} --schema {SCHEMA} --track-id 7
  forecaster init{where}
  forecaster load{where} STREAMS.csv --mldr MLDR.csv"""
    )


@main.command()
@_database_options
def init(where: _Where) -> None:
    """Create what is missing of the three tables; what exists is left as it is.

    Only a unique key on (cm_track_id, month) is added to a forecast table that has none, where its rows
    and the user's rights allow it.

    \b
    Example:
      forecaster init --database-url postgresql://me@localhost/music
    """
    from forecaster.initialise import initialise

    with where.database() as dsn:
        result = initialise(dsn, where.schema)
    _warn(result.warnings)
    click.echo("\n".join(f"created {name}" for name in result.created) or "nothing to create: all is there")


@main.command()
@click.argument("streams", type=click.Path(path_type=Path), required=False)
@click.option("--mldr", type=click.Path(path_type=Path), help="File with cm_artist_id and mldr.")
@click.option(
    "--track-id", type=_ID, metavar="ID", help="Track of an exported STREAMS file, which names none."
)
@click.option("--artist-id", type=_ID, metavar="ID", help="Artist of an exported STREAMS file.")
@_database_options
def load(
    streams: Path | None,
    mldr: Path | None,
    track_id: int | None,
    artist_id: int | None,
    where: _Where,
) -> None:
    """Load STREAMS and decay rates, CSV or Parquet, into the two source tables: all rows or none.

    STREAMS has the columns cm_track_id, cm_artist_id, date, daily_streams and, if known,
    days_from_release; or it is one track's export of a music-analytics service (Date, Value,
    Days from release), with --track-id and --artist-id.

    \b
    Examples:
      forecaster load streams.parquet --mldr mldr.csv
      forecaster load export.csv --track-id 42 --artist-id 7
    """
    from forecaster.files import counted
    from forecaster.intake import read_mldr, read_streams
    from forecaster.load import load as load_rows

    if streams is None and mldr is None:
        raise InvalidOptionError("nothing to load", hint="name a file of STREAMS, or --mldr FILE, or both")
    daily = read_streams(streams, track_id=track_id, artist_id=artist_id) if streams else None
    rates = read_mldr(mldr) if mldr else None
    for path, intake in ((streams, daily), (mldr, rates)):
        if intake and intake.ignored:
            click.echo(f"{path}: columns not needed: {', '.join(intake.ignored)}", err=True)
        if intake and len(intake.left_out):
            row, day, reason = intake.left_out.row(0)
            click.echo(
                f"{path}: {counted(len(intake.left_out), 'record')} left out, whose daily streams are not "
                f"known; the first is row {row}, {day}: {reason}",
                err=True,
            )
    with where.database() as dsn:
        loaded = load_rows(
            dsn, where.schema, streams=daily.rows if daily else None, mldr=rates.rows if rates else None
        )
    click.echo(f"loaded {counted(loaded.streams, 'daily row')} and {counted(loaded.mldr, 'decay rate')}")


@main.command()
@_model_options
@click.option(
    "--track-id", type=_ID, metavar="ID", multiple=True, help="Only this track, if pending. Can be repeated."
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Look at no more than so many pending tracks."
)
@click.option("--replace", is_flag=True, help="Also tracks that have a forecast: it is replaced.")
@click.option("--dry-run", is_flag=True, help="Everything but the write.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 2**31, max_open=True),
    metavar="SECONDS",
    default=0.0,
    help="Wait so long for another run to end.  [default: 0]",
)
@click.option(
    "--report",
    "report_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Write what the run did, with every skipped track.",
)
@click.option(
    "--skipped",
    "skipped_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.csv|parquet",
    help="Write the skipped tracks and their reasons.",
)
@_database_options
def run(
    track_id: tuple[int, ...],
    report_path: Path | None,
    skipped_path: Path | None,
    parameters: "Parameters",
    where: _Where,
    **options: Any,  # noqa: ANN401 - the fields of RunConfig, by their names
) -> None:
    """Forecast every pending track, and store the result.

    Pending is each track that has streams and no forecast.

    \b
    Exit code: 0 done (skipped tracks are no failure), 1 failed, 2 wrong call, 3 no connection,
    4 the tables do not fit, 5 another run is at work, 130 or 143 interrupted.

    \b
    Examples:
      forecaster run
      forecaster run --horizon 400 --influence 1000 --limit 100 --dry-run
      forecaster run --replace --track-id 42 --report report.json
    """
    from forecaster.run import RunConfig
    from forecaster.run import run as run_pending

    with _written(report_path, skipped_path) as report:
        report.parameters, report.schema = parameters, where.schema
        with where.database() as dsn:
            run_pending(RunConfig(dsn, where.schema, parameters, track_id, **options), report)
        _warn(report.warnings)
        click.echo(_summary(report))
        if report.refused:
            track, reason = min(report.refused.items())
            raise WriteRefusedError(
                f"the table cannot hold the forecasts of {len(report.refused)} tracks, the first is {track} "
                f"({reason})" + ("" if report.dry_run else "; those of the other tracks are stored"),
                hint="a wider column type helps; --report lists them all",
            )


@main.command()
@click.option(
    "--track-id", type=_ID, metavar="ID", help="The track.  [default: the first pending one with a forecast]"
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV or Parquet, by its ending.  [default: track_<id>_forecast.csv]",
)
@_model_options
@_database_options
def dump(
    track_id: int | None,
    out: Path | None,
    parameters: "Parameters",
    where: _Where,
) -> None:
    """Forecast one track into a file, and show all that its numbers follow from. Stores nothing.

    \b
    Example:
      forecaster dump --track-id 42 --out track_42.parquet
    """
    with where.database() as dsn:
        _dump(dsn, where.schema, parameters, track_id, out)


def _dump(dsn: "Dsn", schema: str, parameters: "Parameters", track_id: int | None, out: Path | None) -> None:
    from forecaster.diagnosis import diagnose
    from forecaster.files import check_output_path, write_table

    if out:
        check_output_path(out)
    diagnosis = diagnose(dsn, schema, parameters, track_id)
    path = out or Path(f"track_{diagnosis.track['cm_track_id']}_forecast.csv")
    write_table(diagnosis.forecasts, path)
    click.echo(str(diagnosis))
    click.echo(f"written to {path}")


@contextmanager
def _written(report_path: Path | None, skipped_path: Path | None) -> "Iterator[RunReport]":
    """A report that is written at the end, also if that is a failure: then it says so."""
    from forecaster.files import check_output_path, write_table, write_text
    from forecaster.report import RunReport

    report = RunReport()

    def write() -> None:
        if report_path:
            write_text(report.to_json(), report_path)
        if skipped_path:
            write_table(report.skipped, skipped_path)

    if report_path:
        check_output_path(report_path, any_ending=True)
    if skipped_path:
        check_output_path(skipped_path)
    try:
        yield report
    except BaseException as error:
        is_known = isinstance(error, ForecasterError | Interrupted)
        report.error = f"{error}" if is_known else type(error).__name__
        with suppress(ForecasterError):  # the first error counts
            write()
        raise
    write()


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)


def _summary(report: "RunReport") -> str:
    stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.stages.items())
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.skipped_by_reason.items())
    lines = {
        ("tracks looked at" if report.replace else "tracks pending"): f"{report.pending:,}",
        "forecast": f"{report.forecast:,}",
        "skipped": f"{len(report.skipped):,}" + (f" ({reasons})" if reasons else ""),
        **({"taken by another": f"{len(report.taken):,}"} if report.taken else {}),
        **({"refused": f"{len(report.refused):,}"} if report.refused else {}),
        "rows written": "0 (dry run)" if report.dry_run else f"{report.rows:,}",
        "daily rows left out": f"{report.unusable_rows:,} unusable, {report.duplicate_rows:,} duplicate",
        "seconds": f"{report.seconds:.2f} ({stages})",
        "tracks per second": f"{report.pending / report.seconds:,.0f}",
    }
    return "\n".join(f"{name:<21}{value}" for name, value in lines.items())
