"""`forecaster evaluate`: compare forecasts with later streams."""

import json
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from forecaster.cli.options import was_typed
from forecaster.cli.output import Output
from forecaster.cli.page import check_page_path
from forecaster.cli.scores import as_json_types, show, tidy
from forecaster.cli.where import Where
from forecaster.errors import InvalidOptionError
from forecaster.files.atomic import write_text
from forecaster.files.tables import check_output_path, write_table
from forecaster.model.parameters import AgeFrom, Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.past_runs import Chosen
from forecaster.scoring import Evaluation
from forecaster.views.backtest import BacktestConfig, backtest
from forecaster.views.catalogue import read_catalogue
from forecaster.views.page import render


@dataclass(frozen=True)
class Asked:
    """The forecasts to score, and the streams to compare them with."""

    actuals: str | None
    cutoffs: tuple[date, ...]
    later_rates: bool
    track_ids: tuple[int, ...]
    horizon: int | None
    """None: 24, or all that are stored."""
    age_from: AgeFrom
    as_of: date | None
    influence: float | None
    run_ids: tuple[int, ...]
    run_days: tuple[date, date] | None

    def __post_init__(self) -> None:
        if not self.cutoffs:
            _check_not_typed("later_rates", "age_from", "influence")

    @property
    def parameters(self) -> Parameters:
        """The parameters of the model."""
        return Parameters(self.horizon or Parameters.horizon, self.age_from, self.as_of, self.influence)

    def on(self, dsn: Dsn, schema: str) -> BacktestConfig:
        """Build the configuration that `backtest` takes."""
        return BacktestConfig(
            dsn,
            schema,
            self.parameters,
            self.cutoffs,
            self.actuals,
            self.track_ids,
            months=self.horizon,
            later_rates=self.later_rates,
            runs=Chosen(self.run_ids, self.run_days),
        )


def evaluate(asked: Asked, out: Path | None, page: Path | None, where: Where, output: Output) -> None:
    """Score forecasts; print the scores, and write them to files."""
    if out:
        check_output_path(out)
    if page:
        check_page_path(page)
    parameters = asked.parameters
    with where.database() as dsn, output.doing("score"):
        result = backtest(asked.on(dsn, where.schema))
        if page:
            _write_page(page, where.schema, result.evaluation, dsn, replace(parameters, as_of=None))
    output.warn(result.warnings)
    if out:
        write_table(tidy(result.evaluation), out)
    show(result, output, is_part=bool(asked.track_ids))
    output.document(lambda: json.dumps(as_json_types(result), indent=2))


def _check_not_typed(*options: str) -> None:
    """Raise `InvalidOptionError` for an option that only matters with --cutoff, if no forecasts are made."""
    for name in options:
        if was_typed(name):
            raise InvalidOptionError(
                f"--{name.replace('_', '-')} needs --cutoff",
                hint="stored forecasts are scored as they are; --cutoff DATE makes new ones",
            )


def _write_page(page: Path, schema: str, evaluation: Evaluation, dsn: Dsn, parameters: Parameters) -> None:
    write_text(render(read_catalogue(dsn, schema, parameters), evaluation), page)
