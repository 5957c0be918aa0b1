"""`forecaster dump`: forecast one track into a file and show how it is computed."""

from pathlib import Path

from forecaster.cli.calibration_file import with_file_read
from forecaster.cli.output import Output
from forecaster.cli.track import show_track
from forecaster.cli.where import Where
from forecaster.run.config import RunConfig


def dump(track_id: int | None, out: Path | None, config: RunConfig, where: Where, output: Output) -> None:
    """Forecast one track and store nothing in the database."""
    with where.database() as dsn:
        show_track(dsn, where.schema, with_file_read(config), track_id, out, output)
