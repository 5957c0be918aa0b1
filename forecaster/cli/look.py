"""The commands that look at what is there and store nothing: one track, the catalogue, the tables."""

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forecaster.cli.base import Command, console, doing, finish, say, warn
from forecaster.cli.options import (
    Where,
    age_option,
    database_options,
    model_options,
    option,
    out_option,
    track_option,
    track_options,
)
from forecaster.errors import InvalidOptionError

if TYPE_CHECKING:
    from datetime import datetime

    from forecaster.doctor import Finding
    from forecaster.model.parameters import AgeFrom, Parameters
    from forecaster.postgres.dsn import Dsn

_COLORS = {"ok": "green", "warning": "yellow", "error": "red"}
_CHART_HEIGHTS = (12, 24)  # lines, from and to
_PAGE_ENDINGS = (".html", ".htm")


@click.command(cls=Command)
@track_option("The track.  [default: the first pending one with a forecast]")
@out_option("CSV or Parquet, by its ending.  [default: track_<id>_forecast.csv]")
@model_options
@database_options
def dump(track_id: int | None, out: Path | None, parameters: "Parameters", where: Where) -> None:
    """Forecast one track into a file, and show all that its numbers follow from. Stores nothing.

    \b
    Example:
      forecaster dump --track-id 42 --out track_42.parquet
    """
    with where.database() as dsn:
        show_track(dsn, where.schema, parameters, track_id, out)


def show_track(
    dsn: "Dsn", schema: str, parameters: "Parameters", track_id: int | None, out: Path | None
) -> None:
    """Forecast one track into a file, and print all that its numbers follow from."""
    from forecaster.files.tables import check_output_path, write_table
    from forecaster.views.track import diagnose

    if out:
        check_output_path(out)
    with doing("read"):
        diagnosis = diagnose(dsn, schema, parameters, track_id)
    warn(diagnosis.warnings)
    track = diagnosis.track["cm_track_id"]
    path = out or Path(f"track_{track}_forecast.csv")
    write_table(diagnosis.forecasts, path)
    say(str(diagnosis))
    say(f"written to {path}")
    total = diagnosis.forecasts["forecasted_value"].sum()
    finish({}, track=track, months=len(diagnosis.forecasts), streams=total)


@click.command(cls=Command)
@track_option("The track.", required=True)
@out_option("HTML, PNG or SVG, by its ending.  [default: a chart in the terminal]")
@model_options
@database_options
def plot(track_id: int, out: Path | None, parameters: "Parameters", where: Where) -> None:
    """Draw one track: its history, its forecast, the lifecycle segments, the base curve.

    A file needs the extra "plot", and the terminal the extra "term".

    \b
    Examples:
      forecaster plot --track-id 42
      forecaster plot --track-id 42 --out track_42.html
    """
    from forecaster.views.chart import as_text, check_chart_path, picture, write_chart
    from forecaster.views.track import diagnose

    if out:
        check_chart_path(out)
    with where.database() as dsn, doing("read"):
        diagnosis = diagnose(dsn, where.schema, parameters, track_id)
    warn(diagnosis.warnings)
    drawn = picture(diagnosis, diagnosis.history)
    if out:
        write_chart(drawn, out)
        say(f"written to {out}")
    else:
        width, lines = shutil.get_terminal_size()
        height = min(max(lines - 6, _CHART_HEIGHTS[0]), _CHART_HEIGHTS[1])
        wanted = console().color
        color = sys.stdout.isatty() if wanted is None else wanted
        encoding = sys.stdout.encoding or "utf-8"
        say(as_text(drawn, width=width, height=height, color=color, encoding=encoding))
    total = diagnosis.forecasts["forecasted_value"].sum()
    finish({}, track=track_id, months=len(diagnosis.forecasts), streams=total)


@click.command(cls=Command)
@out_option("The HTML file.", required=True)
@age_option
@database_options
def report(out: Path, age_from: "AgeFrom", where: Where) -> None:
    """Draw the catalogue as it is stored: one page that holds all it needs.

    Totals per month, segments and influence ranges, skipped tracks by reason, the largest tracks, and a
    table of all of them with a chart each.

    \b
    Example:
      forecaster report --out report.html
    """
    from forecaster.files.atomic import write_text
    from forecaster.model.parameters import Parameters
    from forecaster.views.catalogue import read_catalogue
    from forecaster.views.page import render

    check_page_path(out)
    with where.database() as dsn, doing("read"):
        catalogue = read_catalogue(dsn, where.schema, Parameters(age_from=age_from))
    warn(catalogue.warnings)
    page = render(catalogue)
    write_text(page, out)
    tracks, stored, skipped = len(catalogue.tracks), catalogue.with_forecast, catalogue.skipped
    finish(
        {
            "tracks": f"{tracks:,}",
            "with a forecast": f"{stored:,}",
            "skipped": f"{skipped:,}",
            "pending": f"{tracks - stored - skipped:,}",
            "written to": f"{out} ({len(page.encode()) / 1e6:.2f} MB)",
        },
        tracks=tracks,
        forecast=stored,
        skipped=skipped,
    )


@click.command(cls=Command)
@option(
    "--format", "form", type=click.Choice(["nixtla"]), default="nixtla", show_default=True, help="Columns."
)
@out_option("CSV or Parquet, by its ending.", required=True)
@option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The --as-of that the forecasts were made with.  [default: the last date that each could know]",
)
@database_options
def export(form: str, out: Path, as_of: "datetime | None", where: Where) -> None:  # noqa: ARG001 - one so far
    """Write the stored forecasts in the form that the field's tools take.

    nixtla: unique_id, ds, y, cutoff, h. Month h covers the 30 days up to ds; cutoff is the day before the
    first of them.

    \b
    Example:
      forecaster export --format nixtla --out forecasts.parquet
    """
    from forecaster.files.tables import check_output_path, write_table
    from forecaster.postgres.catalogue import open_source
    from forecaster.views.export import nixtla

    check_output_path(out)
    with where.database() as dsn, doing("read"), open_source(dsn, where.schema) as source:
        rows, warnings = nixtla(source, as_of=as_of.date() if as_of else None)
    warn(warnings)
    write_table(rows, out)
    tracks = rows["unique_id"].n_unique()
    finish(
        {"tracks": f"{tracks:,}", "rows": f"{len(rows):,}", "written to": f"{out}"},
        tracks=tracks,
        rows=len(rows),
    )


@click.command(cls=Command)
@option("--json", "as_json", is_flag=True, help="Print the findings as JSON, and nothing else, on stdout.")
@track_options
@database_options
def doctor(as_json: bool, parameters: "Parameters", where: Where) -> None:
    """Look at the configuration, the server, the tables and the data, and say how to mend what is wrong.

    Changes nothing. The exit code is that with which a run would fail, or 0.

    \b
    Example:
      forecaster doctor
    """
    from forecaster.doctor import examine

    with where.database() as dsn, doing("examine"):
        examination = examine(dsn, where.schema, parameters, options=where.options(dsn))
    if as_json:
        click.echo(json.dumps(examination.to_dict(), indent=2))
    else:
        for finding in examination.findings:
            _show_finding(finding)
        levels = [finding.level for finding in examination.findings]
        finish({}, ok=levels.count("ok"), warnings=levels.count("warning"), errors=levels.count("error"))
    click.get_current_context().exit(examination.exit_code)


def check_page_path(path: Path) -> None:
    """Say early what would keep a page from being written."""
    from forecaster.files.tables import check_output_path

    if not path.name.lower().endswith(_PAGE_ENDINGS):
        raise InvalidOptionError(
            f"{path}: a page is HTML", hint=f"give a name that ends in {' or '.join(_PAGE_ENDINGS)}"
        )
    check_output_path(path, any_ending=True)


def _show_finding(finding: "Finding") -> None:
    if finding.level == "ok" and console().quiet:
        return
    level = click.style(f"{finding.level:<8}", fg=_COLORS[finding.level], bold=finding.level != "ok")
    click.echo(f"{level}{finding.about}: {finding.found}")
    if finding.fix:
        click.echo("\n".join(f"        {line}" for line in f"fix: {finding.fix}".splitlines()))
