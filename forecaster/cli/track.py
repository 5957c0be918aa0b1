"""Show one track: its diagnosis on stdout, its forecast in a file."""

from pathlib import Path

from forecaster.cli.output import Output
from forecaster.files.tables import check_output_path, write_table
from forecaster.postgres.diagnosis import Diagnosis, diagnose
from forecaster.postgres.dsn import Dsn
from forecaster.run.config import RunConfig
from forecaster.views.track import told


def show_track(
    dsn: Dsn, schema: str, config: RunConfig, track_id: int | None, out: Path | None, output: Output
) -> None:
    """Write the forecast of one track to a file, and print how it was computed."""
    if out:
        check_output_path(out)
    with output.doing("read"):
        diagnosis = diagnose(dsn, schema, config, track_id)
    output.warn(diagnosis.warnings)
    path = out or Path(f"track_{diagnosis.track['cm_track_id']}_forecast.csv")
    write_table(diagnosis.forecasts, path)
    output.say(told(diagnosis))
    output.say(f"written to {path}")
    finish_track(diagnosis, output)


def finish_track(diagnosis: Diagnosis, output: Output) -> None:
    """Print the last line: the track, the number of months, and the total."""
    months = diagnosis.forecasts["forecasted_value"]
    output.finish({}, track=diagnosis.track["cm_track_id"], months=len(months), streams=months.sum())
