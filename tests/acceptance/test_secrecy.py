"""A password is nowhere to be seen, however it is given and whatever goes wrong."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.process.secrets import without_url
from tests import sql
from tests.faults import (
    PASSWORD,
    PASSWORD_MARKS,
    STREAMS,
    Ended,
    blocked,
    end_of,
    fill,
    guarded_by_password,
    locked,
    started,
    until,
)

WRONG = f"{PASSWORD}?"
# As others would write it into a URL: only what must be, or every byte, and in small letters.
ENCODINGS = {
    "quoted": quote(PASSWORD, safe=""),
    "least": "".join(c if c.isalnum() or c in "-._~!$&'()*,;=" else quote(c, safe="") for c in PASSWORD),
    "every byte": "".join(f"%{byte:02x}" for byte in PASSWORD.encode()),
}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Dsn]:
    with guarded_by_password() as dsn:
        fill(dsn)
        yield dsn


def url(dsn: Dsn, password: str) -> str:
    return f"postgresql://{dsn.user}:{password}@{quote(dsn.host, safe='')}:{dsn.port}/{dsn.dbname}"


def assert_hidden(*texts: str) -> None:
    """In none of the ways in which it may be written, and not in part."""
    hex_marks = [mark.encode().hex() for mark in PASSWORD_MARKS]
    in_urls = ["".join(f"%{byte:02x}" for byte in mark.encode()) for mark in PASSWORD_MARKS]
    for text in texts:
        for mark in (*PASSWORD_MARKS, *hex_marks, *in_urls):
            assert mark.lower() not in text.lower()


class TestGivenAs:
    """Right and wrong, by each way there is: it connects or it does not, and says nothing."""

    @pytest.mark.parametrize("right", [True, False])
    @pytest.mark.parametrize("way", ["option", "option=", "DATABASE_URL", "PGPASSWORD", "pgpass"])
    def test_each_way(self, guarded: Dsn, way: str, right: bool, tmp_path: Path) -> None:  # noqa: FBT001
        password = PASSWORD if right else WRONG
        arguments, environment = given(guarded, password, way, tmp_path)
        report = tmp_path / "report.json"
        log = Path(guarded.host).parent / "server.log"
        start = log.stat().st_size
        ended = run(*arguments, "--dry-run", "--report", str(report), env=environment)
        assert ended.code == (0 if right else 3), ended.stderr
        assert ("password authentication failed" in ended.stderr) != right
        assert_hidden(ended.stdout, ended.stderr, report.read_text(), log.read_text()[start:])
        assert json.loads(report.read_text())["counts"]["forecast"] == (247 if right else 0)

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_each_encoding(self, guarded: Dsn, encoding: str) -> None:
        ended = run("--database-url", url(guarded, ENCODINGS[encoding]), "--dry-run")
        assert ended.code == 0, ended.stderr
        assert_hidden(ended.stdout, ended.stderr)


# Each has the marks of the password where someone who errs would have put them.
MALFORMED = {
    "not encoded": "postgresql://user:{raw}@host:5432/db",
    "no host": "postgresql://user:{marks}",
    "a port": "postgresql://user@host:{marks}/db",
    "half encoded": "postgresql://user:{marks}%zz@host/db",
    "a slash": "postgresql://user:{mark}/{mark}@host/db",
    "a fragment": "postgresql://user:{mark}#{mark}@host/db",
    "an at sign": "postgresql://user:{mark}@{mark}@host/db",
    "another scheme": "mysql://user:{marks}@host/db",
    "no scheme": "user:{marks}@host/db",
    "one slash": "postgresql:/user:{marks}@host/db",
    "a jdbc url": "jdbc:postgresql://host/db?user=u&password={marks}",
    "a parameter": "postgresql://host/db?user=u&password={marks}&sslmode=verify-full",
    "an unknown parameter": "postgresql://user:{marks}@host/db?pasword={marks}",
    "keywords": "host=host user=user password='{marks}' dbname=db",
    "nothing else": "{marks}",
}


@pytest.mark.parametrize("form", MALFORMED)
def test_a_malformed_url(form: str) -> None:
    text = MALFORMED[form].format(raw=PASSWORD, mark=PASSWORD_MARKS[0], marks="_".join(PASSWORD_MARKS))
    ended = run("--database-url", text)
    assert ended.code == 2, ended.stderr
    assert ended.stderr.startswith("Error: ")
    assert_hidden(ended.stdout, ended.stderr)


@pytest.mark.parametrize("command", ["run", "load"])
def test_a_url_where_none_is_expected(command: str) -> None:
    text = f"postgresql://user:{PASSWORD_MARKS[0]}%40{PASSWORD_MARKS[1]}@host/db"
    with started(None, text, command=command) as process:
        ended = end_of(process)
    assert ended.code in {1, 2}
    assert "user:***@host" in ended.stderr
    assert_hidden(ended.stderr)


class TestWhileItRuns:
    @pytest.mark.parametrize("option", ["--database-url {}", "--database-url={}"])
    def test_in_no_list_of_processes_or_sessions(self, guarded: Dsn, option: str) -> None:
        """From when it has started itself anew; until then the password is where the user has put it."""
        arguments = option.format(url(guarded, ENCODINGS["quoted"])).split(" ")
        with locked(trusted(guarded), STREAMS), started(None, *arguments) as process:
            until(lambda: "polars" in Path(f"/proc/{process.pid}/maps").read_text(), process)
            assert_hidden(command_line(process.pid))
            until(lambda: blocked(trusted(guarded)), process)
            rows = sql.rows(trusted(guarded), "SELECT pid, to_json(a)::text FROM pg_stat_activity a")
            sessions = [(command_line(pid), text) for pid, text in rows]
            assert sum(title.startswith("postgres: guarded music") for title, _ in sessions) >= 3
            assert_hidden(command_line(process.pid), *itertools.chain(*sessions))
            assert "--database-url" in command_line(process.pid)

    def test_not_in_a_traceback(self, guarded: Dsn) -> None:
        """Of an error that nobody has foreseen, with everything that Python can say of it."""
        bug = "import forecaster.postgres.session; forecaster.postgres.session.take_lock = None"
        arguments = ("-vv", "--database-url", url(guarded, ENCODINGS["quoted"]))
        with started(None, *arguments, before=bug) as process:
            ended = end_of(process)
        assert ended.code == 1
        assert "Traceback" in ended.stderr
        assert "TypeError: 'NoneType' object is not callable" in ended.stderr
        assert_hidden(ended.stderr)

    def test_not_when_the_connection_is_lost(self, guarded: Dsn) -> None:
        with locked(trusted(guarded), STREAMS), started(guarded) as process:
            until(lambda: blocked(trusted(guarded)), process)
            for session in blocked(trusted(guarded)):
                sql.run(trusted(guarded), "SELECT pg_terminate_backend($1::integer)", session.pid)
            until(lambda: blocked(trusted(guarded)), process)
            process.terminate()
            ended = end_of(process)
        assert ended.code == 143
        assert_hidden(ended.stderr)


def given(dsn: Dsn, password: str, way: str, directory: Path) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment."""
    whole = url(dsn, quote(password, safe=""))
    there = {"PGHOST": dsn.host, "PGUSER": dsn.user, "PGDATABASE": dsn.dbname}
    match way:
        case "option":
            return ["--database-url", whole], {}
        case "option=":
            return [f"--database-url={whole}"], {}
        case "DATABASE_URL":
            return [], {"DATABASE_URL": whole}
        case "PGPASSWORD":
            return [], {**there, "PGPASSWORD": password}
        case _:
            escaped = password.replace("\\", "\\\\").replace(":", "\\:")
            file = directory / "pgpass"
            file.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
            file.chmod(0o600)
            return [], {**there, "PGPASSFILE": str(file)}


def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ended:
    with started(None, *arguments, env=env) as process:
        return end_of(process)


def command_line(pid: int) -> str:
    """As every user of the machine can read it; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def trusted(guarded: Dsn) -> Dsn:
    """The superuser, who needs no password."""
    return replace(guarded, user="postgres", password=None)


class TestCommandLine:
    """Which arguments are left, and what becomes of DATABASE_URL."""

    @pytest.mark.parametrize(
        ("arguments", "left", "url"),
        [
            ("run --database-url U --limit 5", "run --database-url  --limit 5", "U"),
            ("run --limit 5 --database-url=U", "run --limit 5 --database-url=", "U"),
            # The last one counts, as for click.
            ("run --database-url U --database-url=V", "run --database-url  --database-url=", "V"),
            ("run --database-url=U --database-url ", "run --database-url= --database-url ", "before"),
            ("run --limit 5", None, "before"),
            ("run --database-url= --database-url ", None, "before"),
            ("run --database-url", None, "before"),
            # From there on it would be the name of a file.
            ("load -- --database-url=U", None, "before"),
            # That is for click to refuse.
            ("--database-url U demo", "--database-url  demo", "U"),
        ],
    )
    def test_url(self, arguments: str, left: str | None, url: str) -> None:
        environ = {"DATABASE_URL": "before"}
        kept = without_url(arguments.split(" "), environ)
        assert kept == (left if left is None else left.split(" "))
        assert environ == {"DATABASE_URL": url}

    @pytest.mark.parametrize(
        "arguments",
        [
            [f"host=h password={PASSWORD_MARKS[0]}"],
            [f"host=h password = '{PASSWORD_MARKS[0]}\\' {PASSWORD_MARKS[1]}' dbname=d"],
            [f"postgresql://u:{PASSWORD_MARKS[0]}@h/d"],
            ["--schema", f"postgresql://u:{PASSWORD_MARKS[0]}@h/d"],
        ],
    )
    def test_given_in_the_wrong_place(self, guarded: Dsn, arguments: list[str], tmp_path: Path) -> None:
        report = tmp_path / "report.json"
        ended = run(*arguments, "--report", str(report), env={"DATABASE_URL": trusted(guarded).uri})
        assert ended.code in (2, 4)
        assert_hidden(ended.stdout, ended.stderr, report.read_text() if report.exists() else "")

    def test_a_command_that_has_no_such_option_says_so(self) -> None:
        """And does not go to another database than it was told."""
        with started(None, "--database-url", f"postgresql://u:{PASSWORD_MARKS[0]}@h/db", command="demo") as p:
            ended = end_of(p)
        assert ended.code == 2
        assert "No such option" in ended.stderr
        assert_hidden(ended.stderr)
