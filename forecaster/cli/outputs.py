"""What a command that computes and stores leaves behind: its report, and what it skipped."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forecaster.cli.base import FloatRange
from forecaster.cli.options import Command, option
from forecaster.errors import ForecasterError
from forecaster.process.logs import log
from forecaster.process.signals import Interrupted, last_deed, postponed

if TYPE_CHECKING:
    from forecaster.run.report import Report


@dataclass(frozen=True)
class Outputs:
    """What `writing_options` were given."""

    report: Path | None
    skipped: Path | None
    as_json: bool

    @contextmanager
    def written(self, report: "Report") -> Iterator[None]:
        """Write all of it at the end, also if that is a failure: then the report says so."""
        from forecaster.files.tables import check_output_path

        if self.report:
            check_output_path(self.report, any_ending=True)
        if self.skipped:
            check_output_path(self.skipped)
        with last_deed(lambda: self._write_failed(report, "interrupted, and ended by force")):
            try:
                yield
            except BaseException as error:
                with postponed():  # a signal that comes while Polars computes a part of it breaks that off
                    self._write_failed(report, _why(error))
                raise
        with postponed():
            self._write(report)

    def _write_failed(self, report: "Report", error: str) -> None:
        report.error = error
        try:
            self._write(report)
        except ForecasterError as other:  # the first error counts
            log.warning("%s", other)

    def _write(self, report: "Report") -> None:
        from forecaster.files.atomic import write_text
        from forecaster.files.tables import write_table

        if self.as_json:
            click.echo(report.to_json())
        if self.report:
            write_text(report.to_json(), self.report)
        if self.skipped:
            write_table(report.skipped, self.skipped)


def _why(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):  # from Polars, ahead of our own
        return f"{Interrupted(signal.SIGINT)}"
    is_known = isinstance(error, ForecasterError | Interrupted | OSError)
    return f"{error}" if is_known else type(error).__name__


def writing_options(command: Command) -> Command:
    """--wait, --report, --skipped and --json; the command gets the last three as one `outputs`."""

    @option(
        "--wait",
        type=FloatRange(0, 2**31, max_open=True),
        metavar="SECONDS",
        default=0.0,
        help="Wait so long for another run to end.  [default: 0]",
    )
    @option(
        "--report",
        "report_path",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE.json",
        help="Write what the run did, with all that was skipped.",
    )
    @option(
        "--skipped",
        "skipped_path",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE.csv|parquet",
        help="Write what was skipped, and why.",
    )
    @option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print what --report writes on stdout, and nothing else there.",
    )
    @wraps(command)
    def with_outputs(
        *, report_path: Path | None, skipped_path: Path | None, as_json: bool, **others: object
    ) -> None:
        command(outputs=Outputs(report_path, skipped_path, as_json), **others)

    return with_outputs
