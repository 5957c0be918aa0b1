"""The command that runs a backtest."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.scoring import BASELINES
from forecaster.setup.load import load
from forecaster.views.backtest import BacktestConfig, backtest
from tests import sql
from tests.backtests import CUTOFF, LATER, RATES, STREAMS
from tests.conftest import Cli
from tests.tables import initialise


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--influence", "5"), "--influence needs --cutoff or --since"),
        (("--age-from", "first-date"), "--age-from needs --cutoff or --since"),
        (("--later-rates",), "--later-rates needs --cutoff or --since"),
        (("--cutoff", "20220701"), "'20220701' is not a date like 2024-01-31"),
        (("--as-of", "1.7.2022"), "'1.7.2022' is not a date like 2024-01-31"),
        (("--track-id", "abc"), "'abc' is not a valid integer."),
        (("--track-id", f"{2**63}"), "is not in the range"),
    ],
)
def test_options_that_are_refused(called: Cli, arguments: tuple[str, ...], said: str) -> None:
    result = called("evaluate", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def test_the_command_on_what_is_stored(called: Cli, stored_embedded: Dsn) -> None:
    load(stored_embedded, "public", streams=LATER)
    env = {"DATABASE_URL": stored_embedded.uri, "FORECASTER_INFLUENCE": "5", "FORECASTER_AS_OF": "2020-01-01"}
    all_tracks = called("evaluate", env=env)
    assert all_tracks.returncode == 0, all_tracks.stderr
    assert re.search(r"^as of +2023-12-31 \(by created_at\)$", all_tracks.stdout, re.MULTILINE)
    assert "pooled baseline" not in all_tracks.stdout
    track = backtest(BacktestConfig(stored_embedded)).evaluation.series["cm_track_id"][0]
    one = called("evaluate", "--track-id", f"{track}", "--horizon", "2", env=env)
    assert re.search("^pooled baseline +of the chosen tracks only$", one.stdout, re.MULTILINE)
    assert re.search("^months scored +2$", one.stdout, re.MULTILINE)


def test_the_command_on_totals_that_no_number_holds(cli: Cli, stored_embedded: Dsn) -> None:
    load(stored_embedded, "public", streams=LATER)
    table = "backtest_track_streams_forecast"
    sql.run(stored_embedded, f"ALTER TABLE {table} ALTER forecasted_value TYPE double precision")
    sql.run(stored_embedded, f"UPDATE {table} SET forecasted_value = 1.7e308")
    ended = cli("evaluate", env={"DATABASE_URL": stored_embedded.uri})
    assert ended.returncode == 0, ended.stderr
    assert re.search("^forecast total +-$", ended.stdout, re.MULTILINE)
    assert re.search("^actual total +[0-9,]+$", ended.stdout, re.MULTILINE)


def test_the_command(called: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    load(embedded_database, "public", streams=STREAMS, mldr=RATES)
    env = {"DATABASE_URL": embedded_database.uri}
    cutoffs = ("--cutoff", "2023-07-01", "--cutoff", f"{CUTOFF}", "--later-rates")
    files = ("--out", "scores.csv", "--page", "p.html")
    result = called("evaluate", *cutoffs, "--by", "all", *files, env=env, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for model in ("forecaster", *BASELINES):
        assert f"\n{model}" in f"\n{result.stdout}"
    for heading in ("month ahead", "lifecycle segment", "influence range", "volume decile", "cutoff"):
        assert f"\n{heading} " in result.stdout
    assert re.search(r"^WAPE +sum \|f - a\| / sum \|a\|", result.stdout, re.MULTILINE)
    assert "worst cutoff" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("windows=")
    assert re.search("may depend on later days: [0-9]+ at 2023-07-01, [0-9]+ at 2024-01-01", result.stderr)
    for line in ("as of  +2023-06-30 to 2023-12-31 .cutoff.", "series without a scale +[0-9]+ of [0-9]+"):
        assert re.search(f"^{line}$", result.stdout, re.MULTILINE)
    assert "\nvolume decile    tenths of the series" in result.stdout
    scores = pl.read_csv(tmp_path / "scores.csv", infer_schema_length=None)
    assert set(scores["group"]) == {
        *("overall", "month", "segment", "influence", "volume", "cutoff", "series"),
        *("total_month", "total_cumulated"),
    }
    assert "month ahead" in (tmp_path / "p.html").read_text()

    printed = called("evaluate", *cutoffs, "--json", env=env)
    as_json = json.loads(printed.stdout)
    assert as_json["overall"][0]["wape"] == pytest.approx(scores["wape"][0])
    assert as_json["skipped"].keys() <= {
        "too_young", "no_mldr", "negative_streams", "several_artists", "no_days_before_cutoff",
    }  # fmt: skip
    assert as_json["skipped"]["no_days_before_cutoff"] > 0
    assert as_json["as_of"] == {"first": "2023-06-30", "last": "2023-12-31", "known": "cutoff"}
    assert as_json["later_rates"] > 0
    assert len(as_json["series"]) == scores.filter(pl.col("group") == "series").height
    assert {"segment_used", "influence_range", "volume_decile"} <= as_json["series"][0].keys()
    assert called("evaluate", *cutoffs, "--json", env=env).stdout == printed.stdout
