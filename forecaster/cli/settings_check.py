"""Check a configuration file: all keys and values, also those of other commands and profiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from forecaster.cli.options import Option
from forecaster.cli.settings import (
    PROFILES,
    Commands,
    Setting,
    Settings,
    Table,
    commands_of,
    nearest,
    options_of,
)


def check_settings(settings: Settings, ctx: click.Context) -> None:
    """Raise `click.UsageError`, which names file, section and key, for the first one that is wrong."""
    check = _Check(settings.path, ctx, commands_of(ctx))
    check.profile(settings)
    check.level((), settings.content)
    for name, profile in settings.profiles.items():
        if not isinstance(profile, dict):
            raise check.wrong((PROFILES,), f'"{name}" is not a section: write [{PROFILES}.{name}]')
        check.level((PROFILES, name), profile)


@dataclass(frozen=True)
class _Check:
    path: Path
    ctx: click.Context
    commands: Commands

    def profile(self, settings: Settings) -> None:
        """Check that the chosen profile exists."""
        name, names = settings.profile, settings.profiles
        if name and name not in names:
            there = f" (there are {', '.join(names)})" if names else ""
            raise self.wrong((), f'no profile "{name}"{there}', nearest(name, names))

    def level(self, within: tuple[str, ...], level: Table) -> None:
        """Check the top of the file, or a profile: options of all commands, and sections of single ones."""
        shared = {
            option.key: option
            for command in self.commands.values()
            for option in options_of(command)
            if option.is_shared
        }
        for key, value in level.items():
            if key == PROFILES and not within:
                if not isinstance(value, dict):
                    raise self.wrong((), f'"{key}" is not a section: write [{key}.NAME]')
            elif isinstance(value, dict) and (key in self.commands or key not in shared):
                self.section((*within, key), value)
            elif key in shared:
                self.value(within, shared[key], value)
            else:
                raise self.misplaced(within, key, shared)

    def section(self, section: tuple[str, ...], table: Table) -> None:
        """Check the section of a command."""
        *within, name = section
        if name not in self.commands:
            names = [*self.commands, *([] if within else [PROFILES])]
            raise self.wrong((), f"no command for the section [{'.'.join(section)}]", nearest(name, names))
        own = {option.key: option for option in options_of(self.commands[name])}
        for key, value in table.items():
            if key not in own:
                raise self.wrong(section, f'no option "{key}"', nearest(key, own))
            self.value(section, own[key], value)

    def value(self, section: tuple[str, ...], option: Option, value: object) -> None:
        """Check that the option takes the value."""
        try:
            option.type_cast_value(self.ctx, Setting(option, value, "").typed)
        except click.BadParameter as error:
            raise self.wrong(section, f"{option.key}: {error.message}") from None

    def misplaced(self, within: tuple[str, ...], key: str, shared: Mapping[str, Option]) -> click.UsageError:
        """Explain a key that is none of the options of all commands."""
        owners = [
            ".".join((*within, name))
            for name, command in self.commands.items()
            if key in {option.key for option in options_of(command)}
        ]
        if key in self.commands:
            return self.wrong(within, f'"{key}" is a section: write [{".".join((*within, key))}]')
        if owners:
            sections = ", ".join(f"[{owner}]" for owner in owners)
            return self.wrong(within, f'"{key}" belongs in the section of a command: {sections}')
        return self.wrong(within, f'no option "{key}"', nearest(key, shared))

    def wrong(self, section: tuple[str, ...], found: str, near: str | None = None) -> click.UsageError:
        """Build the error."""
        where = f"{self.path}, [{'.'.join(section)}]" if section else f"{self.path}"
        return click.UsageError(f"{where}: {found}" + (f'; did you mean "{near}"?' if near else ""))
