"""`forecaster mldr`: artists' decay rates from their listeners."""

from forecaster.cli.output import Output
from forecaster.cli.report_files import ReportFiles
from forecaster.cli.summary import fail_if_refused, summarise_rates
from forecaster.cli.where import Where
from forecaster.run.rates import RatesConfig, compute_rates
from forecaster.run.report import RatesReport


def mldr(
    artist_ids: tuple[int, ...],
    replace: bool,
    dry_run: bool,
    wait: float,
    to: ReportFiles,
    where: Where,
    output: Output,
) -> None:
    """Compute the decay rate of every artist that has listeners and no rate, and store it."""
    report = RatesReport(schema=where.schema)
    with to.written(report, output):
        with where.database() as dsn, output.following(report):
            compute_rates(RatesConfig(dsn, where.schema, artist_ids, replace, dry_run, wait), report)
        output.warn(report.warnings)
        summarise_rates(report, output)
        fail_if_refused(report, "rates")
