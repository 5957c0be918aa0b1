"""Databases that end at the cutoff and hold the forecasts of that day."""

import pytest

from forecaster.postgres.dsn import Dsn
from tests.backtests import forecast_at_cutoff
from tests.scored_nights import nights_and_later_days
from tests.tables import made_once


@pytest.fixture
def stored(usual_database: Dsn) -> Dsn:
    """A catalogue that ends at the cutoff, with its forecasts."""
    made_once(usual_database, "forecast_at_cutoff", forecast_at_cutoff)
    return usual_database


@pytest.fixture
def stored_on_each(database: Dsn) -> Dsn:
    made_once(database, "forecast_at_cutoff", forecast_at_cutoff)
    return database


@pytest.fixture
def stored_embedded(embedded_database: Dsn) -> Dsn:
    made_once(embedded_database, "forecast_at_cutoff", forecast_at_cutoff)
    return embedded_database


@pytest.fixture
def nights(usual_database: Dsn) -> Dsn:
    """The forecasts of several nights, and the streams that came after them."""
    made_once(usual_database, "nights", nights_and_later_days)
    return usual_database


@pytest.fixture
def nights_embedded(embedded_database: Dsn) -> Dsn:
    made_once(embedded_database, "nights", nights_and_later_days)
    return embedded_database
