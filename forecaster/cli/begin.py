"""The commands to begin with: try it, make the tables, fill them, complete words in the shell."""

import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forecaster.cli.base import ID, Command, IntRange, console, doing, finish, say, warn, was_typed
from forecaster.cli.look import show_track
from forecaster.cli.nightly import summarise
from forecaster.cli.options import (
    Where,
    data_dir_option,
    database_options,
    embedded,
    option,
    out_option,
)
from forecaster.errors import InvalidOptionError
from forecaster.process.logs import log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forecaster.files.intake import Intake
    from forecaster.setup.load import Loaded


@click.command(cls=Command)
@option(
    "--tracks",
    type=IntRange(1, 100_000),
    metavar="N",
    help="Tracks in the sample catalogue.  [default: 300]",
)
@data_dir_option
@out_option("CSV or Parquet file for the one track.  [default: track_<id>_forecast.csv]")
def demo(tracks: int | None, data_dir: Path | None, out: Path | None) -> None:
    """Try it: embedded server, sample catalogue, run, dump of one track.

    It works in a schema of its own, "demo". Again is fine: it reuses what is there. Another number of
    --tracks than is there begins anew.

    \b
    Example:
      forecaster demo --tracks 8459
    """
    from forecaster.cli.progress import shown
    from forecaster.model.parameters import Parameters
    from forecaster.run.report import RunReport
    from forecaster.run.session import RunConfig, run
    from forecaster.setup.demo import SCHEMA, fill, first_forecast

    with embedded(data_dir) as dsn:
        with doing("sample"):
            filled = fill(dsn, tracks)
        if filled:
            say(f"sample catalogue: {filled.streams:,} daily rows and {filled.mldr:,} artists loaded")
        else:
            say("sample catalogue: there already")
        done = RunReport()
        with shown(done, console()):
            run(RunConfig(dsn, SCHEMA), done)
        summarise(done)
        say("")
        show_track(dsn, SCHEMA, Parameters(), first_forecast(dsn), out)
    where = f" --data-dir {shlex.quote(str(data_dir))}" if was_typed("data_dir") else ""
    say(
        f"""
Next:
  forecaster run{where} --schema {SCHEMA}
  forecaster dump{where} --schema {SCHEMA} --track-id 7
  forecaster report{where} --schema {SCHEMA} --out report.html
  forecaster evaluate{where} --schema {SCHEMA} --cutoff 2024-01-01 --later-rates
  forecaster init{where}
  forecaster load{where} STREAMS.csv --mldr MLDR.csv"""
    )


@click.command(cls=Command)
@database_options
def init(where: Where) -> None:
    """Create what is missing of the tables; what exists is left as it is.

    Only a unique key on (cm_track_id, month) is added to a forecast table that has none, where its rows
    and the user's rights allow it.

    \b
    Example:
      forecaster init --database-url postgresql://me@localhost/music
    """
    from forecaster.setup.init import initialise

    with where.database() as dsn:
        result = initialise(dsn, where.schema)
    warn(result.warnings)
    say("\n".join(f"created {name}" for name in result.created) or "nothing to create: all is there")
    finish({}, created=len(result.created), warnings=len(result.warnings))


@click.command(cls=Command)
@click.argument("streams", type=click.Path(path_type=Path), required=False)
@option("--mldr", type=click.Path(path_type=Path), help="File with cm_artist_id and mldr.")
@option(
    "--listeners",
    type=click.Path(path_type=Path),
    help="File with cm_artist_id, date and monthly_listeners, or one artist's export.",
)
@option("--track-id", type=ID, metavar="ID", help="Track of an exported STREAMS file, which names none.")
@option("--artist-id", type=ID, metavar="ID", help="Artist of an exported file.")
@option(
    "--new-only",
    is_flag=True,
    help="Store only days that the table does not have yet; those that it has stay as they are.",
)
@database_options
def load(
    streams: Path | None,
    mldr: Path | None,
    listeners: Path | None,
    track_id: int | None,
    artist_id: int | None,
    new_only: bool,
    where: Where,
) -> None:
    """Load STREAMS, decay rates and listeners, CSV or Parquet, into their tables: all rows or none.

    Each is a file, or a directory of such files, which are loaded together.

    STREAMS has the columns cm_track_id, cm_artist_id, date, daily_streams and, if known,
    days_from_release; or it is one track's export of a music-analytics service (Date, Value,
    Days from release; or date, streams), with --track-id and --artist-id. An export of listeners
    has Date and Monthly Listeners.

    \b
    Examples:
      forecaster load streams.parquet --mldr mldr.csv
      forecaster load export.csv --track-id 42 --artist-id 7 --new-only
      forecaster load --listeners listeners.parquet
    """
    from forecaster.setup.load import load as load_rows

    paths = {"streams": streams, "mldr": mldr, "listeners": listeners}
    given = _read_all({name: path for name, path in paths.items() if path}, track_id, artist_id)
    with where.database() as dsn, doing("write"):
        rows = {name: intake.rows for name, intake in given.items()}
        loaded = load_rows(dsn, where.schema, **rows, new_only=new_only)
    warn(loaded.warnings)
    _finish_load(loaded, new_only=new_only)


def _finish_load(loaded: "Loaded", *, new_only: bool) -> None:
    finish(
        {
            "daily rows loaded": f"{loaded.streams:,}",
            "decay rates loaded": f"{loaded.mldr:,}",
            "listeners loaded": f"{loaded.listeners:,}",
            **({"days there already": f"{loaded.known:,}"} if new_only else {}),
        },
        streams=loaded.streams,
        mldr=loaded.mldr,
        listeners=loaded.listeners,
        **({"known": loaded.known} if new_only else {}),
    )


def _read_all(
    paths: "Mapping[str, Path]", track_id: int | None, artist_id: int | None
) -> "dict[str, Intake]":
    """What each file or directory holds; how they were read, where that could be wrong, is said."""
    from forecaster.files.intake import read_listeners, read_mldr, read_streams
    from forecaster.files.parts import read_parts

    if not paths:
        raise InvalidOptionError(
            "nothing to load",
            hint="name a file of STREAMS, --mldr FILE, --listeners FILE, or several of them",
        )
    _refuse_ids_of_many(paths, {"--track-id": track_id, "--artist-id": artist_id})
    readers: dict[str, tuple[Callable[[Path], Intake], tuple[str, ...]]] = {
        "streams": (partial(read_streams, track_id=track_id, artist_id=artist_id), ("cm_track_id", "date")),
        "mldr": (read_mldr, ("cm_artist_id",)),
        "listeners": (partial(read_listeners, artist_id=artist_id), ("cm_artist_id", "date")),
    }
    with doing("read"):
        given = {
            name: read_parts(path, read, key=key)
            for name, (read, key) in readers.items()
            if (path := paths.get(name))
        }
    for name, intake in given.items():
        _say_what_is_not_loaded(paths[name], intake)
    return given


def _refuse_ids_of_many(paths: "Mapping[str, Path]", ids: "Mapping[str, int | None]") -> None:
    given = [name for name, value in ids.items() if value is not None]
    directories = [path for name, path in paths.items() if name != "mldr" and os.path.isdir(path)]  # noqa: PTH112 - raises nothing
    if given and directories:
        raise InvalidOptionError(
            f"{directories[0]} is a directory, and {' and '.join(given)} can only be given for one file",
            hint="load each export separately, with the ids of its track and artist",
        )


def _say_what_is_not_loaded(path: Path, intake: "Intake") -> None:
    from forecaster.files.paths import counted
    from forecaster.process.secrets import one_line

    for note in intake.notes:
        log.warning("%s: %s", path, note)
    if intake.ignored:
        log.info(
            "%s: columns not needed: %s", path, ", ".join(one_line(name) or "''" for name in intake.ignored)
        )
    if len(intake.left_out):
        row, day, reason = intake.left_out.row(0)
        log.warning(
            "%s: %s left out, whose daily streams are not known; the first is row %s, %s: %s",
            path,
            counted(len(intake.left_out), "record"),
            row,
            day,
            reason,
        )


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes the shell complete commands and options.

    \b
    Examples:
      forecaster completion bash >> ~/.bashrc
      forecaster completion zsh >> ~/.zshrc
      forecaster completion fish > ~/.config/fish/completions/forecaster.fish
    """
    from click.shell_completion import get_completion_class

    of_shell = get_completion_class(shell)
    if of_shell is None:
        raise InvalidOptionError(f"no completion for {shell}")
    program = click.get_current_context().find_root()
    if shell == "zsh":  # which has no completion before this is loaded
        click.echo("(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }")
    click.echo(of_shell(program.command, {}, "forecaster", "_FORECASTER_COMPLETE").source())
