"""Show progress on stderr: bars on a terminal, lines elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from forecaster.cli.console import Console, log

if TYPE_CHECKING:  # Polars and Rich are imported when they are used
    from rich.progress import Progress, TaskID

    from forecaster.run.report import Report

HEARTBEAT = 30.0
"""Seconds without output after which a run that is not on a terminal logs its progress."""

_LOOKS = 0.1  # seconds between two reads of the report


@contextmanager
def shown(report: "Report", console: Console, *, heartbeat: float = HEARTBEAT) -> Iterator[None]:
    """Show the progress of the run that fills the report, for the duration of the block."""
    if console.quiet:
        yield
    elif console.is_interactive:
        with _picture(report, console) as look, _looking(look):
            yield
    else:
        look = _Signs(report, heartbeat)
        with _looking(look):
            yield


@contextmanager
def doing(stage: str, console: Console, *, heartbeat: float = HEARTBEAT) -> Iterator[None]:
    """Show a stage that counts nothing, for the duration of the block."""
    log.info("stage: %s", stage, extra={"stage": stage, "begins": True})
    if console.is_interactive:
        from rich.console import Console as Screen  # noqa: PLC0415 - only for a picture

        with Screen(stderr=True, no_color=console.color is False).status(stage):
            yield
        return
    start = last = time.monotonic()

    def look() -> None:
        nonlocal last
        if time.monotonic() - last >= heartbeat:
            last = time.monotonic()
            log.info("still at work after %.0f s: %s", last - start, stage, extra={"stage": stage})

    with _looking(look):
        yield


@contextmanager
def _looking(look: Callable[[], None]) -> Iterator[None]:
    """Call `look` repeatedly in a separate thread, and once at the end."""
    over = threading.Event()

    def again_and_again() -> None:
        while not over.wait(_LOOKS):
            look()

    thread = threading.Thread(target=again_and_again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


class _Signs:
    """Log the progress when nothing else was logged for a while."""

    def __init__(self, report: "Report", heartbeat: float) -> None:
        self.report = report
        self.heartbeat = heartbeat
        self.begun = 0
        self.start = self.last = time.monotonic()

    def __call__(self) -> None:
        now, begun = time.monotonic(), len(self.report.stages.active)
        if begun != self.begun:  # each stage is logged when it begins
            self.begun, self.last = begun, now
        elif now - self.last >= self.heartbeat:
            self.last = now
            log.info("still at work after %.0f s%s", now - self.start, self._how_far(now - self.start))

    def _how_far(self, seconds: float) -> str:
        total, stages = self.report.to_process, self.report.stages
        done = stages.done
        counts = ", ".join(f"{stage} {done[stage]:,}" for stage in stages.names if done.get(stage))
        if not counts:
            at_work = ", ".join(stage for stage in stages.names if stages.active.get(stage))
            return f": {at_work}" if at_work else ""
        last = done.get(stages.names[-2 if self.report.dry_run else -1], 0)
        left = f"; about {seconds * (total - last) / last:.0f} s left" if last else ""
        return f": {counts} of {total:,} {stages.unit}{left}"


@contextmanager
def _picture(report: "Report", console: Console) -> Iterator[Callable[[], None]]:
    """Draw a bar for each stage with count, speed and time left. The bars disappear at the end."""
    from rich.console import Console as Screen  # noqa: PLC0415 - only for a picture
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}", justify="right"),
        TextColumn("{task.fields[rate]}", justify="right"),
        TimeRemainingColumn(compact=True),
        console=Screen(stderr=True, no_color=console.color is False),
        transient=True,
    ) as bars:
        stages = [stage for stage in report.stages.names if not (report.dry_run and stage == "write")]
        tasks = {stage: bars.add_task(stage, total=None, start=False, count="", rate="") for stage in stages}
        yield lambda: _update(bars, tasks, report)


def _update(bars: "Progress", tasks: Mapping[str, "TaskID"], report: "Report") -> None:
    """Move each bar to the progress of its stage. Connecting has no count: its bar is empty or full."""
    for stage, task in tasks.items():
        if stage == "connect":
            is_over = report.stages.active.get(stage) == 0
            bars.update(task, total=1 if is_over else None, completed=int(is_over))
        elif stage in report.stages.active:
            done, seconds = report.stages.done.get(stage, 0), report.stages.seconds.get(stage, 0.0)
            bars.start_task(task)
            bars.update(
                task,
                total=report.to_process or None,
                completed=done,
                count=f"{done:,} of {report.to_process:,} {report.stages.unit}" if report.to_process else "",
                rate=f"{done / seconds:,.0f}/s" if done and seconds else "",
            )
