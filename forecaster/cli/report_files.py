"""Write the report of a run, its skipped tracks and its metrics, however the run ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forecaster.cli.output import Output
from forecaster.cli.prometheus import MetricsFile
from forecaster.errors import ForecasterError
from forecaster.files.atomic import write_text
from forecaster.files.tables import check_output_path, write_table
from forecaster.process.logs import log
from forecaster.process.signals import Interrupted, last_action, postponed
from forecaster.run.report import Report


@dataclass(frozen=True)
class ReportFiles:
    """The files that --report, --skipped and --metrics name."""

    report: Path | None
    skipped: Path | None
    metrics: Path | None

    @contextmanager
    def written(self, command: str, report: Report, output: Output) -> Iterator[None]:
        """Write the files and the JSON after the block. If the block fails, the report contains the error.

        The report gets the id that the log lines have.
        """
        report.log_id = output.console.log_id or report.log_id
        metrics = MetricsFile(self.metrics, command)

        def end_by_force(signum: int) -> None:
            self._write_failed(report, output, "interrupted, and ended by force")
            metrics.write_failed(report, 128 + signum)

        with last_action(end_by_force), metrics.written(report), self._reported(report, output):
            yield

    @contextmanager
    def _reported(self, report: Report, output: Output) -> Iterator[None]:
        if self.report:
            check_output_path(self.report, any_ending=True)
        if self.skipped:
            check_output_path(self.skipped)
        try:
            yield
        except BaseException as error:
            with postponed():  # a signal would stop what Polars computes for the report
                self._write_failed(report, output, _why(error))
            raise
        with postponed():
            self._write(report, output)

    def _write_failed(self, report: Report, output: Output, error: str) -> None:
        report.error = error
        try:
            self._write(report, output)
        except ForecasterError as other:  # the first error counts
            log.warning("%s", other)

    def _write(self, report: Report, output: Output) -> None:
        output.document(report.to_json)
        if self.report:
            write_text(report.to_json(), self.report)
        if self.skipped:
            write_table(report.skipped, self.skipped)


def _why(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):  # from Polars, ahead of our own
        return f"{Interrupted(signal.SIGINT)}"
    is_known = isinstance(error, ForecasterError | Interrupted | OSError)
    return f"{error}" if is_known else type(error).__name__
