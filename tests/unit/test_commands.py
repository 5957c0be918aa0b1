"""What is declared of a command and what its body takes are the same, and only the body is heavy."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click
import pytest

from forecaster import cli
from forecaster.cli.command import Command, arguments
from forecaster.cli.commands import COMMANDS
from forecaster.cli.console import Console
from forecaster.cli.options import SPEAKING
from forecaster.cli.output import ConsoleOutput, JsonOutput, Output

NOT_FOR_A_BODY = {"as_json", *(option.name for option in SPEAKING)}
HEAVY = {
    "polars",
    "numpy",
    "pyarrow",
    "connectorx",
    "adbc_driver_manager",
    "adbc_driver_postgresql",
    "distributed",
}

each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


def types_of(kind: type[Any]) -> dict[str, object]:
    """As they stand there: one in quotes, which is not imported for it, is none of the command line's own."""
    return {field.name: field.type for field in fields(kind)}


def taken(hints: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Every value that a body takes, in dataclasses or not, and its type."""
    for name, kind in hints.items():
        if isinstance(kind, type) and is_dataclass(kind):
            yield from taken(types_of(kind))
        elif kind is not Output and name != "return":
            yield name, kind


def optional(hints: Mapping[str, object]) -> Iterator[str]:
    """The fields that have a default, in dataclasses that a body takes."""
    for kind in hints.values():
        if isinstance(kind, type) and is_dataclass(kind):
            yield from (field.name for field in fields(kind) if field.default is not MISSING)
            yield from optional(types_of(kind))


def given(command: Command) -> dict[str, click.Parameter]:
    return {
        str(parameter.name): parameter for parameter in command.params if parameter.name not in NOT_FOR_A_BODY
    }


@each_command
def test_every_option_reaches_the_body(command: Command) -> None:
    names = [name for name, _ in taken(get_type_hints(command.body()))]
    assert len(names) == len(set(names))
    assert set(names) - set(given(command)) <= {*optional(get_type_hints(command.body()))}
    assert set(given(command)) <= set(names)


@each_command
def test_the_choices_of_an_option_are_those_of_its_type(command: Command) -> None:
    kinds = dict(taken(get_type_hints(command.body())))
    for name, parameter in given(command).items():
        if isinstance(parameter.type, click.Choice) and get_origin(kinds[name]) is Literal:
            assert tuple(parameter.type.choices) == get_args(kinds[name]), name
        if isinstance(parameter, click.Option):
            assert (get_origin(kinds[name]) is tuple) == parameter.multiple, name


@each_command
def test_a_command_is_the_function_of_its_name_in_the_file_of_its_name(command: Command) -> None:
    body = command.body()
    assert (body.__module__, body.__name__) == (f"forecaster.cli.{command.name}", command.name)


def test_the_list_of_commands_shows_each_with_the_beginning_of_its_help() -> None:
    listed = click.Context(cli.main, info_name="forecaster", terminal_width=400).get_help()
    shown = dict(line.split(maxsplit=1) for line in listed.partition("Commands:\n")[2].splitlines())
    assert set(shown) == {command.name for command in COMMANDS}
    for command in COMMANDS:
        assert f"{command.help}".startswith(shown[f"{command.name}"].removesuffix("..."))


@pytest.mark.parametrize(
    "words", ["--help", "run --help", "dump --help", "run --horizon 0", "nonsense", "completion bash"]
)
def test_what_does_no_work_loads_nothing_heavy(words: str) -> None:
    program = (
        "import sys\n"
        "from forecaster.__main__ import start\n"
        "try:\n    start()\n"
        "finally:\n    print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()], capture_output=True, text=True, check=False
    )
    loaded = {*done.stderr.splitlines()[-1].split()}
    assert "click" in loaded
    assert not HEAVY & loaded


@dataclass(frozen=True)
class Inner:
    limit: int
    usual: int = 7


@dataclass(frozen=True)
class Outer:
    inner: Inner
    path: Path


def test_dataclasses_are_made_of_the_options_named_as_their_fields() -> None:
    def body(outer: Outer, wait: float) -> None:
        """Takes a dataclass in a dataclass."""

    values = {"limit": 3, "path": Path("x"), "wait": 1.5, "unknown": 0}
    assert arguments(body, values) == {"outer": Outer(Inner(3), Path("x")), "wait": 1.5}
    assert arguments(body, values | {"usual": 9})["outer"] == Outer(Inner(3, 9), Path("x"))
    with pytest.raises(KeyError, match="wait"):
        arguments(body, {"limit": 3, "path": Path("x")})


def test_both_outputs_do_the_same_but_print_another_thing(capsys: pytest.CaptureFixture[str]) -> None:
    def work(output: Output) -> str:
        output.say("some")
        output.say("a fault", always=True)
        output.finish({"tracks": "1"}, seconds=2, tracks=1)
        output.document(lambda: '{"tracks": 1}')
        return capsys.readouterr().out

    assert work(ConsoleOutput(Console())) == (
        "some\na fault\ntracks               1\ntracks=1 seconds=2.00\n"
    )
    assert work(ConsoleOutput(Console(quiet=True))) == "a fault\ntracks=1 seconds=2.00\n"
    assert work(JsonOutput(Console())) == '{"tracks": 1}\n'
