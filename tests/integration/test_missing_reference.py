"""The column of the decay rates that only `mldr` fills may be missing."""

import polars as pl
import pytest

from forecaster.doctor import examine
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.init import initialise as init
from forecaster.setup.load import load
from forecaster.tables import MLDR_TABLE
from tests import sql
from tests.forecasts import in_frames, stored
from tests.tables import golden_listeners, golden_mldr, golden_streams, initialise

FEW = pl.col("cm_track_id") <= 10


@pytest.fixture
def without(embedded_database: Dsn) -> Dsn:
    dsn = embedded_database
    initialise(dsn)
    sql.run(dsn, f"ALTER TABLE {MLDR_TABLE} DROP backtest_artist_daily_training_data_id")
    return dsn


def test_all_that_does_not_fill_it(without: Dsn) -> None:
    streams = golden_streams().filter(FEW)
    load(without, "public", streams=streams, mldr=golden_mldr())
    assert init(without, "public").created == []
    assert run(Database(without)).results == 10
    assert stored(without).equals(in_frames(streams, golden_mldr()))
    with open_source(without, "public") as source:
        assert source.mldr().collect().height > 0
    assert examine(without, "public", Parameters()).exit_code == 0


def test_rates_are_stored_without_it(without: Dsn) -> None:
    load(without, "public", listeners=golden_listeners())
    assert run(ArtistRates(without)).results == 60
    assert run(ArtistRates(without), RunConfig(replace=True)).results == 60
    assert sql.rows(without, f"SELECT count(*), count(DISTINCT cm_artist_id) FROM {MLDR_TABLE}") == [(60, 60)]
