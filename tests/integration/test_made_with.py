"""What forecasts were made with is the same in the report, the record of the run, and the history."""

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forecaster.model.calibrated.calibration import Calibration
from forecaster.postgres.dsn import Dsn
from forecaster.setup.load import load
from forecaster.tables import INTERVALS
from tests import sql
from tests.calibrations import calibration, keep
from tests.conftest import Cli
from tests.tables import golden_mldr, golden_streams, initialise, made_once

STREAMS = golden_streams().filter(pl.col("cm_track_id") <= 3)
D: date = STREAMS["date"].max()  # type: ignore[assignment]
ONE = calibration(D - timedelta(2), weight=0.25, level=30)
OTHER = calibration(D - timedelta(1), weight=0.0, level=7)

PLAIN = {"horizon": 24, "age_from": "release", "as_of": None, "influence": None, "level": 30}


def of(model: str, weight: float, level: int, one: Calibration = OTHER) -> dict[str, Any]:
    return PLAIN | {"model": model, "calibration": one.id, "weight": weight, "level": level}


CASES: dict[str, tuple[tuple[str, ...], str, dict[str, Any], str | None]] = {
    "production": ((), "production", PLAIN, OTHER.id),
    "without intervals": (("--no-intervals",), "production", PLAIN, None),
    "from a week": (("--level", "7"), "production", PLAIN | {"level": 7}, OTHER.id),
    "calibrated": (("--model", "calibrated"), "calibrated", of("calibrated", 1.0, 7), OTHER.id),
    "from a month": (
        ("--model", "calibrated", "--level", "30", "--no-intervals"),
        *("calibrated", of("calibrated", 1.0, 30), None),
    ),
    "a blend": (
        ("--model", "auto", "--calibration", ONE.id),
        *("blend", of("blend", 0.25, 30, ONE), ONE.id),
    ),
    "auto, but production": (("--model", "auto"), "production", of("production", 0.0, 7), OTHER.id),
}


SUMMARY = {
    "calibrated": f"calibrated, from 7 days, {OTHER.id}",
    "from a month": f"calibrated, from 30 days, {OTHER.id}",
    "a blend": f"blend, 25% calibrated, from 30 days, {ONE.id}",
    "auto, but production": f"production, from 7 days, {OTHER.id}",
}


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    def make(new: Dsn) -> None:
        initialise(new)
        load(new, "public", streams=STREAMS, mldr=golden_mldr())
        keep(new, ONE, OTHER)

    made_once(embedded_database, "three_with_calibrations", make)
    return embedded_database


@pytest.mark.parametrize("case", CASES)
def test_all_say_the_same(case: str, catalogue: Dsn, called: Cli, tmp_path: Path) -> None:
    options, model, parameters, intervals = CASES[case]
    env = {"DATABASE_URL": catalogue.uri}
    ended = called("run", *options, "--report", "r.json", env=env, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    said = re.findall("^model +(.+)$", ended.stdout, re.MULTILINE)
    assert said == [SUMMARY[case]] if case in SUMMARY else said == []
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["parameters"] == parameters
    assert report.get("intervals") == intervals
    [kept] = json.loads(called("history", "--json", env=env).stdout)["runs"]
    assert kept["model"] == model
    assert kept["parameters"]["parameters"] == parameters
    assert kept["parameters"].get("intervals") == intervals
    [of_track] = json.loads(called("history", "--track-id", "1", "--json", env=env).stdout)["runs"]
    calibrated = parameters.get("calibration") or intervals
    assert (of_track["model"], of_track["calibration"]) == (model, calibrated)
    stored = sql.rows(catalogue, f"SELECT DISTINCT calibration FROM {INTERVALS.name}")
    assert stored == ([(intervals,)] if intervals else [])


@pytest.mark.parametrize(
    ("options", "older"),
    [
        ((), None),
        (("--max-stale-days", "1"), None),
        (("--max-stale-days", "0"), "1 day"),
        (("--max-stale-days", "1", "--calibration", ONE.id), "2 days"),
        (("--max-stale-days", "0", "--no-intervals"), None),
        (("--max-stale-days", "0", "--as-of", f"{D}"), "1 day"),
        (("--max-stale-days", "0", "--model", "calibrated"), "1 day"),
    ],
)
def test_old_intervals_are_a_warning(
    options: tuple[str, ...], older: str | None, catalogue: Dsn, called: Cli
) -> None:
    ended = called("run", *options, env={"DATABASE_URL": catalogue.uri})
    assert ended.returncode == 0, ended.stderr
    assert re.findall(r"calibration \S+ is (\d+ days?) older than the \S+ day", ended.stderr) == (
        [older] if older else []
    )


def test_a_track_forecast_by_two_models_has_them_in_a_column(catalogue: Dsn, called: Cli) -> None:
    env = {"DATABASE_URL": catalogue.uri}
    for options in ((), ("--model", "calibrated", "--replace")):
        assert called("run", *options, env=env).returncode == 0
    heading, newest, oldest, _ = called("history", "--track-id", "1", env=env).stdout.splitlines()
    assert heading.split()[:3] == ["run", "started", "model"]
    assert (newest.split()[2], oldest.split()[2]) == ("calibrated", "production")
    assert max(map(len, (heading, newest, oldest))) <= 100


def test_what_counts_for_the_next_run_is_in_the_configuration(called: Cli, tmp_path: Path) -> None:
    settings = '[run]\nmodel = "auto"\nlevel = 7\ncalibration = "2024-01-01-0123456789"\nintervals = false\n'
    (tmp_path / "forecaster.toml").write_text(settings, "utf-8")
    ended = called("config", "run", "--json", cwd=tmp_path, env={"FORECASTER_RUN_MODEL": "calibrated"})
    assert ended.returncode == 0, ended.stderr
    found = {name: row["value"] for name, row in json.loads(ended.stdout)["commands"]["run"].items()}
    assert (found["model"], found["level"], found["intervals"]) == ("calibrated", 7, False)
    assert (found["calibration"], found["max-stale-days"]) == ("2024-01-01-0123456789", 45)
