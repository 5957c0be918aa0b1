"""The command that scores forecasts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forecaster.cli.base import ID, Command, FloatRange, IntRange, doing, warn, was_typed
from forecaster.cli.look import check_page_path
from forecaster.cli.options import Where, age_option, database_options, option, out_option
from forecaster.errors import InvalidOptionError

if TYPE_CHECKING:
    from datetime import datetime

    from forecaster.model.parameters import AgeFrom, Parameters
    from forecaster.postgres.dsn import Dsn
    from forecaster.scoring import Evaluation


class _Day(click.DateTime):
    """A date, of which an error shows an example."""

    def convert(
        self, value: "str | datetime", param: click.Parameter | None, ctx: click.Context | None
    ) -> "datetime":
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not a date like 2024-01-31.", param, ctx)


_DAY = _Day(["%Y-%m-%d"])


@click.command(cls=Command)
@option(
    "--actuals",
    metavar="TABLE|SCHEMA.TABLE|FILE",
    help="Later daily streams of the same tracks: a table with cm_track_id, date and daily_streams, or a CSV "
    "or Parquet file, which has cm_artist_id as well. They count from each origin on; what is before comes "
    "from the streams table.  [default: what the streams table holds by now]",
)
@option(
    "--cutoff",
    type=_DAY,
    metavar="DATE",
    multiple=True,
    help="Forecast from the days before this one, instead of taking the stored forecasts.",
)
@option(
    "--later-rates",
    is_flag=True,
    help="Where no decay rate can be known at a cutoff, take the stored one, which may know later days.",
)
@option(
    "--track-id",
    type=ID,
    metavar="ID",
    multiple=True,
    help="Only this track. The pooled baseline is of the chosen tracks only.",
)
@option(
    "--horizon",
    shared=True,
    type=IntRange(1, 400),
    metavar="N",
    help="Months to forecast, or of the stored forecasts to score.  [default: 24, or all that are stored]",
)
@age_option
@option(
    "--as-of",
    type=_DAY,
    metavar="DATE",
    help="The last day that the stored forecasts knew.  [default: of each track the last date among the rows "
    "that were there, by created_at, when its forecast was stored; a row that was restated later counts as "
    "later, and where created_at means something else, give this option]",
)
@option(
    "--influence",
    shared=True,
    type=FloatRange(0),
    metavar="VALUE",
    help="With --cutoff, one influence for all tracks.  [default: 10 x streams of the last 30 records]",
)
@out_option("Write all scores, CSV or Parquet by its ending.")
@option("--json", "as_json", is_flag=True, help="Print all scores as JSON, and nothing else, on stdout.")
@option(
    "--page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Write the catalogue's page (see report) with these scores in it.",
)
@database_options
def evaluate(
    actuals: str | None,
    cutoff: "tuple[datetime, ...]",
    later_rates: bool,
    track_id: tuple[int, ...],
    horizon: int | None,
    age_from: "AgeFrom",
    as_of: "datetime | None",
    influence: float | None,
    out: Path | None,
    as_json: bool,
    page: Path | None,
    where: Where,
) -> None:
    """Compare forecasts with the streams that came after them.

    The stored ones, from each track's as-of date on; or ones made on the spot with --cutoff, from the days
    before it alone. Only whole months of 30 days count.

    \b
    Examples:
      forecaster evaluate --actuals later.parquet
      forecaster evaluate --cutoff 2023-01-01 --cutoff 2023-07-01 --json
    """
    from forecaster.cli.scores import as_json_types, show, tidy
    from forecaster.files.tables import check_output_path, write_table
    from forecaster.model.parameters import Parameters
    from forecaster.views.backtest import BacktestConfig, backtest

    if not cutoff:
        _check_not_typed("later_rates", "age_from", "influence")
    if out:
        check_output_path(out)
    if page:
        check_page_path(page)
    parameters = Parameters(
        horizon or Parameters.horizon, age_from, as_of.date() if as_of else None, influence
    )
    cutoffs = tuple(day.date() for day in cutoff)
    with where.database() as dsn, doing("score"):
        result = backtest(
            BacktestConfig(
                dsn,
                where.schema,
                parameters,
                cutoffs,
                actuals,
                track_id,
                months=horizon,
                later_rates=later_rates,
            )
        )
        if page:
            _write_page(page, where.schema, result.evaluation, dsn, replace(parameters, as_of=None))
    warn(result.warnings)
    if out:
        write_table(tidy(result.evaluation), out)
    if as_json:
        click.echo(json.dumps(as_json_types(result), indent=2))
    else:
        show(result, is_part=bool(track_id))


def _check_not_typed(*options: str) -> None:
    """Raise `InvalidOptionError` for an option that says how forecasts are made, where none are made."""
    for name in options:
        if was_typed(name):
            raise InvalidOptionError(
                f"--{name.replace('_', '-')} is of no use without --cutoff",
                hint="stored forecasts are scored as they are; --cutoff DATE makes some on the spot",
            )


def _write_page(
    page: Path, schema: str, evaluation: "Evaluation", dsn: "Dsn", parameters: "Parameters"
) -> None:
    from forecaster.files.atomic import write_text
    from forecaster.views.catalogue import read_catalogue
    from forecaster.views.page import render

    write_text(render(read_catalogue(dsn, schema, parameters), evaluation), page)
