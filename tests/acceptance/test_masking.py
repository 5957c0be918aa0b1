"""A secret is taken out of where it stands, and nothing else is touched; a terminal gets plain text."""

import importlib
import json
import logging
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import forecaster
from forecaster.cli import main
from forecaster.cli.console import Console, log
from forecaster.postgres.connection import _reason
from forecaster.process.secrets import all_masked, brief, masked, plain
from forecaster.run.report import Report
from tests.conftest import Cli
from tests.documents import PAGES
from tests.parquet import write_catalogue

SIGNED = "https://bucket.example.com/x.parquet?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA7&X-Amz-Signature=f00ba5"


class TestMasked:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("postgresql://u:S3@h:5/db", "postgresql://u:***@h:5/db"),
            ("(postgresql:/u:S/3@c?r=et@h/db)", "(postgresql:/u:***@h/db)"),
            ("postgresql://u@server:S3@h/db", "postgresql://u@server:***@h/db"),
            ("postgres://h/d?user=u&password=S3&sslmode=x", "postgres://h/d?user=u&password=***&sslmode=x"),
            ("postgres://h/d?PassWord=S3&SSLMode=x", "postgres://h/d?PassWord=***&SSLMode=x"),
            ("(postgresql://u:S 3@h/db)", "(postgresql://u:***@h/db)"),
            ("a://u: S/3 @ 3 @h\nat me@x", "a://u:***@h\nat me@x"),
            ("extra argument (u:S3@h/db)", "extra argument (u:***@h/db)"),
            ("https://S3@h/x", "https://***@h/x"),
            ("s3://AKIA:S3@bucket/x/*.parquet", "s3://AKIA:***@bucket/x/*.parquet"),
            ("s3://b/x,postgresql://u:S3@h", "s3://b/x,postgresql://u:***@h"),
            ("host=h password='S\\' 3' dbname=d", "host=h password=*** dbname=d"),
            ("PGPASSWORD=S3 psql", "PGPASSWORD=*** psql"),
            ("az://c/x?sp=S3&sig=S%2F3;", "az://c/x?sp=***&sig=***;"),
            ("(location: x.parquet?sig=S3) (path:", "(location: x.parquet?sig=***) (path:"),
            ("x.parquet%3FX-Amz-Signature%3DS3 now", "x.parquet%3FX-Amz-Signature%3D*** now"),
            ("Signature=S3&Key-Pair-Id=K", "Signature=***&Key-Pair-Id=K"),
            ("https://h/x.parquet#token=S3&b=S3", "https://h/x.parquet#token=***&b=***"),
            ("(https:/h/x#token=S3)", "(https:/h/x#token=***)"),
            ("https://u:S3@h/x?port=1#token=S3", "https://u:***@h/x?port=1#token=***"),
            ("(location: a.parquet#token=S3/layout.json)", "(location: a.parquet#token=***)"),
            ("https://h/x#a?sig=S3", "https://h/x#a?sig=***"),
            ("postgresql://h/d?password=S#3=3", "postgresql://h/d?password=***"),
            ("'https://h/x?token=S3'", "'https://h/x?token=***'"),
            ("gs://b/x?X-Goog-Signature=S3&X-Goog-Credential=S3", "gs://b/x?X-Goog-Signature=***&X-Goog-Credential=***"),
        ],
    )  # fmt: skip
    def test_a_secret(self, text: str, found: str) -> None:
        assert masked(text) == found
        assert masked(found) == found

    @pytest.mark.parametrize(
        "text",
        [
            "expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
            "http://localhost:9000/bucket/a@b.parquet",
            "http://h/a@b:c@d.parquet",
            "abfss://container@account.dfs.core.windows.net/p",
            "postgresql://u@h:5432/db",
            "/data/a:b@c.parquet",
            "part-?.parquet holds bucket=5",
            "/data/a#b=c.parquet cannot be read",
            "see https://h/manual#which-files-count, and #1=2",
            '{"user":"a@b.c"}',
            "at 12:30 by me@x",
            "at http://localhost:9000 by me@x, or http://localhost:9000/b by you@x",
            "postgresql://u:***@h/db is not at me@x",
            "password authentication failed for user",
            "design=3, assign=4",
            "mailto:me@example.org",
            "12:30,me@example.org and 12:30:59,you@x",
            "SELECT * FROM t WHERE x = 'a@b' AND y='c:d@e'",
            "/data/run@12:30/part.parquet",
            "postgresql://h/d?requirepeer=postgres&keepalives=1&keepalives_idle=9&tcp_user_timeout=5",
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        assert masked(text) == text

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
    def test_the_manual_is_all_there(self, page: Path) -> None:
        lines = page.read_text().splitlines()
        assert [line for line in lines if masked(line) != line] == []

    def test_in_all_of_what_becomes_json(self) -> None:
        value = {"a": ["postgresql://u:S3@h", 1, None], "b": {"c": ("x?sig=S3", True)}}
        assert all_masked(value) == {"a": ["postgresql://u:***@h", 1, None], "b": {"c": ["x?sig=***", True]}}


class TestSignedUrls:
    """Wherever one is given: it can be read in no output."""

    SECRETS = ("f00ba5", "AKIA7")

    def test_in_errors_and_reports(self, cli: Cli, tmp_path: Path) -> None:
        url = SIGNED.replace("bucket.example.com", "127.0.0.1:1")
        report = tmp_path / "report.json"
        files = write_catalogue(tmp_path / "files")
        for arguments in (
            ("run", "--source", str(files), "--mldr", url, "--sink", str(tmp_path / "sink"), "-vv"),
            ("run", "--source", url, "--mldr", url, "--sink", str(tmp_path / "sink"), "--log-format", "json"),
            ("run", url),
        ):
            ended = cli(*arguments, *(("--report", str(report)) if "--mldr" in arguments else ()))
            assert ended.returncode in (1, 2), ended.stderr
            left = ended.stdout + ended.stderr + (report.read_text() if report.exists() else "")
            assert not [secret for secret in self.SECRETS if secret in left]
            assert "X-Amz-Signature=***" in ended.stderr
            assert "Error" in ended.stderr or json.loads(ended.stderr.splitlines()[-1])["exit_code"] == 1

    def test_in_a_report(self) -> None:
        report = Report(place={"source": SIGNED}, error=f"cannot read '{SIGNED}'")
        text = report.to_json()
        assert not [secret for secret in self.SECRETS if secret in text]
        assert json.loads(text)["error"].endswith("&X-Amz-Signature=***'")
        assert json.loads(text)["source"].startswith("https://bucket.example.com/x.parquet?")


HOSTILE = "a\x1b[2J\x1b]0;title\x07b\rc\x9b31md\u202ee\u2066f\x7fg\u2028h"


class TestPlain:
    def test_nothing_is_obeyed(self) -> None:
        assert plain(HOSTILE) == (r"a\x1b[2J\x1b]0;title\x07b\rc\x9b31md\u202ee\u2066f\x7fg\u2028h")
        assert plain("two\nlines\tand Müsik 音楽 🎵 עברית") == "two\nlines\tand Müsik 音楽 🎵 עברית"

    @pytest.mark.parametrize("log_format", ["text", "json"])
    def test_in_what_is_said(self, log_format: str, capfd: pytest.CaptureFixture[str]) -> None:
        before = log.handlers[:]
        try:
            Console(log_format=log_format).set_up()  # type: ignore[arg-type]
            extra = {"hint": HOSTILE, "traceback": HOSTILE}
            log.error("the server says %s", HOSTILE, extra=extra)
        finally:
            log.handlers[:] = before
            log.setLevel(logging.NOTSET)
        said = capfd.readouterr().err
        assert said.count("[2J") == 3
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2066\u2028]", said)

    def test_in_the_words_of_a_usage_error(self) -> None:
        ended = CliRunner().invoke(main, ["run", HOSTILE])
        assert ended.exit_code == 2
        assert "\x1b" not in ended.output
        assert r"\x1b[2J" in ended.output


class TestReason:
    """What the driver says, and what is left of it."""

    @pytest.mark.parametrize(
        ("said", "left"),
        [
            (
                (
                    "IO: [libpq] Failed to execute query 'INSERT \n: x': ERROR:  no\nCONTEXT:  a  b\n"
                    "Query was: INSERT\n x. SQLSTATE: P0001"
                ),
                "no CONTEXT: a b",
            ),
            (
                (
                    "IO: [libpq] Failed to prepare query: ERROR:  x\nLINE 1: SELECT y\n           ^\nHINT:  z"
                    ". SQLSTATE: 42703"
                ),
                "x HINT: z",
            ),
            ("INVALID_STATE: [libpq] Execution error [PGRES_X]: FEHLER:  aus. SQLSTATE: 57P01", "aus"),
            ("server says Query was: mine", "server says Query was: mine"),
        ],
    )
    def test_the_servers_own_words(self, said: str, left: str) -> None:
        assert _reason(said) == left

    def test_it_is_not_too_long(self) -> None:
        assert len(_reason("IO: " + "word " * 100_000 + ". SQLSTATE: P0001")) < 2_010
        assert len(brief("x" * 10**6)) < 2_010


SEEDS = (
    "?port=1#",
    "https://h#a=",
    *(
        " ",
        "\n",
        "\n ",
        "a",
        "a ",
        "@",
        "://a:",
        "http://",
        "http:/",
        "a://b@",
        "x:y@ ",
        "?a=",
        "&a=",
        "%",
        "-0",
    ),
    *(
        "password=",
        "password='",
        "password='\\",
        "password ",
        "sig=",
        "%3fsig%3d",
        "'",
        '"',
        "\\",
        "\\:",
        ":",
        "`",
    ),
    *("\nLINE 1: ", "\nLINE 1", "Query was: ", " Query was: ", "Failed to x 'y': ", "Failed to x '", "ERROR"),
    *(
        ". SQLSTATE: ",
        "`forecaster ",
        "; they are left",
        "forecaster x 1 ",
        'snapshot "',
        "<script>",
        "{{a}}",
        "1/",
    ),
)
MATCHED = (
    *("dsn._ENTRY", "connection._DRIVERS_WORDS", "lock._NAMED", "secrets._BARE", "secrets._SCHEME"),
    "total._CONDITION",
    *(
        "pasted._ASSIGNED",
        "pasted._DRIVER",
        "pasted._KEYWORDS",
        "pasted._POSTGRES",
        "pasted._SLASH_AT_THE_END",
    ),
)
"""These are held against the beginning or the end of a text, and not looked for in it."""
OURS = (
    "joined._IMPORT",
    "joined._SCRIPT_NOISE",
    "joined._STYLE_NOISE",
    "page._COMMAND",
    "forecasts._MENDS_ONE",
)
"""These are looked for in texts of the program's own."""


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Each regular expression of the program that has a name."""
    for module in pkgutil.walk_packages(forecaster.__path__, "forecaster."):
        if not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                for pattern in value if isinstance(value, tuple) else (value,):
                    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
                        yield f"{module.name}.{name}", pattern


@pytest.mark.timeout(300)
class TestNoTextTakesLong:
    """A quadratic pattern takes hours for one of these."""

    def test_each_pattern(self) -> None:
        found = dict(patterns())
        assert not [name for name in MATCHED + OURS if not [one for one in found if one.endswith(name)]]
        for name, pattern in found.items():
            look = pattern.match if name.endswith(MATCHED) else pattern.search
            for seed in () if name.endswith(OURS) else SEEDS:
                text = seed * (60_000 // len(seed))
                look(f"{text}\0")

    @pytest.mark.parametrize("work", [masked, plain, brief, _reason])
    def test_each_function(self, work: object) -> None:
        assert callable(work)
        for seed in SEEDS:
            work(f"IO: [libpq] {seed * (100_000 // len(seed))}@. SQLSTATE: P0001")
