"""The command that scores forecasts, and how the scores are printed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forecaster.cli.base import ID, Command, doing, finish, say, warn
from forecaster.cli.look import check_page_path
from forecaster.cli.options import Where, database_options, model_options, option, out_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    import polars as pl

    from forecaster.backtest import Backtest
    from forecaster.dsn import Dsn
    from forecaster.evaluation import Evaluation
    from forecaster.model.parameters import Parameters

_DAY = click.DateTime(["%Y-%m-%d"])
_HEADINGS = {
    "wape": "WAPE",
    "bias": "bias",
    "smape": "sMAPE",
    "mase": "MASE",
    "rmsse": "RMSSE",
    "within_10": "+-10%",
    "within_20": "+-20%",
    "within_50": "+-50%",
    "skill": "skill",
}
_SCORES = tuple(_HEADINGS)
_TITLES = {
    "by_month": "month ahead",
    "by_segment": "lifecycle segment",
    "by_influence": "influence range",
    "by_volume": "volume decile",
    "by_cutoff": "cutoff",
}


@click.command(cls=Command)
@option(
    "--actuals",
    metavar="TABLE|FILE",
    help="Later daily streams of the same tracks.  [default: what the streams table holds by now]",
)
@option(
    "--cutoff",
    type=_DAY,
    metavar="DATE",
    multiple=True,
    help="Forecast from the days before this one, instead of taking the stored forecasts.",
)
@option("--track-id", type=ID, metavar="ID", multiple=True, help="Only this track.")
@model_options
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
    track_id: tuple[int, ...],
    out: Path | None,
    as_json: bool,
    page: Path | None,
    parameters: "Parameters",
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
    from forecaster.backtest import BacktestConfig, backtest
    from forecaster.files import check_output_path, write_table

    if out:
        check_output_path(out)
    if page:
        check_page_path(page)
    cutoffs = tuple(day.date() for day in cutoff)
    with where.database() as dsn, doing("score"):
        result = backtest(BacktestConfig(dsn, where.schema, parameters, cutoffs, actuals, track_id))
        if page:
            _write_page(page, where.schema, result.evaluation, dsn, parameters)
    warn(result.warnings)
    if out:
        write_table(_tidy(result.evaluation), out)
    if as_json:
        click.echo(
            json.dumps({**result.evaluation.to_dict(series=True), "skipped": result.skipped}, indent=2)
        )
    else:
        _show(result)


def _write_page(
    page: Path, schema: str, evaluation: "Evaluation", dsn: "Dsn", parameters: "Parameters"
) -> None:
    from forecaster.catalogue import read_catalogue
    from forecaster.files import write_text
    from forecaster.page import render

    write_text(render(read_catalogue(dsn, schema, parameters), evaluation), page)


def _show(result: "Backtest") -> None:
    from forecaster.evaluation import FORMULAS, GROUPS

    scored = result.evaluation
    best = scored.best_baseline
    say("\n".join(_table("model", scored.overall, "model", best)))
    for name, column in GROUPS.items():
        rows = getattr(scored, name)
        if len(rows) > 1 or name != "by_cutoff":
            say("\n" + "\n".join(_table(_TITLES[name], rows, column, best)))
    say("\n" + "\n".join(f"{_HEADINGS[name]:<8}{FORMULAS[name]}" for name in _SCORES) + "\n")
    whole = scored.overall.row(0, named=True)
    finish(
        {
            "tracks and cutoffs": f"{whole['series']:,}",
            "months scored": f"{scored.windows_scored:,}",
            "months left out": _counts(scored.left_out),
            **({"tracks skipped": _counts(result.skipped)} if result.skipped else {}),
            "forecast total": f"{whole['forecast_total']:,.0f}",
            "actual total": f"{whole['actual_total']:,.0f}",
            "best baseline": best,
            **({"worst cutoff": f"{scored.worst_cutoff}"} if scored.worst_cutoff else {}),
        },
        windows=scored.windows_scored,
        wape=_shown("wape", whole["wape"]),
        bias=_shown("bias", whole["bias"]),
        skill=_shown("skill", whole["skill"]),
    )


def _counts(counts: "Mapping[str, int]") -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if count)
    return f"{sum(counts.values()):,}" + (f" ({reasons})" if reasons else "")


def _table(title: str, rows: "pl.DataFrame", column: str, best: str) -> "Iterator[str]":
    """A line per row: its key, how many months, its scores, and the WAPE of the best baseline."""
    against = f"wape_{best}"
    headings = ["months", *(_HEADINGS[name] for name in _SCORES)]
    more = [best] if against in rows.columns else []
    widths = [9, *([8] * len(_SCORES)), *(len(name) + 2 for name in more)]
    yield f"{title:<20}" + "".join(f"{h:>{w}}" for h, w in zip([*headings, *more], widths, strict=True))
    for row in rows.iter_rows(named=True):
        cells = [f"{row['windows']:,}", *(_shown(name, row[name]) for name in _SCORES)]
        cells += [_shown("wape", row[against]) for _ in more]
        key = "stored" if row[column] is None else row[column]
        yield f"{key!s:<20}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))


def _shown(score: str, value: float | None) -> str:
    if value is None:
        return "-"
    if score in ("mase", "rmsse", "skill"):
        return f"{value:.3f}"
    return f"{value:+.1%}" if score == "bias" else f"{value:.1%}"


def _tidy(scored: "Evaluation") -> "pl.DataFrame":
    """All scores as rows: what they are of (`group` and `key`), the model, and a column per score."""
    import polars as pl

    from forecaster.evaluation import FORECASTER, GROUPS

    parts = [scored.overall.select(pl.lit("overall").alias("group"), pl.lit(None).alias("key"), pl.all())]
    for name, column in {**GROUPS, "series": "cm_track_id"}.items():
        rows = getattr(scored, name).rename({"months": "windows"}, strict=False)
        key = pl.col(column).cast(pl.String).alias("key")
        parts.append(
            rows.select(
                pl.lit(name.removeprefix("by_")).alias("group"),
                key,
                pl.lit(FORECASTER).alias("model"),
                pl.all().exclude(column),
            )
        )
    return pl.concat(parts, how="diagonal_relaxed")
