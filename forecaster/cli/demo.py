"""`forecaster demo`: try the program on a sample catalogue in an embedded server."""

import math
import shlex
from datetime import date
from pathlib import Path

from forecaster.cli.options import was_typed
from forecaster.cli.output import Output
from forecaster.cli.scores import told
from forecaster.cli.summary import summarise
from forecaster.cli.track import show_track
from forecaster.cli.where import embedded
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.scoring import FORECASTER, Evaluation
from forecaster.scoring.baselines import SPOKEN
from forecaster.setup.demo import SCHEMA, fill, first_forecast
from forecaster.views.backtest import BacktestConfig, backtest

_SCORED_FROM = date(2024, 1, 1)
"""A year before the last day of the sample catalogue."""
_MOST_SCORED = 10_000
"""Tracks. Scoring more of them would take longer than the rest of the demo."""


def demo(tracks: int | None, data_dir: Path | None, out: Path | None, output: Output) -> None:
    """Load the sample catalogue, run, and dump one track."""
    with embedded(data_dir) as dsn:
        with output.doing("sample"):
            filled = fill(dsn, tracks)
        if filled:
            output.say(f"sample catalogue: {filled.streams:,} daily rows and {filled.mldr:,} artists loaded")
        else:
            output.say("sample catalogue: already loaded")
        done = Report()
        with output.following(done):
            run(Database(dsn, SCHEMA), report=done)
        summarise(done, output)
        output.say("")
        show_track(dsn, SCHEMA, RunConfig(), first_forecast(dsn), out, output)
        if (tracks or 0) <= _MOST_SCORED and not output.console.quiet:
            _score(dsn, output)
    output.say(_next(f" --data-dir {shlex.quote(str(data_dir))}" if was_typed("data_dir") else ""))


def _score(dsn: Dsn, output: Output) -> None:
    """Say how good both models are on the sample, as honestly as of any other catalogue."""
    config = BacktestConfig(
        dsn, SCHEMA, Parameters(horizon=12), (_SCORED_FROM,), later_rates=True, model="calibrated"
    )
    scored = backtest(config).evaluation
    question = f"How good are forecasts from the days before {_SCORED_FROM}, by the calibrated model?"
    output.say(f"\n{question}\n{told(scored)}\n{_winner(scored)}")


def _winner(scored: Evaluation) -> str:
    """Say which of both models and the best baseline has the smallest error."""
    wapes = dict(scored.overall.select("model", "wape").iter_rows())
    names = {FORECASTER: "the calibrated model", "production": "the production model"}
    names |= {scored.best_baseline: SPOKEN[scored.best_baseline]}
    best = min(names, key=lambda name: math.inf if wapes[name] is None else wapes[name])
    return f"On this sample, the best of these three is {names[best]}."


def _next(where: str) -> str:
    """List commands to try next."""
    return f"""
Next:
  forecaster run{where} --schema {SCHEMA}
  forecaster dump{where} --schema {SCHEMA} --track-id 7
  forecaster calibrate{where} --schema {SCHEMA}
  forecaster report{where} --schema {SCHEMA} --out report.html
  forecaster evaluate{where} --schema {SCHEMA} --cutoff 2024-01-01 --later-rates
  forecaster init{where}
  forecaster load{where} STREAMS.csv --mldr MLDR.csv"""
