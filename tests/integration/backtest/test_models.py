"""A model with a calibration of the days before each cutoff, scored beside the production model."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest

from forecaster.postgres.calibrate import calibrate
from forecaster.postgres.dsn import Dsn
from forecaster.run.calibrating import CALIBRATION, Calibrating
from forecaster.run.report import Report
from forecaster.scoring.past_models import CalibratedPast, calibrated_past
from forecaster.setup.load import load
from forecaster.tables import MLDR_TABLE
from tests import sql
from tests.backtests import CUTOFF, LATER
from tests.conftest import Cli

AT_CUTOFF = Calibrating(CUTOFF - timedelta(1))


def test_both_models_on_the_same_months(called: Cli, stored_embedded: Dsn) -> None:
    load(stored_embedded, "public", streams=LATER)
    env = {"DATABASE_URL": stored_embedded.uri}
    arguments = ("evaluate", "--cutoff", f"{CUTOFF}", "--horizon", "6", "--model", "calibrated")
    ended = called(*arguments, "--mldr", "0.02", "--by", "total", env=env)
    assert ended.returncode == 0, ended.stderr
    assert re.search("^The production model was [0-9]+ % off: ", ended.stdout, re.MULTILINE)
    assert re.search("^model +2024-01-01 calibrated from 7 days$", ended.stdout, re.MULTILINE)
    assert re.search("^total of all tracks  origins .* in 80 +in 95$", ended.stdout, re.MULTILINE)
    found = json.loads(called(*arguments, "--json", env=env).stdout)
    models = {row["model"]: row for row in found["overall"]}
    assert models["forecaster"]["inside_80"] is not None
    # No rate was known then: the calibrated model needs none, the production model has no forecast.
    assert ("production" in models, found["later_rates"]) == (False, 0)
    assert found["made_with"] == ["2024-01-01 calibrated from 7 days"]


def test_the_production_model_from_another_level(called: Cli, stored_embedded: Dsn) -> None:
    load(stored_embedded, "public", streams=LATER)
    env = {"DATABASE_URL": stored_embedded.uri}
    arguments = ("evaluate", "--cutoff", f"{CUTOFF}", "--horizon", "3", "--mldr", "0.02", "--json")
    plain, of_month, of_week = (
        json.loads(called(*arguments, *level, env=env).stdout)
        for level in ((), ("--level", "30"), ("--level", "7"))
    )
    assert of_month["overall"] == plain["overall"]
    assert of_week["overall"][0]["wape"] != plain["overall"][0]["wape"]
    assert of_week["overall"][1:] == plain["overall"][1:]
    assert plain["made_with"] == ["production from 30 days; intervals of other catalogues"]
    assert of_week["made_with"] == ["production from 7 days; intervals of other catalogues"]
    assert 0 < plain["overall"][0]["inside_80"] <= plain["overall"][0]["inside_95"] <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--level", "7"), "--level needs --cutoff or --since"),
        (("--model", "auto"), "--model needs --cutoff or --since"),
        (("--cutoff", "2024-01-01", "--model", "auto", "--track-id", "1"), "--track-id and --model auto"),
        (("--cutoff", "2024-01-01", "--model", "best"), "'best' is not one of"),
    ],
)
def test_options_that_are_refused(called: Cli, arguments: tuple[str, ...], said: str) -> None:
    ended = called("evaluate", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr


def test_auto_chooses_what_calibrate_chooses(
    called: Cli, stored_embedded: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the days of the past, MLDRs that were stored later are not known."""
    at, before = CUTOFF - timedelta(90), CUTOFF - timedelta(400)
    sql.run(stored_embedded, f"UPDATE {MLDR_TABLE} SET created_at = '{at}'")
    sql.run(
        stored_embedded,
        f"INSERT INTO {MLDR_TABLE} (cm_artist_id, mldr, created_at) "
        f"SELECT cm_artist_id, mldr + 0.4, '{before}' FROM {MLDR_TABLE}",
    )
    made: list[CalibratedPast] = []

    def calibrated(*arguments: Any, **options: Any) -> CalibratedPast:
        made.append(calibrated_past(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("forecaster.views.past.calibrated_past", calibrated)
    env = {"DATABASE_URL": stored_embedded.uri}
    load(stored_embedded, "public", streams=LATER)
    ended = called("evaluate", "--cutoff", f"{CUTOFF}", "--horizon", "3", "--model", "auto", env=env)
    assert ended.returncode == 0, ended.stderr
    [one] = made
    found, _ = calibrate(stored_embedded, "public", AT_CUTOFF, Report(CALIBRATION))
    assert one.model.calibration.to_json() == found.to_json()
    assert any(tried.weight < 1 and tried.loss for tried in found.choice.tried)
