"""What all commands have in common: options that are variables too, how they speak, how they end."""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any, NoReturn

import click

from forecaster.cli.console import Console, color_of, log
from forecaster.errors import ForecasterError
from forecaster.process.environment import settle
from forecaster.process.secrets import shown
from forecaster.process.signals import Interrupted
from forecaster.process.stdio import OutputError
from forecaster.process.unexpected import in_a_line, is_unexpected


class _Id(click.ParamType[int]):
    """A track or an artist. The range of 64 bits, which IntRange shows in the help, is of no use there."""

    name = "integer"

    def convert(self, value: int | str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        integer = click.INT.convert(value, param, ctx)  # type: ignore[arg-type]
        in_range: int = _INT64.convert(integer, param, ctx)
        return in_range


class IntRange(click.IntRange):
    """An integer of some range; the message on what is none names an integer, and no range."""

    name = "integer"


class FloatRange(click.FloatRange):
    """The same for a number."""

    name = "number"


_INT64 = click.IntRange(-(2**63), 2**63 - 1)
ID = _Id()


class Option(click.Option):
    """An option that is also a variable, which the help shows.

    It is FORECASTER_ and the option's name where that means the same for all commands, else with the
    command's name between: what is set for one must not change what another does.
    """

    def __init__(self, *arguments: Any, shared: bool = False, **attributes: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **attributes)
        self.is_shared = shared

    def belong_to(self, command: str) -> None:
        """Take the variable's name, now that the command is known."""
        if self.envvar is None:
            longest = max((name for name in self.opts if name.startswith("--")), key=len)
            of = "" if self.is_shared else f"{command}_"
            self.envvar = f"FORECASTER_{of}{longest.removeprefix('--')}".replace("-", "_").upper()
        self.show_envvar = True
        if self.multiple:
            self.help = f"{self.help} Can be repeated; in the variable, blanks separate."


class Command(click.Command):
    """A command with the options that every command has; it says its errors in one paragraph."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*arguments, **attributes)
        self.params += [
            Option(
                ["-v", "--verbose"],
                count=True,
                shared=True,
                help="Say more; -vv also shows where an error came from.",
            ),
            Option(
                ["-q", "--quiet"],
                is_flag=True,
                shared=True,
                help="Say nothing but warnings, errors and the last line.",
            ),
            Option(
                ["--log-format"],
                type=click.Choice(["text", "json"]),
                default="text",
                show_default=True,
                shared=True,
                help="What is said on stderr: text, or one JSON object per line.",
            ),
            Option(
                ["--color"],
                type=click.Choice(["auto", "always", "never"]),
                default="auto",
                show_default=True,
                shared=True,
                help="Colours; NO_COLOR counts for auto.",
            ),
        ]
        for parameter in self.params:
            if isinstance(parameter, Option):
                parameter.belong_to(self.name or "")

    def invoke(self, ctx: click.Context) -> object:
        """Set up how it speaks, and run it."""
        started = time.perf_counter()
        own = {name: ctx.params.pop(name) for name in ("verbose", "quiet", "log_format")}
        ctx.color = color_of(ctx.params.pop("color"))
        console = Console(**own, color=ctx.color)
        console.set_up()
        ctx.meta.update({_CONSOLE: console, _STARTED: started})
        try:
            settle(os.environ)
            return super().invoke(ctx)
        except KeyboardInterrupt:  # by Polars, ahead of our own handler; click would call it "Aborted!"
            raise Interrupted(signal.SIGINT) from None
        except ForecasterError as error:
            _fail(ctx, error, console)
        except BaseException as error:
            if not is_unexpected(error):
                raise
            _fail(ctx, in_a_line(error), console)


_CONSOLE, _STARTED = f"{__name__}.console", f"{__name__}.started"


class Group(click.Group):
    """The program: its commands are of our kind, and no usage error shows a password."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that is named."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            message = shown(error.format_message())
            if "--json" in sys.argv:
                click.echo(json.dumps({"error": message}, indent=2))
            if _wants_json_lines(sys.argv, os.environ):
                Console(log_format="json").set_up()
                log.error("%s", message, extra={"exit_code": error.exit_code})
                ctx.exit(error.exit_code)
            raise click.UsageError(message, error.ctx) from None

    def main(self, *arguments: Any, **attributes: Any) -> Any:  # noqa: ANN401 - click's own
        """Run the program."""
        try:
            return super().main(*arguments, **attributes)
        except OutputError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)


def _wants_json_lines(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether --log-format json was given, on a command line that cannot be read."""
    pairs = pairwise(arguments)
    typed = "--log-format=json" in arguments or ("--log-format", "json") in pairs
    return typed or environ.get("FORECASTER_LOG_FORMAT") == "json"


def console() -> Console:
    """How the command that is running speaks."""
    found: Console = click.get_current_context().meta[_CONSOLE]
    return found


def doing(stage: str) -> AbstractContextManager[None]:
    """Show, for as long as the block lasts, that a stage goes on."""
    from forecaster.cli.progress import doing as shown

    return shown(stage, console())


def finish(table: Mapping[str, str], /, *, seconds: float | None = None, **counts: object) -> None:
    """End a command: the table of what it did, and one line that grep can find.

    Its seconds are those since the command began, unless it knows better.
    """
    context = click.get_current_context()
    if table and not console().quiet:
        width = max(21, *(len(name) + 2 for name in table))
        click.echo("\n".join(f"{name:<{width}}{shown(value)}" for name, value in table.items()))
    if seconds is None:
        seconds = time.perf_counter() - context.meta[_STARTED]
    click.echo(" ".join(f"{name}={value}" for name, value in counts.items()) + f" seconds={seconds:.2f}")


def say(text: str) -> None:
    """Print a part of the result, unless the command is to be quiet."""
    if not console().quiet:
        click.echo(text)


def warn(warnings: Iterable[str]) -> None:
    """Say what the user should know, and the command goes on."""
    for warning in warnings:
        log.warning("%s", warning)


def was_typed(option: str) -> bool:
    """Whether the user has given the option now, and not by a variable."""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.COMMANDLINE


def _fail(ctx: click.Context, error: ForecasterError, console: Console) -> NoReturn:
    extra = {"hint": error.hint, "exit_code": error.exit_code}
    if console.verbose > 1:
        extra["traceback"] = "".join(traceback.format_exception(error))
    log.error("%s", error, extra=extra)
    sys.stdout.flush()
    ctx.exit(error.exit_code)
