"""The program: the group of all commands, and its usage errors."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import click

from forecaster.cli.commands import COMMANDS
from forecaster.cli.console import Console, log
from forecaster.cli.settings import kept, unread_variables
from forecaster.process.secrets import shown
from forecaster.process.stdio import OutputError
from forecaster.process.version import VERSION


class Group(click.Group):
    """The program. Its usage errors show no password."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the named command."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            message = shown(error.format_message())
            if "--json" in sys.argv:
                click.echo(json.dumps({"error": message}, indent=2))
            is_json = _log_format(sys.argv, os.environ, _in_file(self, ctx)) == "json"
            Console(log_format="json" if is_json else "text").set_up()
            for warning in unread_variables(
                self.commands, os.environ
            ):  # one may be the option that is missing
                log.warning("%s", warning)
            if is_json:
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


def _log_format(arguments: Sequence[str], environ: Mapping[str, str], in_file: object) -> object:
    """Return the format of the messages for a command line that cannot be parsed."""
    typed = [argument.partition("=")[2] for argument in arguments if argument.startswith("--log-format=")]
    typed += [value for name, value in pairwise(arguments) if name == "--log-format"]
    return typed[-1] if typed else environ.get("FORECASTER_LOG_FORMAT") or in_file


def _in_file(program: click.Group, ctx: click.Context) -> object:
    """Return the format of the messages that the configuration file asks for, if it was read."""
    settings, command = kept(ctx), program.commands.get(ctx.invoked_subcommand or "")
    found = settings.of(command) if settings and command else {}
    return found["log_format"].value if "log_format" in found else None


@click.group(
    cls=Group,
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION)
def main() -> None:
    """Forecast the streams of every track of a music catalogue in PostgreSQL.

    \b
    Example:
      forecaster demo
    """
