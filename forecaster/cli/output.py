"""What a command says of its work and of its result: for people, or as one JSON document."""

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
    """Progress and warnings go to stderr as the console is set; the result goes to stdout."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.started = time.perf_counter()

    def doing(self, stage: str) -> AbstractContextManager[None]:
        """Show, for as long as the block lasts, that a stage goes on."""
        return progress.doing(stage, self.console)

    def following(self, report: "Report") -> AbstractContextManager[None]:
        """Show, for as long as the block lasts, how far the run is that fills in the report."""
        return progress.shown(report, self.console)

    def warn(self, warnings: Iterable[str]) -> None:
        """Say what the user should know, and the command goes on."""
        for warning in warnings:
            log.warning("%s", warning)

    @abstractmethod
    def say(self, text: str, *, always: bool = False) -> None:
        """Print a part of the result for people; `always`: also if the command is to be quiet."""

    @abstractmethod
    def finish(self, table: Mapping[str, str], /, *, seconds: float | None = None, **counts: object) -> None:
        """End with a table of what was done, and one line that grep can find.

        Its seconds are those since the command began, unless it knows better.
        """

    @abstractmethod
    def document(self, result: Callable[[], str]) -> None:
        """Print the whole result as JSON text, which is only made where it is wanted."""


class ConsoleOutput(Output):
    """Text for people; with -q only its last line."""

    def say(self, text: str, *, always: bool = False) -> None:
        """Print the text."""
        if always or not self.console.quiet:
            click.echo(text)

    def finish(self, table: Mapping[str, str], /, *, seconds: float | None = None, **counts: object) -> None:
        """Print the table and the line."""
        if table:
            width = max(21, *(len(name) + 2 for name in table))
            self.say("\n".join(f"{name:<{width}}{shown(value)}" for name, value in table.items()))
        if seconds is None:
            seconds = time.perf_counter() - self.started
        click.echo(" ".join(f"{name}={value}" for name, value in counts.items()) + f" seconds={seconds:.2f}")

    def document(self, result: Callable[[], str]) -> None:
        """Nothing: people have been told."""


class JsonOutput(Output):
    """One document, and nothing else."""

    def say(self, text: str, *, always: bool = False) -> None:
        """Nothing."""

    def finish(self, table: Mapping[str, str], /, *, seconds: float | None = None, **counts: object) -> None:
        """Nothing."""

    def document(self, result: Callable[[], str]) -> None:
        """Print it."""
        click.echo(result())
