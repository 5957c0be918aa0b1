"""A command: import its body when it runs, and report its errors."""

import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

import click

from forecaster.cli.console import Console, color_of, log
from forecaster.cli.options import SPEAKING, Option
from forecaster.cli.output import ConsoleOutput, JsonOutput, Output
from forecaster.cli.settings import commands_of, keep, kept, read_settings, unread_variables
from forecaster.cli.settings_check import check_settings
from forecaster.errors import ForecasterError
from forecaster.process.environment import settle
from forecaster.process.signals import Interrupted
from forecaster.process.unexpected import is_unexpected, translated

if TYPE_CHECKING:
    from forecaster.postgres.early import Early

Body = Callable[..., None]


class Command(click.Command):
    """A command whose body, the function `forecaster.cli.NAME.NAME`, is imported when the command runs.

    The file of the body imports Polars and the drivers at its top. Help, shell completion and usage errors do
    not need them, so they do not wait for them.
    """

    def __init__(self, name: str, text: str, *parameters: click.Parameter, connects: bool = False) -> None:
        own = [copy(parameter) for parameter in (*parameters, *SPEAKING)]
        super().__init__(name, params=own, help=inspect.cleandoc(text))
        self.connects = connects
        """Whether the first thing that the body does is to connect, unless its catalogue is in files."""
        for parameter in own:
            if isinstance(parameter, Option):
                parameter.belong_to(name)

    def body(self) -> Body:
        """Import the function that does the work."""
        body: Body = getattr(import_module(f"forecaster.cli.{self.name}"), f"{self.name}")
        return body

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line on top of the configuration file. Help and completion need no file."""
        if not ctx.resilient_parsing:
            given, _, _ = self.make_parser(ctx).parse_args([*args])
            asks_for_help = self.get_help_option(ctx)
            if asks_for_help is None or asks_for_help.name not in given:
                self._configure(ctx, given)
        return super().parse_args(ctx, args)

    def _configure(self, ctx: click.Context, given: Mapping[str, object]) -> None:
        """Make the values of the configuration file the defaults of the options."""
        options = {f"{option.name}": option for option in self.params if isinstance(option, Option)}
        settings = read_settings(*(_given(options[name], ctx, given) for name in ("config", "profile")))
        if settings:
            keep(ctx, settings)
            check_settings(settings, ctx)
            ctx.default_map = {name: setting.typed for name, setting in settings.of(self).items()}

    @contextmanager
    def _connecting(self, options: Mapping[str, Any]) -> Iterator["Early | None"]:
        """Begin to connect, so that the server answers while the body is imported."""
        if not self.connects or options.get("source") is not None:
            yield None
            return
        from forecaster.postgres.early import begun  # noqa: PLC0415 - help needs no driver

        with begun(options["database_url"]) as early:
            yield early

    def invoke(self, ctx: click.Context) -> None:
        """Set up logging and output, and run the body."""
        output = _output(ctx)
        _tell_settings(ctx, output)
        try:
            settle(os.environ)  # before Polars reads it
            with self._connecting(ctx.params) as early:
                body = self.body()
                body(**arguments(body, {**ctx.params, "output": output, "early": early}))
        except KeyboardInterrupt:  # by Polars, ahead of our own handler; click would call it "Aborted!"
            raise Interrupted(signal.SIGINT) from None
        except ForecasterError as error:
            _fail(ctx, error, output.console)
        except BaseException as error:
            if not is_unexpected(error):
                raise
            _fail(ctx, translated(error), output.console)


def _given(option: Option, ctx: click.Context, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - click's own
    """Return the value of one option from the command line or its variable, else None."""
    value, _ = option.handle_parse_result(ctx, given, [])
    source = ctx.get_parameter_source(f"{option.name}")
    return None if source is click.core.ParameterSource.DEFAULT else value


def _tell_settings(ctx: click.Context, output: Output) -> None:
    settings = kept(ctx)
    if settings:
        log.info("configuration file: %s", settings)
        output.warn(settings.warnings)
    output.warn(unread_variables(commands_of(ctx), os.environ))


def arguments(body: Body, values: Mapping[str, object]) -> dict[str, object]:
    """Build the arguments of a body from the values of the options by name.

    A parameter that is a dataclass is built from the options that have the names of its fields. So are
    fields that are dataclasses themselves. A field without an option keeps its default.
    """
    hints = get_type_hints(body)
    return {name: _value(name, kind, values) for name, kind in hints.items() if name != "return"}


def _value(name: str, kind: object, values: Mapping[str, object]) -> object:
    if name in values or not (isinstance(kind, type) and is_dataclass(kind)):
        return values[name]
    return kind(
        **{
            field.name: _value(field.name, field.type, values)
            for field in fields(kind)
            if field.name in values or is_dataclass(field.type)
        }
    )


def _output(ctx: click.Context) -> Output:
    """Remove the output options from the others, and return the output that they ask for."""
    own = {name: ctx.params.pop(name) for name in ("verbose", "quiet", "log_format")}
    ctx.color = color_of(ctx.params.pop("color"))
    log_id = os.urandom(4).hex() if "metrics" in ctx.params else ""  # only runs have metrics
    console = Console(**own, color=ctx.color, log_id=log_id)
    console.set_up()
    return JsonOutput(console) if ctx.params.pop("as_json", False) else ConsoleOutput(console)


def _fail(ctx: click.Context, error: ForecasterError, console: Console) -> NoReturn:
    extra = {"hint": error.hint, "exit_code": error.exit_code}
    if console.verbose > 1:
        extra["traceback"] = "".join(traceback.format_exception(error))
    log.error("%s", error, extra=extra)
    sys.stdout.flush()
    ctx.exit(error.exit_code)
