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
from forecaster.process.secrets import shown
from forecaster.process.stdio import OutputError


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
    """Whether --log-format json was given on a command line that cannot be parsed."""
    pairs = pairwise(arguments)
    typed = "--log-format=json" in arguments or ("--log-format", "json") in pairs
    return typed or environ.get("FORECASTER_LOG_FORMAT") == "json"


@click.group(
    cls=Group,
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="forecaster")
def main() -> None:
    """Forecast the streams of every track of a music catalogue in PostgreSQL.

    \b
    Example:
      forecaster demo
    """
