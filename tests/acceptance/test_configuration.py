"""A configuration file as the person who sets up cron has it: what counts, what is refused, what is shown."""

import json
import os
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.conftest import Cli
from tests.logs import unmarked
from tests.tables import load_golden

FORECASTS = "backtest_track_streams_forecast"
SECRET = "S3cret"


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    load_golden(embedded_database)
    return embedded_database


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def origin(called: Cli, cwd: Path, command: str, option: str, **env: str) -> tuple[object, object]:
    """The value of an option, and where it comes from."""
    shown = called("config", command, "--json", cwd=cwd, env=env)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)["commands"][command][option]
    return found["value"], found["place"]


def said(ended: CompletedProcess[str], code: int = 2) -> str:
    """The last line of an error."""
    assert ended.returncode == code, ended.stderr
    return ended.stderr.splitlines()[-1]


class TestANight:
    """One file for everything that the crontab would have to say."""

    @pytest.fixture
    def file(self, catalogue: Dsn, tmp_path: Path) -> Path:
        return written(
            tmp_path / "nightly.toml",
            f"""
            database-url = {json.dumps(catalogue.uri)}
            age-from = "first-date"
            [run]
            horizon = 3
            track-id = [1, 2, 5]
            report = {json.dumps(str(tmp_path / "report.json"))}
            [profile.short.run]
            horizon = 2
            replace = true
            """,
        )

    def months(self, dsn: Dsn) -> object:
        [[months, tracks]] = sql.rows(dsn, f"SELECT max(month), count(DISTINCT cm_track_id) FROM {FORECASTS}")
        return months, tracks

    def test_options_before_variables_before_the_profile_before_the_file(
        self, cli: Cli, called: Cli, catalogue: Dsn, file: Path, tmp_path: Path
    ) -> None:
        ended = cli("run", "-q", "--config", str(file))
        assert (ended.returncode, "configuration" in ended.stderr) == (0, False)
        assert self.months(catalogue) == (3, 3)
        assert json.loads((tmp_path / "report.json").read_text())["error"] is None

        env = {"FORECASTER_CONFIG": str(file), "FORECASTER_PROFILE": "short"}
        ended = called("run", env=env)
        assert f"configuration file: {file}, profile short\n" in unmarked(ended.stderr)
        assert self.months(catalogue) == (2, 3)
        assert called("run", env={**env, "FORECASTER_HORIZON": "5"}).returncode == 0
        assert self.months(catalogue) == (5, 3)
        assert called("run", "--horizon", "6", env={**env, "FORECASTER_HORIZON": "5"}).returncode == 0
        assert self.months(catalogue) == (6, 3)

    def test_a_flag_of_the_file_is_turned_off_by_its_variable(
        self, called: Cli, catalogue: Dsn, file: Path
    ) -> None:
        options = ("--config", str(file), "--profile", "short")
        assert called("run", *options).returncode == 0
        env = {"FORECASTER_RUN_REPLACE": "0", "FORECASTER_HORIZON": "4"}
        assert "forecast=0 " in called("run", *options, env=env).stdout
        assert self.months(catalogue) == (2, 3)

    def test_a_fix_names_the_file_that_was_named(self, called: Cli, catalogue: Dsn, file: Path) -> None:
        sql.run(catalogue, f"DROP TABLE {FORECASTS}")
        ended = called("doctor", "--config", str(file))
        assert f"forecaster init --config {file}" in ended.stdout


class TestWhereItIsLookedFor:
    def test_in_the_working_directory_only(self, called: Cli, tmp_path: Path) -> None:
        written(tmp_path / "forecaster.toml", "schema = 'here'")
        (tmp_path / "below").mkdir()
        assert origin(called, tmp_path, "run", "schema") == ("here", "forecaster.toml")
        assert origin(called, tmp_path / "below", "run", "schema") == ("public", None)

    def test_a_named_file_replaces_it(self, called: Cli, tmp_path: Path) -> None:
        written(tmp_path / "forecaster.toml", "schema = 'here'\nhorizon = 3")
        written(tmp_path / "other.toml", "\ufeffschema = 'there'")
        env = {"FORECASTER_CONFIG": "other.toml"}
        assert origin(called, tmp_path, "run", "schema", **env) == ("there", "other.toml")
        assert origin(called, tmp_path, "run", "horizon", **env) == (24, None)
        assert origin(called, tmp_path, "run", "schema", FORECASTER_CONFIG="/dev/null") == ("public", None)

    def test_without_a_file(self, called: Cli, tmp_path: Path) -> None:
        assert "File 'no.toml' does not exist" in said(called("run", "--config", "no.toml", cwd=tmp_path))
        assert 'for the profile "x": give --config' in said(called("run", "--profile", "x", cwd=tmp_path))
        ended = called("config", cwd=tmp_path)
        assert ended.stdout == "nothing is set: every option has its default\n"
        assert ended.stderr == f"configuration file: none ({tmp_path}/forecaster.toml would be read)\n"

    def test_help_and_completion_need_no_file(self, called: Cli, tmp_path: Path) -> None:
        written(tmp_path / "forecaster.toml", "[")
        env = {"FORECASTER_HORIZN": "3"}
        for words in (["run", "--help"], ["--help"], ["--version"]):
            ended = called(*words, cwd=tmp_path, env=env)
            assert (ended.returncode, ended.stderr) == (0, "")
        env |= {
            "_FORECASTER_COMPLETE": "bash_complete",
            "COMP_WORDS": "forecaster run --hor",
            "COMP_CWORD": "2",
        }
        ended = called(cwd=tmp_path, env=env)
        assert (ended.stdout, ended.stderr) == ("plain,--horizon\n", "")


class TestWhoElseHasIt:
    def test_others_could_write_it(self, called: Cli, tmp_path: Path) -> None:
        file = written(tmp_path / "forecaster.toml", "schema = 'x'", 0o646)
        assert "is not read: it belongs to another user" in said(called("run", cwd=tmp_path))
        ended = called("config", "-q", "--config", "forecaster.toml", cwd=tmp_path)
        assert ended.returncode == 0
        assert ended.stderr == (
            "Warning: other users can write to forecaster.toml, and so choose what this program does: "
            "chmod o-w forecaster.toml\n"
        )
        file.chmod(0o644)
        assert called("config", "-q", cwd=tmp_path).stderr == ""

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")
    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_it_is_of_another_user(self, called: Cli, tmp_path: Path, kind: str) -> None:
        file = written(tmp_path / "forecaster.toml", "schema = 'x'")
        if kind == "link":
            file = file.rename(tmp_path / "theirs.toml")
            (tmp_path / "forecaster.toml").symlink_to(file)
        os.chown(tmp_path / "forecaster.toml", 65_534, 65_534, follow_symlinks=False)
        assert f"{tmp_path}/forecaster.toml is not read" in said(called("run", cwd=tmp_path))
        assert origin(called, tmp_path, "run", "schema", FORECASTER_CONFIG="forecaster.toml")[0] == "x"

    def test_it_is_a_pipe(self, called: Cli, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "forecaster.toml")
        assert "not a regular file" in said(called("run", cwd=tmp_path))

    @pytest.mark.parametrize(("mode", "times"), [(0o600, 0), (0o640, 0), (0o644, 1)])
    def test_others_can_read_its_password(self, called: Cli, tmp_path: Path, mode: int, times: int) -> None:
        file = written(tmp_path / "forecaster.toml", f"database-url = 'postgresql://u:{SECRET}@h/d'", mode)
        ended = called("config", "-q", cwd=tmp_path)
        warning = f"Warning: other users can read the password in {file}: chmod o-r {file}\n"
        assert ended.stderr == warning * times
        file.write_text("database-url = 'postgresql://u@h/d'")
        assert called("config", "-q", cwd=tmp_path).stderr == ""


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("horizon = 3\n[run]\nlimt = 3", ', [run]: no option "limt"; did you mean "limit"?'),
            ("[run]\nhorizon = 3\nhorizon = 4", " is not valid TOML: Cannot overwrite a value (at "),
            ("\n[run\n", " is not valid TOML: Expected ']' at the end of a table declaration (at line 2, "),
            ("[" * 5000, " is not valid TOML"),
            ("x = '\x1b'", " is not valid TOML"),
        ],
    )
    def test_an_error_names_file_and_place(self, called: Cli, tmp_path: Path, text: str, found: str) -> None:
        file = written(tmp_path / "forecaster.toml", text)
        for command in ("run", "config", "doctor"):
            ended = called(command, cwd=tmp_path)
            assert said(ended).startswith(f"Error: {file}{found}")
            assert ended.stdout == ""

    def test_what_is_no_text(self, called: Cli, tmp_path: Path) -> None:
        (tmp_path / "forecaster.toml").write_bytes(b"schema = 'x'\n# M\xfcsik")
        assert said(called("run", cwd=tmp_path)).endswith("is not text in UTF-8 (at line 2)")

    def test_a_secret_in_it_is_not_said(self, called: Cli, tmp_path: Path) -> None:
        written(tmp_path / "forecaster.toml", f"horizon = 'postgresql://u:{SECRET}@h/d'")
        assert "postgresql://u:***@h/d" in said(called("run", cwd=tmp_path))

    def test_as_a_line_of_json_if_the_file_asks_for_it(self, cli: Cli, tmp_path: Path) -> None:
        written(tmp_path / "forecaster.toml", "log-format = 'json'\nhorizn = 3")
        env = {"FORECASTER_HORIZN": "3"}
        ended = cli("run", cwd=tmp_path, env=env)
        warning, error = map(json.loads, ended.stderr.splitlines())
        assert warning["level"] == "warning"
        assert warning["message"].startswith("nothing reads the variable FORECASTER_HORIZN;")
        assert error["exit_code"] == ended.returncode == 2
        assert 'did you mean "horizon"?' in error["message"]
        assert said(cli("run", "--log-format", "text", cwd=tmp_path, env=env)).startswith("Error: ")


class TestVariables:
    @pytest.mark.parametrize("words", ["config", "run --horizon 0", "run --nonsense"])
    def test_one_that_nothing_reads_is_said_once(self, called: Cli, tmp_path: Path, words: str) -> None:
        ended = called(*words.split(), "-q", cwd=tmp_path, env={"FORECASTER_HORIZN": "3"})
        warning = "Warning: nothing reads the variable FORECASTER_HORIZN; did you mean FORECASTER_HORIZON?\n"
        assert ended.stderr.count(warning) == ended.stderr.count("HORIZN") == 1


class TestChecks:
    """--strict and --threshold, which have words of their own."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("strict", "nope"),
            ("strict", "age nope"),
            ("strict", "age=3"),
            ("threshold", "nope=3"),
            ("threshold", "age=3 age"),
            ("threshold", "age=-1"),
            ("threshold", "age=nan"),
        ],
    )
    def test_a_wrong_word_is_an_error_of_each_command(
        self, called: Cli, tmp_path: Path, name: str, value: str
    ) -> None:
        env = {f"FORECASTER_{name.upper()}": value}
        for words in ("config -q", "config run", "run -q"):
            error = said(called(*words.split(), cwd=tmp_path, env=env))
            assert f"(env var: 'FORECASTER_{name.upper()}')" in error
        file = written(tmp_path / "forecaster.toml", f"[run]\n{name} = {json.dumps(value.split())}")
        for words in ("config -q", "run -q"):
            assert said(called(*words.split(), cwd=tmp_path)).startswith(f"Error: {file}, [run]: {name}: ")

    @pytest.mark.parametrize(
        ("value", "counts"),
        [("1", "all"), ("true", "all"), ("yes", "all"), ("all", "all"), ("0", "none"), ("false", "none"),
         ("no", "none"), ("none", "none"), ("age zeros", "age zeros")],
    )  # fmt: skip
    def test_natural_words(self, called: Cli, tmp_path: Path, value: str, counts: str) -> None:
        found, _ = origin(called, tmp_path, "run", "strict", FORECASTER_STRICT=value)
        assert found == counts.split()
        text = value if value in ("true", "false", "1", "0") else json.dumps(value.split())
        written(tmp_path / "forecaster.toml", f"[run]\nstrict = {text}")
        assert origin(called, tmp_path, "run", "strict")[0] == counts.split()

    def test_thresholds_are_shown_as_they_are_typed(self, called: Cli, tmp_path: Path) -> None:
        written(tmp_path / "forecaster.toml", "[run]\nthreshold = ['age=3', 'spike=off', 'rates=0.5']")
        shown = called("config", cwd=tmp_path).stdout
        assert shown.endswith("  age=3 spike=off rates=0.5\n")


class TestConfig:
    FILE = f"""
        database-url = 'postgresql://me:{SECRET}@db/m'
        horizon = 12
        [run]
        horizon = 36
        source = 'https://h/x?sig={SECRET}'
        [report]
        out = 'report.html'
        [profile.night]
        schema = 'night'
        [profile.night.run]
        track-id = [42, 7]
    """

    def test_what_is_set(self, called: Cli, tmp_path: Path) -> None:
        written(tmp_path / "forecaster.toml", self.FILE)
        env = {"FORECASTER_RUN_LIMIT": "9"}
        assert called("config", "--profile", "night", cwd=tmp_path, env=env).stdout.splitlines() == [
            "option         commands                      from                                  value",
            "out            report                        forecaster.toml [report]              report.html",
            "database-url   all                           forecaster.toml                       postgresql://me:***@db/m",
            "schema         all                           forecaster.toml [profile.night]       night",
            "track-id       run                           forecaster.toml [profile.night.run]   42 7",
            "source         run                           forecaster.toml [run]                 https://h/x?sig=***",
            "horizon        run                           forecaster.toml [run]                 36",
            "horizon        dump, plot, evaluate, shard   forecaster.toml                       12",
            "limit          run                           FORECASTER_RUN_LIMIT                  9",
        ]
        assert "profile: none of night\n" in called("config", cwd=tmp_path).stderr

    def test_all_options_of_a_command(self, called: Cli, tmp_path: Path) -> None:
        written(tmp_path / "forecaster.toml", self.FILE)
        shown = called("config", "plot", cwd=tmp_path).stdout.splitlines()
        assert [line.split(maxsplit=2) for line in shown[:5]] == [
            ["option", "from", "value"],
            ["track-id", "default", "(required)"],
            ["out", "default", "(a chart in the terminal)"],
            ["horizon", "forecaster.toml", "12"],
            ["age-from", "default", "release"],
        ]
        assert SECRET not in called("config", "run", cwd=tmp_path).stdout

    def test_as_json(self, called: Cli, tmp_path: Path) -> None:
        file = written(tmp_path / "forecaster.toml", self.FILE)
        shown = called("config", "--json", "--profile", "night", cwd=tmp_path)
        assert SECRET not in shown.stdout + shown.stderr
        found = json.loads(shown.stdout)
        assert (found["file"], found["profile"], found["profiles"]) == (str(file), "night", ["night"])
        run = found["commands"]["run"]
        assert run["track-id"] == {
            "value": ["42", "7"],
            "source": "file",
            "place": "forecaster.toml [profile.night.run]",
        }
        assert run["replace"] == {"value": False, "source": "default", "place": None}
        assert found["commands"]["evaluate"]["horizon"]["value"] == 12

    def test_the_database_that_the_variables_of_libpq_name(self, called: Cli, tmp_path: Path) -> None:
        env = {"PGHOST": "db", "PGUSER": "me", "PGPASSWORD": SECRET}
        named = ("postgresql://me:***@db:5432/me", "PGHOST, PGUSER")
        assert origin(called, tmp_path, "run", "database-url", **env) == named
        written(tmp_path / "forecaster.toml", "database-url = 'postgresql://h/d'")
        assert origin(called, tmp_path, "run", "database-url", **env)[1] == "forecaster.toml"

    def test_an_invalid_variable_is_an_error_as_for_the_command(self, called: Cli, tmp_path: Path) -> None:
        ended = called("config", cwd=tmp_path, env={"FORECASTER_HORIZON": "x"})
        assert "(env var: 'FORECASTER_HORIZON'): 'x' is not a valid integer." in said(ended)
