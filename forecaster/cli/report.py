"""`forecaster report`: draw the stored catalogue as one HTML page."""

from pathlib import Path

from forecaster.cli.output import Output
from forecaster.cli.page import check_page_path
from forecaster.cli.where import Where
from forecaster.files.atomic import write_text
from forecaster.model.parameters import AgeFrom, Parameters
from forecaster.views.catalogue import read_catalogue
from forecaster.views.page import render


def report(out: Path, age_from: AgeFrom, where: Where, output: Output) -> None:
    """Write the page, and print what it counts."""
    check_page_path(out)
    with where.database() as dsn, output.doing("read"):
        catalogue = read_catalogue(dsn, where.schema, Parameters(age_from=age_from))
    output.warn(catalogue.warnings)
    page = render(catalogue)
    write_text(page, out)
    tracks, stored, skipped = len(catalogue.tracks), catalogue.with_forecast, catalogue.skipped
    output.finish(
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
