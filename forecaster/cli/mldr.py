"""`forecaster mldr`: compute and store the decay rates of artists."""

from forecaster.cli.output import Output
from forecaster.cli.report_files import ReportFiles
from forecaster.cli.summary import fail_if_refused, summarise_rates
from forecaster.cli.where import Where
from forecaster.postgres.rates import ArtistRates
from forecaster.run.config import RunConfig
from forecaster.run.report import ARTISTS, Report
from forecaster.run.session import run


def mldr(config: RunConfig, to: ReportFiles, where: Where, output: Output) -> None:
    """Compute the MLDR of every artist that has listeners and no stored MLDR."""
    place = {"database": "", "schema": where.schema}
    report = Report(ARTISTS, asked={"artist_ids": []}, place=place)
    with to.written("mldr", report, output):
        try:
            with where.database() as dsn, output.following(report):
                run(ArtistRates(dsn, where.schema, where.early), config, report=report)
        finally:
            output.warn(report.warnings)
        summarise_rates(report, output)
        fail_if_refused(report, "rates")
