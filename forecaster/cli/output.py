"""Print the progress and the result of a command, as text or as one JSON document."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import click

from forecaster.cli import progress
from forecaster.cli.console import Console, log
from forecaster.process.secrets import shown

if TYPE_CHECKING:
    from forecaster.run.report import Report


class Output(ABC):
    """Log progress and warnings on stderr; print the result on stdout."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.started = time.perf_counter()

    def doing(self, stage: str) -> AbstractContextManager[None]:
        """Show a stage, for the duration of the block."""
        return progress.doing(stage, self.console)

    def following(self, report: "Report") -> AbstractContextManager[None]:
        """Show the progress of the run that fills the report, for the duration of the block."""
        return progress.shown(report, self.console)

    def warn(self, warnings: Iterable[str]) -> None:
        """Log warnings; the command continues."""
        for warning in warnings:
            log.warning("%s", warning)

    @abstractmethod
    def say(self, text: str, *, always: bool = False) -> None:
        """Print a part of the result as text; `always`: even with -q."""

    @abstractmethod
    def finish(self, table: Mapping[str, str], /, *, seconds: float | None = None, **counts: object) -> None:
        """Print a table of what was done, and a last line in a fixed form, for grep.

        `seconds` defaults to the time since the command began.
        """

    @abstractmethod
    def document(self, result: Callable[[], str]) -> None:
        """Print the whole result as JSON; `result` is only called if it is printed."""


class ConsoleOutput(Output):
    """Output as text; with -q only the last line."""

    def say(self, text: str, *, always: bool = False) -> None:
        """Print the text."""
        if always or not self.console.quiet:
            click.echo(text)

    def finish(self, table: Mapping[str, str], /, *, seconds: float | None = None, **counts: object) -> None:
        """Print the table and the last line; with -q only the line."""
        if table:
            width = max(21, *(len(name) + 2 for name in table))
            self.say("\n".join(f"{name:<{width}}{shown(value)}" for name, value in table.items()))
        if seconds is None:
            seconds = time.perf_counter() - self.started
        click.echo(" ".join(f"{name}={value}" for name, value in counts.items()) + f" seconds={seconds:.2f}")

    def document(self, result: Callable[[], str]) -> None:
        """Print nothing: the result was printed as text."""


class JsonOutput(Output):
    """Output as one JSON document, without text."""

    def say(self, text: str, *, always: bool = False) -> None:
        """Print nothing."""

    def finish(self, table: Mapping[str, str], /, *, seconds: float | None = None, **counts: object) -> None:
        """Print nothing."""

    def document(self, result: Callable[[], str]) -> None:
        """Print the document."""
        click.echo(result())
