"""The configuration file: find it, read it, and pick what it says for a command."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import click

from forecaster.cli.options import Option
from forecaster.process.secrets import masked

FILE_NAME = "forecaster.toml"
PROFILES = "profile"
_KEY = "forecaster.settings"

Table = Mapping[str, object]
Commands = Mapping[str, click.Command]


class Setting(NamedTuple):
    """A value of the file for an option, and its section, such as [run]; empty at the top."""

    option: Option
    value: object
    section: str

    @property
    def typed(self) -> str | list[str]:
        """The value as it would be typed after the option, for click to parse."""
        if self.option.multiple:
            return [
                _word(member) for member in (self.value if isinstance(self.value, list) else [self.value])
            ]
        return _word(self.value)


@dataclass(frozen=True)
class Settings:
    """A configuration file, and the chosen profile."""

    path: Path
    content: Table
    profile: str | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.path}, profile {self.profile}" if self.profile else f"{self.path}"

    @property
    def profiles(self) -> Table:
        """The profiles that the file has, by name."""
        return _table(self.content, PROFILES)

    def of(self, command: click.Command) -> dict[str, Setting]:
        """Return what counts for the command, by the names of its parameters."""
        found = {}
        for section, table, is_own in self._layers(f"{command.name}"):
            for option in options_of(command):
                value = table.get(option.key)
                if value is not None and (is_own or (option.is_shared and not isinstance(value, dict))):
                    found[f"{option.name}"] = Setting(option, value, section)
        return found

    def _layers(self, command: str) -> Iterator[tuple[str, Table, bool]]:
        """Yield the sections that a command reads, the strongest last, and whether each is its own."""
        yield "", self.content, False
        yield f"[{command}]", _table(self.content, command), True
        if self.profile:
            name, profile = f"{PROFILES}.{self.profile}", _table(self.profiles, self.profile)
            yield f"[{name}]", profile, False
            yield f"[{name}.{command}]", _table(profile, command), True


def commands_of(ctx: click.Context) -> Commands:
    """Return all commands of the program, by name."""
    program = ctx.find_root().command
    return program.commands if isinstance(program, click.Group) else {}


def options_of(command: click.Command) -> Iterator[Option]:
    """Yield the options of a command that a file can set."""
    for option in command.params:
        if isinstance(option, Option) and option.expose_value:
            yield option


def _word(value: object) -> str:
    if isinstance(value, list | dict):
        raise click.BadParameter(
            f"expected one value, not a {'list' if isinstance(value, list) else 'table'}"
        )
    if isinstance(value, bool):
        return f"{value}".lower()
    text = f"{value}"
    return str(Path(text).expanduser()) if text.startswith("~/") else text  # no shell has done it


def read_settings(path: Path | None, profile: str | None) -> Settings | None:
    """Read the given file, else the one in the working directory, if there is one; /dev/null holds nothing.

    Raises `click.UsageError` for a file that cannot be read or whose owner is not trusted, and for a profile
    without a file.
    """
    found = path or _in_working_directory()
    if found is None:
        if profile:
            raise click.UsageError(
                f'there is no configuration file for the profile "{profile}": give --config FILE.toml, or '
                f"create {FILE_NAME} in the working directory"
            )
        return None
    text = _text(found)
    return Settings(found, _parsed(found, text), profile, tuple(_exposed(found, text)))


def keep(ctx: click.Context, settings: Settings) -> None:
    """Keep the settings for the rest of the program."""
    ctx.meta[_KEY] = settings


def kept(ctx: click.Context) -> Settings | None:
    """Return the settings that this program has read, if any."""
    settings: Settings | None = ctx.meta.get(_KEY)
    return settings


def unread_variables(commands: Commands, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable that has the prefix of the program and that no option reads."""
    prefix = "FORECASTER_"
    known = {f"{option.envvar}" for of in commands.values() for option in of.params if option.envvar}
    by_end = {name.removeprefix(prefix): name for name in known}
    for name in sorted(environ):
        if name.startswith(prefix) and name not in known:
            near = nearest(name.removeprefix(prefix), by_end)
            yield f"nothing reads the variable {name}" + (f"; did you mean {by_end[near]}?" if near else "")


def _in_working_directory() -> Path | None:
    path = Path(FILE_NAME)
    if not os.access(".", os.X_OK):  # as after `sudo -u`: nothing can be found in it
        return None
    try:
        entry, file = path.lstat(), path.stat()
    except FileNotFoundError:
        return None
    path = path.absolute()
    is_trusted = {entry.st_uid, file.st_uid} <= {0, os.geteuid()} and not file.st_mode & stat.S_IWOTH
    if not (is_trusted and stat.S_ISREG(file.st_mode)):
        raise click.UsageError(
            f"{path} is not read: it belongs to another user, other users can write to it, or it is not a "
            f"regular file. If it is right, name it: --config {FILE_NAME}; to do without: --config /dev/null"
        )
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise click.UsageError(f"{path} is not text in UTF-8 (at line {line})") from None


def _parsed(path: Path, text: str) -> Table:
    import tomllib  # noqa: PLC0415 - most programs have no file

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{path} is not valid TOML: {error}") from None


def _exposed(path: Path, text: str) -> Iterator[str]:
    """Yield warnings about what other users of the machine can do with the file."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        yield f"other users can write to {path}, and so choose what this program does: chmod o-w {path}"
    if stat.S_ISREG(mode) and mode & stat.S_IROTH and masked(text) != text:
        yield f"other users can read the password in {path}: chmod o-r {path}"


def _table(table: Table, key: str) -> Table:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant, if any is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

    return next(iter(get_close_matches(name, [*names], n=1)), None)
