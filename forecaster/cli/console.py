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

    @property
    def is_interactive(self) -> bool:
        """Whether stderr is a terminal on which progress can be drawn."""
        can_move = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        return can_move and self.log_format == "text" and not self.quiet

    def set_up(self) -> None:
        """Send all log records to stderr from now on, in this format."""
        handler = _Stderr()
        handler.setFormatter(_Json() if self.log_format == "json" else _Text())
        if self.is_interactive:  # the bars show when a stage begins
            handler.addFilter(lambda record: not hasattr(record, "begins"))
        log.handlers[:] = [handler]
        log.propagate = False
        loudest = logging.DEBUG if self.verbose else logging.INFO
        log.setLevel(logging.WARNING if self.quiet else loudest)
        set_last_words(_interrupted if self.log_format == "json" else None)


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
    def format(self, record: logging.LogRecord) -> str:
        text = shown(record.getMessage())
        if record.levelno in _STYLES:
            name, color = _STYLES[record.levelno]
            text = f"{click.style(f'{name}:', fg=color, bold=True)} {text}"
        hint, trace = getattr(record, "hint", None), getattr(record, "traceback", None)
        return (f"{shown(trace)}\n" if trace else "") + text + (f"\n  {shown(hint)}" if hint else "")


class _Json(logging.Formatter):
    """One object per line: time, level, message, and further known fields."""

    def format(self, record: logging.LogRecord) -> str:
        known = {name: getattr(record, name) for name in _KNOWN if hasattr(record, name)}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **known,
        }
        return json.dumps(all_masked(line))


def _interrupted(words: str, exit_code: int) -> str:
    record = log.makeRecord(log.name, logging.ERROR, "", 0, words, (), None, extra={"exit_code": exit_code})
    return _Json().format(record)
