"""`forecaster completion`: print the script that completes words in a shell."""

import click
from click.shell_completion import get_completion_class

from forecaster.errors import InvalidOptionError


def completion(shell: str) -> None:
    """Print the script for one shell."""
    of_shell = get_completion_class(shell)
    if of_shell is None:
        raise InvalidOptionError(f"there is no completion for {shell}")
    program = click.get_current_context().find_root()
    if shell == "zsh":  # which has no completion before this is loaded
        click.echo("(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }")
    click.echo(of_shell(program.command, {}, "forecaster", "_FORECASTER_COMPLETE").source())
