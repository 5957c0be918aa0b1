"""`forecaster evaluate`: compare forecasts with later streams."""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import polars as pl

from forecaster.cli.console import log
from forecaster.cli.options import was_typed
from forecaster.cli.output import Output
from forecaster.cli.page import check_page_path
from forecaster.cli.scores import as_json_types, show, tidy
from forecaster.cli.where import Where
from forecaster.errors import InvalidOptionError
from forecaster.files.atomic import write_text
from forecaster.files.intake import read_mldr
from forecaster.files.tables import check_output_path, write_table
from forecaster.model.parameters import AgeFrom, Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.past_runs import Chosen
from forecaster.process.secrets import shown
from forecaster.scoring import Evaluation
from forecaster.views.backtest import BacktestConfig, Rolling, backtest
from forecaster.views.catalogue import read_catalogue
from forecaster.views.page import render


@dataclass(frozen=True)
class Asked:
    """The forecasts to score, and the streams to compare them with."""

    actuals: str | None
    cutoffs: tuple[date, ...]
    model: str
    level_days: int | None
    since: date | None
    every: int | None
    later_rates: bool
    mldr: str | None
    track_ids: tuple[int, ...]
    horizon: int | None
    """None: 24, or all that are stored."""
    age_from: AgeFrom
    as_of: date | None
    influence: float | None
    run_ids: tuple[int, ...]
    run_days: tuple[date, date] | None
    theta: bool

    def __post_init__(self) -> None:
        if not self.cutoffs and not self.since:
            _check_not_typed("model", "level_days", "later_rates", "mldr", "age_from", "influence")
        if not self.since and was_typed("every"):
            raise InvalidOptionError("--every needs --since", hint="give the first cutoff: --since DATE")
        if self.later_rates and self.mldr is not None:
            raise InvalidOptionError(
                "--later-rates and --mldr contradict each other",
                hint="omit --later-rates: --mldr replaces all decay rates",
            )

    @property
    def parameters(self) -> Parameters:
        """The parameters of the model."""
        return Parameters(self.horizon or Parameters.horizon, self.age_from, self.as_of, self.influence)

    @property
    def given_rates(self) -> float | pl.DataFrame | None:
        """The decay rates of --mldr; a file with rates is read."""
        return None if self.mldr is None else _rates_of(self.mldr)

    @property
    def rolling(self) -> Rolling | None:
        """The cutoffs at the same distance."""
        return Rolling(self.since, self.every or Rolling.every) if self.since else None

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
            model=self.model,
            level=self.level_days,
            mldr=self.given_rates,
            runs=Chosen(self.run_ids, self.run_days),
            rolling=self.rolling,
            theta=self.theta,
        )


def evaluate(
    asked: Asked, by: tuple[str, ...], out: Path | None, page: Path | None, where: Where, output: Output
) -> None:
    """Score forecasts; print the scores, and write them to files."""
    for path in (out, out and months_beside(out)):
        if path:
            check_output_path(path)
    if page:
        check_page_path(page)
    parameters = replace(asked.parameters, as_of=None)
    with where.database() as dsn, _kept_warnings() as logged:
        with output.doing("score"):
            result = backtest(asked.on(dsn, where.schema))
        output.warn(result.warnings)
        if page:
            # What a score owes to later days is first.
            warnings = [*dict.fromkeys([*result.warnings, *logged])]
            _write_page(page, where.schema, result.evaluation, dsn, parameters, warnings)
    if out:
        write_table(tidy(result.evaluation), out)
        write_table(result.evaluation.months.collect(engine="in-memory"), months_beside(out))
    show(result, output, by=by, is_part=bool(asked.track_ids))
    output.document(lambda: json.dumps(as_json_types(result), indent=2))


def months_beside(out: Path) -> Path:
    """Return the file for all months of all tracks, next to that for the scores."""
    name, ending, rest = out.name.partition(".")
    return out.with_name(f"{name}_months{ending}{rest}")


@contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """Collect the warnings that are logged, as the terminal shows them."""
    kept: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: kept.append(shown(record.getMessage()))  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield kept
    finally:
        log.removeHandler(handler)


def _rates_of(given: str) -> float | pl.DataFrame:
    """Read --mldr: one rate, or those of a file."""
    try:
        rate = float(given)
    except ValueError:
        return read_mldr(Path(given)).rows.select("cm_artist_id", pl.col("mldr").cast(pl.Float64))
    if not math.isfinite(rate):
        raise InvalidOptionError(f"--mldr is {given}", hint="give a finite number, such as 0.05, or a file")
    return rate


def _check_not_typed(*options: str) -> None:
    """Raise `InvalidOptionError` for an option that only matters with --cutoff, if no forecasts are made."""
    for name in options:
        if was_typed(name):
            raise InvalidOptionError(
                f"--{name.removesuffix('_days').replace('_', '-')} needs --cutoff or --since",
                hint="stored forecasts are scored as they are; --cutoff DATE makes new ones",
            )


def _write_page(
    page: Path, schema: str, evaluation: Evaluation, dsn: Dsn, parameters: Parameters, warnings: list[str]
) -> None:
    catalogue = read_catalogue(dsn, schema, parameters)
    every = (*dict.fromkeys([*warnings, *catalogue.warnings]),)
    write_text(render(replace(catalogue, warnings=every), evaluation), page)
