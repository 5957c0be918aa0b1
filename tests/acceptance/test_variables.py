"""Each option is a variable too."""

from pathlib import Path

import click
import polars as pl
import pytest

from forecaster.cli import main
from forecaster.cli.options import Option
from forecaster.postgres.dsn import Dsn
from tests import sql
from tests.conftest import Cli
from tests.tables import load_golden


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    load_golden(embedded_database)
    return embedded_database


def test_each_option_is_a_variable_and_says_so() -> None:
    variables = set()
    for name, command in main.commands.items():
        text = " ".join(click.Context(command, info_name=name).get_help().split())
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name != "help":
                assert isinstance(parameter, Option), (name, parameter.name)
                assert parameter.envvar == "DATABASE_URL" or str(parameter.envvar).startswith("FORECASTER_")
                assert f"env var: {parameter.envvar}" in text, (name, parameter.name)
                variables.add(parameter.envvar)
    of_all, of_one = (
        {"DATABASE_URL", "FORECASTER_HORIZON"},
        {"FORECASTER_RUN_DRY_RUN", "FORECASTER_MLDR_REPORT"},
    )
    assert of_all | of_one <= variables


def test_options_by_variables(called: Cli, catalogue: Dsn, tmp_path: Path) -> None:
    result = called(
        "run",
        env={
            "DATABASE_URL": catalogue.uri,
            "FORECASTER_HORIZON": "3",
            "FORECASTER_RUN_TRACK_ID": "1 2 5",
            "FORECASTER_RUN_SKIPPED": str(tmp_path / "skipped.csv"),
            "FORECASTER_AGE_FROM": "first-date",
        },
    )
    assert result.returncode == 0, result.stderr
    rows = sql.rows(catalogue, "SELECT DISTINCT cm_track_id FROM backtest_track_streams_forecast")
    skipped = pl.read_csv(tmp_path / "skipped.csv")
    assert len(rows) + len(skipped) == 3
    [(months,)] = sql.rows(catalogue, "SELECT max(month) FROM backtest_track_streams_forecast")
    assert months == 3
    refused = called("run", env={"DATABASE_URL": catalogue.uri, "FORECASTER_HORIZON": "0"})
    assert refused.returncode == 2
    assert "FORECASTER_HORIZON" in refused.stderr


def test_what_is_set_for_one_command_does_not_change_another(called: Cli, catalogue: Dsn) -> None:
    env = {"DATABASE_URL": catalogue.uri, "FORECASTER_PLOT_TRACK_ID": "1", "FORECASTER_PLOT_OUT": "x.png"}
    assert "forecast=247 " in called("run", "-q", env=env).stdout
