"""The doctor judges the catalogue as the nightly `run --refresh` does."""

import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from tests import sql, stale
from tests.conftest import Cli
from tests.examinations import examined, type_in
from tests.stale import RATES, change, fill, refreshed

SKIPPED = "skipped tracks: 6 of 8, 75.0 %, at least 50 %"


@pytest.fixture
def forecast(embedded_database: Dsn) -> Dsn:
    fill(embedded_database)
    run(Database(embedded_database))
    return embedded_database


def test_skipped_tracks_that_have_a_forecast_count(forecast: Dsn, called: Cli) -> None:
    sql.run(forecast, f"DELETE FROM {RATES} WHERE cm_artist_id > 1")
    words, env = ("--strict", "skipped"), {"DATABASE_URL": forecast.uri}
    night = called("run", "--refresh", "--dry-run", *words, env=env)
    assert (night.returncode, SKIPPED in night.stderr) == (6, True), night.stderr
    examination = called("doctor", *words, env=env)
    assert (examination.returncode, SKIPPED in examination.stdout) == (6, True), examination.stdout


def test_stale_forecasts_are_counted_by_cause(forecast: Dsn, called: Cli) -> None:
    assert not [one for one in examined(forecast).findings if "stale" in one.found]
    change(forecast, stale.NEW_DAY, 1, 4)
    change(forecast, stale.RESTATED_DAY, 7)
    [finding] = [one for one in examined(forecast).findings if "stale" in one.found]
    said = "stored forecasts that are stale: 3 (new streams 2, restated streams 1)"
    assert (finding.about, finding.level, finding.found) == ("tracks", "ok", said)
    assert finding.fix == "forecaster run --refresh"
    type_in(called, forecast, finding.fix)
    assert refreshed(forecast)[0] == []
