"""What a configuration file says for a command, what is wrong with it, and which variables nothing reads."""

from pathlib import Path

import click
import pytest

from forecaster.cli import main
from forecaster.cli.settings import Settings, options_of, unread_variables
from forecaster.cli.settings_check import check_settings

COMMANDS = main.commands


def settings(content: dict[str, object], profile: str | None = None) -> Settings:
    return Settings(Path("x.toml"), content, profile)


def check(of: Settings) -> str:
    """Why the file is refused; empty if it is right."""
    try:
        check_settings(of, click.Context(main))
    except click.UsageError as error:
        return error.message
    return ""


class TestWhatCounts:
    def test_the_section_of_the_command_before_the_top_and_the_profile_before_both(self) -> None:
        layers: list[tuple[dict[str, object], str]] = [
            ({"horizon": 1}, ""),
            ({"run": {"horizon": 2}}, "[run]"),
            ({"profile": {"night": {"horizon": 3}}}, "[profile.night]"),
            ({"profile": {"night": {"horizon": 3, "run": {"horizon": 4}}}}, "[profile.night.run]"),
        ]
        content: dict[str, object] = {}
        for number, (more, section) in enumerate(layers, 1):
            content |= more
            found = settings(content, "night").of(COMMANDS["run"])["horizon"]
            assert (found.value, found.section, found.typed) == (number, section, f"{number}")
        assert settings(content).of(COMMANDS["run"])["horizon"].section == "[run]"
        assert settings(content, "other").of(COMMANDS["run"])["horizon"].section == "[run]"
        assert settings(content, "night").of(COMMANDS["dump"])["horizon"].value == 3

    def test_at_the_top_what_means_the_same_in_all_commands(self) -> None:
        content: dict[str, object] = {
            "as-of": "2024-01-01",
            "mldr": {"wait": 3},
            "run": {"mldr": "rates.parquet"},
        }
        found = {name: settings(content).of(command) for name, command in COMMANDS.items()}
        assert "as_of" in found["run"]
        assert "as_of" not in found["evaluate"]
        assert found["mldr"]["wait"].section == "[mldr]"
        assert found["run"]["mldr"].value == "rates.parquet"
        assert "mldr" not in found["prepare"]
        assert check(settings(content)) == ""

    @pytest.mark.parametrize(
        ("value", "typed"),
        [("x", "x"), (3, "3"), (0.5, "0.5"), (True, "true"), ("~/x", str(Path("~/x").expanduser()))],
    )
    def test_a_value_is_what_would_be_typed(self, value: object, typed: str) -> None:
        assert settings({"schema": value}).of(COMMANDS["run"])["schema"].typed == typed
        repeated = settings({"run": {"track-id": [value, 1]}}).of(COMMANDS["run"])["ids"]
        assert repeated.typed == [typed, "1"]
        assert settings({"run": {"track-id": value}}).of(COMMANDS["run"])["ids"].typed == [typed]

    @pytest.mark.parametrize("command", COMMANDS.values(), ids=[*COMMANDS])
    def test_each_option_has_a_key(self, command: click.Command) -> None:
        """A new option needs nothing more."""
        keys = [option.key for option in options_of(command)]
        assert len(keys) == len({*keys})
        assert {"config", "profile", "help"}.isdisjoint(keys)
        written = settings({f"{command.name}": dict.fromkeys(keys, "?")})
        assert [found.option.key for found in written.of(command).values()] == keys
        for key in keys:
            assert "no option" not in check(settings({f"{command.name}": {key: "?"}}))


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("content", "found"),
        [
            ({"horizn": 3}, 'no option "horizn"; did you mean "horizon"?'),
            ({"database_url": "x"}, 'no option "database_url"; did you mean "database-url"?'),
            ({"quux": 3}, 'no option "quux"'),
            ({"limit": 3}, '"limit" belongs in the section of a command: [run]'),
            ({"run": 3}, '"run" is a section: write [run]'),
            ({"run": [{"limit": 3}]}, '"run" is a section: write [run]'),
            ({"rnu": {}}, 'no command for the section [rnu]; did you mean "run"?'),
            ({"profil": {}}, 'no command for the section [profil]; did you mean "profile"?'),
            ({"profile": "night"}, '"profile" is not a section: write [profile.NAME]'),
            ({"config": "x"}, '"config" is a section: write [config]'),
        ],
    )
    def test_a_key_at_the_top(self, content: dict[str, object], found: str) -> None:
        assert check(settings(content)) == f"x.toml: {found}"

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            ({"run": {"limt": 3}}, '[run]: no option "limt"; did you mean "limit"?'),
            ({"run": {"profile": "x"}}, '[run]: no option "profile"'),
            ({"run": {"horizon": "x"}}, "[run]: horizon: 'x' is not a valid integer."),
            ({"run": {"horizon": 24.5}}, "[run]: horizon: '24.5' is not a valid integer."),
            ({"run": {"horizon": True}}, "[run]: horizon: 'true' is not a valid integer."),
            ({"run": {"horizon": 0}}, "[run]: horizon: 0 is not in the range 1<=x<=400."),
            ({"run": {"horizon": [3]}}, "[run]: horizon: expected one value, not a list"),
            ({"run": {"horizon": {"a": 3}}}, "[run]: horizon: expected one value, not a table"),
            ({"run": {"track-id": [1, "x"]}}, "[run]: track-id: 'x' is not a valid integer."),
            ({"profile": {"a": {"limit": 1}}}, '[profile.a]: "limit" belongs in the section of a command: '),
            ({"profile": {"a": {"run": {"wait": -1}}}}, "[profile.a.run]: wait: -1.0 is not in the range "),
            ({"profile": {"a": 3}}, '[profile]: "a" is not a section: write [profile.a]'),
        ],
    )  # fmt: skip
    def test_in_a_section_of_any_command(self, content: dict[str, object], found: str) -> None:
        assert check(settings(content)).startswith(f"x.toml, {found}")

    def test_a_profile_that_does_not_exist(self) -> None:
        there: dict[str, object] = {"profile": {"night": {}, "test": {}}}
        assert check(settings(there, "night")) == ""
        assert check(settings(there, "nigth")) == (
            'x.toml: no profile "nigth" (there are night, test); did you mean "night"?'
        )
        assert check(settings({}, "x")) == 'x.toml: no profile "x"'


class TestVariables:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("FORECASTER_HORIZN", "FORECASTER_HORIZON"),
            ("FORECASTER_LIMIT", "FORECASTER_RUN_LIMIT"),
            ("FORECASTER_RUN_HORIZON", "FORECASTER_HORIZON"),
            ("FORECASTER_DATABASE_URL", "DATABASE_URL"),
            ("FORECASTER_PROFIL", "FORECASTER_PROFILE"),
        ],
    )
    def test_the_nearest_is_named(self, name: str, meant: str) -> None:
        warned = [*unread_variables(COMMANDS, {name: "x", "PATH": "/bin"})]
        assert warned == [f"nothing reads the variable {name}; did you mean {meant}?"]

    def test_without_a_near_one(self) -> None:
        assert [*unread_variables(COMMANDS, {"FORECASTER_ZZ": ""})] == [
            "nothing reads the variable FORECASTER_ZZ"
        ]

    def test_none_that_an_option_reads(self) -> None:
        known = {f"{option.envvar}": "x" for of in COMMANDS.values() for option in of.params if option.envvar}
        assert len(known) > 50
        assert [*unread_variables(COMMANDS, {**known, "_FORECASTER_COMPLETE": "bash_source"})] == []
