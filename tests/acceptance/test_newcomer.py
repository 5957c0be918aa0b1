"""Changes that take one row: each is made here from outside, and every command shows it."""

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pytest

from forecaster.doctor import checks
from forecaster.doctor.context import Context
from forecaster.doctor.findings import Seen
from forecaster.files import formats
from forecaster.files.dialect import Dialect, Forms
from forecaster.files.formats import FORMATS, Format
from forecaster.model.eligibility import REASONS, Reason
from forecaster.postgres.dsn import Dsn
from forecaster.scoring import METRICS
from forecaster.scoring.metrics import Metric
from tests.conftest import Cli
from tests.tables import initialise, load_golden

ROOT = Path(__file__).parents[2]
MEANING = "its last 30 records have fewer than 1,000 streams"


def test_a_reason_to_skip_a_track(
    called: Cli, embedded_database: Dsn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REASONS, "too_quiet", Reason(MEANING, pl.col("streams_30") < 1000))
    load_golden(embedded_database)
    where = ("--database-url", embedded_database.uri)
    skipped, report = tmp_path / "skipped.csv", tmp_path / "report.json"
    foreseen = json.loads(called("doctor", *where, "--json").stdout)["skipped_by_reason"]
    ran = called("run", *where, "--skipped", str(skipped), "--report", str(report))
    assert ran.returncode == 0, ran.stderr
    quiet = pl.read_csv(skipped).filter(reason="too_quiet")["cm_track_id"]
    assert len(quiet) > 10
    assert json.loads(report.read_text())["skipped_by_reason"] == {"too_quiet": len(quiet), "no_mldr": 3}
    assert foreseen == {"too_quiet": len(quiet), "no_mldr": 3}
    assert f"too_quiet {len(quiet)}" in ran.stdout
    shown = called("dump", *where, "--track-id", str(quiet[0]))
    assert f"track {quiet[0]} gets no forecast (too_quiet): {MEANING}" in shown.stderr
    page = tmp_path / "page.html"
    assert called("report", *where, "--out", str(page)).returncode == 0
    assert MEANING in page.read_text()


def test_a_metric(
    called: Cli, embedded_database: Dsn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = pl.col("absolute_error").max()
    monkeypatch.setitem(METRICS, "worst", Metric("worst", "largest sum |f - a| of a series", value, ".1e"))
    load_golden(embedded_database)
    page = tmp_path / "page.html"
    where = ("evaluate", "--database-url", embedded_database.uri, "--cutoff", "2022-07-01", "--later-rates")
    tables = called(*where, "--by", "month", "--page", str(page))
    assert tables.returncode == 0, tables.stderr
    scores = json.loads(called(*where, "--json").stdout)
    [worst, *_] = [row["worst"] for row in scores["overall"] if row["model"] == "forecaster"]
    assert worst == max(row["worst"] for row in scores["by_segment"])
    [_, rest, *_] = re.findall("^model .*\nforecaster .*$", tables.stdout, re.MULTILINE)
    heading, forecaster = rest.splitlines()
    assert heading.split()[-1] == "worst"
    assert forecaster.split()[-1] == f"{worst:.1e}"
    assert re.search("^worst +largest sum .f - a. of a series$", tables.stdout, re.MULTILINE)
    row = '"worst":{"heading":"worst","formula":"largest sum |f - a| of a series","form":".1e"}'
    assert row in page.read_text()


def test_a_format_of_files(
    called: Cli, embedded_database: Dsn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, _forms: Forms) -> tuple[pl.DataFrame, Dialect]:
        return pl.read_ndjson(path), Dialect()

    def write(frame: pl.DataFrame, file: BinaryIO) -> None:
        frame.write_ndjson(file)

    lines = Format("JSON", ".jsonl", read, write, is_text=False)
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, lines))
    days = [date(2024, 1, 1) + timedelta(days=n) for n in range(90)]
    streams = pl.DataFrame({"cm_track_id": 1, "cm_artist_id": 2, "date": days, "daily_streams": 100})
    streams.write_ndjson(tmp_path / "streams.jsonl")
    (tmp_path / "mldr.csv").write_text("cm_artist_id,mldr\n2,0.05\n")
    initialise(embedded_database)
    where = ("--database-url", embedded_database.uri)
    loaded = called("load", "streams.jsonl", "--mldr", "mldr.csv", *where, cwd=tmp_path)
    assert loaded.returncode == 0, loaded.stderr
    assert called("run", *where).returncode == 0
    exported = called("export", *where, "--out", "forecasts.jsonl", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert len(pl.read_ndjson(tmp_path / "forecasts.jsonl")) == 24
    (tmp_path / "streams.json").touch()
    unknown = called("load", "streams.json", *where, cwd=tmp_path)
    assert "known are .csv, .csv.gz, .parquet, .jsonl" in unknown.stderr


def test_a_finding_of_the_doctor(
    called: Cli, embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_REGISTERED", checks.registered())

    @checks.check("time zone", order=25)
    def time_zone(context: Context) -> Iterator[Seen]:
        yield "ok", context.query("SELECT current_setting('TimeZone') AS zone").item(), None

    initialise(embedded_database)
    examined = called("doctor", "--database-url", embedded_database.uri, "--json")
    about = [finding["about"] for finding in json.loads(examined.stdout)["findings"]]
    assert about[about.index("time zone") - 1] == "server version"


def test_the_files_of_the_recipes_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition("## Thirteen changes, and where they go\n")[2].partition("\n## ")[0]
    recipes = re.findall(r"^\*\*.+?\*\*.+?(?=\n\n|\Z)", section, re.MULTILINE | re.DOTALL)
    assert len(recipes) == 13
    for recipe in recipes:
        paths = re.findall(r"`((?:forecaster|tests|docs)/[^`]+)`", recipe)
        assert paths
        assert [path for path in paths if not (ROOT / path).exists()] == []
    # Names of Python that the recipes tell to look for.
    code = "".join(path.read_text() for path in (ROOT / "forecaster").rglob("*.py"))
    names = re.findall(r"`(_?[A-Z]\w+)`", section)
    assert [name for name in names if not re.search(rf"^(class )?{name}\b", code, re.MULTILINE)] == []
