"""Calibrations to forecast with: made up, so that each number in them matters; and how to store them."""

from datetime import date, timedelta

from forecaster.model.calibrated.calibration import Calibration, Choice, Tried
from forecaster.model.calibrated.rates import Rates
from forecaster.postgres.calibrations import store_calibration
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import read_tables

RATES = Rates(
    rates=((0.11, 0.07, 0.04), (0.09, 0.06, 0.03), (0.08, 0.05, -0.02)),
    complete=((4, 5, 60), (4, 5, 50), (3, 4, 40)),
    slopes=((0.12, 0.08, 0.04), (0.09, 0.06, 0.03), (0.09, 0.05, -0.02)),
    whole=(0.05, 0.04, 0.01),
)
TRIED = (Tried(0.0, 30, 0.25, 0.2, 0.5), Tried(1.0, 7, 0.125, 0.1, 0.25))


def calibration(as_of: date, *, tracks: int = 30, weight: float = 1.0, level: int = 7) -> Calibration:
    """As of a day; `weight` and `level`: the model that it has chosen."""
    return Calibration(
        as_of=as_of,
        tracks=tracks,
        first_day=date(2019, 1, 1),
        rates=RATES,
        origins=(as_of - timedelta(30), as_of - timedelta(60)),
        choice=Choice(weight, level, is_measured=True, tried=TRIED),
    )


def keep(dsn: Dsn, *calibrations: Calibration) -> Calibration:
    """Stores them in the schema public; the last one."""
    with connect(dsn) as connection:
        tables = read_tables(connection, "public")
        for one in calibrations:
            store_calibration(connection, tables, one)
        connection.commit()
    return calibrations[-1]
