"""The README and the pages below `docs/` are a promise: their commands are run, and print what is shown.

`UPDATE_README=1 pytest tests/acceptance/test_documents.py` puts into them what they print now. A line `[...]`
stands for lines that a page leaves out.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import click
import pytest

from forecaster.cli import main
from forecaster.postgres.dsn import Dsn
from tests.conftest import short_directory, with_command
from tests.documents import CONSOLE, PAGES, README, ROOT, before, blocks, configuration, fenced, page_named
from tests.logs import unmarked
from tests.tables import initialise

SHOWN_DATA_DIR = "~/.local/share/forecaster"

# Where a block of code that is no console's is tested: its language, and what is in no other block.
TESTED = {
    ("sh", "pip install -q '.[embedded]'"): "test_package.py",
    ("sh", "pip install '.[embedded,plot,term]'"): "test_package.py",
    ("sh", "ruff check"): "test_the_test_command_is_what_ci_runs",
    ("sh", "15 4 * * *"): "test_the_lines_for_cron",
    ("sh", "FORECASTER_RUN_METRICS"): "test_monitoring.py",
    ("sh", "aws batch"): "test_schedulers.py",
    ("sh", "#SBATCH"): "test_schedulers.py",
    ("yaml", "kind: Job"): "test_schedulers.py",
    ("python", "airflow"): "test_schedulers.py",
    ("python", "build_forecasts"): "test_the_python_example_works_as_shown",
    ("sql", "GRANT CONNECT"): "test_privileges.py",
    ("sql", "UNIQUE (cm_track_id"): "test_the_page_says_which_key",
    ("sql", "CREATE UNIQUE INDEX"): "test_the_page_says_which_key",
    ("toml", "[profile.trial]"): "test_commands_print_what_the_page_shows",
}


def settled(text: str) -> str:
    """Without what differs from one time and machine to the next: times, rates, sizes, versions, hosts."""
    text = re.sub(r"^(ok      (?:versions|server version): ).*$", r"\1…", text, flags=re.MULTILINE)
    text = re.sub(r"\(\d+\.\d\d MB\)", "(… MB)", text)
    text = re.sub(r"(?<=host )\S+(?=; times in UTC)", "…", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(  +\d+\.\d(?!\.))?", "…", text)
    text = re.sub(r"^( *\d+  ?)\d{4}-\d\d-\d\d(?=  )", r"\1…", text, flags=re.MULTILINE)
    text = re.sub(r"(?<=\d to \d, )\d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d", "…", text)
    text = re.sub(r"(?<=seconds=)\d+\.\d\d$", "…", text, flags=re.MULTILINE)
    text = re.sub(r"^(seconds +).*$", r"\1…", text, flags=re.MULTILINE)
    return re.sub(r"^(tracks per second +).*$", r"\1…", text, flags=re.MULTILINE)


def shortened(printed: str, shown: str) -> str:
    """What is printed as the page shows it, if that only leaves out lines; else all of it."""
    parts = map(re.escape, settled(shown).split("[...]\n"))
    return shown if re.fullmatch(".*".join(parts), settled(printed), re.DOTALL) else printed


@contextmanager
def new_clone(home: Path, commands: list[str], kept: Path) -> Iterator[dict[str, str]]:
    """The environment of a user in a clone, with an embedded server on which these commands have been run."""
    (home / "tests").symlink_to(ROOT / "tests")
    with short_directory() as directory:
        environment = {
            **with_command(),
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "FORECASTER_DATA_DIR": str(directory / "server"),
        }
        prepare(commands, home, environment, kept)
        yield environment


def prepare(commands: list[str], home: Path, environment: dict[str, str], kept: Path) -> None:
    """Runs commands, or takes the server's directory that they left when they were run for another page."""
    if commands:
        *earlier, last = commands
        server, left = environment["FORECASTER_DATA_DIR"], kept / f"{crc32(repr(commands).encode())}"
        with left.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if left.exists():
                copy(left, server)
            else:
                prepare(earlier, home, environment, kept)
                output(last, home, environment)
                copy(server, left)


def copy(directory: Path | str, to: Path | str) -> None:
    """Copies a directory with the owner of each file, which is another user where the tests run as root."""
    subprocess.run(["cp", "-a", directory, to], check=True)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all processes of this run of the tests share."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "servers"
    directory.mkdir(exist_ok=True)
    return directory


def output(command: str, home: Path, environment: dict[str, str]) -> str:
    """Runs a command as a user would; what it prints on stdout and stderr.

    A user has a terminal, where the lines do not end with the id of the run.
    """
    ended = subprocess.run(
        command,
        shell=True,
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}"
    printed = unmarked(ended.stdout).replace(environment["FORECASTER_DATA_DIR"], SHOWN_DATA_DIR)
    return printed.replace(f"{home}/", "~/")


def update(page: Path, printed: dict[str, str]) -> None:
    """Puts what the commands print now into the page."""
    text = page.read_text()
    for match in reversed(list(CONSOLE.finditer(text))):
        now = shortened(printed[match["command"]], match["output"])
        if settled(match["output"]) != settled(now):
            text = text[: match.start("output")] + now + text[match.end("output") :]
    page.write_text(text)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if CONSOLE.search(page.read_text())], ids=lambda page: page.stem
)
def test_commands_print_what_the_page_shows(page: Path, tmp_path: Path, kept: Path) -> None:
    commands = [match["command"] for match in CONSOLE.finditer(page.read_text())]
    with new_clone(tmp_path, before(page), kept) as environment:
        if configuration(page):
            (tmp_path / "forecaster.toml").write_text(configuration(page))
        printed = {command: output(command, tmp_path, environment) for command in commands}
    if os.environ.get("UPDATE_README"):
        update(page, printed)
    for match in CONSOLE.finditer(page.read_text()):
        now = shortened(printed[match["command"]], match["output"])
        assert settled(now) == settled(match["output"]), match["command"]


def test_no_command_is_lost() -> None:
    shown = [match["command"] for page in PAGES for match in CONSOLE.finditer(page.read_text())]
    assert len(shown) >= 20
    commands = {name for command in shown for name in re.findall(r"forecaster (\w+)", command)}
    assert commands >= {
        *("demo", "init", "load", "run", "mldr", "dump", "plot", "report", "export", "evaluate", "doctor"),
        *("prepare", "shard", "history", "compare", "config"),
    }


def test_each_block_of_code_is_tested() -> None:
    """A new one is added to `TESTED`, with a test."""
    languages = {"sh", "yaml", "python", "sql", "toml"}
    marks = [
        [mark for of, mark in TESTED if of == language and mark in block]
        for language, block in blocks()
        if language in languages
    ]
    assert sorted(mark for [mark] in marks) == sorted(mark for _, mark in TESTED)
    assert {language for language, _ in blocks()} <= languages | {"console"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_a_sentence_have_the_options_that_they_name(page: Path) -> None:
    """`forecaster evaluate --later-rates`: the command is there, and each of its options."""
    context = click.Context(main)
    for words in map(str.split, re.findall(r"`forecaster ([a-z][^`]*)`", page.read_text())):
        command = main.get_command(context, words[0])
        assert command, words
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options | {"--help"}, words


def test_the_pictures_are_of_these_commands(tmp_path: Path, kept: Path) -> None:
    pictures = {
        "README.md": ("docs/forecast.png", "forecaster plot --schema demo --track-id 222 --out forecast.png"),
        "docs/catalogue.md": ("report.png", "forecaster report --schema demo --out report.html"),
    }
    with new_clone(tmp_path, ["forecaster demo"], kept) as environment:
        for page, (picture, command) in pictures.items():
            assert re.findall(r"!\[[^]]*\]\((\S+)\)", page_named(page)) == [picture]
            assert ((ROOT / page).parent / picture).read_bytes().startswith(b"\x89PNG")
            assert f"`{command}`" in page_named(page)
            output(command, tmp_path, environment)
    assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG")
    assert "<!doctype html>" in (tmp_path / "report.html").read_text()


def test_the_lines_for_cron(embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    lines = re.findall(r"^\d+ \d+ \* \* \*  (.+)$", fenced("sh", "15 4 * * *"), re.MULTILINE)
    warning = "Warning: implausible (tracks): tracks with streams: 0, fewer than 1; check what was loaded\n"
    printed = {"forecast=0 skipped=0 rows=0": warning, "rows=0 runs=0 kept=0": ""}
    environment = {**with_command(), "HOME": str(tmp_path)}
    for line, (start, warned) in zip(lines, printed.items(), strict=True):
        command = line.replace("postgresql://nightly@db/music", f"'{embedded_database.uri}'")
        command = command.replace("/opt/forecaster/.venv/bin/", "").replace("/var/log/", f"{tmp_path}/")
        ended = subprocess.run(
            command, shell=True, env=environment, capture_output=True, text=True, check=True
        )
        assert re.fullmatch(rf"{start} seconds=\d+\.\d\d\n", ended.stdout)
        assert unmarked(ended.stderr) == warned
    assert json.loads((tmp_path / "forecaster.json").read_text())["error"] is None


def test_the_python_example_works_as_shown(tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    check = "assert len(forecasts) == 24 * 247 and len(skipped) == 3\n"
    example = fenced("python", "build_forecasts")
    subprocess.run([sys.executable, "-c", example + check], cwd=tmp_path, check=True)


def test_the_test_command_is_what_ci_runs() -> None:
    commands = [line for line in README.read_text().splitlines() if re.match(r"python3 .*pytest", line)]
    assert len(commands) == 1
    for part in ("pip install", "ruff check", "ruff format --check", "mypy", "pytest"):
        assert part in commands[0]


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150
