"""`forecaster plot`: draw one track in a file or in the terminal."""

import shutil
import sys
from pathlib import Path

from forecaster.cli.calibration_file import with_file_read
from forecaster.cli.output import Output
from forecaster.cli.track import finish_track
from forecaster.cli.where import Where
from forecaster.postgres.diagnosis import diagnose
from forecaster.run.config import RunConfig
from forecaster.views.chart import Picture, as_text, check_chart_path, picture, write_chart

_HEIGHTS = (12, 24)  # lines, from and to


def plot(track_id: int, out: Path | None, config: RunConfig, where: Where, output: Output) -> None:
    """Draw one track, and print its total."""
    if out:
        check_chart_path(out)
    with where.database() as dsn, output.doing("read"):
        diagnosis = diagnose(dsn, where.schema, with_file_read(config), track_id)
    output.warn(diagnosis.warnings)
    drawn = picture(diagnosis, diagnosis.history)
    if out:
        write_chart(drawn, out)
        output.say(f"written to {out}")
    else:
        output.say(_for_terminal(drawn, color=output.console.color))
    finish_track(diagnosis, output)


def _for_terminal(drawn: Picture, *, color: bool | None) -> str:
    """Draw as text, as wide as the terminal and nearly as high."""
    width, lines = shutil.get_terminal_size()
    height = min(max(lines - 6, _HEIGHTS[0]), _HEIGHTS[1])
    return as_text(
        drawn,
        width=width,
        height=height,
        color=sys.stdout.isatty() if color is None else color,
        encoding=sys.stdout.encoding or "utf-8",
    )
