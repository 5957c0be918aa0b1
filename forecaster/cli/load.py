"""`forecaster load`: load streams, decay rates and listeners from files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from forecaster.cli.output import Output
from forecaster.cli.where import Where
from forecaster.errors import InvalidOptionError, WriteRefusedError
from forecaster.files.intake import Intake, read_listeners, read_mldr, read_streams
from forecaster.files.parts import read_parts
from forecaster.process.logs import log
from forecaster.process.numbers import counted
from forecaster.process.secrets import one_line
from forecaster.setup.load import Loaded, check_load
from forecaster.setup.load import load as load_rows


@dataclass(frozen=True)
class Given:
    """The files to load, and the track and artist of an export."""

    streams: Path | None
    mldr: Path | None
    listeners: Path | None
    track_id: int | None
    artist_id: int | None

    @property
    def paths(self) -> dict[str, Path]:
        """The given files by their content: streams, MLDR or listeners."""
        paths = {"streams": self.streams, "mldr": self.mldr, "listeners": self.listeners}
        return {name: path for name, path in paths.items() if path}

    def __post_init__(self) -> None:
        if not self.paths:
            raise InvalidOptionError(
                "nothing to load",
                hint="give STREAMS, --mldr FILE, --listeners FILE, or several of them",
            )
        ids = {"--track-id": self.track_id, "--artist-id": self.artist_id}
        given = [name for name, value in ids.items() if value is not None]
        directories = [path for name, path in self.paths.items() if name != "mldr" and os.path.isdir(path)]  # noqa: PTH112 - raises nothing
        if given and directories:
            raise InvalidOptionError(
                f"{directories[0]} is a directory, and {' and '.join(given)} can only be given for one file",
                hint="load each export separately, with the ids of its track and artist",
            )


def load(given: Given, new_only: bool, where: Where, output: Output) -> None:
    """Read all files, then store all rows or none."""
    with where.database() as dsn:
        check_load(dsn, where.schema, given.paths)
        with output.doing("read"):
            read = _read(given)
        for name, intake in read.items():
            say_what_is_not_loaded(given.paths[name], intake)
        with output.doing("write"), _hint_on_totals(read.get("streams")):
            rows = {name: intake.rows for name, intake in read.items()}
            loaded = load_rows(dsn, where.schema, **rows, new_only=new_only)
    output.warn(loaded.warnings)
    _finish(loaded, output, new_only=new_only)


@contextmanager
def _hint_on_totals(streams: Intake | None) -> Iterator[None]:
    """If a load is refused, add a hint that the rows of an export of totals belong together."""
    try:
        yield
    except WriteRefusedError as error:
        if streams and streams.of_totals:
            error.hint = f"{error.hint}; do not remove rows from an export of totals (Date, Value)"
        raise


def _read(given: Given) -> dict[str, Intake]:
    """Read each file or directory."""
    streams = partial(read_streams, track_id=given.track_id, artist_id=given.artist_id)
    listeners = partial(read_listeners, artist_id=given.artist_id)
    read = {}
    if given.streams:
        read["streams"] = read_parts(given.streams, streams, key=("cm_track_id", "date"))
    if given.mldr:
        read["mldr"] = read_parts(given.mldr, read_mldr, key=("cm_artist_id",))
    if given.listeners:
        read["listeners"] = read_parts(given.listeners, listeners, key=("cm_artist_id", "date"))
    return read


def say_what_is_not_loaded(path: Path, intake: Intake) -> None:
    """Log how a file was read, if that could be wrong, and what was left out."""
    for note in intake.notes:
        log.warning("%s: %s", path, note)
    if intake.ignored:
        names = ", ".join(one_line(name) or "''" for name in intake.ignored)
        log.info("%s: columns not needed: %s", path, names)
    if len(intake.left_out):
        row, day, reason = intake.left_out.row(0)
        log.warning(
            "%s: %s with unknown daily streams left out; the first is row %s, %s: %s",
            path,
            counted(len(intake.left_out), "record"),
            row,
            day,
            reason,
        )


def _finish(loaded: Loaded, output: Output, *, new_only: bool) -> None:
    output.finish(
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
