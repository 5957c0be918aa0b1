"""A model with a calibration of the days before each cutoff, scored beside the production model."""

import json
import re

import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.setup.load import load
from tests.backtests import CUTOFF, LATER
from tests.conftest import Cli


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
