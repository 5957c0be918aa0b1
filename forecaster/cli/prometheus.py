"""Write the metrics of a run for Prometheus, as a file that node_exporter reads, however the run ends."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forecaster.errors import ForecasterError, InvalidOptionError
from forecaster.files.atomic import check_target, write_text
from forecaster.files.paths import file_itself
from forecaster.model.eligibility import REASONS
from forecaster.model.mldr import RATE_REASONS
from forecaster.process.logs import log
from forecaster.process.signals import Interrupted, postponed
from forecaster.process.version import VERSION
from forecaster.run.report import ARTISTS, TRACKS, Report, Subject

Values = Mapping[str, float]
"""The value of each sample, by its own label; by "" if there is no such label."""

_LAST_SUCCESS = "forecaster_run_last_success_timestamp_seconds"
_DAY = 86_400  # seconds
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    report: Report
    exit_code: int
    started: float
    """Unix timestamp in seconds, like the following ones."""
    ended: float
    last_success: float | None
    """When the last run with the outcome done ended, except dry runs; None if none is known."""

    @property
    def outcome(self) -> str:
        """One of `OUTCOMES`, as in the history: done if the results are stored, whatever the exit code is."""
        return _outcome(self.report, self.exit_code)


OUTCOMES = ("done", "failed", "interrupted")


def _outcome(report: Report, exit_code: int) -> str:
    if report.is_done or exit_code == 0:
        return "done"
    return "interrupted" if exit_code in (128 + signal.SIGINT, 128 + signal.SIGTERM) else "failed"


@dataclass(frozen=True)
class Metric:
    """A gauge. Its samples have the labels `command` and `file`, and at most one of their own."""

    name: str
    help: str
    label: str
    """The label of its own, or ""."""
    values: Callable[[Ended], Values]
    """No values: the metric is left out."""

    def lines(self, ended: Ended, labels: Mapping[str, str]) -> Iterator[str]:
        """Yield the lines of the text format."""
        values = self.values(ended)
        if values:
            yield f"# HELP {self.name} {self.help}"
            yield f"# TYPE {self.name} gauge"
        for own, value in values.items():
            series = _series(self.name, {**labels, self.label: own} if self.label else labels)
            yield f"{series} {value!r}"


def _series(name: str, labels: Mapping[str, str]) -> str:
    """Name a series: the metric with all labels."""
    told = ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels.items())
    return f"{name}{{{told}}}"


def _one(value: float | None) -> Values:
    return {} if value is None else {"": value}


def _all_of(names: Iterable[str], counts: Values) -> Values:
    """Add a zero for each name without a count: a series that is sometimes missing is hard to alert on."""
    return dict.fromkeys(names, 0) | dict(counts)


def _change(report: Report) -> float | None:
    """Return the change of the total against the run before; None if one of them is not known."""
    return (
        report.total / report.total_before - 1 if report.total is not None and report.total_before else None
    )


def _newest(run: Ended) -> int | None:
    """Return the newest day of the catalogue as a timestamp; None if not all tracks were looked at."""
    tomorrow = int(run.ended // _DAY) + 1  # for a feed that is ahead of UTC
    newest = run.report.observed.newest(tomorrow) if run.report.is_whole else None
    return None if newest is None else newest * _DAY


def _implausible(run: Ended) -> Values:
    """Count the tracks by check; nothing if the run failed before its data was judged."""
    return run.report.checks or {}


def _of(subject: Subject, reasons: Iterable[str]) -> Iterator[Metric]:
    """Yield the metrics that count tracks, or artists."""
    unit, result = subject.unit, subject.result

    def counted(counts: Callable[[Report], Values]) -> Callable[[Ended], Values]:
        return lambda run: counts(run.report) if run.report.subject is subject else {}

    yield Metric(
        f"forecaster_run_{unit}_pending",
        f"Number of {unit} to process when the run began.",
        "",
        counted(lambda report: _one(report.pending)),
    )
    yield Metric(
        f"forecaster_run_{unit}",
        f"Number of {unit} processed, by outcome: {result}, skipped, taken by another writer, refused.",
        "outcome",
        counted(
            lambda report: {
                result: report.results,
                "skipped": len(report.skipped),
                "taken": len(report.taken),
                "refused": len(report.refused),
            }
        ),
    )
    yield Metric(
        f"forecaster_run_{unit}_skipped",
        f"Number of skipped {unit}, by reason.",
        "reason",
        counted(lambda report: _all_of(reasons, report.skipped_by_reason)),
    )


METRICS: tuple[Metric, ...] = (
    Metric(
        "forecaster_info",
        "1, with the version of the program.",
        "version",
        lambda _: {VERSION: 1},
    ),
    Metric(
        "forecaster_run_outcome",
        f"1 for the outcome of the last run, as in its record, else 0: {', '.join(OUTCOMES)}.",
        "outcome",
        lambda run: _all_of(OUTCOMES, {run.outcome: 1}),
    ),
    Metric(
        "forecaster_run_exit_code",
        "Exit code of the last run. A run with refused tracks, or a --strict finding, is done, but not 0.",
        "",
        lambda run: _one(run.exit_code),
    ),
    Metric(
        "forecaster_run_start_timestamp_seconds",
        "When the last run began.",
        "",
        lambda run: _one(run.started),
    ),
    Metric(
        "forecaster_run_end_timestamp_seconds",
        "When the last run ended.",
        "",
        lambda run: _one(run.ended),
    ),
    Metric(
        _LAST_SUCCESS,
        "When the last run with the outcome done ended. Other runs and dry runs leave it as it was.",
        "",
        lambda run: _one(run.last_success),
    ),
    Metric(
        "forecaster_run_duration_seconds",
        "Seconds that the last run took.",
        "",
        lambda run: _one(round(run.ended - run.started, 3)),
    ),
    Metric(
        "forecaster_run_stage_seconds",
        "Seconds spent in each stage. Stages overlap.",
        "stage",
        lambda run: _all_of(run.report.stages.names, run.report.stages.seconds),
    ),
    *_of(TRACKS, REASONS),
    *_of(ARTISTS, RATE_REASONS),
    Metric(
        "forecaster_run_stored_rows",
        "Forecast rows stored.",
        "",
        lambda run: _one(run.report.rows if run.report.subject is TRACKS else None),
    ),
    Metric(
        "forecaster_run_total_streams",
        "Streams of all stored forecasts up to the horizon, after the run.",
        "",
        lambda run: _one(run.report.total),
    ),
    Metric(
        "forecaster_run_total_change_ratio",
        "Change of that total against the run before: 0.05 means 5 % more.",
        "",
        lambda run: _one(_change(run.report)),
    ),
    Metric(
        "forecaster_run_newest_date_timestamp_seconds",
        "Newest day of the streams, at 0:00 UTC. Days in the future do not count.",
        "",
        lambda run: _one(_newest(run)),
    ),
    Metric(
        "forecaster_run_implausible_tracks",
        "Number of tracks that a check of plausibility warns about; 1 if it is about the catalogue.",
        "check",
        _implausible,
    ),
    Metric(
        "forecaster_run_left_out_rows",
        "Daily rows left out, by reason: unusable, duplicate.",
        "reason",
        lambda run: {"unusable": run.report.unusable_rows, "duplicate": run.report.duplicate_rows},
    ),
    Metric(
        "forecaster_run_failed_buckets",
        "Buckets of a catalogue in files that failed.",
        "",
        lambda run: _one(None if run.report.buckets is None else len(run.report.failed)),
    ),
    Metric(
        "forecaster_run_warnings",
        "Number of warnings.",
        "",
        lambda run: _one(len(run.report.all_warnings)),
    ),
)
"""Every metric, in the order of the file. A new row is also a row of the table in `docs/monitoring.md`."""


def table() -> str:
    """Return a Markdown table of all metrics."""
    rows = (f"| `{one.name}` | {f'`{one.label}`' if one.label else ''} | {one.help} |" for one in METRICS)
    return "\n".join(["| metric | label | meaning |", "|---|---|---|", *rows]) + "\n"


def as_text(run: Ended, labels: Mapping[str, str]) -> str:
    """Return the metrics of a run in Prometheus's text format, each with these labels."""
    return "".join(f"{line}\n" for metric in METRICS for line in metric.lines(run, labels))


class MetricsFile:
    """The file that --metrics names; without one, nothing is written."""

    def __init__(self, path: Path | None, command: str) -> None:
        """Check that the file can be written.

        Raises `InvalidOptionError` if it does not end in .prom, and what `check_target` raises.
        """
        self.path = path
        self.started = time.time()
        if path is None:
            return
        if path.name and path.suffix != ".prom":
            raise InvalidOptionError(
                f"{path} does not end in .prom", hint="node_exporter reads only files that do"
            )
        check_target(path)
        # Another run on this machine, with a file of its own, must not have the same series.
        self.labels = {"command": command, "file": os.fsencode(path.stem).decode(errors="replace")}

    @contextmanager
    def written(self, report: Report) -> Iterator[None]:
        """Write the file after the block, also if the block fails."""
        try:
            yield
        except BaseException as error:
            with postponed():
                self.write_failed(report, _exit_code(error))
            raise
        with postponed():
            self._write(report, 0)

    def write_failed(self, report: Report, exit_code: int) -> None:
        """Write the metrics of a run that failed. If that fails as well, log it: the first error counts."""
        try:
            self._write(report, exit_code)
        except ForecasterError as other:
            log.warning("%s", other)

    def _write(self, report: Report, exit_code: int) -> None:
        if self.path:
            now = time.time()
            is_success = _outcome(report, exit_code) == "done" and not report.dry_run
            last_success = now if is_success else self._last_success(self.path)
            write_text(
                as_text(Ended(report, exit_code, self.started, now, last_success), self.labels), self.path
            )

    def _last_success(self, path: Path) -> float | None:
        """Return the last success that the run before has written; None if there is none."""
        start = f"{_series(_LAST_SUCCESS, self.labels)} "
        try:
            lines = file_itself(path).read_bytes().decode().split("\n")
            return next((float(line.removeprefix(start)) for line in lines if line.startswith(start)), None)
        except (OSError, ValueError):  # not there yet, not readable, or not ours
            return None


def _exit_code(error: BaseException) -> int:
    """Return the code with which the program exits after this error."""
    if isinstance(error, Interrupted | KeyboardInterrupt):  # the second from Polars, ahead of our own
        return 128 + getattr(error, "signum", signal.SIGINT)
    return int(getattr(error, "exit_code", 1))
