"""Log to stderr: notes, warnings and errors, as text or JSON lines."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import click

from forecaster.process.secrets import all_masked, shown
from forecaster.process.signals import set_last_words

LogFormat = Literal["text", "json"]
Color = Literal["auto", "always", "never"]

log = logging.getLogger("forecaster")

_STYLES: Mapping[int, tuple[str, str]] = {
    logging.WARNING: ("Warning", "yellow"),
    logging.ERROR: ("Error", "red"),
}


_KNOWN = ("stage", "hint", "exit_code", "traceback")


@dataclass(frozen=True)
class Console:
    """How a command logs."""

    verbose: int = 0
    quiet: bool = False
    log_format: LogFormat = "text"
    color: bool | None = None
    """None: in colour only on a terminal."""
    log_id: str = ""
    """The id of the run, which each log record carries; on a terminal, it is logged once instead."""

    @property
    def is_interactive(self) -> bool:
        """Whether stderr is a terminal on which progress can be drawn."""
        can_move = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        return can_move and self.log_format == "text" and not self.quiet

    def set_up(self) -> None:
        """Send all log records to stderr from now on, in this format."""
        handler = _Stderr()
        is_json = self.log_format == "json"
        is_told_once = not is_json and sys.stderr.isatty()
        form = _Json(self.log_id) if is_json else _Text("" if is_told_once else self.log_id)
        handler.setFormatter(form)
        if self.is_interactive:  # the bars show when a stage begins
            handler.addFilter(lambda record: not hasattr(record, "begins"))
        log.handlers[:] = [handler]
        log.propagate = False
        loudest = logging.DEBUG if self.verbose else logging.INFO
        log.setLevel(logging.WARNING if self.quiet else loudest)
        set_last_words(form.last_words)
        if self.log_id and is_told_once:
            log.info("run: %s", self.log_id)


def color_of(choice: Color, environ: Mapping[str, str] = os.environ) -> bool | None:
    """Whether to use colours; None: only on a terminal. Only auto reads NO_COLOR and TERM=dumb."""
    if choice != "auto":
        return choice == "always"
    return False if environ.get("NO_COLOR") or environ.get("TERM") == "dumb" else None


class _Stderr(logging.Handler):
    """Write through click, which removes colours where they are not wanted."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


class _Text(logging.Formatter):
    """A message with its level, where that matters, and the id of the run; below it the hint."""

    def __init__(self, log_id: str) -> None:
        super().__init__()
        self.mark = f" [{log_id}]" if log_id else ""

    def format(self, record: logging.LogRecord) -> str:
        text = shown(record.getMessage()) + self.mark
        if record.levelno in _STYLES:
            name, color = _STYLES[record.levelno]
            text = f"{click.style(f'{name}:', fg=color, bold=True)} {text}"
        hint, trace = getattr(record, "hint", None), getattr(record, "traceback", None)
        return (f"{shown(trace)}\n" if trace else "") + text + (f"\n  {shown(hint)}" if hint else "")

    def last_words(self, words: str, _exit_code: int) -> str:
        """Format the line that the process ends with."""
        return words + self.mark


class _Json(logging.Formatter):
    """One object per line: time, level, id of the run, message, and further known fields."""

    def __init__(self, log_id: str) -> None:
        super().__init__()
        self.run = {"run": log_id} if log_id else {}

    def format(self, record: logging.LogRecord) -> str:
        known = {name: getattr(record, name) for name in _KNOWN if hasattr(record, name)}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self.run,
            "message": record.getMessage(),
            **known,
        }
        return json.dumps(all_masked(line))

    def last_words(self, words: str, exit_code: int) -> str:
        """Format the line that the process ends with."""
        extra = {"exit_code": exit_code}
        return self.format(log.makeRecord(log.name, logging.ERROR, "", 0, words, (), None, extra=extra))
