"""`forecaster config`: print the value of each option that counts, and where it comes from."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from click.core import ParameterSource

from forecaster.cli.options import Option
from forecaster.cli.output import Output
from forecaster.cli.settings import FILE_NAME, Settings, commands_of, kept, options_of
from forecaster.postgres.dsn import NAME_A_SERVER, resolve
from forecaster.process.logs import log
from forecaster.process.secrets import all_masked, shown


@dataclass(frozen=True)
class Counted:
    """The value of an option that counts for a command."""

    command: str
    option: Option
    value: object
    """None: not set."""
    source: str
    """variable, file or default."""
    place: str = ""
    """The variables, or file and section; empty for a default."""

    @property
    def row(self) -> tuple[str, str, str]:
        """Option, origin and value, for a reader."""
        return self.option.key, self.place or self.source, shown(self._text())

    def _text(self) -> str:
        if self.value is None:
            otherwise = "required" if self.option.required else self.option.show_default
            return f"({otherwise})" if isinstance(otherwise, str) else "-"
        if isinstance(self.value, bool):
            return f"{self.value}".lower()
        if isinstance(self.value, list):
            return " ".join(self.value)
        return f"{self.value:g}" if isinstance(self.value, float) else f"{self.value}"


def config(command: str | None, output: Output) -> None:
    """Print all options of one command, or what is set for any command."""
    ctx = click.get_current_context()
    settings = kept(ctx)
    if settings is None:
        log.info("configuration file: none (%s would be read)", Path(FILE_NAME).absolute())
    elif settings.profiles and not settings.profile:
        log.info("profile: none of %s", ", ".join(settings.profiles))
    asked = [of for name, of in commands_of(ctx).items() if command in (None, name)]
    counted = [one for of in asked for one in _counted(ctx, of, settings)]
    for line in _aligned(_of_one(counted) if command else _of_all(counted)):
        output.say(line, always=True)
    output.document(lambda: json.dumps(all_masked(_document(counted, settings)), indent=2))


def _counted(ctx: click.Context, command: click.Command, settings: Settings | None) -> Iterator[Counted]:
    """Yield each option of a command with the value that the command would get."""
    found = settings.of(command) if settings else {}
    typed = {name: setting.typed for name, setting in found.items()}
    name = f"{command.name}"
    # Without an error for what is required; an invalid variable gives no value, and its error below.
    own = command.make_context(name, [], ctx.find_root(), default_map=typed, resilient_parsing=True)
    own.resilient_parsing = False
    for option in options_of(command):
        value, source = own.params[f"{option.name}"], own.get_parameter_source(f"{option.name}")
        if source is ParameterSource.ENVIRONMENT:
            option.handle_parse_result(own, {}, [])
            yield Counted(name, option, _plain(value), "variable", f"{option.envvar}")
        elif source is ParameterSource.DEFAULT_MAP and settings:
            place = f"{settings.path.name} {found[f'{option.name}'].section}".rstrip()
            yield Counted(name, option, _plain(value), "file", place)
        else:
            yield _unset(name, option, _plain(value))


def _unset(command: str, option: Option, value: object) -> Counted:
    """Return the default; the variables of libpq name a database, too."""
    dsn = resolve(None) if option.name == "database_url" else None
    if dsn is None:
        return Counted(command, option, value, "default")
    variables = ", ".join(name for name in NAME_A_SERVER if os.environ.get(name))
    return Counted(command, option, f"{dsn}", "variable", variables)


def _plain(value: object) -> object:
    """Return a value that JSON has."""
    if isinstance(value, tuple):
        return [f"{member}" for member in value] or None
    return value if isinstance(value, bool | int | float | None) else f"{value}"


def _of_one(counted: Iterable[Counted]) -> Iterator[tuple[str, ...]]:
    yield "option", "from", "value"
    yield from (one.row for one in counted)


def _of_all(counted: Iterable[Counted]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each value that is set, with the commands that it counts for."""
    commands_with, rows = dict[str, list[str]](), dict[tuple[str, str, str], list[str]]()
    for one in counted:
        commands_with.setdefault(one.option.key, []).append(one.command)
        if one.place:
            rows.setdefault(one.row, []).append(one.command)
    if not rows:
        yield ("nothing is set: every option has its default",)
        return
    yield "option", "commands", "from", "value"
    order = [*commands_with]
    for row in sorted(rows, key=lambda row: order.index(row[0])):
        key, origin, value = row
        is_all = rows[row] == commands_with[key] and len(rows[row]) > 1
        yield key, "all" if is_all else ", ".join(rows[row]), origin, value


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the rows as lines of columns; the last column may be long."""
    table = [*rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)][:-1]
    for *cells, last in table:
        yield "".join(f"{cell:<{width + 3}}" for cell, width in zip(cells, widths, strict=True)) + last


def _document(counted: Iterable[Counted], settings: Settings | None) -> dict[str, object]:
    commands = dict[str, dict[str, object]]()
    for one in counted:
        entry = {"value": one.value, "source": one.source, "place": one.place or None}
        commands.setdefault(one.command, {})[one.option.key] = entry
    return {
        "file": f"{settings.path}" if settings else None,
        "profile": settings.profile if settings else None,
        "profiles": [*settings.profiles] if settings else [],
        "commands": commands,
    }
