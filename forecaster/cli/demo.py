"""`forecaster demo`: embedded server, sample catalogue, run, dump of one track."""

import shlex
from pathlib import Path

from forecaster.cli.options import was_typed
from forecaster.cli.output import Output
from forecaster.cli.summary import summarise
from forecaster.cli.track import show_track
from forecaster.cli.where import embedded
from forecaster.model.parameters import Parameters
from forecaster.run.report import RunReport
from forecaster.run.session import RunConfig, run
from forecaster.setup.demo import SCHEMA, fill, first_forecast


def demo(tracks: int | None, data_dir: Path | None, out: Path | None, output: Output) -> None:
    """Show everything at once."""
    with embedded(data_dir) as dsn:
        with output.doing("sample"):
            filled = fill(dsn, tracks)
        if filled:
            output.say(f"sample catalogue: {filled.streams:,} daily rows and {filled.mldr:,} artists loaded")
        else:
            output.say("sample catalogue: there already")
        done = RunReport()
        with output.following(done):
            run(RunConfig(dsn, SCHEMA), done)
        summarise(done, output)
        output.say("")
        show_track(dsn, SCHEMA, Parameters(), first_forecast(dsn), out, output)
    output.say(_next(f" --data-dir {shlex.quote(str(data_dir))}" if was_typed("data_dir") else ""))


def _next(where: str) -> str:
    """What to try after this."""
    return f"""
Next:
  forecaster run{where} --schema {SCHEMA}
  forecaster dump{where} --schema {SCHEMA} --track-id 7
  forecaster report{where} --schema {SCHEMA} --out report.html
  forecaster evaluate{where} --schema {SCHEMA} --cutoff 2024-01-01 --later-rates
  forecaster init{where}
  forecaster load{where} STREAMS.csv --mldr MLDR.csv"""
