"""Rolling origins and what-if: many cutoffs at the same distance, and other decay rates."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import NoForecastError
from forecaster.model import build_forecasts
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.setup.load import load
from forecaster.views.backtest import BacktestConfig, Rolling, backtest
from tests.backtests import BEFORE, CUTOFF, LATER, RATES, STREAMS, by_hand
from tests.conftest import Cli

LAST = STREAMS["date"].max()
SIX = Parameters(horizon=6)


def test_cutoffs_at_the_same_distance() -> None:
    rolling = Rolling(date(2024, 1, 1), 45)
    assert rolling.until(date(2024, 3, 31)) == [date(2024, 1, 1), date(2024, 2, 15), date(2024, 3, 31)]
    assert rolling.until(date(2024, 3, 30)) == [date(2024, 1, 1), date(2024, 2, 15)]
    assert rolling.until(date(2023, 12, 31)) == []


def test_rolling_origins_are_the_same_as_the_cutoffs_that_they_are(stored: Dsn) -> None:
    load(stored, "public", streams=LATER)
    config = BacktestConfig(stored, parameters=SIX, later_rates=True, months=6)
    assert isinstance(LAST, date)
    since = LAST - timedelta(days=140)
    rolled = backtest(replace(config, rolling=Rolling(since, 50))).evaluation
    # A fourth one would be 150 days later; after the third one, 40 days later, a month is over.
    cutoffs = tuple(since + timedelta(days=50 * number) for number in range(3))
    assert rolled.by_cutoff["cutoff"].to_list() == list(cutoffs)
    named = backtest(replace(config, cutoffs=cutoffs)).evaluation
    assert_frame_equal(rolled.overall, named.overall)
    assert (rolled.origins.number, rolled.horizon) == (3, 6)
    skills = rolled.by_cutoff["skill"]
    assert (rolled.origins.lowest, rolled.origins.highest) == (skills.min(), skills.max())
    assert rolled.origins.is_overlapping
    with pytest.raises(NoForecastError, match=f"no month after .* is over: the streams end on {LAST}"):
        backtest(replace(config, rolling=Rolling(LAST - timedelta(days=20))))


def test_one_rate_for_all_artists(stored: Dsn) -> None:
    """Nothing but the cutoff and the rate decides: stored rates and listeners are not read."""
    load(stored, "public", streams=LATER)
    found = backtest(BacktestConfig(stored, parameters=SIX, cutoffs=(CUTOFF,), mldr=0.07))
    rates = RATES.with_columns(mldr=pl.lit(0.07))
    built = build_forecasts(BEFORE.lazy(), rates.lazy(), horizon=6).forecasts.collect()
    last = BEFORE.group_by("cm_track_id").agg(as_of=pl.col("date").max())
    months = built.join(last, on="cm_track_id").select(
        "cm_track_id", "as_of", "month", pl.col("forecasted_value").round()
    )
    wape, windows = by_hand(months, STREAMS)
    assert found.evaluation.overall["wape"][0] == pytest.approx(wape, rel=1e-12)
    assert found.evaluation.windows_scored == windows
    assert found.warnings == ["what if: the decay rate (MLDR) is 0.07 for all artists"]
    assert found.later_rates == 0


def test_rates_of_a_file(called: Cli, stored_embedded: Dsn, tmp_path: Path) -> None:
    load(stored_embedded, "public", streams=LATER)
    env = {"DATABASE_URL": stored_embedded.uri}
    RATES.select("cm_artist_id", "mldr").head(2).write_csv(tmp_path / "rates.csv")
    arguments = ("evaluate", "--cutoff", f"{CUTOFF}", "--horizon", "3", "--out", "scores.csv")
    of_file = called(*arguments, "--mldr", "rates.csv", env=env, cwd=tmp_path)
    assert of_file.returncode == 0, of_file.stderr
    assert "what if: the decay rates (MLDR) are those of --mldr" in of_file.stderr
    months = pl.read_csv(tmp_path / "scores_months.csv")
    artists = STREAMS.select("cm_track_id", "cm_artist_id").unique()
    of_artists = months.join(artists, on="cm_track_id")["cm_artist_id"].unique()
    assert set(of_artists) == set(RATES["cm_artist_id"].head(2)) & set(artists["cm_artist_id"])


def test_every_month_of_every_track_is_written(called: Cli, stored_embedded: Dsn, tmp_path: Path) -> None:
    load(stored_embedded, "public", streams=LATER)
    env = {"DATABASE_URL": stored_embedded.uri}
    ended = called("evaluate", "--horizon", "3", "--out", "s.parquet", env=env, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    months = pl.read_parquet(tmp_path / "s_months.parquet")
    sums = pl.col("forecast") - pl.col("actual"), pl.col("actual")
    error, size = months.select(one.abs().sum() for one in sums).row(0)
    overall = pl.read_parquet(tmp_path / "s.parquet").filter(group="overall", model="forecaster")
    assert overall["wape"].to_list() == pytest.approx([error / size])
    assert months["month"].unique().to_list() == [1, 2, 3]
    streams = STREAMS.filter(pl.col("cm_track_id") == months["cm_track_id"][0])
    first = months.row(0, named=True)
    days = pl.col("date").is_between(first["as_of"] + timedelta(1), first["as_of"] + timedelta(30))
    assert first["actual"] == pytest.approx(streams.filter(days)["daily_streams"].sum())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mldr", "0.1"), "--mldr needs --cutoff or --since"),
        (("--every", "30"), "--every needs --since"),
        (("--since", "2024-01-01", "--mldr", "nan"), "--mldr is nan"),
        (("--since", "2024-01-01", "--mldr", "0.1", "--later-rates"), "contradict each other"),
        (("--since", "2024-01-01", "--run", "1"), "--run and --runs contradict --cutoff"),
        (("--since", "2024-01-01", "--every", "0"), "is not in the range"),
        (("--by", "artist"), "'artist' is not one of"),
    ],
)
def test_options_that_are_refused(called: Cli, arguments: tuple[str, ...], said: str) -> None:
    ended = called("evaluate", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr


def test_nothing_is_wider_than_a_terminal_and_the_finding_is_first(
    called: Cli, stored_embedded: Dsn, tmp_path: Path
) -> None:
    load(stored_embedded, "public", streams=LATER)
    env = {"DATABASE_URL": stored_embedded.uri}
    rolling = ("--since", "2023-09-01", "--every", "60", "--horizon", "20", "--later-rates")
    ended = called("evaluate", *rolling, "--by", "all", "--page", "p.html", env=env, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[0].startswith("Only 16 months of the 20 asked for can be scored")
    assert lines[1].startswith("Over up to 16 months, forecasts were ")
    assert "origins overlap, so they are not independent" in " ".join(lines[:8])
    for title in ("month ahead", "lifecycle segment", "influence range", "volume decile", "cutoff"):
        assert any(line.startswith(f"{title} ") for line in lines), title
    assert "no forecast of a run is scored, so there is no table by run" in lines
    assert any(line.startswith("cWAPE ") for line in lines)
    # The page says all that the terminal warns of, that the scores know later days above all.
    warned = [line.partition(": ")[2] for line in ended.stderr.splitlines() if "Warning: " in line]
    page = (tmp_path / "p.html").read_text()
    assert "may depend on later days" in warned[0]
    places = [page.find(warning) for warning in warned]
    assert places == sorted(places)
    assert places[0] > 0

    plain = called("evaluate", *rolling, env=env).stdout
    assert "month ahead" not in plain
    assert "cWAPE  " in plain
