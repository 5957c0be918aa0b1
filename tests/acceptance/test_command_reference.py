"""The page of all commands shows what the program says about them.

`UPDATE_README=1 pytest tests/acceptance/test_command_reference.py` rewrites it.
"""

import os
import re
import subprocess
import sys

import click

from forecaster.cli.commands import COMMANDS
from forecaster.cli.reference import reference
from tests.documents import ROOT

PAGE = ROOT / "docs" / "commands.md"


def test_the_page_is_what_the_program_says() -> None:
    if os.environ.get("UPDATE_README"):
        PAGE.write_text(reference())
    assert PAGE.read_text() == reference()


def test_every_option_of_every_command_is_in_its_section() -> None:
    sections = dict(re.findall(r"^## forecaster (\w+)\n(.*?)(?=^## )", reference(), re.MULTILINE | re.DOTALL))
    everywhere = reference().partition("## Options of every command\n")[2]
    assert list(sections) == [command.name for command in COMMANDS]
    for command in COMMANDS:
        for option in command.params:
            if isinstance(option, click.Option):
                for name in option.opts:
                    assert re.search(rf"`[^`]*{name}\b", sections[f"{command.name}"] + everywhere)
                assert f"`{option.envvar}`" in sections[f"{command.name}"] + everywhere


def test_the_module_prints_it() -> None:
    command = [sys.executable, "-m", "forecaster.cli.reference"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert printed.stdout == reference()
