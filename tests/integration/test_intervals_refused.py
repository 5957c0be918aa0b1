"""The production model needs no calibration: what is wrong with the tables of one is a warning."""

import re
import threading
from dataclasses import replace
from datetime import date, timedelta

import polars as pl
import pytest

from forecaster.errors import CalibrationError, InvalidOptionError, SchemaMismatchError
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.intervals import intervals
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.tables import CALIBRATIONS, FORECAST_TABLE, INTERVALS, LISTENERS, VERSIONS
from forecaster.views.bounds import stored_bounds
from tests import sql
from tests.calibrations import calibration, keep
from tests.tables import first_tracks, golden_streams

STREAMS = golden_streams().filter(pl.col("cm_track_id") <= 20)
D: date = STREAMS["date"].max()  # type: ignore[assignment]


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    return first_tracks(embedded_database, 20)


def found(dsn: Dsn) -> int:
    """Number of tracks whose intervals belong to a stored forecast."""
    with connect(dsn) as connection:
        return len(query(connection, intervals(read_tables(connection, "public"), None)))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (f"UPDATE {CALIBRATIONS.name} SET record = replace(record, 'shipped', 'chipped')", "calibration"),
        (f"ALTER TABLE {CALIBRATIONS.name} DROP COLUMN loss_after", "loss_after"),
        (f"INSERT INTO {VERSIONS.name} (number, what, program) VALUES (99, 'later', '9')", "99"),
    ],
)
def test_calibrations_that_cannot_be_used(catalogue: Dsn, damage: str, said: str) -> None:
    id_ = keep(catalogue, calibration(D)).id
    sql.run(catalogue, damage)
    report = run(Database(catalogue))
    assert report.results == 20
    [warning] = [one for one in report.warnings if "no calibration is used" in one]
    assert said in warning
    assert found(catalogue) == 20  # by the figures of other catalogues
    for asked in (RunConfig(model="calibrated", replace=True), RunConfig(calibration=id_, replace=True)):
        with pytest.raises((CalibrationError, SchemaMismatchError)):
            run(Database(catalogue), asked)


def test_row_security_on_the_table_of_intervals(catalogue: Dsn) -> None:
    sql.run(catalogue, f"ALTER TABLE {INTERVALS.name} ENABLE ROW LEVEL SECURITY")
    sql.run(catalogue, f"ALTER TABLE {INTERVALS.name} FORCE ROW LEVEL SECURITY")
    owner = f"reader_{catalogue.dbname}"
    sql.run(catalogue, f"CREATE ROLE {owner} LOGIN")
    try:
        sql.run(catalogue, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {owner}")
        sql.run(catalogue, f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {owner}")
        report = run(Database(replace(catalogue, user=owner)))
        assert report.results == 20
        assert any("row security" in warning for warning in report.warnings)
    finally:
        sql.run(catalogue, f"DROP OWNED BY {owner}")
        sql.run(catalogue, f"DROP ROLE {owner}")


@pytest.mark.parametrize("type_", ["timestamptz", "timestamptz(3)", "timestamptz(0)", "timestamp(0)"])
def test_instants_that_are_less_exact(catalogue: Dsn, type_: str) -> None:
    sql.run(catalogue, "SET timezone = 'UTC'")
    sql.run(catalogue, f"ALTER TABLE {FORECAST_TABLE} ALTER COLUMN created_at TYPE {type_}")
    run(Database(catalogue))
    assert found(catalogue) == 20


def test_a_calibration_that_knows_later_days(catalogue: Dsn) -> None:
    asked = RunConfig(Parameters(as_of=D - timedelta(1)), calibration=keep(catalogue, calibration(D)).id)
    with pytest.raises(InvalidOptionError, match="knows the days up to"):
        run(Database(catalogue), asked)


def test_a_lock_on_another_table_delays_no_look(catalogue: Dsn) -> None:
    locked, over = threading.Event(), threading.Event()

    def hold() -> None:
        with connect(catalogue) as connection:
            query(connection, f"SELECT count(*) AS n FROM {LISTENERS.name}")
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {LISTENERS.name}")
            locked.set()
            over.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(60)
        with connect(catalogue) as connection:
            query(connection, "SELECT set_config('lock_timeout', '5s', true) AS s")
            assert CALIBRATIONS.name in read_tables(connection, "public").empty
    finally:
        over.set()
        holder.join()


def test_a_damaged_calibration_says_how_to_be_rid_of_it(catalogue: Dsn) -> None:
    id_ = keep(catalogue, calibration(D)).id
    sql.run(catalogue, f"UPDATE {CALIBRATIONS.name} SET record = replace(record, 'shipped', 'chipped')")
    with pytest.raises(CalibrationError) as raised:
        run(Database(catalogue), RunConfig(model="calibrated"))
    [statement] = re.findall(r"remove it \((DELETE FROM .*?)\)", f"{raised.value.hint}")
    sql.run(catalogue, statement)
    assert keep(catalogue, calibration(D)).id == id_
    assert run(Database(catalogue), RunConfig(model="calibrated")).results > 0


def test_a_table_of_another_shape_has_none_to_export(catalogue: Dsn) -> None:
    run(Database(catalogue))
    sql.run(catalogue, f"ALTER TABLE {INTERVALS.name} ALTER q10 TYPE text USING 'x'")
    with open_source(catalogue, "public") as source:
        assert stored_bounds(source, pl.Series([1])).is_empty()
