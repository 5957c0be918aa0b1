"""Print the command reference as Markdown: `python -m forecaster.cli.reference`."""

from collections.abc import Iterable, Iterator

import click

from forecaster.cli.app import main
from forecaster.cli.commands import COMMANDS
from forecaster.cli.options import DATABASE, SPEAKING

_HEAD = """\
# Command reference

<!-- Made by `python -m forecaster.cli.reference`. A test compares it with the program. -->

Each option can also be set by an environment variable, or in a [configuration file](configuration.md). The
command line counts before variables, and variables count before the file.
[Exit codes](errors.md#exit-codes) are the same for all commands.

`-h` or `--help` shows the help of the program or of a command, `forecaster --version` the version.
Two tables at the end hold what many commands share: the [options of every
command](#options-of-every-command) and the [database options](#database-options).

| command | what it does |
|---|---|"""

_EVERYWHERE = {option.name for option in SPEAKING}
_OF_DATABASE = {option.name for option in DATABASE}
_WITH_DATABASE = "It also takes the [database options](#database-options)."
_COLUMNS = "| option | meaning | default | variable |\n|---|---|---|---|"


def reference() -> str:
    """Return the page: usage, description, options and examples of every command."""
    program = click.Context(main, info_name="forecaster")
    listed = "\n".join(
        f"| [`{command.name}`](#forecaster-{command.name}) | {_escaped(f'{command.help}'.splitlines()[0])} |"
        for command in COMMANDS
    )
    sections = (
        "\n\n".join(_section(command, click.Context(command, program, info_name=command.name)))
        for command in COMMANDS
    )
    return "\n\n".join([f"{_HEAD}\n{listed}", *sections, *_shared(program)]) + "\n"


def _shared(program: click.Context) -> Iterator[str]:
    """Yield the tables of the options that commands share."""
    command = next(filter(_has_database, COMMANDS))
    for heading, names in (("Options of every command", _EVERYWHERE), ("Database options", _OF_DATABASE)):
        yield f"## {heading}"
        yield _table((option for option in command.params if option.name in names), program)


def _has_database(command: click.Command) -> bool:
    return {option.name for option in command.params} >= _OF_DATABASE


def _section(command: click.Command, ctx: click.Context) -> Iterator[str]:
    """Yield the parts of a command: usage, help, table of its own options."""
    yield f"## forecaster {command.name}"
    yield f"Usage: `{' '.join([ctx.command_path, *command.collect_usage_pieces(ctx)])}`"
    yield from map(_paragraph, f"{command.help}".split("\n\n"))
    shared = _EVERYWHERE | (_OF_DATABASE if _has_database(command) else set())
    own = [option for option in command.params if option.name not in shared]
    if any(isinstance(option, click.Option) for option in own):
        yield _table(own, ctx)
    if _has_database(command):
        yield _WITH_DATABASE


def _paragraph(text: str) -> str:
    """Format a paragraph of the help; examples become a list."""
    title, _, lines = text.removeprefix("\b\n").partition("\n")
    if title.startswith("Example"):
        return "\n".join([f"{title}\n", *(f"- `{line.strip()}`" for line in lines.splitlines())])
    return _escaped(" ".join(f"{title}\n{lines}".split()))


def _table(parameters: Iterable[click.Parameter], ctx: click.Context) -> str:
    """Format a table: option, meaning, default, variable."""
    options = (parameter for parameter in parameters if isinstance(parameter, click.Option))
    return "\n".join([_COLUMNS, *(_row(option, ctx) for option in options)])


def _row(option: click.Option, ctx: click.Context) -> str:
    names, _ = option.get_help_record(ctx) or ("", "")
    more = option.get_help_extra(ctx)
    limits = f" `{more['range']}`" if "range" in more else ""
    default = "required" if "required" in more else f"{more.get('default', '')}".strip("()")
    variable = ", ".join(f"`{name}`" for name in more.get("envvars", ()))
    return (
        f"| `{_escaped(names)}` | {_escaped(f'{option.help}')}{limits} | {_escaped(default)} | {variable} |"
    )


def _escaped(text: str) -> str:
    """Escape what would end a cell or begin markup."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")


if __name__ == "__main__":
    click.echo(reference(), nl=False)
